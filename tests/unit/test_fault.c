// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_fault.c - base/fault.c: a truncated file costs its own range only.
 */
#include <fcntl.h>
#include <pthread.h>
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

#define RACE_PAGES 8u
#define RACE_FAULTS 20000u

/* Pages in a row: a canary, one that faults, and others. */
struct race {
	uint8_t *pages;
	bool over;
};

/*
 * Guards the canary alone, or what lies behind the faulting page, in the same entry
 * of the table. The start of one with the length of the other covers them all.
 */
static void *change_ranges(void *arg)
{
	struct race *race = arg;

	while (!__atomic_load_n(&race->over, __ATOMIC_RELAXED)) {
		fault_unguard(fault_guard(race->pages, PAGE));
		fault_unguard(fault_guard(race->pages + 2 * PAGE, (RACE_PAGES - 2) * PAGE));
	}
	return NULL;
}

static void fault_at(uint8_t *page, int empty)
{
	assert_ptr_equal(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, empty, 0),
			 page);
	((volatile uint8_t *)page)[0] = 1;
}

/* Other threads guard and forget ranges while one is repaired. */
static void test_ranges_that_change(void **state)
{
	struct mapping first = map(1); /* the entry that the other thread takes */
	struct mapping empty = map(1);
	struct race race = { .pages = mmap(NULL, RACE_PAGES * PAGE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
	pthread_t other;
	int guard;

	(void)state;
	assert_ptr_not_equal(race.pages, MAP_FAILED);
	assert_int_equal(ftruncate(empty.fd, 0), 0);
	guard = fault_guard(race.pages + PAGE, PAGE);
	assert_true(guard >= 0);
	race.pages[0] = 0x5a;
	race.pages[2 * PAGE] = 0xa5;
	unmap(&first, 1);
	assert_int_equal(pthread_create(&other, NULL, change_ranges, &race), 0);
	for (unsigned int i = 0; i < RACE_FAULTS && race.pages[0] == 0x5a; i++)
		fault_at(race.pages + PAGE, empty.fd);
	__atomic_store_n(&race.over, true, __ATOMIC_RELAXED);
	pthread_join(other, NULL);
	assert_int_equal(race.pages[0], 0x5a);
	assert_int_equal(race.pages[2 * PAGE], 0xa5);
	assert_true(fault_is_lost(guard));
	fault_unguard(guard);
	munmap(race.pages, RACE_PAGES * PAGE);
	unmap(&empty, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_handle_is_reused_clean),
		cmocka_unit_test(test_unguarded),
		cmocka_unit_test(test_ranges_that_change),
	};

	return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
