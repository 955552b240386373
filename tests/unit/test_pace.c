// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_pace.c - vsock/pace.h: when turns are short and when they are long again.
 */
#include "unit.h"

#include "vsock/pace.h"

static void steps(struct pace *pace, uint8_t *smalls, uint32_t bytes, unsigned int count)
{
	while (count-- > 0)
		pace_step(pace, smalls, bytes);
}

static void test_alone(void **state)
{
	struct pace pace = { 0 };
	uint8_t bulk = 0;

	(void)state;
	steps(&pace, &bulk, 65536, 1000);
	assert_int_equal(pace_bytes(&pace), PACE_ALONE_BYTES);
}

static void test_tails_of_a_transfer_are_no_messages(void **state)
{
	struct pace pace = { 0 };
	uint8_t bulk = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		steps(&pace, &bulk, 65536, 1);
		steps(&pace, &bulk, 1, PACE_MESSAGES);
	}
	assert_int_equal(pace_bytes(&pace), PACE_ALONE_BYTES);
}

static void test_messages_beside_make_turns_short(void **state)
{
	struct pace pace = { 0 };
	uint8_t bulk = 0;
	uint8_t messages = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		steps(&pace, &bulk, 65536, PACE_MEMORY - 1);
		steps(&pace, &messages, 1, 1);
		if (i > (int)PACE_MESSAGES)
			assert_int_equal(pace_bytes(&pace), PACE_SHARED_BYTES);
	}
	/* they fall silent: forgotten after a while */
	steps(&pace, &bulk, 65536, PACE_MEMORY);
	assert_int_equal(pace_bytes(&pace), PACE_ALONE_BYTES);
}

static void test_messages_grow_into_bulk(void **state)
{
	struct pace pace = { 0 };
	uint8_t flow = 0;

	(void)state;
	steps(&pace, &flow, PACE_SMALL_BYTES, 1000);
	assert_int_equal(pace_bytes(&pace), PACE_SHARED_BYTES);
	steps(&pace, &flow, PACE_SMALL_BYTES + 1, PACE_MEMORY);
	assert_int_equal(pace_bytes(&pace), PACE_ALONE_BYTES);
}

static void test_credit_is_withheld_from_bulk_beside_messages(void **state)
{
	struct pace pace = { 0 };
	uint8_t bulk = 0;
	uint8_t messages = 0;

	(void)state;
	assert_int_equal(pace_withheld(&pace, bulk, 262144), 0);
	steps(&pace, &messages, 1, PACE_MESSAGES + 1);
	assert_int_equal(pace_withheld(&pace, bulk, 262144), 262144 - PACE_SHARED_WINDOW);
	assert_int_equal(pace_withheld(&pace, bulk, PACE_SHARED_WINDOW + 1), 1);
	assert_int_equal(pace_withheld(&pace, bulk, PACE_SHARED_WINDOW), 0);
	assert_int_equal(pace_withheld(&pace, bulk, 0), 0);
	assert_int_equal(pace_withheld(&pace, messages, 262144), 0);
	/* a tail of bulk is no message, even while others exchange some */
	assert_false(pace_step(&pace, &bulk, 1));
	assert_true(pace_step(&pace, &messages, 1));
	bulk = 0;
	steps(&pace, &bulk, 65536, PACE_MEMORY);
	assert_int_equal(pace_withheld(&pace, bulk, 262144), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_tails_of_a_transfer_are_no_messages),
		cmocka_unit_test(test_messages_beside_make_turns_short),
		cmocka_unit_test(test_messages_grow_into_bulk),
		cmocka_unit_test(test_credit_is_withheld_from_bulk_beside_messages),
	};

	return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
