// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_quota.c - base/quota.c: bounds, reserves, and that nothing is lost when
 * threads ask and give back at the same time.
 */
#include <pthread.h>

#include "base/quota.h"
#include "unit.h"

static void test_one_level(void **state)
{
	struct quota quota = { .name = "one", .max = 10 };

	(void)state;
	assert_null(quota_take(&quota, 4));
	assert_null(quota_take(&quota, 6));
	assert_ptr_equal(quota_take(&quota, 1), &quota);
	assert_int_equal(quota_used(&quota), 10);
	quota_give(&quota, 3);
	assert_ptr_equal(quota_would_refuse(&quota, 4), &quota);
	assert_null(quota_would_refuse(&quota, 3));
	assert_ptr_equal(quota_take(&quota, 4), &quota);
	assert_int_equal(quota_used(&quota), 7);
	assert_null(quota_take(&quota, 0));
}

/* What one child is promised is there for it after another took all it could. */
static void test_reserve_is_kept(void **state)
{
	struct quota all = { .name = "all", .max = 10 };
	struct quota a = { .name = "a", .parent = &all, .max = 100, .reserved = 5 };
	struct quota b = { .name = "b", .parent = &all, .max = 100, .reserved = 5 };

	(void)state;
	assert_null(quota_take(&a, 15));
	assert_int_equal(quota_used(&all), 10);
	assert_ptr_equal(quota_take(&a, 1), &all);
	assert_null(quota_take(&b, 5));
	assert_ptr_equal(quota_would_refuse(&b, 1), &all);
	assert_ptr_equal(quota_take(&b, 1), &all);
	assert_int_equal(quota_used(&a), 15);
	assert_int_equal(quota_used(&b), 5);
	quota_give(&a, 1);
	assert_null(quota_take(&b, 1));
	quota_give(&a, 14);
	quota_give(&b, 6);
	assert_int_equal(quota_used(&all), 0);
}

/* The child's own bound is named even where the parent's stands against it too. */
static void test_who_refuses(void **state)
{
	struct quota all = { .name = "all", .max = 2 };
	struct quota a = { .name = "a", .parent = &all, .max = 3 };

	(void)state;
	assert_ptr_equal(quota_take(&a, 4), &a);
	assert_ptr_equal(quota_take(&a, 3), &all);
	assert_int_equal(quota_used(&a), 0);
	assert_int_equal(quota_used(&all), 0);
}

#define ROUNDS 100000u

static void *take_and_give(void *arg)
{
	struct quota *quota = arg;
	uint32_t granted = 0;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t n = 1 + i % 7;

		if (quota_take(quota, n) == NULL) {
			granted++;
			quota_give(quota, n);
		}
	}
	return (void *)(uintptr_t)granted;
}

static void test_threads(void **state)
{
	struct quota all = { .name = "all", .max = 8 };
	struct quota child[2] = {
		{ .name = "a", .parent = &all, .max = 12, .reserved = 3 },
		{ .name = "b", .parent = &all, .max = 12, .reserved = 3 },
	};
	pthread_t thread[4];

	(void)state;
	for (unsigned int i = 0; i < array_size(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_and_give, &child[i % 2]), 0);
	for (unsigned int i = 0; i < array_size(thread); i++) {
		void *granted = NULL;

		assert_int_equal(pthread_join(thread[i], &granted), 0);
		assert_true((uintptr_t)granted > 0);
	}
	assert_int_equal(quota_used(&all), 0);
	assert_int_equal(quota_used(&child[0]), 0);
	assert_int_equal(quota_used(&child[1]), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_level),
		cmocka_unit_test(test_reserve_is_kept),
		cmocka_unit_test(test_who_refuses),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
