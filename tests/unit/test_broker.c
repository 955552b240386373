// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_broker.c - host/broker.c and host/broker_serve.c: requests to a real
 * broker process, and what a daemon that was taken over may try on it. Dials
 * are test_door.c's.
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

#include "broker_rig.h"

#include "base/fd.h"
#include "host/broker_private.h"

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
	struct broker_rig *rig = *state;
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
	struct broker_rig *rig = *state;
	struct unix_listener listener;
	struct stat st;

	broker_stop(&rig->broker);
	rig->access.mode = 0620;
	rig->access.group = geteuid() == 0 ? 65534 : getegid();
	rig_start(rig);
	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), 0);
	assert_int_equal(stat(rig->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0620);
	assert_int_equal(st.st_gid, rig->access.group);
	broker_unlisten(&rig->broker, &listener);
}

static void test_taken_paths(void **state)
{
	struct broker_rig *rig = *state;
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
	struct broker_rig *rig = *state;
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

/* --- a daemon that was taken over --- */

static int demand(struct broker_rig *rig, const void *bytes, size_t len)
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
	struct broker_rig *rig = *state;
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
	struct broker_rig *rig = *state;
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

/* A message that is none costs its sender the door. */
static void assert_loses_door(struct broker_rig *rig, const void *message, size_t bytes)
{
	struct pollfd wait = { .events = POLLIN };
	char byte;
	int fd = -1;

	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	assert_int_equal(send(fd, message, bytes, MSG_NOSIGNAL), bytes);
	wait.fd = fd;
	assert_int_equal(poll(&wait, 1, 10000), 1);
	assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	fd_close(&fd);
}

static void test_bad_dials(void **state)
{
	const struct broker_dial dials[BROKER_MAX_DIALS + 1] = { 0 };
	struct broker_rig *rig = *state;
	int fd = -1;

	assert_loses_door(rig, dials, sizeof(*dials) + sizeof(uint32_t));
	assert_loses_door(rig, dials, sizeof(*dials) - 1);
	assert_loses_door(rig, dials, sizeof(dials)); /* one too many */
	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	fd_close(&fd);
}

/* Whether a peer has closed its end; with requests unread, either is told first. */
static bool says_closed(int err)
{
	return err == EPIPE || err == ECONNRESET;
}

/* Who asks and does not listen loses the door; others are served. */
static void test_unread_answers(void **state)
{
	struct broker_rig *rig = *state;
	const struct broker_dial dial = { .port = 80, .type = SOCK_STREAM };
	struct unix_listener listener;
	int fd = -1;

	assert_int_equal(broker_open_door(&rig->broker, rig->path, &fd), 0);
	for (int i = 0; i < 100000; i++) {
		struct pollfd wait = { .fd = fd, .events = POLLOUT };

		if (send(fd, &dial, sizeof(dial), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		    says_closed(errno))
			break;
		assert_int_equal(poll(&wait, 1, 10000), 1);
	}
	assert_int_equal(send(fd, &dial, sizeof(dial), MSG_NOSIGNAL), -1);
	assert_true(says_closed(errno));
	fd_close(&fd);
	assert_int_equal(broker_listen(&rig->broker, &listener, rig->path, SOCK_STREAM), 0);
	broker_unlisten(&rig->broker, &listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RIG(test_listen),       WITH_RIG(test_access),
		WITH_RIG(test_taken_paths),  WITH_RIG(test_removes_its_own),
		WITH_RIG(test_bad_requests), WITH_RIG(test_seal),
		WITH_RIG(test_bad_dials),    WITH_RIG(test_unread_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
