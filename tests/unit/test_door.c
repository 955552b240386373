// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_door.c - host/door.c: dials through a real broker process, alone and many
 * together, and its end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker_rig.h"

#include "base/fd.h"
#include "host/broker_private.h"
#include "host/door.h"

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

static void open_door(struct broker_rig *rig, struct door_rig *with)
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

/* The end of a turn. */
static void send_calls(struct door_rig *with)
{
	loop_cancel(&with->door.send);
	with->door.send.run(&with->door.send);
	assert_int_equal(with->door.unsent, 0);
}

/* Deliver what the broker answers, until nobody waits. */
static void settle(struct door_rig *with)
{
	send_calls(with);
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

static struct unix_listener host_program(const struct broker_rig *rig, const char *port)
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
	struct broker_rig *rig = *state;
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
	struct broker_rig *rig = *state;
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
	struct broker_rig *rig = *state;
	struct door_rig with;
	struct unix_listener program = host_program(rig, "80");
	struct caller caller;
	struct broker_rig other = *rig;
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

/* Calls that wait to be sent are not answered by what others are told, and fail with the broker. */
static void test_calls_not_sent_yet(void **state)
{
	struct broker_rig *rig = *state;
	struct door_rig with;
	struct caller first;
	struct caller others[BROKER_MAX_DIALS + 2];
	struct pollfd wait = { .events = POLLIN };

	open_door(rig, &with);
	call(&with, &first, 81);
	send_calls(&with);
	for (size_t i = 0; i < array_size(others); i++)
		call(&with, &others[i], 82);
	wait.fd = with.door.fd;
	assert_int_equal(poll(&wait, 1, 10000), 1);
	with.door.source.on_event(&with.door.source, POLLIN);
	assert_int_equal(first.err, -ENOENT);
	assert_int_equal(with.door.count, array_size(others));
	assert_int_equal(kill(rig->broker.pid, SIGKILL), 0);
	assert_int_equal(poll(&wait, 1, 10000), 1);
	send_calls(&with);
	assert_int_equal(with.door.count, 0);
	for (size_t i = 0; i < array_size(others); i++) {
		assert_int_equal(others[i].answers, 1);
		assert_int_equal(others[i].err, -EPIPE);
	}
	with.door.source.on_event(&with.door.source, POLLIN | POLLHUP);
	assert_int_equal(door_call(&with.door, &first.base, 80, SOCK_STREAM), -EPIPE);
	close_door(&with);
}

/* Whoever waits learns that the broker died; nobody waits for ever. */
static void test_broker_dies(void **state)
{
	struct broker_rig *rig = *state;
	struct door_rig with;
	struct caller caller;
	struct unix_listener listener;

	open_door(rig, &with);
	assert_int_equal(kill(rig->broker.pid, SIGSTOP), 0);
	call(&with, &caller, 80);
	send_calls(&with);
	assert_int_equal(kill(rig->broker.pid, SIGKILL), 0);
	settle(&with);
	assert_int_equal(caller.answers, 1);
	assert_int_equal(caller.err, -EPIPE);
	assert_int_equal(door_call(&with.door, &caller.base, 80, SOCK_STREAM), -EPIPE);
	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), -EPIPE);
	close_door(&with);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_dial),
		WITH_RIG(test_many_dials),
		WITH_RIG(test_swapped_directory),
		WITH_RIG(test_calls_not_sent_yet),
		WITH_RIG(test_broker_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
