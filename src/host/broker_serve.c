// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * broker_serve.c - the broker's process. Holds no guest's data, starts nothing,
 * writes no file, never blocks but on the file system itself.
 *
 * Theory of operation
 *
 * One thread, one epoll set. A request is a fixed structure whose every field
 * is judged here: the daemon behind the main channel may have been taken over.
 *
 * A door is a channel of its own, made for one VM: all it can say is ports, so
 * the holder of a door reaches PATH_PORT and nothing else (the holder of a VMM's
 * door: PATH and nothing else). The directory of
 * PATH was opened when the door was made: what is renamed, removed or replaced
 * by a link above it later leads nowhere else. The process enters that directory
 * to dial, which it may because it has one thread. Requests with a path are
 * handled in the directory the daemon was started in.
 *
 * A peer that does not take its answers loses its channel; none is waited for.
 * The process ends with the main channel.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/broker_private.h"

/* A socket for each of a VM's three paths, and the control socket. */
#define MAX_LISTENERS 16384u
#define EVENTS_PER_TURN 16
#define PORT_ROOM sizeof("_4294967295")
#define MESSAGES_PER_TURN 4u /* of one door, before another has its turn */

struct server {
	const struct broker_params *params;
	struct unix_listener *listeners; /* the index is the id; dir_fd -1: free */
	uint32_t count;
	int channel;
	int epoll_fd;
	int base_fd;    /* the working directory of the start */
	int entered_fd; /* the door's directory that is the working one; -1: none is */
	bool sealed;
};

struct door_end {
	struct server *server;
	int fd;
	int dir_fd;
	bool one_path; /* leads to a VMM at this name, whatever port is said */
	char name[UNIX_PATH_ROOM];
};

/* --- doors --- */

static void free_door(struct door_end *door)
{
	if (door->server->entered_fd == door->dir_fd)
		door->server->entered_fd = -1;
	fd_close(&door->fd); /* which also takes it out of the epoll set */
	fd_close(&door->dir_fd);
	free(door);
}

static bool is_type(int type)
{
	return type == SOCK_STREAM || type == SOCK_SEQPACKET;
}

static int enter(const struct door_end *door)
{
	if (door->server->entered_fd == door->dir_fd)
		return 0;
	if (fchdir(door->dir_fd) < 0)
		return -errno;
	door->server->entered_fd = door->dir_fd;
	return 0;
}

static int dial(const struct door_end *door, const struct broker_dial *request)
{
	char name[UNIX_PATH_ROOM + PORT_ROOM];
	int err = is_type(request->type) ? enter(door) : -EINVAL;

	if (err < 0)
		return err;
	if (door->one_path)
		return unix_dial(door->name, request->type, true);
	(void)snprintf(name, sizeof(name), "%s_%u", door->name, request->port);
	return unix_dial(name, request->type, false);
}

/* What waited together is answered together: one wake-up there instead of several. */
static int dial_all(const struct door_end *door, const struct broker_dial *requests, size_t count)
{
	struct broker_dialled answer = { .count = (uint32_t)count };
	int fds[BROKER_MAX_DIALS];
	size_t n_fds = 0;
	int err;

	for (size_t i = 0; i < count; i++) {
		int result = dial(door, &requests[i]);

		if (result < 0)
			answer.err[i] = result;
		else
			fds[n_fds++] = result;
	}
	err = fd_send_several(door->fd, &answer, sizeof(answer), fds, n_fds);
	fd_close_all(fds, n_fds);
	return err;
}

/* Return: whether there may be another message. */
static bool serve_message(struct door_end *door)
{
	struct broker_dial requests[BROKER_MAX_DIALS];
	ssize_t got = recv(door->fd, requests, sizeof(requests), MSG_DONTWAIT | MSG_TRUNC);
	size_t bytes = got > 0 ? (size_t)got : 0;
	int err = -EPROTO;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (bytes > 0 && bytes <= sizeof(requests) && bytes % sizeof(*requests) == 0)
		err = dial_all(door, requests, bytes / sizeof(*requests));
	if (err < 0)
		free_door(door);
	return err == 0;
}

/* What comes meanwhile is served without being woken for it. */
static void serve_door(struct door_end *door)
{
	for (unsigned int i = 0; i < MESSAGES_PER_TURN; i++) {
		if (!serve_message(door))
			return;
	}
}

static int watch(struct server *server, struct door_end *door, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = door };

	return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Return: the other end, or -errno. */
static int open_door(struct server *server, const char *path, bool one_path)
{
	struct door_end *door = calloc(1, sizeof(*door));
	const char *name = NULL;
	int ends[2];
	int err;

	if (door == NULL)
		return -ENOMEM;
	door->server = server;
	door->fd = -1;
	door->dir_fd = unix_open_parent(path, &name);
	err = door->dir_fd < 0 ? door->dir_fd : 0;
	if (err == 0 &&
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		err = -errno;
	if (err < 0) {
		free_door(door);
		return err;
	}
	memcpy(door->name, name, strlen(name) + 1);
	door->one_path = one_path;
	door->fd = ends[0];
	err = watch(server, door, door->fd);
	if (err == 0)
		return ends[1];
	free_door(door);
	fd_close(&ends[1]);
	return err;
}

/* --- the main channel --- */

static int free_slot(struct server *server)
{
	struct unix_listener *grown;

	for (uint32_t i = 0; i < server->count; i++)
		if (server->listeners[i].dir_fd < 0)
			return (int)i;
	if (server->count == MAX_LISTENERS)
		return -ENOSPC;
	grown = reallocarray(server->listeners, server->count + 1, sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	server->listeners = grown;
	grown[server->count].dir_fd = -1;
	return (int)server->count++;
}

/* Return: the listening socket, the caller's from now on, or -errno. */
static int make_listener(struct server *server, const struct broker_request *request, uint32_t *id)
{
	const struct unix_access private = BROKER_PRIVATE_ACCESS;
	const struct unix_access *access =
		request->op == BROKER_LISTEN_PRIVATE ? &private : &server->params->access;
	int type = request->type;
	int slot = is_type(type) ? free_slot(server) : -EINVAL;
	struct unix_listener *listener;
	int err;

	if (slot < 0)
		return slot;
	listener = &server->listeners[slot];
	err = unix_listener_open(listener, request->path, type, access);
	if (err < 0)
		return err;
	*id = (uint32_t)slot;
	return fd_take(&listener->fd);
}

static int remove_listener(struct server *server, uint32_t id)
{
	if (id >= server->count || server->listeners[id].dir_fd < 0)
		return -ENOENT;
	unix_listener_remove(&server->listeners[id]);
	return 0;
}

static int open_config(const struct server *server)
{
	int fd;

	if (server->params->config_file == NULL)
		return -ENOENT;
	fd = open(server->params->config_file, BROKER_CONFIG_FLAGS | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Return: a descriptor, 0 where the reply has none (0 is never one of ours), or -errno. */
static int obey(struct server *server, const struct broker_request *request, uint32_t *id)
{
	bool has_path = memchr(request->path, '\0', sizeof(request->path)) != NULL &&
			request->path[0] != '\0';

	server->entered_fd = -1;
	if (fchdir(server->base_fd) < 0)
		return -errno;
	if (request->op == BROKER_UNLISTEN)
		return remove_listener(server, request->id);
	if (server->sealed)
		return -EPERM;
	if ((request->op == BROKER_LISTEN || request->op == BROKER_LISTEN_PRIVATE) && has_path)
		return make_listener(server, request, id);
	if ((request->op == BROKER_DOOR || request->op == BROKER_VMM_DOOR) && has_path)
		return open_door(server, request->path, request->op == BROKER_VMM_DOOR);
	if (request->op == BROKER_CONFIG)
		return open_config(server);
	if (request->op != BROKER_SEAL)
		return -EINVAL;
	server->sealed = true;
	return 0;
}

/* Return: whether the channel goes on. */
static bool serve_channel(struct server *server)
{
	struct broker_request request;
	struct broker_reply reply = { 0 };
	ssize_t got = recv(server->channel, &request, sizeof(request), MSG_DONTWAIT | MSG_TRUNC);
	int fd scoped_fd = -1;
	int result;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got != (ssize_t)sizeof(request))
		return false;
	result = obey(server, &request, &reply.id);
	reply.err = result < 0 ? result : 0;
	fd = result > 0 ? result : -1;
	return fd_send(server->channel, &reply, sizeof(reply), fd) == 0;
}

static int prepare(struct server *server)
{
	/* a terminal signals the whole group: this process ends after the daemon did */
	if (signal(SIGINT, SIG_IGN) == SIG_ERR || signal(SIGTERM, SIG_IGN) == SIG_ERR ||
	    signal(SIGHUP, SIG_IGN) == SIG_ERR || signal(SIGQUIT, SIG_IGN) == SIG_ERR ||
	    signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	server->base_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (server->base_fd < 0)
		return -errno;
	server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (server->epoll_fd < 0)
		return -errno;
	return watch(server, NULL, server->channel);
}

/* Of a turn each channel has at most one event, so a door that goes is not met again. */
static bool turn(struct server *server)
{
	struct epoll_event events[EVENTS_PER_TURN];
	int n = epoll_wait(server->epoll_fd, events, EVENTS_PER_TURN, -1);
	bool open = n >= 0 || errno == EINTR;

	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == NULL)
			open = serve_channel(server);
		else
			serve_door(events[i].data.ptr);
	}
	return open;
}

void broker_serve(const struct broker_params *params, int channel)
{
	struct server server = {
		.params = params,
		.channel = channel,
		.epoll_fd = -1,
		.base_fd = -1,
		.entered_fd = -1,
	};

	if (prepare(&server) == 0)
		while (turn(&server))
			;
	/* descriptors and memory go with the process */
}
