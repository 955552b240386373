// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_timer.c - loop/timer.c: order, moving, disarming, and random operations
 * against an unordered array.
 */
#include <stdlib.h>

#include "unit.h"

#include "loop/timer.h"
#include "rng.h"

#define MODEL_TIMERS 300u

static void test_empty(void **state)
{
	struct timer_heap heap = { 0 };
	struct timer t = { 0 };

	(void)state;
	assert_false(timer_is_armed(&t));
	assert_true(timer_next_ms(&heap) == UINT64_MAX);
	assert_null(timer_pop_expired(&heap, UINT64_MAX));
	timer_disarm(&heap, &t);
	timer_heap_fini(&heap);
}

static void test_order_and_limits(void **state)
{
	struct timer_heap heap = { 0 };
	struct timer a = { 0 }, b = { 0 }, c = { 0 };

	(void)state;
	assert_int_equal(timer_arm(&heap, &a, 30), 0);
	assert_int_equal(timer_arm(&heap, &b, 10), 0);
	assert_int_equal(timer_arm(&heap, &c, 20), 0);
	assert_true(timer_next_ms(&heap) == 10);
	assert_null(timer_pop_expired(&heap, 9));
	assert_ptr_equal(timer_pop_expired(&heap, 10), &b);
	assert_false(timer_is_armed(&b));
	assert_null(timer_pop_expired(&heap, 10));

	/* Moved behind and before the others. */
	assert_int_equal(timer_arm(&heap, &c, 40), 0);
	assert_true(timer_next_ms(&heap) == 30);
	assert_int_equal(timer_arm(&heap, &c, 5), 0);
	assert_ptr_equal(timer_pop_expired(&heap, 100), &c);
	assert_ptr_equal(timer_pop_expired(&heap, 100), &a);
	assert_null(timer_pop_expired(&heap, 100));
	timer_heap_fini(&heap);
}

static void test_fini_disarms(void **state)
{
	struct timer_heap heap = { 0 };
	struct timer t[40] = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(timer_arm(&heap, &t[i], 100 - i), 0);
	timer_heap_fini(&heap);
	for (uint32_t i = 0; i < 40; i++)
		assert_false(timer_is_armed(&t[i]));
	assert_int_equal(timer_arm(&heap, &t[7], 1), 0);
	assert_ptr_equal(timer_pop_expired(&heap, 1), &t[7]);
	timer_heap_fini(&heap);
}

struct model {
	struct timer timers[MODEL_TIMERS];
	uint64_t deadline[MODEL_TIMERS]; /* UINT64_MAX: disarmed */
	uint64_t now;
};

static uint64_t model_next(const struct model *m)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t i = 0; i < MODEL_TIMERS; i++)
		next = m->deadline[i] < next ? m->deadline[i] : next;
	return next;
}

static void model_expire(struct timer_heap *heap, struct model *m)
{
	struct timer *t = timer_pop_expired(heap, m->now);

	while (t != NULL) {
		uint64_t *deadline = &m->deadline[t - m->timers];

		assert_true(*deadline <= m->now);
		assert_true(*deadline == model_next(m));
		assert_false(timer_is_armed(t));
		*deadline = UINT64_MAX;
		t = timer_pop_expired(heap, m->now);
	}
	assert_true(model_next(m) > m->now);
}

static void test_model(void **state)
{
	struct rng rng = rng_new();
	struct timer_heap heap = { 0 };
	struct model *m = calloc(1, sizeof(*m));

	(void)state;
	assert_non_null(m);
	for (uint32_t i = 0; i < MODEL_TIMERS; i++)
		m->deadline[i] = UINT64_MAX;
	for (int step = 0; step < 20000; step++) {
		uint32_t i = rng_below(&rng, MODEL_TIMERS);
		uint32_t what = rng_below(&rng, 20);

		if (what < 14) {
			m->deadline[i] = m->now + rng_below(&rng, 200);
			assert_int_equal(timer_arm(&heap, &m->timers[i], m->deadline[i]), 0);
		} else if (what < 19) {
			m->deadline[i] = UINT64_MAX;
			timer_disarm(&heap, &m->timers[i]);
		} else {
			m->now += rng_below(&rng, 100);
			model_expire(&heap, m);
		}
		assert_true(timer_is_armed(&m->timers[i]) == (m->deadline[i] != UINT64_MAX));
		assert_true(timer_next_ms(&heap) == model_next(m));
	}
	timer_heap_fini(&heap);
	free(m);
	figure(20000, "steps");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_order_and_limits),
		cmocka_unit_test(test_fini_disarms),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
