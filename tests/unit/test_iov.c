// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_iov.c - virtio/iov.c: empty pieces, borders, short ends, overlap, and
 * random copies against a flat array.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "rng.h"
#include "virtio/iov.h"

#define FLAT_BYTES 4096u
#define MAX_PIECES 24u

/* "abcdefgh" in pieces with empty ones at every kind of place. */
static size_t alphabet(uint8_t text[8], struct iovec iov[6])
{
	memcpy(text, "abcdefgh", 8);
	iov[0] = (struct iovec){ text, 0 };
	iov[1] = (struct iovec){ text, 3 };
	iov[2] = (struct iovec){ text + 3, 0 };
	iov[3] = (struct iovec){ text + 3, 1 };
	iov[4] = (struct iovec){ text + 4, 4 };
	iov[5] = (struct iovec){ text, 0 };
	return 6;
}

static void test_total(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	size_t n = alphabet(text, iov);

	(void)state;
	assert_int_equal(iov_total(iov, n), 8);
	assert_int_equal(iov_total(iov, 1), 0);
	assert_int_equal(iov_total(NULL, 0), 0);
	assert_int_equal(iov_begin(iov, n).left, 8);
	assert_int_equal(iov_begin(NULL, 0).left, 0);
}

static void test_copy_out_at_every_offset(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	size_t n = alphabet(text, iov);

	(void)state;
	for (size_t skip = 0; skip <= 8; skip++) {
		for (size_t len = 0; len <= 10; len++) {
			struct iov_cursor cursor = iov_begin(iov, n);
			uint8_t out[11];
			size_t expected = min_size(len, 8 - skip);

			memset(out, '.', sizeof(out));
			iov_advance(&cursor, skip);
			assert_int_equal(cursor.left, 8 - skip);
			assert_int_equal(iov_copy_out(&cursor, out, len), expected);
			assert_memory_equal(out, text + skip, expected);
			assert_int_equal(out[expected], '.');
			assert_int_equal(cursor.left, 8 - skip - expected);
		}
	}
}

static void test_copy_in_stops_at_the_end(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	size_t n = alphabet(text, iov);
	struct iov_cursor cursor = iov_begin(iov, n);

	(void)state;
	assert_int_equal(iov_copy_in(&cursor, "12", 2), 2);
	assert_int_equal(iov_copy_in(&cursor, "", 0), 0);
	assert_memory_equal(text, "12cdefgh", 8);
	assert_int_equal(iov_copy_in(&cursor, "3456789", 7), 6);
	assert_memory_equal(text, "12345678", 8);
	assert_int_equal(cursor.left, 0);
	assert_int_equal(iov_copy_in(&cursor, "x", 1), 0);
}

/* Moving further than there is anything is a caller's bug that stays harmless. */
static void test_advance_is_bounded(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	struct iov_cursor cursor = iov_begin(iov, alphabet(text, iov));

	(void)state;
	iov_advance(&cursor, 9);
	assert_int_equal(cursor.left, 0);
	iov_advance(&cursor, 1);
	assert_int_equal(cursor.left, 0);
}

static void test_copied_cursor_remembers(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	struct iov_cursor cursor = iov_begin(iov, alphabet(text, iov));
	struct iov_cursor mark;
	uint8_t out[8];

	(void)state;
	iov_advance(&cursor, 2);
	mark = cursor;
	iov_advance(&cursor, 5);
	assert_int_equal(iov_copy_out(&mark, out, sizeof(out)), 6);
	assert_memory_equal(out, "cdefgh", 6);
	assert_int_equal(iov_copy_out(&cursor, out, sizeof(out)), 1);
	assert_int_equal(out[0], 'h');
}

static void test_slice(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	struct iovec out[6];
	size_t n = alphabet(text, iov);
	struct iov_cursor cursor = iov_begin(iov, n);

	(void)state;
	assert_int_equal(iov_slice(&cursor, 0, out, 6), 0);
	iov_advance(&cursor, 1);
	/* Borders of pieces stay, empty pieces go. */
	assert_int_equal(iov_slice(&cursor, 5, out, 6), 3);
	assert_ptr_equal(out[0].iov_base, text + 1);
	assert_int_equal(out[0].iov_len, 2);
	assert_ptr_equal(out[1].iov_base, text + 3);
	assert_int_equal(out[1].iov_len, 1);
	assert_ptr_equal(out[2].iov_base, text + 4);
	assert_int_equal(out[2].iov_len, 2);
	assert_int_equal(cursor.left, 2);
	assert_int_equal(iov_slice(&cursor, 100, out, 6), 1);
	assert_ptr_equal(out[0].iov_base, text + 6);
	assert_int_equal(cursor.left, 0);
	assert_int_equal(iov_slice(&cursor, 1, out, 6), 0);
}

static void test_slice_with_little_room(void **state)
{
	uint8_t text[8];
	struct iovec iov[6];
	struct iovec out[2];
	struct iov_cursor cursor = iov_begin(iov, alphabet(text, iov));

	(void)state;
	assert_int_equal(iov_slice(&cursor, 8, out, 0), 0);
	assert_int_equal(cursor.left, 8);
	assert_int_equal(iov_slice(&cursor, 8, out, 2), 2);
	assert_int_equal(cursor.left, 4);
	assert_int_equal(iov_slice(&cursor, 8, out, 2), 1);
	assert_ptr_equal(out[0].iov_base, text + 4);
}

/* A driver may name the same memory on both sides. */
static void test_copy_of_overlapping_memory(void **state)
{
	uint8_t text[9] = "abcdefgh";
	struct iovec src = { text, 6 };
	struct iovec dst = { text + 2, 6 };
	struct iov_cursor from = iov_begin(&src, 1);
	struct iov_cursor to = iov_begin(&dst, 1);

	(void)state;
	assert_int_equal(iov_copy(&to, &from, 6), 6);
	assert_memory_equal(text, "ababcdef", 8);
}

/* Cut the array into pieces, some of them empty. */
static size_t cut(struct rng *rng, uint8_t *flat, size_t bytes, struct iovec *iov)
{
	size_t at = 0;
	size_t n = 0;

	while (n < MAX_PIECES - 1) {
		size_t len = rng_below(rng, 4) == 0 ? 0 : rng_below(rng, 300);

		len = min_size(len, bytes - at);
		iov[n++] = (struct iovec){ flat + at, len };
		at += len;
	}
	iov[n++] = (struct iovec){ flat + at, bytes - at };
	return n;
}

static void fill(struct rng *rng, uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)rng_next(rng);
}

static void test_model_copy(void **state)
{
	uint8_t *src = malloc(FLAT_BYTES);
	uint8_t *dst = malloc(FLAT_BYTES);
	uint8_t *expected = malloc(FLAT_BYTES);
	struct rng rng = rng_new();

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct iovec from_iov[MAX_PIECES];
		struct iovec to_iov[MAX_PIECES];
		size_t from_bytes = rng_below(&rng, FLAT_BYTES + 1);
		size_t to_bytes = rng_below(&rng, FLAT_BYTES + 1);
		size_t from_count = cut(&rng, src, from_bytes, from_iov);
		size_t to_count = cut(&rng, dst, to_bytes, to_iov);
		struct iov_cursor from = iov_begin(from_iov, from_count);
		struct iov_cursor to = iov_begin(to_iov, to_count);
		size_t done = 0;

		fill(&rng, src, FLAT_BYTES);
		fill(&rng, dst, FLAT_BYTES);
		memcpy(expected, dst, FLAT_BYTES);
		for (int i = 0; i < 8; i++) {
			size_t len = rng_below(&rng, 1200);
			size_t n = iov_copy(&to, &from, len);

			assert_int_equal(n, min_size(len, min_size(from_bytes, to_bytes) - done));
			done += n;
			assert_int_equal(from.left, from_bytes - done);
			assert_int_equal(to.left, to_bytes - done);
		}
		memcpy(expected, src, done);
		assert_memory_equal(dst, expected, FLAT_BYTES);
	}
	free(src);
	free(dst);
	free(expected);
}

static void test_model_slice(void **state)
{
	uint8_t *flat = malloc(FLAT_BYTES);
	struct rng rng = rng_new();

	(void)state;
	for (int round = 0; round < 2000; round++) {
		struct iovec iov[MAX_PIECES];
		size_t bytes = rng_below(&rng, FLAT_BYTES + 1);
		size_t count = cut(&rng, flat, bytes, iov);
		struct iov_cursor cursor = iov_begin(iov, count);
		uint8_t *at = flat;

		/* Consecutive slices are consecutive memory, as the pieces are. */
		while (cursor.left > 0) {
			struct iovec out[4];
			size_t len = 1 + rng_below(&rng, 700);
			size_t n = iov_slice(&cursor, len, out, 1 + rng_below(&rng, 4));

			assert_in_range(n, 1, 4);
			assert_true(iov_total(out, n) <= len);
			for (size_t i = 0; i < n; i++) {
				assert_ptr_equal(out[i].iov_base, at);
				assert_true(out[i].iov_len > 0);
				at += out[i].iov_len;
			}
			assert_int_equal(cursor.left, bytes - (size_t)(at - flat));
		}
	}
	free(flat);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_total),
		cmocka_unit_test(test_copy_out_at_every_offset),
		cmocka_unit_test(test_copy_in_stops_at_the_end),
		cmocka_unit_test(test_advance_is_bounded),
		cmocka_unit_test(test_copied_cursor_remembers),
		cmocka_unit_test(test_slice),
		cmocka_unit_test(test_slice_with_little_room),
		cmocka_unit_test(test_copy_of_overlapping_memory),
		cmocka_unit_test(test_model_copy),
		cmocka_unit_test(test_model_slice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
