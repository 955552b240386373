// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_broker.c - host/broker.c, host/broker_serve.c and host/door.c: requests
 * and dials through a real broker process, and what a daemon that was taken
 * over may try on it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"
#include "confine/sandbox.h"
#include "host/broker_private.h"
#include "host/door.h"

struct rig {
	char dir[32];
	char path[64]; /* of a VM, in dir */
	struct broker broker;
	struct unix_access access;
};

static int confine(void *ctx)
{
	static const struct sandbox_plan plan = {
		.mode = SANDBOX_AUTO,
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.socket_group = (gid_t)-1,
	};

	(void)ctx;
	return sandbox_early() < 0 ? -EPERM : sandbox_broker(&plan);
}

static void start(struct rig *rig)
{
	const struct broker_params params = {
		.separate = true,
		.access = rig->access,
		.confine = confine,
	};

	assert_int_equal(broker_start(&rig->broker, &params), 0);
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	memcpy(rig->dir, "/tmp/vdv-broker.XXXXXX", sizeof("/tmp/vdv-broker.XXXXXX"));
	assert_non_null(mkdtemp(rig->dir));
	(void)snprintf(rig->path, sizeof(rig->path), "%s/vm", rig->dir);
	rig->access = (struct unix_access){ .mode = -1, .group = (gid_t)-1 };
	rig->broker.channel = -1;
	start(rig);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	broker_stop(&rig->broker);
	(void)rmdir(rig->dir); /* fails when a test left something */
	free(rig);
	return 0;
}

static int dial(const char *path)
{
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(unix_address(&address, path), 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	fd_close(&fd);
	return -errno;
}

static void test_listen(void **state)
{
	struct rig *rig = *state;
	struct unix_listener listener;
	int client;
	int fd;

	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), 0);
	client = dial(rig->path);
	assert_true(client >= 0);
	fd = accept(listener.fd, NULL, NULL);
	assert_true(fd >= 0);
	fd_close(&fd);
	fd_close(&client);
	broker_unlisten(&rig->broker, &listener);
	assert_int_equal(listener.fd, -1);
	assert_int_equal(access(rig->path, F_OK), -1);
	broker_unlisten(&rig->broker, &listener);
}

static void test_access(void **state)
{
	struct rig *rig = *state;
	struct unix_listener listener;
	struct stat st;

	broker_stop(&rig->broker);
	rig->access.mode = 0620;
	rig->access.group = geteuid() == 0 ? 65534 : getegid();
	start(rig);
	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), 0);
	assert_int_equal(stat(rig->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0620);
	assert_int_equal(st.st_gid, rig->access.group);
	broker_unlisten(&rig->broker, &listener);
}

static void test_taken_paths(void **state)
{
	struct rig *rig = *state;
	struct unix_listener first;
	struct unix_listener second;
	int fd;

	assert_int_equal(broker_listen(&rig->broker, &first, rig->path, SOCK_STREAM), 0);
	assert_int_equal(broker_listen(&rig->broker, &second, rig->path, SOCK_STREAM), -EADDRINUSE);
	assert_int_equal(second.fd, -1);
	broker_unlisten(&rig->broker, &first);
	fd = open(rig->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	fd_close(&fd);
	assert_int_equal(broker_listen(&rig->broker, &second, rig->path, SOCK_STREAM), -EEXIST);
	assert_int_equal(unlink(rig->path), 0);
	assert_int_equal(broker_listen(&rig->broker, &second, "/no/such/dir/vm", SOCK_STREAM),
			 -ENOENT);
}

/* What lies there when we end is removed only if it is what we made, where we made it. */
static void test_removes_its_own(void **state)
{
	struct rig *rig = *state;
	struct unix_listener listener;
	char moved[64];

	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), 0);
	(void)snprintf(moved, sizeof(moved), "%s-moved", rig->dir);
	assert_int_equal(rename(rig->dir, moved), 0);
	assert_int_equal(mkdir(rig->dir, 0700), 0);
	assert_int_equal(symlink("/nowhere", rig->path), 0);
	broker_unlisten(&rig->broker, &listener);
	assert_int_equal(unlink(rig->path), 0); /* the link is still there */
	assert_int_equal(rmdir(moved), 0);      /* the socket is not */
}

/* --- doors --- */

struct caller {
	struct door_caller base;
	int answers;
	int err;
	int fd;
};

static void on_answer(struct door_caller *base, int err, int fd)
{
	struct caller *caller = container_of(base, struct caller, base);

	caller->answers++;
	caller->err = err;
	caller->fd = fd;
}

/* A door in a loop that the test turns by hand. */
struct door_rig {
	struct loop *loop;
	struct door door;
};

static void open_door(struct rig *rig, struct door_rig *with)
{
	int fd = -1;

	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	assert_true(fd >= 0);
	with->loop = loop_new();
	assert_non_null(with->loop);
	assert_int_equal(door_open(&with->door, with->loop, fd, on_answer), 0);
}

static void close_door(struct door_rig *with)
{
	door_close(&with->door);
	loop_free(with->loop);
}

/* Deliver what the broker answers, until nobody waits. */
static void settle(struct door_rig *with)
{
	while (with->door.count > 0) {
		struct pollfd wait = { .fd = with->door.fd, .events = POLLIN };

		assert_int_equal(poll(&wait, 1, 10000), 1);
		with->door.source.on_event(&with->door.source, POLLIN);
	}
}

static void call(struct door_rig *with, struct caller *caller, uint32_t port)
{
	*caller = (struct caller){ .fd = -1 };
	assert_int_equal(door_call(&with->door, &caller->base, port, SOCK_STREAM), 0);
}

static struct unix_listener host_program(const struct rig *rig, const char *port)
{
	const struct unix_access access = { .mode = -1, .group = (gid_t)-1 };
	struct unix_listener listener;
	char path[80];

	(void)snprintf(path, sizeof(path), "%s_%s", rig->path, port);
	assert_int_equal(unix_listener_open(&listener, path, SOCK_STREAM, &access), 0);
	return listener;
}

static void test_dial(void **state)
{
	struct rig *rig = *state;
	struct door_rig with;
	struct unix_listener program = host_program(rig, "80");
	struct caller caller;
	int fd;

	open_door(rig, &with);
	call(&with, &caller, 80);
	settle(&with);
	assert_int_equal(caller.answers, 1);
	assert_int_equal(caller.err, 0);
	fd = accept(program.fd, NULL, NULL);
	assert_true(fd >= 0);
	assert_int_equal(write(caller.fd, "x", 1), 1);
	fd_close(&fd);
	fd_close(&caller.fd);
	call(&with, &caller, 81);
	settle(&with);
	assert_int_equal(caller.err, -ENOENT);
	assert_int_equal(caller.fd, -1);
	unix_listener_close(&program);
	close_door(&with);
}

static void test_many_dials(void **state)
{
	struct rig *rig = *state;
	struct door_rig with;
	struct unix_listener program = host_program(rig, "7");
	struct caller callers[DOOR_MAX_CALLS];
	struct caller late = { .answers = 0 };

	open_door(rig, &with);
	for (uint32_t i = 0; i < DOOR_MAX_CALLS; i++)
		call(&with, &callers[i], i % 2 == 0 ? 7 : 8);
	assert_int_equal(door_call(&with.door, &late.base, 7, SOCK_STREAM), -EAGAIN);
	for (uint32_t i = 0; i < DOOR_MAX_CALLS; i += 8)
		door_cancel(&with.door, &callers[i].base);
	settle(&with);
	for (uint32_t i = 0; i < DOOR_MAX_CALLS; i++) {
		assert_int_equal(callers[i].answers, i % 8 == 0 ? 0 : 1);
		assert_int_equal(callers[i].err, i % 2 == 0 ? 0 : -ENOENT);
		assert_int_equal(callers[i].fd >= 0, i % 2 == 0 && i % 8 != 0);
		fd_close(&callers[i].fd);
	}
	assert_int_equal(late.answers, 0);
	unix_listener_close(&program);
	close_door(&with);
}

/* The directory is the one of the start: what takes its place is not looked at. */
static void test_swapped_directory(void **state)
{
	struct rig *rig = *state;
	struct door_rig with;
	struct unix_listener program = host_program(rig, "80");
	struct caller caller;
	struct rig other = *rig;
	struct unix_listener trap;
	char moved[64];

	open_door(rig, &with);
	(void)snprintf(moved, sizeof(moved), "%s-moved", rig->dir);
	(void)snprintf(other.path, sizeof(other.path), "%s-other/vm", rig->dir);
	other.path[strlen(other.path) - 3] = '\0';
	assert_int_equal(mkdir(other.path, 0700), 0);
	assert_int_equal(rename(rig->dir, moved), 0);
	assert_int_equal(symlink(other.path, rig->dir), 0);
	trap = host_program(rig, "81"); /* through the link */
	call(&with, &caller, 81);
	settle(&with);
	assert_int_equal(caller.err, -ENOENT);
	call(&with, &caller, 80);
	settle(&with);
	assert_int_equal(caller.err, 0);
	fd_close(&caller.fd);
	unix_listener_close(&trap);
	assert_int_equal(unlink(rig->dir), 0);
	assert_int_equal(rmdir(other.path), 0);
	assert_int_equal(rename(moved, rig->dir), 0);
	unix_listener_close(&program);
	assert_int_equal(rmdir(rig->dir), 0);
	call(&with, &caller, 80); /* a directory that is gone */
	settle(&with);
	assert_int_equal(caller.err, -ENOENT);
	close_door(&with);
}

/* Whoever waits learns that the broker died; nobody waits for ever. */
static void test_broker_dies(void **state)
{
	struct rig *rig = *state;
	struct door_rig with;
	struct caller caller;
	struct unix_listener listener;

	open_door(rig, &with);
	assert_int_equal(kill(rig->broker.pid, SIGSTOP), 0);
	call(&with, &caller, 80);
	assert_int_equal(kill(rig->broker.pid, SIGKILL), 0);
	settle(&with);
	assert_int_equal(caller.answers, 1);
	assert_int_equal(caller.err, -EPIPE);
	assert_int_equal(door_call(&with.door, &caller.base, 80, SOCK_STREAM), -EPIPE);
	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), -EPIPE);
	close_door(&with);
}

/* --- a daemon that was taken over --- */

static int demand(struct rig *rig, const void *bytes, size_t len)
{
	struct pollfd wait = { .fd = rig->broker.channel, .events = POLLIN };
	struct broker_reply reply = { 0 };
	ssize_t got;

	assert_int_equal(send(rig->broker.channel, bytes, len, MSG_NOSIGNAL), len);
	assert_int_equal(poll(&wait, 1, 10000), 1);
	got = recv(rig->broker.channel, &reply, sizeof(reply), MSG_DONTWAIT);
	return got == (ssize_t)sizeof(reply) ? reply.err : -EPIPE;
}

static void test_bad_requests(void **state)
{
	struct rig *rig = *state;
	struct broker_request request = { .op = BROKER_LISTEN };

	assert_int_equal(demand(rig, &request, sizeof(request)), -EINVAL); /* no path */
	memset(request.path, 'p', sizeof(request.path));                   /* without an end */
	assert_int_equal(demand(rig, &request, sizeof(request)), -EINVAL);
	request.op = BROKER_DOOR;
	assert_int_equal(demand(rig, &request, sizeof(request)), -EINVAL);
	request.op = BROKER_OP_COUNT;
	assert_int_equal(demand(rig, &request, sizeof(request)), -EINVAL);
	request.op = BROKER_CONFIG; /* there is none */
	assert_int_equal(demand(rig, &request, sizeof(request)), -ENOENT);
	request.op = BROKER_UNLISTEN;
	request.id = 0; /* of no socket it made */
	assert_int_equal(demand(rig, &request, sizeof(request)), -ENOENT);
	request.id = UINT32_MAX;
	assert_int_equal(demand(rig, &request, sizeof(request)), -ENOENT);
	assert_int_equal(demand(rig, &request, sizeof(request) - 1), -EPIPE); /* the end */
}

static void test_seal(void **state)
{
	struct rig *rig = *state;
	struct unix_listener before;
	struct unix_listener after;
	int fd = -1;

	assert_int_equal(broker_listen(&rig->broker, &before, rig->path, SOCK_STREAM), 0);
	assert_int_equal(broker_seal(&rig->broker), 0);
	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), -EPERM);
	broker_unlisten(&rig->broker, &before);
	assert_int_equal(access(rig->path, F_OK), -1);
	assert_int_equal(broker_listen(&rig->broker, &after, rig->path, SOCK_STREAM), -EPERM);
}

static void test_bad_dials(void **state)
{
	struct rig *rig = *state;
	uint32_t ports[3] = { 80, SOCK_STREAM, 80 };
	struct pollfd wait = { .events = POLLIN };
	char byte;
	int fd = -1;

	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	assert_int_equal(send(fd, ports, sizeof(ports), MSG_NOSIGNAL), sizeof(ports));
	wait.fd = fd;
	assert_int_equal(poll(&wait, 1, 10000), 1);
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0); /* it closed the door */
	fd_close(&fd);
	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	fd_close(&fd);
}

/* Who asks and does not listen loses the door; others are served. */
static void test_unread_answers(void **state)
{
	struct rig *rig = *state;
	const struct broker_dial dial = { .port = 80, .type = SOCK_STREAM };
	struct unix_listener listener;
	int fd = -1;

	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	for (int i = 0; i < 100000; i++) {
		struct pollfd wait = { .fd = fd, .events = POLLOUT };

		if (send(fd, &dial, sizeof(dial), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		    errno == EPIPE)
			break;
		assert_int_equal(poll(&wait, 1, 10000), 1);
	}
	assert_int_equal(send(fd, &dial, sizeof(dial), MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	fd_close(&fd);
	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), 0);
	broker_unlisten(&rig->broker, &listener);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_listen),
		WITH_RIG(test_access),
		WITH_RIG(test_taken_paths),
		WITH_RIG(test_removes_its_own),
		WITH_RIG(test_dial),
		WITH_RIG(test_many_dials),
		WITH_RIG(test_swapped_directory),
		WITH_RIG(test_broker_dies),
		WITH_RIG(test_bad_requests),
		WITH_RIG(test_seal),
		WITH_RIG(test_bad_dials),
		WITH_RIG(test_unread_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
