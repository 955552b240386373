// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_busy_poll.c - loop/busy_poll.h: when a loop looks before it sleeps, for a
 * clock that the test moves.
 */
#include "unit.h"

#include "loop/busy_poll.h"

#define LIMIT_NS 20000u
#define WAKING_NS 15000u /* what a sleep lasts longer than its reason */

struct world {
	struct busy_poll poll;
	uint64_t now_ns;
	uint64_t looked_ns; /* in all */
	unsigned int looks;
};

static struct world begin(uint64_t limit_ns)
{
	return (struct world){ .poll.limit_ns = limit_ns, .now_ns = 1000000000 };
}

/* A wait whose event comes after @gap_ns. Return: whether it began with looking. */
static bool wait_for(struct world *w, uint64_t gap_ns)
{
	uint64_t begun_ns = w->now_ns;
	bool looks = busy_poll_begins(&w->poll, begun_ns);
	uint64_t seen_ns = looks && gap_ns < LIMIT_NS ? gap_ns : gap_ns + WAKING_NS;

	if (looks) {
		w->looks++;
		w->looked_ns += gap_ns < LIMIT_NS ? gap_ns : LIMIT_NS;
		assert_true(busy_poll_lasts(&w->poll, begun_ns, begun_ns + LIMIT_NS - 1));
		assert_false(busy_poll_lasts(&w->poll, begun_ns, begun_ns + LIMIT_NS));
	}
	w->now_ns += seen_ns;
	busy_poll_woken(&w->poll, looks, begun_ns, w->now_ns);
	return looks;
}

static void test_off_never_looks(void **state)
{
	struct world w = begin(0);

	(void)state;
	for (int i = 0; i < 100; i++)
		assert_false(wait_for(&w, 0));
}

static void test_answers_that_come_at_once(void **state)
{
	struct world w = begin(LIMIT_NS);

	(void)state;
	assert_false(wait_for(&w, 5000));
	for (int i = 0; i < 100; i++) {
		w.now_ns += 4000; /* the turn */
		assert_true(wait_for(&w, 5000));
	}
}

/* After any history a loop that waits for long looks a few times and then no more. */
static void test_idle(void **state)
{
	struct world w = begin(LIMIT_NS);

	(void)state;
	for (int i = 0; i < 1000; i++)
		(void)wait_for(&w, 1000);
	w.looks = 0;
	w.looked_ns = 0;
	for (int i = 0; i < 1000; i++)
		(void)wait_for(&w, 1000000);
	assert_int_equal(w.looks, BUSY_POLL_SCORE_MAX);
	assert_int_equal(w.looked_ns, (uint64_t)BUSY_POLL_SCORE_MAX * LIMIT_NS);
	assert_false(wait_for(&w, 1000000));
}

static void test_a_long_turn_is_bulk(void **state)
{
	struct world w = begin(LIMIT_NS);

	(void)state;
	for (int i = 0; i < 100; i++)
		(void)wait_for(&w, 1000);
	w.now_ns += LIMIT_NS;
	assert_true(wait_for(&w, 1000));
	w.now_ns += LIMIT_NS + 1;
	assert_false(wait_for(&w, 1000));
	w.now_ns += 1000;
	assert_true(wait_for(&w, 1000));
}

/* Just too late for looking: it is tried again and again, but not more often than not. */
static void test_answers_that_come_too_late(void **state)
{
	struct world w = begin(LIMIT_NS);

	(void)state;
	for (int i = 0; i < 1000; i++)
		(void)wait_for(&w, LIMIT_NS + 1000);
	assert_true(w.looks <= 500);
}

/* Whatever comes, what was looked for in vain is bounded by what was not. */
static void test_any_history(void **state)
{
	struct world w = begin(LIMIT_NS);
	uint32_t random = 12345;
	unsigned int found = 0;
	unsigned int slept = 0;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint64_t gap_ns;
		bool looked;

		random = random * 1664525 + 1013904223;
		gap_ns = (random >> 8) % (3 * LIMIT_NS);
		looked = wait_for(&w, gap_ns);
		found += looked && gap_ns < LIMIT_NS;
		slept += !looked;
		assert_true(w.poll.score <= BUSY_POLL_SCORE_MAX);
	}
	assert_true(w.looks - found <= found + slept + BUSY_POLL_SCORE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off_never_looks),
		cmocka_unit_test(test_answers_that_come_at_once),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_a_long_turn_is_bulk),
		cmocka_unit_test(test_answers_that_come_too_late),
		cmocka_unit_test(test_any_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
