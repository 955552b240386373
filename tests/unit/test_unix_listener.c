// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_unix_listener.c - two who want one path at the same time. The other one acts
 * inside of connect() and listen(), which are replaced here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"
#include "host/unix_listener.h"

enum moment { NEVER, AT_CONNECT, AT_LISTEN };

static struct {
	enum moment moment;
	struct sockaddr_un address;
	int fd; /* the other one's */
} other = { .fd = -1 };

static int make_node(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&other.address, sizeof(other.address)), 0);
	return fd;
}

/* Replace what lies there by a listening socket. */
static void let_other_act(enum moment moment)
{
	if (other.moment != moment)
		return;
	other.moment = NEVER;
	assert_int_equal(unlink(other.address.sun_path), 0);
	other.fd = make_node();
	assert_int_equal(syscall(SYS_listen, other.fd, 1), 0);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are reserved */
int connect(int fd, const struct sockaddr *address, socklen_t len)
{
	int ret = (int)syscall(SYS_connect, fd, address, len);
	int saved_errno = errno;

	let_other_act(AT_CONNECT);
	errno = saved_errno;
	return ret;
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are reserved */
int listen(int fd, int backlog)
{
	let_other_act(AT_LISTEN);
	return (int)syscall(SYS_listen, fd, backlog);
}

static int setup(void **state)
{
	char dir[] = "/tmp/test-listener-XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(dir));
	other.address.sun_family = AF_UNIX;
	(void)snprintf(other.address.sun_path, sizeof(other.address.sun_path), "%s/socket", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fd_close(&other.fd);
	(void)unlink(other.address.sun_path);
	*strrchr(other.address.sun_path, '/') = '\0';
	assert_int_equal(rmdir(other.address.sun_path), 0);
	return 0;
}

/* Somebody accepts there, the other one for as long as it lives. */
static void expect_other_listens(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int accepted;

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&other.address, sizeof(other.address)), 0);
	accepted = accept4(other.fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	fd_close(&accepted);
	fd_close(&fd);
}

static int open_at_path(struct unix_listener *listener)
{
	return unix_listener_open(listener, other.address.sun_path, SOCK_STREAM,
				  &unix_access_default);
}

static void test_stale(void **state)
{
	struct unix_listener listener;
	int fd = make_node();

	(void)state;
	fd_close(&fd);
	assert_int_equal(open_at_path(&listener), 0);
	assert_int_equal(open_at_path(&(struct unix_listener){ .fd = -1 }), -EADDRINUSE);
	unix_listener_close(&listener);
	assert_int_equal(access(other.address.sun_path, F_OK), -1);
}

/* The stale node is another's by the time that it was found to be stale. */
static void test_replaced_when_probed(void **state)
{
	struct unix_listener listener;
	int fd = make_node();

	(void)state;
	fd_close(&fd);
	other.moment = AT_CONNECT;
	assert_int_equal(open_at_path(&listener), -EADDRINUSE);
	expect_other_listens();
}

/* Our node was taken for a stale one before we listened. */
static void test_replaced_before_it_listens(void **state)
{
	struct unix_listener listener;

	(void)state;
	other.moment = AT_LISTEN;
	assert_int_equal(open_at_path(&listener), -EADDRINUSE);
	assert_int_equal(listener.fd, -1);
	expect_other_listens();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced_when_probed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced_before_it_listens, setup, teardown),
	};

	return cmocka_run_group_tests_name("unix_listener", tests, NULL, NULL);
}
