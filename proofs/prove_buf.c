// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * prove_buf.c - for every state of the byte ring and every append, consumption and
 * failure of malloc(): nothing is read or written outside its memory, a byte that was in it
 * is found where it was, counted from the first, and nothing is appended beyond the bound.
 *
 * The smallest ring is made small, so that it goes round and grows within the bound.
 *
 * @source src/base/buf.c
 * @with src/base/buf.c s/MIN_CAPACITY 4096u/MIN_CAPACITY 4u/
 * @unwind 9
 * @mutant src/base/buf.c s/b->head \+ b->length\) & \(b->capacity - 1\)/b->head + b->length) \& b->capacity/
 * @mutant src/base/buf.c s/while \(capacity < needed\)/if (capacity < needed)/
 * @mutant src/base/buf.c s/b->length > max \|\| //
 * @mutant src/base/buf.c s/first == b->length/first >= 1/
 */
#include "base/buf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 4u /* of the ring at the beginning, if it has any */
#define ADDED 5u    /* so that it may double twice */

size_t nondet_size(void);
uint32_t nondet_uint32(void);
bool nondet_bool(void);

/* The byte at a place counted from the first. */
static uint8_t byte_at(const struct buf *b, size_t at)
{
	struct iovec spans[2];
	unsigned int n = buf_spans(b, spans);
	size_t sum = 0;

	for (unsigned int i = 0; i < n; i++) {
		const uint8_t *bytes = spans[i].iov_base;

		__CPROVER_assert(spans[i].iov_len != 0, "no empty span");
		if (at >= sum && at - sum < spans[i].iov_len)
			return bytes[at - sum];
		sum += spans[i].iov_len;
	}
	__CPROVER_assert(false, "each byte is in a span");
	return 0;
}

static void any_ring(struct buf *b)
{
	*b = (struct buf){ 0 };
	if (nondet_bool())
		return;
	b->data = malloc(CAPACITY);
	__CPROVER_assume(b->data != NULL);
	b->capacity = CAPACITY;
	b->head = nondet_uint32();
	b->length = nondet_uint32();
	__CPROVER_assume(b->head < CAPACITY && b->length <= CAPACITY);
}

int main(void)
{
	struct buf b;
	uint8_t added[ADDED];
	size_t len = nondet_size();
	size_t gone = nondet_size();
	size_t at = nondet_size();
	uint32_t max = nondet_uint32();
	uint32_t before;
	uint8_t expected;
	int rc;

	any_ring(&b);
	before = b.length;
	__CPROVER_assume(len <= ADDED && at < before + len);
	expected = at < before ? byte_at(&b, at) : added[ADDED - len + at - before];
	rc = buf_append(&b, added + (ADDED - len), len, max);
	__CPROVER_assert(b.length == before + (rc == 0 ? len : 0), "all or nothing");
	__CPROVER_assert(rc != 0 || b.length <= max, "within the bound");
	__CPROVER_assume(gone <= at && at < b.length);
	__CPROVER_assert(byte_at(&b, at) == expected, "found after appending");
	buf_consume(&b, gone);
	__CPROVER_assert(byte_at(&b, at - gone) == expected, "found after consuming");
	return 0;
}
