// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_messages.c - vsock/messages.c: bounds come back as they went in, however
 * they are taken, and take no more room than the bytes they are of.
 */
#include <stdlib.h>

#include "unit.h"

#include "rng.h"
#include "vsock/messages.h"

static void test_empty(void **state)
{
	struct messages m = { 0 };
	struct message first = messages_first(&m);

	(void)state;
	assert_int_equal(first.bytes, 0);
	assert_false(first.complete);
	messages_clear(&m);
}

static void test_open_until_its_end(void **state)
{
	struct messages m = { 0 };

	(void)state;
	messages_add(&m, 10);
	messages_add(&m, 20);
	assert_int_equal(messages_first(&m).bytes, 30);
	assert_false(messages_first(&m).complete);
	messages_take(&m, 5);
	assert_int_equal(messages_end(&m, true), 0);
	assert_int_equal(messages_first(&m).bytes, 25);
	assert_true(messages_first(&m).complete);
	assert_true(messages_first(&m).eor);
	messages_add(&m, 7);
	assert_int_equal(messages_first(&m).bytes, 25);
	messages_take(&m, 25);
	messages_drop_first(&m);
	assert_int_equal(messages_first(&m).bytes, 7);
	assert_false(messages_first(&m).complete);
	messages_clear(&m);
	assert_int_equal(messages_first(&m).bytes, 0);
}

static void test_an_end_without_bytes(void **state)
{
	struct messages m = { 0 };

	(void)state;
	assert_int_equal(messages_end(&m, false), 0);
	assert_true(messages_first(&m).complete);
	assert_int_equal(messages_first(&m).bytes, 0);
	messages_drop_first(&m);
	assert_false(messages_first(&m).complete);
	messages_clear(&m);
}

static void test_all_lengths(void **state)
{
	struct messages m = { 0 };
	struct messages one = { 0 };

	(void)state;
	messages_add(&m, 1);
	assert_int_equal(messages_end(&m, false), 0);
	for (uint32_t bit = 0; bit < 32; bit++) {
		messages_add(&m, UINT32_C(1) << bit);
		assert_int_equal(messages_end(&m, bit & 1), 0);
		messages_add(&m, UINT32_MAX >> bit);
		assert_int_equal(messages_end(&m, true), 0);
	}
	messages_drop_first(&m);
	for (uint32_t bit = 0; bit < 32; bit++) {
		assert_int_equal(messages_first(&m).bytes, UINT32_C(1) << bit);
		assert_int_equal(messages_first(&m).eor, bit & 1);
		messages_drop_first(&m);
		assert_int_equal(messages_first(&m).bytes, UINT32_MAX >> bit);
		assert_true(messages_first(&m).eor);
		messages_drop_first(&m);
	}
	assert_int_equal(m.complete, 0);
	assert_int_equal(buf_length(&m.ends), 0);
	messages_clear(&one);
}

#define QUEUE 4096u
#define STEPS 200000u

/* Against a plain queue of lengths. */
static void test_model(void **state)
{
	static struct message queue[QUEUE];
	struct messages m = { 0 };
	struct rng rng = rng_new();
	uint32_t head = 0;
	uint32_t count = 0;
	uint32_t open = 0;
	uint64_t held = 0;

	(void)state;
	for (uint32_t step = 0; step < STEPS; step++) {
		struct message first = messages_first(&m);
		uint32_t n = 1u + rng_below(&rng, 1u << rng_below(&rng, 18));

		assert_int_equal(first.complete, count > 0);
		assert_int_equal(first.bytes, count > 0 ? queue[head].bytes : open);
		assert_true(buf_length(&m.ends) <= held);
		if (rng_below(&rng, 2) == 0 && open < 1u << 20) {
			messages_add(&m, n);
			open += n;
			held += n;
		} else if (open > 0 && count < QUEUE && rng_below(&rng, 2) == 0) {
			bool eor = rng_below(&rng, 2) == 0;

			assert_int_equal(messages_end(&m, eor), 0);
			queue[(head + count++) % QUEUE] = (struct message){ open, true, eor };
			open = 0;
		} else if (count > 0) {
			assert_int_equal(first.eor, queue[head].eor);
			n = min_u32(n, first.bytes);
			messages_take(&m, n);
			held -= n;
			queue[head].bytes -= n;
			if (queue[head].bytes > 0)
				continue;
			messages_drop_first(&m);
			head = (head + 1) % QUEUE;
			count--;
		}
	}
	messages_clear(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_open_until_its_end),
		cmocka_unit_test(test_an_end_without_bytes),
		cmocka_unit_test(test_all_lengths),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
