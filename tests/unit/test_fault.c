// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_fault.c - base/fault.c: a truncated file costs its own range only.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#include "base/fault.h"
#include "base/fd.h"

#define PAGE 4096u

struct mapping {
	int fd;
	uint8_t *bytes;
	int guard;
};

/* cmocka takes SIGBUS for itself before each test: we come after it. */
static struct mapping map(size_t pages)
{
	struct mapping m = { .fd = memfd_create("test", MFD_CLOEXEC) };

	assert_int_equal(fault_install(), 0);
	assert_true(m.fd >= 0);
	assert_int_equal(ftruncate(m.fd, (off_t)(pages * PAGE)), 0);
	m.bytes = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	assert_ptr_not_equal(m.bytes, MAP_FAILED);
	m.guard = fault_guard(m.bytes, pages * PAGE);
	assert_true(m.guard >= 0);
	return m;
}

static void unmap(struct mapping *m, size_t pages)
{
	fault_unguard(m->guard);
	munmap(m->bytes, pages * PAGE);
	fd_close(&m->fd);
}

static void test_truncated(void **state)
{
	struct mapping a = map(4);
	struct mapping b = map(4);
	volatile uint8_t *bytes = a.bytes;

	(void)state;
	a.bytes[0] = 7;
	b.bytes[0] = 9;
	assert_false(fault_is_lost(a.guard));
	assert_int_equal(ftruncate(a.fd, PAGE), 0);
	assert_int_equal(bytes[0], 7);
	assert_false(fault_is_lost(a.guard));
	bytes[3 * PAGE] = 1; /* write beyond the end */
	assert_int_equal(bytes[3 * PAGE], 1);
	assert_int_equal(bytes[2 * PAGE + 5], 0);
	assert_true(fault_is_lost(a.guard));
	assert_false(fault_is_lost(b.guard));
	assert_int_equal(b.bytes[0], 9);
	unmap(&a, 4);
	unmap(&b, 4);
}

static void test_handle_is_reused_clean(void **state)
{
	struct mapping a = map(1);
	int handle = a.guard;

	(void)state;
	assert_int_equal(ftruncate(a.fd, 0), 0);
	((volatile uint8_t *)a.bytes)[0] = 1;
	assert_true(fault_is_lost(a.guard));
	unmap(&a, 1);
	a = map(1);
	assert_int_equal(a.guard, handle);
	assert_false(fault_is_lost(a.guard));
	unmap(&a, 1);
}

/* What is not guarded still kills, so that no bug is hidden. */
static void test_unguarded(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		struct mapping a = map(1);

		fault_unguard(a.guard);
		if (ftruncate(a.fd, 0) == 0)
			((volatile uint8_t *)a.bytes)[0] = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_handle_is_reused_clean),
		cmocka_unit_test(test_unguarded),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
