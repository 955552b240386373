// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * broker.c - the daemon's end of the broker: starts it and asks it. Touches no
 * path itself unless there is no broker process.
 */
#include "host/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/broker_private.h"

#define REPLY_TIMEOUT_MS 5000
#define START_TIMEOUT_MS 30000 /* a machine that is busy with its own start */

/* One reply and its descriptor, -1 if none. A broker that does not answer is given up. */
static int take_reply(struct broker *broker, int timeout_ms, struct broker_reply *reply, int *fd)
{
	struct pollfd wait = { .fd = broker->channel, .events = POLLIN };
	size_t n_fds = 0;
	ssize_t got;
	int ready;

	*fd = -1;
	do
		ready = poll(&wait, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	got = ready == 1 ? fd_recv(broker->channel, reply, sizeof(*reply), fd, 1, &n_fds) : -EPIPE;
	if (got == (ssize_t)sizeof(*reply) && reply->err <= 0)
		return reply->err;
	fd_close(fd);
	if (got == -EMFILE) /* only this reply is lost */
		return (int)got;
	fd_close(&broker->channel);
	return -EPIPE;
}

static int ask(struct broker *broker, const struct broker_request *request,
	       struct broker_reply *reply, int *fd)
{
	int err = -EPIPE;

	*fd = -1;
	pthread_mutex_lock(&broker->lock);
	if (broker->channel >= 0)
		err = fd_send(broker->channel, request, sizeof(*request), -1);
	if (err == 0)
		err = take_reply(broker, REPLY_TIMEOUT_MS, reply, fd);
	pthread_mutex_unlock(&broker->lock);
	return err;
}

static int ask_path(struct broker *broker, enum broker_op op, const char *path, int type,
		    struct broker_reply *reply, int *fd)
{
	struct broker_request request = { .op = op, .type = type };
	size_t len = strlen(path);

	if (len >= sizeof(request.path))
		return -ENAMETOOLONG;
	memcpy(request.path, path, len + 1);
	return ask(broker, &request, reply, fd);
}

static void keep_only(int fd)
{
	if (fd > STDERR_FILENO + 1)
		(void)close_range(STDERR_FILENO + 1, (unsigned int)fd - 1, 0);
	(void)close_range((unsigned int)fd + 1, ~0u, 0);
}

/* The new process; it returns only to end. */
static void live(const struct broker_params *params, int channel)
{
	struct broker_reply ready = { .err = params->confine(params->ctx) };

	if (fd_send(channel, &ready, sizeof(ready), -1) == 0 && ready.err == 0)
		broker_serve(params, channel);
}

static int make_process(struct broker *broker)
{
	struct broker_reply ready;
	int ends[2];
	int none;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -errno;
	broker->pid = fork();
	if (broker->pid == 0) {
		keep_only(ends[1]); /* sockets that the parent lent are not for it */
		live(&broker->params, ends[1]);
		_exit(0);
	}
	fd_close(&ends[1]);
	broker->channel = ends[0];
	if (broker->pid < 0) {
		broker->pid = 0;
		return -errno;
	}
	return take_reply(broker, START_TIMEOUT_MS, &ready, &none);
}

int broker_start(struct broker *broker, const struct broker_params *params)
{
	int err;

	*broker = (struct broker){ .params = *params, .channel = -1 };
	pthread_mutex_init(&broker->lock, NULL);
	err = params->separate ? make_process(broker) : params->confine(params->ctx);
	if (err < 0)
		broker_stop(broker);
	return err;
}

void broker_stop(struct broker *broker)
{
	/* one that does not answer is not waited for either */
	int options = broker->channel < 0 ? WNOHANG : 0;

	fd_close(&broker->channel); /* which ends it */
	if (broker->pid > 0)
		while (waitpid(broker->pid, NULL, options) < 0 && errno == EINTR)
			;
	broker->pid = 0;
}

static void forget(struct broker *broker, uint32_t id)
{
	const struct broker_request request = { .op = BROKER_UNLISTEN, .id = id };
	struct broker_reply reply;
	int none;

	(void)!ask(broker, &request, &reply, &none);
}

/* A socket that is there already; nobody here removes its node. */
static int take_passed(const struct broker *broker, struct unix_listener *listener,
		       const char *path, int type)
{
	int fd = passed_take_unix(broker->params.passed, path, type);

	*listener = (struct unix_listener){ .fd = -1, .dir_fd = -1, .lent = true };
	if (fd < 0)
		return fd;
	listener->fd = fd;
	return 0;
}

static int ask_to_listen(struct broker *broker, struct unix_listener *listener, enum broker_op op,
			 const char *path, int type)
{
	struct broker_reply reply = { .err = -EPROTO };
	int fd = -1;
	int err = ask_path(broker, op, path, type, &reply, &fd);

	/* it was made, and there is no room for it here */
	if (err == -EMFILE && reply.err == 0)
		forget(broker, reply.id);
	*listener = (struct unix_listener){ .fd = -1, .dir_fd = -1 };
	if (err == 0 && fd < 0)
		err = -EPROTO;
	if (err < 0)
		return err;
	listener->fd = fd;
	listener->id = reply.id;
	return 0;
}

int broker_listen(struct broker *broker, struct unix_listener *listener, const char *path, int type)
{
	int err = take_passed(broker, listener, path, type);

	if (err != -ENOENT)
		return err;
	if (broker->pid == 0)
		return unix_listener_open(listener, path, type, &broker->params.access);
	return ask_to_listen(broker, listener, BROKER_LISTEN, path, type);
}

int broker_listen_private(struct broker *broker, struct unix_listener *listener, const char *path)
{
	const struct unix_access access = BROKER_PRIVATE_ACCESS;
	int err = take_passed(broker, listener, path, SOCK_STREAM);

	if (err != -ENOENT)
		return err;
	if (broker->pid == 0)
		return unix_listener_open(listener, path, SOCK_STREAM, &access);
	return ask_to_listen(broker, listener, BROKER_LISTEN_PRIVATE, path, SOCK_STREAM);
}

void broker_unlisten(struct broker *broker, struct unix_listener *listener)
{
	if (listener->fd < 0)
		return;
	if (listener->lent) {
		fd_close(&listener->fd);
		return;
	}
	if (broker->pid == 0) {
		unix_listener_close(listener);
		return;
	}
	forget(broker, listener->id);
	fd_close(&listener->fd);
}

int broker_open_door(struct broker *broker, const char *path, int *fd)
{
	struct broker_reply reply;

	*fd = -1;
	return broker->pid == 0 ? 0 : ask_path(broker, BROKER_DOOR, path, 0, &reply, fd);
}

int broker_open_vmm_door(struct broker *broker, const char *path, int *fd)
{
	struct broker_reply reply;

	*fd = -1;
	return broker->pid == 0 ? 0 : ask_path(broker, BROKER_VMM_DOOR, path, 0, &reply, fd);
}

int broker_open_config(struct broker *broker)
{
	const struct broker_request request = { .op = BROKER_CONFIG };
	struct broker_reply reply;
	int fd = -1;
	int err;

	if (broker->params.config_file == NULL)
		return -ENOENT;
	if (broker->pid == 0)
		fd = open(broker->params.config_file, BROKER_CONFIG_FLAGS | O_CLOEXEC);
	if (broker->pid == 0)
		return fd < 0 ? -errno : fd;
	err = ask(broker, &request, &reply, &fd);
	return err < 0 ? err : fd;
}

int broker_seal(struct broker *broker)
{
	const struct broker_request request = { .op = BROKER_SEAL };
	struct broker_reply reply;
	int none;

	return broker->pid == 0 ? 0 : ask(broker, &request, &reply, &none);
}
