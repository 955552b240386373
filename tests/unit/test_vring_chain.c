// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring_chain.c - virtio/vring_walk.c and the formats: what is a descriptor
 * chain and what is not, and the pieces it is made of.
 */
#include <errno.h>
#include <string.h>

#include "fakering.h"

#define TABLE FAKE_C /* where the cases put their indirect table */

/* Chains on a ring of 4; unnamed descriptors are all zero. A packed ring gets
 * the chain laid out in a row, and the entries of the table as they are. */
struct chain_case {
	const char *name;
	struct fake_desc ring[4];
	struct fake_desc table[6];
	uint32_t readable, writable;
	uint64_t readable_bytes, writable_bytes;
	uint16_t head;
};

/* A case is to be seen at a glance. */
/* clang-format off */
static const struct chain_case good_chains[] = {
	{ "readable", { { FAKE_A, 100, 0, 9 } }, { { 0 } }, 1, 0, 100, 0, 0 },
	{ "writable", { { FAKE_A, 100, F_WRITE, 9 } }, { { 0 } }, 0, 1, 0, 100, 0 },
	{ "unknown flags", { { FAKE_A, 100, 0xfff8, 9 } }, { { 0 } }, 1, 0, 100, 0, 0 },
	{ "last head", { { 0 }, { 0 }, { 0 }, { FAKE_A, 7, 0, 0 } }, { { 0 } }, 1, 0, 7, 0, 3 },
	{ "whole region", { { FAKE_C, 0x10000, 0, 0 } }, { { 0 } }, 1, 0, 0x10000, 0, 0 },
	{ "header and data",
	  { { FAKE_A, 44, F_NEXT, 2 }, { 0 }, { FAKE_C, 50, 0, 0 } }, { { 0 } }, 2, 0, 94, 0, 0 },
	{ "both kinds",
	  { { FAKE_A, 44, F_NEXT, 1 }, { FAKE_C, 50, F_WRITE, 0 } }, { { 0 } }, 1, 1, 44, 50, 0 },
	{ "as long as the ring",
	  { { FAKE_A, 1, F_NEXT, 3 }, { FAKE_B, 2, F_WRITE, 0 },
	    { FAKE_B, 4, F_WRITE | F_NEXT, 1 },
	    { FAKE_C, 8, F_NEXT, 2 } }, { { 0 } }, 2, 2, 9, 6, 0 },
	{ "over a region border", { { FAKE_B - 10, 30, F_WRITE, 0 } }, { { 0 } }, 0, 2, 0, 30, 0 },
	{ "two whole regions", { { FAKE_A, 0x20000, 0, 0 } }, { { 0 } }, 2, 0, 0x20000, 0, 0 },
	{ "border in the second",
	  { { FAKE_C, 44, F_NEXT, 1 }, { FAKE_B - 1, 2, F_WRITE, 0 } }, { { 0 } }, 1, 2, 44, 2, 0 },
	{ "empty", { { FAKE_A, 0, 0, 0 } }, { { 0 } }, 0, 0, 0, 0, 0 },
	{ "empty, unmapped", { { FAKE_HOLE, 0, F_WRITE, 0 } }, { { 0 } }, 0, 0, 0, 0, 0 },
	{ "empty in between",
	  { { FAKE_A, 1, F_NEXT, 1 }, { 0, 0, F_NEXT, 2 }, { FAKE_B, 2, F_NEXT | F_WRITE, 3 },
	    { 0, 0, F_WRITE, 0 } }, { { 0 } }, 1, 1, 1, 2, 0 },
	{ "indirect",
	  { { TABLE, 32, F_INDIRECT, 9 } },
	  { { FAKE_A, 44, F_NEXT, 1 }, { FAKE_B, 9, 0, 77 } }, 2, 0, 53, 0, 0 },
	{ "indirect of one",
	  { { TABLE, 16, F_INDIRECT, 0 } },
	  { { FAKE_A, 44, F_WRITE, 0 } }, 0, 1, 0, 44, 0 },
	{ "table in order",
	  { { TABLE, 64, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT, 1 }, { FAKE_A, 2, F_NEXT, 2 }, { FAKE_A, 4, F_NEXT | F_WRITE, 3 },
	    { FAKE_A, 8, F_WRITE, 0 } }, 2, 2, 3, 12, 0 },
	/* "The device MUST ignore the write-only flag" there */
	{ "indirect and write",
	  { { TABLE, 16, F_INDIRECT | F_WRITE, 0 } },
	  { { FAKE_A, 44, 0, 0 } }, 1, 0, 44, 0, 0 },
};

static const struct chain_case good_split[] = {
	{ "indirect, as long as the ring",
	  { { TABLE, 64, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT, 2 }, { FAKE_A, 8, F_WRITE, 0 }, { FAKE_A, 2, F_NEXT, 3 },
	    { FAKE_A, 4, F_NEXT | F_WRITE, 1 } }, 2, 2, 3, 12, 0 },
	/* "zero or more normal chained descriptors followed by a single" one */
	{ "indirect at the end",
	  { { FAKE_A, 44, F_NEXT, 3 }, { 0 }, { 0 }, { TABLE, 32, F_INDIRECT, 0 } },
	  { { FAKE_A, 9, F_NEXT, 1 }, { FAKE_A, 7, F_WRITE, 0 } }, 2, 1, 53, 7, 0 },
	{ "both as long as the ring",
	  { { FAKE_A, 44, F_NEXT, 3 }, { 0 }, { 0 }, { TABLE, 64, F_INDIRECT, 0 } },
	  { { FAKE_A, 9, F_NEXT, 1 }, { FAKE_A, 9, F_NEXT, 2 }, { FAKE_A, 9, 0, 0 } },
	  4, 0, 71, 0, 0 },
};

static const struct chain_case good_packed[] = {
	/* "Others are reserved and are ignored by the device" */
	{ "only the write flag counts",
	  { { TABLE, 48, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_INDIRECT, 9 }, { FAKE_A, 2, 0, 9 },
	    { FAKE_A, 4, F_WRITE | F_NEXT | F_INDIRECT, 9 } }, 2, 1, 3, 4, 0 },
};

static const struct chain_case bad_chains[] = {
	{ "own successor", { { FAKE_A, 1, F_NEXT, 0 } }, .head = 0 },
	{ "loop",
	  { { FAKE_A, 1, F_NEXT, 1 }, { FAKE_A, 1, F_NEXT, 2 }, { FAKE_A, 1, F_NEXT, 0 } },
	  .head = 0 },
	{ "loop of empty ones", { { 0, 0, F_NEXT, 1 }, { 0, 0, F_NEXT, 0 } }, .head = 0 },
	{ "readable after writable",
	  { { FAKE_A, 1, F_NEXT | F_WRITE, 1 }, { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "readable after empty writable",
	  { { FAKE_A, 0, F_NEXT | F_WRITE, 1 }, { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "empty readable after writable",
	  { { FAKE_A, 1, F_NEXT | F_WRITE, 1 }, { FAKE_A, 0, 0, 0 } }, .head = 0 },
	{ "unmapped", { { FAKE_HOLE, 1, 0, 0 } }, .head = 0 },
	{ "partly unmapped", { { FAKE_HOLE - 1, 2, 0, 0 } }, .head = 0 },
	{ "below everything", { { FAKE_A - 1, 2, 0, 0 } }, .head = 0 },
	{ "huge", { { FAKE_A, UINT32_MAX, 0, 0 } }, .head = 0 },
	{ "wraps", { { UINT64_MAX, 2, 0, 0 } }, .head = 0 },
	{ "wraps to the whole", { { UINT64_MAX - 9, UINT32_MAX, F_WRITE, 0 } }, .head = 0 },
	{ "second unmapped", { { FAKE_A, 1, F_NEXT, 1 }, { FAKE_HOLE, 1, 0, 0 } }, .head = 0 },
	{ "table and next",
	  { { TABLE, 16, F_INDIRECT | F_NEXT, 1 }, { FAKE_A, 1, 0, 0 } },
	  { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "empty table", { { TABLE, 0, F_INDIRECT, 0 } }, { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "odd table", { { TABLE, 17, F_INDIRECT, 0 } }, { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "short table", { { TABLE, 15, F_INDIRECT, 0 } }, { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "table longer than the ring",
	  { { TABLE, 80, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "huge table",
	  { { TABLE, UINT32_MAX - 15, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "unmapped table", { { FAKE_HOLE, 16, F_INDIRECT, 0 } }, .head = 0 },
	{ "half mapped table", { { FAKE_HOLE - 8, 16, F_INDIRECT, 0 } }, .head = 0 },
	{ "table wraps", { { UINT64_MAX - 15, 32, F_INDIRECT, 0 } }, .head = 0 },
	{ "table ends the address space", { { UINT64_MAX - 15, 16, F_INDIRECT, 0 } }, .head = 0 },
	{ "readable after writable in the table",
	  { { TABLE, 32, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT | F_WRITE, 1 }, { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "readable table after writable",
	  { { FAKE_A, 1, F_NEXT | F_WRITE, 1 }, { TABLE, 16, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "unmapped in the table",
	  { { TABLE, 32, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT, 1 }, { FAKE_HOLE, 1, 0, 0 } }, .head = 0 },
	{ "both longer than the ring",
	  { { FAKE_A, 44, F_NEXT, 3 }, { 0 }, { 0 }, { TABLE, 64, F_INDIRECT, 0 } },
	  { { FAKE_A, 9, F_NEXT, 1 }, { FAKE_A, 9, F_NEXT, 2 }, { FAKE_A, 9, F_NEXT, 3 },
	    { FAKE_A, 9, 0, 0 } }, .head = 0 },
};

static const struct chain_case bad_split[] = {
	{ .name = "head beyond", .head = 4 },
	{ .name = "head far beyond", .head = 0xffff },
	{ "next beyond", { { FAKE_A, 1, F_NEXT, 4 } }, .head = 0 },
	{ "next far beyond", { { FAKE_A, 1, F_NEXT, 0xffff } }, .head = 0 },
	{ "table in table",
	  { { TABLE, 32, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT, 1 }, { TABLE, 16, F_INDIRECT, 0 } }, .head = 0 },
	{ "next beyond the table",
	  { { TABLE, 32, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT, 2 }, { 0 }, { FAKE_A, 1, 0, 0 } }, .head = 0 },
	{ "loop in the table",
	  { { TABLE, 32, F_INDIRECT, 0 } },
	  { { FAKE_A, 1, F_NEXT, 1 }, { FAKE_A, 1, F_NEXT, 0 } }, .head = 0 },
};

static const struct chain_case bad_packed[] = {
	/* A list "only contains descriptors of a given type" there */
	{ "indirect behind another",
	  { { FAKE_A, 44, F_NEXT, 3 }, { 0 }, { 0 }, { TABLE, 16, F_INDIRECT, 0 } },
	  { { FAKE_A, 9, 0, 0 } }, .head = 0 },
};
/* clang-format on */

/* A ring of 4 that offers the chain of a case. */
static struct fakering *case_ring(const struct chain_case *c, uint16_t index, uint64_t format)
{
	struct fakering *f = fake_new(4, index, format);

	for (uint32_t i = 0; i < array_size(c->ring); i++)
		fake_set(f, i, c->ring[i]);
	for (size_t i = 0; i < array_size(c->table); i++) {
		uint8_t raw[VRING_DESC_BYTES];

		fake_put(f, raw, &c->table[i]);
		fake_write(f, TABLE + i * sizeof(raw), raw, sizeof(raw));
	}
	fake_offer(f, c->head);
	return f;
}

static void check_good(const struct chain_case *c, uint16_t index, uint64_t format)
{
	struct fakering *f = case_ring(c, index, format);
	struct vring_chain chain;
	uint64_t readable_bytes = 0;
	uint64_t writable_bytes = 0;

	if (fake_pop(f, &chain) != 1)
		fail_msg("%s: not popped", c->name);
	if (chain.readable != c->readable || chain.writable != c->writable)
		fail_msg("%s: %u + %u pieces", c->name, chain.readable, chain.writable);
	for (size_t i = 0; i < chain.readable; i++)
		readable_bytes += f->iov[i].iov_len;
	for (size_t i = 0; i < chain.writable; i++)
		writable_bytes += f->iov[chain.readable + i].iov_len;
	assert_int_equal(chain.head, c->head);
	assert_int_equal(chain.readable_bytes, c->readable_bytes);
	assert_int_equal(chain.writable_bytes, c->writable_bytes);
	assert_int_equal(readable_bytes, c->readable_bytes);
	assert_int_equal(writable_bytes, c->writable_bytes);
	assert_int_equal(fake_next(f), (uint16_t)(index + 1));
	assert_int_equal(fake_pop(f, &chain), 0);
	fake_free(f);
}

static void check_all_good(const struct chain_case *cases, size_t n, uint64_t format)
{
	for (size_t i = 0; i < n; i++) {
		check_good(&cases[i], 0, format);
		check_good(&cases[i], 3, format);
		check_good(&cases[i], 0x7fff, format);
		check_good(&cases[i], 0xffff, format);
	}
}

static void test_good_chains(void **state)
{
	(void)state;
	check_all_good(good_chains, array_size(good_chains), 0);
	check_all_good(good_split, array_size(good_split), 0);
	check_all_good(good_chains, array_size(good_chains), PACKED);
	check_all_good(good_packed, array_size(good_packed), PACKED);
}

static void check_bad(const struct chain_case *c, uint64_t format)
{
	struct fakering *f = case_ring(c, 0xffff, format);
	struct vring_chain chain;
	struct vring_chain untouched;
	int rc;

	memset(&chain, 0x5a, sizeof(chain));
	untouched = chain;
	rc = fake_pop(f, &chain);
	if (rc != -EPROTO)
		fail_msg("%s: %d", c->name, rc);
	assert_memory_equal(&chain, &untouched, sizeof(chain));
	assert_true(f->vr.broken);
	assert_int_equal(fake_next(f), 0xffff);

	/* Nothing more, whatever the driver does now. */
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 0);
	assert_int_equal(vring_available(&f->vr), 0);
	assert_false(vring_enable_kick(&f->vr));
	fake_free(f);
}

static void check_all_bad(const struct chain_case *cases, size_t n, uint64_t format)
{
	for (size_t i = 0; i < n; i++)
		check_bad(&cases[i], format);
}

static void test_bad_chains(void **state)
{
	(void)state;
	check_all_bad(bad_chains, array_size(bad_chains), 0);
	check_all_bad(bad_split, array_size(bad_split), 0);
	check_all_bad(bad_chains, array_size(bad_chains), PACKED);
	check_all_bad(bad_packed, array_size(bad_packed), PACKED);
	figure(2 * array_size(bad_chains) + array_size(bad_split) + array_size(bad_packed),
	       "bad chains");
}

/* The pieces themselves, in order. */
static void check_pieces(uint64_t format)
{
	struct fakering *f = fake_new(4, 0, format);
	uint8_t *a = gmem_from_gpa(&f->gmem, FAKE_A, 1);
	uint8_t *b = gmem_from_gpa(&f->gmem, FAKE_B, 1);
	uint8_t *c = gmem_from_gpa(&f->gmem, FAKE_C, 1);
	struct vring_chain chain;

	fake_set(f, 1, (struct fake_desc){ FAKE_C + 5, 44, F_NEXT, 0 });
	fake_set(f, 0, (struct fake_desc){ FAKE_B - 3, 10, F_NEXT | F_WRITE, 3 });
	fake_set(f, 3, (struct fake_desc){ FAKE_C + 9, 1, F_WRITE, 0 });
	fake_offer(f, 1);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(chain.readable, 1);
	assert_int_equal(chain.writable, 3);
	assert_ptr_equal(f->iov[0].iov_base, c + 5);
	assert_int_equal(f->iov[0].iov_len, 44);
	assert_ptr_equal(f->iov[1].iov_base, a + FAKE_REGION_BYTES - 3);
	assert_int_equal(f->iov[1].iov_len, 3);
	assert_ptr_equal(f->iov[2].iov_base, b);
	assert_int_equal(f->iov[2].iov_len, 7);
	assert_ptr_equal(f->iov[3].iov_base, c + 9);
	fake_free(f);
}

static void test_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_pieces(fake_formats[i]);
}

/* An indirect table may lie at any address, also over a region border. */
static void check_table_anywhere(uint64_t format)
{
	static const struct fake_desc table[3] = {
		{ FAKE_A + 0x100, 11, F_NEXT, 1 },
		{ FAKE_A + 0x200, 22, F_NEXT, 2 },
		{ FAKE_A + 0x300, 33, F_WRITE, 0 },
	};
	uint8_t raw[sizeof(table)];

	for (uint64_t at = FAKE_B - 56; at < FAKE_B + 16; at++) {
		struct fakering *f = fake_new(4, 0, format);
		struct vring_chain chain;

		for (size_t i = 0; i < 3; i++)
			fake_put(f, raw + i * VRING_DESC_BYTES, &table[i]);
		fake_write(f, at, raw, sizeof(raw));
		fake_set(f, 0, (struct fake_desc){ at, sizeof(raw), F_INDIRECT, 0 });
		fake_offer(f, 0);
		assert_int_equal(fake_pop(f, &chain), 1);
		assert_int_equal(chain.readable, 2);
		assert_int_equal(chain.writable, 1);
		assert_int_equal(chain.readable_bytes, 33);
		assert_ptr_equal(f->iov[1].iov_base, gmem_from_gpa(&f->gmem, FAKE_A + 0x200, 1));
		assert_int_equal(f->iov[2].iov_len, 33);
		fake_free(f);
	}
}

static void test_table_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_table_anywhere(fake_formats[i]);
}

/* The entries of a table do not go on at address 0. */
static void test_table_does_not_wrap(void **state)
{
	static const struct fake_desc first = { FAKE_A, 1, F_NEXT, 2 };
	static const struct fake_desc third = { FAKE_A, 1, 0, 0 };
	struct fakering *f = fake_new(4, 0, 0);
	struct vring_chain chain;
	uint8_t raw[VRING_DESC_BYTES];

	(void)state;
	fake_region(f, 0, 64);
	fake_region(f, UINT64_MAX - 64, 64);
	fake_put(f, raw, &first);
	fake_write(f, UINT64_MAX - 31, raw, sizeof(raw));
	fake_put(f, raw, &third);
	fake_write(f, 0, raw, sizeof(raw));
	fake_set(f, 0, (struct fake_desc){ UINT64_MAX - 31, 48, F_INDIRECT, 0 });
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	fake_free(f);
}

/* Too little room leaves the chain where it is. */
static void check_little_room(uint64_t format)
{
	struct fakering *f = fake_new(4, 0, format);
	struct vring_chain chain;

	fake_set(f, 0, (struct fake_desc){ FAKE_A, 44, F_NEXT, 1 });
	fake_set(f, 1, (struct fake_desc){ FAKE_B - 1, 2, F_NEXT, 2 });
	fake_set(f, 2, (struct fake_desc){ FAKE_B, 0, 0, 0 });
	fake_offer(f, 0);
	for (size_t max = 0; max < 3; max++) {
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, max), -ENOBUFS);
		assert_false(f->vr.broken);
		assert_int_equal(vring_available(&f->vr), f->packed ? 3 : 1);
	}
	assert_int_equal(vring_pop(&f->vr, &chain, f->iov, 3), 1);
	assert_int_equal(chain.readable, 3);

	/* One buffer, no room. */
	fake_set(f, 3, (struct fake_desc){ FAKE_B, 44, 0, 0 });
	fake_offer(f, 3);
	assert_int_equal(vring_pop(&f->vr, &chain, f->iov, 0), -ENOBUFS);
	assert_int_equal(vring_pop(&f->vr, &chain, f->iov, 1), 1);
	fake_free(f);
}

static void test_little_room(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_little_room(fake_formats[i]);
}

/* Crossing every border over and over cannot ask for more room than there is. */
static void check_too_many_pieces(uint64_t format)
{
	struct fakering *f = fake_new(128, 0, format);
	uint64_t gpa = 0x1000000;
	struct vring_chain chain;

	for (uint64_t i = 0; f->gmem.count < GMEM_MAX_REGIONS; i++)
		fake_region(f, gpa + i * 16, 16);
	for (uint16_t i = 0; i < 128; i++)
		fake_set(f, i,
			 (struct fake_desc){ gpa, 16 * 500, i < 127 ? F_NEXT : 0,
					     (uint16_t)(i + 1) });
	fake_offer(f, 0);
	assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES - 1), -ENOBUFS);
	assert_false(f->vr.broken);
	assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), -EPROTO);
	assert_true(f->vr.broken);
	fake_free(f);
}

static void test_too_many_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_too_many_pieces(fake_formats[i]);
}

/* Buffers that do not overlap always fit: every descriptor, every border. */
static void check_most_pieces(uint64_t format)
{
	struct fakering *f = fake_new(VRING_MAX_SIZE, 0, format);
	uint64_t gpa = 0x1000000;
	struct vring_chain chain;
	uint32_t borders = GMEM_MAX_REGIONS - 3 - 1;

	for (uint64_t i = 0; f->gmem.count < GMEM_MAX_REGIONS; i++)
		fake_region(f, gpa + i * 128, 128);
	/* Buffers of two bytes, from the first odd one: some lie over borders. */
	for (uint32_t i = 0; i < VRING_MAX_SIZE; i++)
		fake_set(f, i,
			 (struct fake_desc){ gpa + 1 + 2 * (uint64_t)i, 2, F_NEXT,
					     (uint16_t)(i + 1) });
	fake_set(f, VRING_MAX_SIZE - 1, (struct fake_desc){ FAKE_B - 1, 2, F_WRITE, 0 });
	for (uint32_t i = 506 * 64 - 1; i < VRING_MAX_SIZE - 1; i++)
		fake_set(f, i, (struct fake_desc){ FAKE_C + i, 1, F_NEXT, (uint16_t)(i + 1) });
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(chain.readable, VRING_MAX_SIZE - 1 + borders);
	assert_int_equal(chain.writable, 2);
	fake_free(f);
}

static void test_most_pieces(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_most_pieces(fake_formats[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_chains),
		cmocka_unit_test(test_bad_chains),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_table_anywhere),
		cmocka_unit_test(test_table_does_not_wrap),
		cmocka_unit_test(test_little_room),
		cmocka_unit_test(test_too_many_pieces),
		cmocka_unit_test(test_most_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
