// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_buf.c - base/buf.c: order, wrap-around, growth, bounds, and random
 * operations against a naive model.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "base/buf.h"
#include "rng.h"

#define BOUND 100000u

/* All bytes of @b in order must be those of @expected. */
static void check_content(const struct buf *b, const uint8_t *expected, size_t len)
{
	struct iovec spans[2];
	unsigned int n = buf_spans(b, spans);
	size_t seen = 0;

	assert_int_equal(buf_length(b), len);
	for (unsigned int i = 0; i < n; i++) {
		assert_true(spans[i].iov_len > 0);
		assert_true(spans[i].iov_len <= len - seen);
		assert_memory_equal(spans[i].iov_base, expected + seen, spans[i].iov_len);
		seen += spans[i].iov_len;
	}
	assert_int_equal(seen, len);
}

static void test_empty_costs_nothing(void **state)
{
	struct buf b = { 0 };
	struct iovec spans[2];

	(void)state;
	assert_int_equal(buf_spans(&b, spans), 0);
	assert_int_equal(buf_append(&b, NULL, 0, BOUND), 0);
	assert_null(b.data);
	buf_consume(&b, 0);
	buf_fini(&b);

	assert_int_equal(buf_append(&b, "x", 1, BOUND), 0);
	assert_non_null(b.data);
	buf_consume(&b, 1);
	assert_null(b.data);
	assert_int_equal(b.capacity, 0);
}

static void test_bound(void **state)
{
	struct buf b = { 0 };
	uint8_t bytes[16] = { 0 };

	(void)state;
	assert_int_equal(buf_append(&b, bytes, 11, 10), -ENOBUFS);
	assert_null(b.data);
	assert_int_equal(buf_append(&b, bytes, 10, 10), 0);
	assert_int_equal(buf_append(&b, bytes, 1, 10), -ENOBUFS);
	assert_int_equal(buf_append(&b, bytes, SIZE_MAX, 10), -ENOBUFS);
	/* A bound lowered below what is held refuses without harm. */
	assert_int_equal(buf_append(&b, bytes, 0, 5), -ENOBUFS);
	assert_int_equal(buf_append(&b, bytes, 1, 11), 0);
	check_content(&b, bytes, 11);
	/* The largest bound there is does not overflow the arithmetic. */
	assert_int_equal(buf_append(&b, bytes, (size_t)1 << 31, UINT32_MAX), -ENOBUFS);
	buf_fini(&b);
	assert_int_equal(buf_length(&b), 0);
}

static void test_wraps(void **state)
{
	struct buf b = { 0 };
	uint8_t bytes[4096];
	struct iovec spans[2];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	assert_int_equal(buf_append(&b, bytes, 4000, BOUND), 0);
	buf_consume(&b, 3900);
	assert_int_equal(buf_append(&b, bytes, 1000, BOUND), 0);
	assert_int_equal(b.capacity, 4096);
	assert_int_equal(buf_spans(&b, spans), 2);
	assert_int_equal(spans[0].iov_len, 196);
	assert_int_equal(spans[1].iov_len, 904);
	assert_memory_equal(spans[0].iov_base, bytes + 3900, 100);
	assert_memory_equal((uint8_t *)spans[0].iov_base + 100, bytes, 96);
	assert_memory_equal(spans[1].iov_base, bytes + 96, 904);
	buf_fini(&b);
}

static void test_grows_while_wrapped(void **state)
{
	struct buf b = { 0 };
	uint8_t bytes[9000];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i ^ (i >> 8));
	assert_int_equal(buf_append(&b, bytes, 4096, BOUND), 0);
	buf_consume(&b, 4000);
	assert_int_equal(buf_append(&b, bytes + 4096, 1000, BOUND), 0);
	assert_int_equal(b.capacity, 4096);
	assert_int_equal(buf_append(&b, bytes + 5096, sizeof(bytes) - 5096, BOUND), 0);
	assert_int_equal(b.capacity, 8192);
	check_content(&b, bytes + 4000, sizeof(bytes) - 4000);
	buf_fini(&b);
}

/* The model: an array with a first byte and a length, moved on every consume. */
struct model {
	uint8_t bytes[BOUND];
	size_t length;
};

static void model_step(struct rng *rng, struct buf *b, struct model *m)
{
	uint8_t chunk[20000];
	size_t len = rng_below(rng, rng_below(rng, 4) == 0 ? sizeof(chunk) : 600);
	bool fits = len <= BOUND - m->length;

	if (rng_below(rng, 2) == 0) {
		for (size_t i = 0; i < len; i++)
			chunk[i] = (uint8_t)rng_next(rng);
		assert_int_equal(buf_append(b, chunk, len, BOUND), fits ? 0 : -ENOBUFS);
		if (!fits)
			return;
		memcpy(m->bytes + m->length, chunk, len);
		m->length += len;
	} else {
		len = len < m->length ? len : m->length;
		buf_consume(b, len);
		m->length -= len;
		memmove(m->bytes, m->bytes + len, m->length);
	}
}

static void test_model(void **state)
{
	struct rng rng = rng_new();
	struct model *m = calloc(1, sizeof(*m));
	struct buf b = { 0 };

	(void)state;
	assert_non_null(m);
	figure(3000, "steps");
	for (int i = 0; i < 3000; i++) {
		model_step(&rng, &b, m);
		check_content(&b, m->bytes, m->length);
		assert_true(b.capacity <= 131072);
		assert_true((b.data == NULL) == (m->length == 0));
	}
	buf_fini(&b);
	free(m);
}

static void test_room_is_filled_by_the_caller(void **state)
{
	struct buf b = { 0 };
	struct iovec room;
	struct iovec spans[2];

	(void)state;
	assert_int_equal(buf_room(&b, 5000, 4999, &room), -ENOBUFS);
	assert_int_equal(buf_room(&b, 5000, 5000, &room), 0);
	assert_int_equal(room.iov_len, 5000);
	assert_int_equal(buf_length(&b), 0);
	memset(room.iov_base, 7, 4000);
	buf_commit(&b, 4000);
	assert_int_equal(buf_length(&b), 4000);
	assert_int_equal(buf_spans(&b, spans), 1);
	assert_int_equal(((uint8_t *)spans[0].iov_base)[3999], 7);
	buf_consume(&b, 4000);
	assert_int_equal(buf_room(&b, 1, 1, &room), 0);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room_is_filled_by_the_caller),
		cmocka_unit_test(test_empty_costs_nothing),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_wraps),
		cmocka_unit_test(test_grows_while_wrapped),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
