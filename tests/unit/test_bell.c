// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_bell.c - base/bell.c: eventfds are signalled, and nothing that their
 * other owner does makes the one that rings wait.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bell.h"
#include "base/fd.h"
#include "unit.h"

static void must_open(struct bell *bell)
{
	if (bell_open(bell) < 0)
		skip();
}

/* Many more than the completions that are kept. */
static void test_each_ring_counts(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	struct bell bell;
	eventfd_t count;

	(void)state;
	must_open(&bell);
	for (unsigned int i = 0; i < 1000; i++)
		bell_ring(&bell, &fd, 1);
	assert_int_equal(eventfd_read(fd, &count), 0);
	assert_int_equal(count, 1000);
	assert_true(bell_fits(&bell, fd));
	bell_close(&bell);
	fd_close(&fd);
}

/* A blocking descriptor with a full counter: write() would wait for ever. */
static void test_full_counter(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);
	struct bell bell;

	(void)state;
	must_open(&bell);
	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	alarm(10);
	for (unsigned int i = 0; i < 1000; i++)
		bell_ring(&bell, &fd, 1);
	alarm(0);
	bell_close(&bell);
	fd_close(&fd);
}

static void test_full_pipe(void **state)
{
	static const char page[4096];
	struct bell bell;
	int ends[2];

	(void)state;
	must_open(&bell);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(fd_set_nonblocking(ends[1]), 0);
	while (write(ends[1], page, sizeof(page)) > 0)
		continue;
	assert_int_equal(fcntl(ends[1], F_SETFL, 0), 0);
	alarm(10);
	bell_ring(&bell, &ends[1], 1);
	alarm(0);
	assert_false(bell_fits(&bell, ends[1]));
	assert_false(bell_fits(&bell, -1));
	bell_close(&bell);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
}

/* One that cannot be rung, full completions and full counters keep none of the others. */
static void test_several_at_once(void **state)
{
	int fds[BELL_MAX_FDS] = { eventfd(0, EFD_CLOEXEC), -1, eventfd(0, EFD_CLOEXEC), -1 };
	int full = eventfd(UINT32_MAX, EFD_CLOEXEC);
	struct bell bell;
	eventfd_t count;

	(void)state;
	must_open(&bell);
	assert_int_equal(eventfd_write(full, UINT64_MAX - 1 - UINT32_MAX), 0);
	fds[3] = full;
	alarm(10);
	for (unsigned int i = 0; i < 1000; i++)
		bell_ring(&bell, fds, array_size(fds));
	alarm(0);
	assert_int_equal(eventfd_read(fds[0], &count), 0);
	assert_int_equal(count, 1000);
	assert_int_equal(eventfd_read(fds[2], &count), 0);
	assert_int_equal(count, 1000);
	bell_close(&bell);
	fd_close(&fds[0]);
	fd_close(&fds[2]);
	fd_close(&full);
}

/* Where the kernel has no asynchronous I/O, or no more of it. */
static void test_without_context(void **state)
{
	struct bell bell = { .sink = -1 };
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	eventfd_t count;

	(void)state;
	assert_true(bell_fits(&bell, fd));
	bell_ring(&bell, &fd, 1);
	assert_int_equal(eventfd_read(fd, &count), 0);
	assert_int_equal(count, 1);
	bell_close(&bell);
	fd_close(&fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_ring_counts), cmocka_unit_test(test_full_counter),
		cmocka_unit_test(test_full_pipe),        cmocka_unit_test(test_several_at_once),
		cmocka_unit_test(test_without_context),
	};

	return cmocka_run_group_tests_name("bell", tests, NULL, NULL);
}
