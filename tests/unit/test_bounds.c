// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_bounds.c - daemon/bounds.c: shares of VMs that come and go.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/bounds.h"

#define TOTAL 3200u

static struct config config_of(struct vm_config *vms, size_t count)
{
	return (struct config){
		.vms = vms,
		.vm_count = count,
		.threads = 1,
		.total_connections = TOTAL,
		.total_buffered = TOTAL,
	};
}

/* Where VMs cannot come, half is theirs and half for who comes first. */
static void test_fixed(void **state)
{
	struct vm_config vms[4] = { 0 };
	struct config config = config_of(vms, 4);
	struct bounds_grant grant;
	struct bounds bounds;

	(void)state;
	bounds_init(&bounds, &config, false);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(bounds_admit(&bounds, &vms[i], true, &grant), 0);
		assert_int_equal(grant.open.reserved, TOTAL / 8);
		assert_int_equal(grant.buffered.reserved, TOTAL / 8);
	}
	assert_int_equal(bounds.open.all.max, TOTAL / 2);
	assert_int_equal(bounds.max_half_open, TOTAL / 16);
}

/* Whatever a neighbour holds, one that comes later finds its share untouched. */
static void test_growing(void **state)
{
	struct vm_config vm = { 0 };
	struct config config = config_of(&vm, 1);
	struct bounds_grant first;
	struct bounds_grant later;
	struct bounds bounds;

	(void)state;
	bounds_init(&bounds, &config, true);
	assert_int_equal(bounds_admit(&bounds, &vm, true, &first), 0);
	first.open.max = UINT32_MAX;
	assert_null(quota_take(&first.open, first.open.reserved + bounds.open.all.max));
	assert_non_null(quota_take(&first.open, 1));
	assert_int_equal(bounds_admit(&bounds, &vm, false, &later), 0);
	later.open.max = UINT32_MAX;
	assert_int_equal(later.open.reserved, TOTAL / 2 / BOUNDS_SPARE_PLACES);
	assert_null(quota_take(&later.open, later.open.reserved));
	assert_non_null(quota_take(&later.open, 1));
}

/* Without a place a VM pays for its descriptors, and gets them back. */
static void test_beyond_places(void **state)
{
	struct vm_config vm = { .forward_listen_count = 3 };
	struct config config = config_of(&vm, 0);
	struct bounds_grant places[BOUNDS_SPARE_PLACES];
	struct bounds_grant beyond;
	struct bounds bounds;
	uint64_t used;

	(void)state;
	bounds_init(&bounds, &config, true);
	for (size_t i = 0; i < BOUNDS_SPARE_PLACES; i++)
		assert_int_equal(bounds_admit(&bounds, &vm, false, &places[i]), 0);
	used = quota_used(&bounds.open.all);
	assert_int_equal(used, 3 * BOUNDS_SPARE_PLACES);
	assert_int_equal(bounds_admit(&bounds, &vm, false, &beyond), 0);
	assert_int_equal(beyond.open.reserved, 0);
	assert_true(quota_used(&bounds.open.all) > used + 3);
	bounds_release(&bounds, &beyond);
	assert_int_equal(quota_used(&bounds.open.all), used);
	assert_null(quota_take(&bounds.open.all, bounds.open.all.max - used));
	assert_int_equal(bounds_admit(&bounds, &vm, false, &beyond), -ENFILE);
	quota_give(&bounds.open.all, bounds.open.all.max - used);
	bounds_release(&bounds, &places[0]);
	assert_int_equal(bounds_admit(&bounds, &vm, false, &beyond), 0);
	assert_true(beyond.open.reserved > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_growing),
		cmocka_unit_test(test_beyond_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
