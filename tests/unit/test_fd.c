// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_fd.c - base/fd.c: ownership, and that no descriptor a peer passes is
 * ever left open by a failure.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"

#define MANY_FDS 40u

struct pair {
	int ours;
	int peer;
};

static struct pair pair_open(void)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
	return (struct pair){ .ours = sv[0], .peer = sv[1] };
}

static void pair_close(struct pair *p)
{
	fd_close(&p->ours);
	fd_close(&p->peer);
}

static unsigned int count_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* Send @len bytes of "abcd..." with @n duplicates of one descriptor. */
static void send_fds(int sock, size_t len, unsigned int n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MANY_FDS * sizeof(int))];
	} control = { 0 };
	char data[] = "abcdefgh";
	struct iovec iov = { .iov_base = data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[MANY_FDS];

	for (unsigned int i = 0; i < n; i++)
		fds[i] = STDERR_FILENO;
	if (n > 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	assert_int_equal(sendmsg(sock, &msg, 0), len);
}

static void test_close_and_take(void **state)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	int raw = fd;
	int other;

	(void)state;
	assert_true(fd >= 0);
	other = fd_take(&fd);
	assert_int_equal(other, raw);
	assert_int_equal(fd, -1);
	fd_close(&fd);
	assert_true(fcntl(raw, F_GETFD) >= 0);

	errno = EXDEV;
	fd_close(&other);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(other, -1);
	assert_int_equal(fcntl(raw, F_GETFD), -1);
	fd_close(&other);
}

static int open_scoped(void)
{
	int fd scoped_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	return fd;
}

static void test_scope_closes(void **state)
{
	(void)state;
	assert_int_equal(fcntl(open_scoped(), F_GETFD), -1);
	assert_int_equal(errno, EBADF);
}

static void test_set_nonblocking(void **state)
{
	int sv[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(fcntl(sv[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fd_set_nonblocking(sv[0]), 0);
	assert_int_equal(fcntl(sv[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	fd_close_all(sv, 2);
	assert_int_equal(sv[0], -1);
	assert_int_equal(sv[1], -1);
	assert_int_equal(fd_set_nonblocking(-1), -EBADF);
}

static void test_recv_bytes_only(void **state)
{
	struct pair p = pair_open();
	char bytes[8];
	size_t n = 99;

	(void)state;
	assert_int_equal(fd_recv(p.ours, bytes, sizeof(bytes), NULL, 0, &n), -EAGAIN);
	assert_int_equal(n, 0);
	send_fds(p.peer, 5, 0);
	assert_int_equal(fd_recv(p.ours, bytes, 3, NULL, 0, &n), 3);
	assert_memory_equal(bytes, "abc", 3);
	assert_int_equal(fd_recv(p.ours, bytes, sizeof(bytes), NULL, 0, &n), 2);
	fd_close(&p.peer);
	assert_int_equal(fd_recv(p.ours, bytes, sizeof(bytes), NULL, 0, &n), 0);
	assert_int_equal(n, 0);
	pair_close(&p);
	assert_int_equal(fd_recv(-1, bytes, sizeof(bytes), NULL, 0, &n), -EBADF);
}

static void test_recv_fds(void **state)
{
	static const unsigned int counts[] = { 1, 2, 8, 15, FD_RECV_MAX };
	unsigned int before = count_open();

	(void)state;
	for (size_t i = 0; i < array_size(counts); i++) {
		struct pair p = pair_open();
		int fds[FD_RECV_MAX + 1];
		char bytes[8];
		size_t n = 0;

		memset(fds, 0xee, sizeof(fds));
		send_fds(p.peer, 4, counts[i]);
		assert_int_equal(fd_recv(p.ours, bytes, sizeof(bytes), fds, counts[i], &n), 4);
		assert_int_equal(n, counts[i]);
		assert_int_equal(fds[n], (int)0xeeeeeeee);
		for (size_t j = 0; j < n; j++)
			assert_int_equal(fcntl(fds[j], F_GETFD), FD_CLOEXEC);
		fd_close_all(fds, n);
		pair_close(&p);
	}
	assert_int_equal(count_open(), before);
}

static void test_recv_too_many_fds(void **state)
{
	/* More than the caller takes; than the buffer holds (truncated by the kernel). */
	static const struct {
		unsigned int sent, taken;
	} cases[] = { { 1, 0 },           { 3, 2 },
		      { FD_RECV_MAX, 8 }, { FD_RECV_MAX + 1, FD_RECV_MAX },
		      { MANY_FDS, 1 },    { MANY_FDS, FD_RECV_MAX } };

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct pair p = pair_open();
		unsigned int before = count_open();
		int fds[FD_RECV_MAX] = { 0 };
		char bytes[8];
		size_t n = 99;

		send_fds(p.peer, 4, cases[i].sent);
		assert_int_equal(fd_recv(p.ours, bytes, sizeof(bytes), fds, cases[i].taken, &n),
				 -EPROTO);
		assert_int_equal(n, 0);
		assert_int_equal(fds[0], 0);
		assert_int_equal(count_open(), before);
		pair_close(&p);
	}
}

static void test_recv_without_free_slots(void **state)
{
	struct pair p = pair_open();
	unsigned int before = count_open();
	struct rlimit old, tight;
	int fds[4], spare;
	char bytes[8];
	size_t n = 99;
	ssize_t ret;

	(void)state;
	send_fds(p.peer, 4, 4);
	spare = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	assert_true(spare >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)spare + 2; /* room for one more, four arrive */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	ret = fd_recv(p.ours, bytes, sizeof(bytes), fds, 4, &n);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	fd_close(&spare);
	assert_int_equal(ret, -EMFILE);
	assert_int_equal(n, 0);
	assert_int_equal(count_open(), before);
	pair_close(&p);
}

static void test_raise_limit(void **state)
{
	struct rlimit old, limit;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(fd_raise_limit(), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur == old.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_and_take),
		cmocka_unit_test(test_scope_closes),
		cmocka_unit_test(test_set_nonblocking),
		cmocka_unit_test(test_recv_bytes_only),
		cmocka_unit_test(test_recv_fds),
		cmocka_unit_test(test_recv_too_many_fds),
		cmocka_unit_test(test_recv_without_free_slots),
		cmocka_unit_test(test_raise_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
