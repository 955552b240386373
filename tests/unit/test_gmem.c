// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_gmem.c - virtio/gmem.c: what may be a region, translation at every kind
 * of border, and random tables against a byte-wise model.
 */
#include <errno.h>
#include <string.h>

#include "unit.h"

#include "rng.h"
#include "virtio/gmem.h"

/* Never dereferenced by gmem: any non-NULL number will do as a mapping. */
static uint8_t *fake_hva(uint64_t at)
{
	return (uint8_t *)(uintptr_t)at;
}

static int insert(struct gmem *gmem, uint64_t gpa, uint64_t uva, uint64_t size, uint64_t hva)
{
	struct gmem_region region = { .gpa = gpa, .uva = uva, .size = size, .hva = fake_hva(hva) };

	return gmem_insert(gmem, &region);
}

/* Three regions: two adjacent, one apart, inserted out of order. */
static struct gmem three_regions(void)
{
	struct gmem gmem = { 0 };

	assert_int_equal(insert(&gmem, 0x2000, 0x70000, 0x1000, 0xb0000), 0);
	assert_int_equal(insert(&gmem, 0x8000, 0x50000, 0x2000, 0xc0000), 0);
	assert_int_equal(insert(&gmem, 0x1000, 0x60000, 0x1000, 0xa0000), 0);
	return gmem;
}

static void test_insert_refuses(void **state)
{
	static const struct {
		uint64_t gpa, uva, size, hva;
		int rc;
	} cases[] = {
		{ 0x10000, 0x90000, 0, 0xd0000, -EINVAL },
		{ 0x10000, 0x90000, 0x1000, 0, -EINVAL },
		{ UINT64_MAX - 0xfff, 0x90000, 0x1000, 0xd0000, -EINVAL },
		{ 0x10000, UINT64_MAX - 0xfff, 0x1000, 0xd0000, -EINVAL },
		{ 0x10000, 0x90000, 0x1000, UINT64_MAX - 0xfff, -EINVAL },
		{ 0x10000, 0x90000, UINT64_MAX, 0xd0000, -EINVAL },
		/* over the last, the first byte, inside, around, equal */
		{ 0x0001, 0x90000, 0x1000, 0xd0000, -EEXIST },
		{ 0x2fff, 0x90000, 0x1, 0xd0000, -EEXIST },
		{ 0x8800, 0x90000, 0x10, 0xd0000, -EEXIST },
		{ 0x7000, 0x90000, 0x8000, 0xd0000, -EEXIST },
		{ 0x8000, 0x90000, 0x2000, 0xd0000, -EEXIST },
		{ 0x10000, 0x6fff0, 0x1000, 0xd0000, -EEXIST },
		{ 0x10000, 0x51fff, 0x1000, 0xd0000, -EEXIST },
	};
	struct gmem gmem = three_regions();
	struct gmem_region before[3];

	(void)state;
	memcpy(before, gmem.regions, sizeof(before));
	for (size_t i = 0; i < array_size(cases); i++) {
		int rc = insert(&gmem, cases[i].gpa, cases[i].uva, cases[i].size, cases[i].hva);

		if (rc != cases[i].rc)
			fail_msg("case %zu: %d", i, rc);
		assert_int_equal(gmem.count, 3);
		assert_memory_equal(before, gmem.regions, sizeof(before));
	}
	/* The same memory at another place is the front-end's business. */
	assert_int_equal(insert(&gmem, 0x10000, 0x90000, 0x1000, 0xa0000), 0);
	gmem_fini(&gmem);
}

static void test_sorted(void **state)
{
	struct gmem gmem = three_regions();

	(void)state;
	assert_int_equal(gmem.count, 3);
	assert_int_equal(gmem.regions[0].gpa, 0x1000);
	assert_int_equal(gmem.regions[1].gpa, 0x2000);
	assert_int_equal(gmem.regions[2].gpa, 0x8000);
	gmem_fini(&gmem);
	assert_null(gmem.regions);
	assert_int_equal(gmem.count, 0);
	gmem_fini(&gmem);
}

static void test_count_is_bounded(void **state)
{
	struct gmem gmem = { 0 };

	(void)state;
	for (uint64_t i = 0; i < GMEM_MAX_REGIONS; i++)
		assert_int_equal(insert(&gmem, i * 16, i * 16, 16, 0x10000 + i * 16), 0);
	assert_int_equal(insert(&gmem, 0x100000, 0x100000, 16, 0x10000), -ENOSPC);
	assert_int_equal(gmem.count, GMEM_MAX_REGIONS);
	gmem_fini(&gmem);
}

static void test_remove(void **state)
{
	struct gmem gmem = three_regions();
	struct gmem_region removed = { .gpa = 1, .uva = 2, .size = 3 };

	(void)state;
	assert_int_equal(gmem_remove(&gmem, 0x1000, 0x60000, 0xfff, &removed), -ENOENT);
	assert_int_equal(gmem_remove(&gmem, 0x1000, 0x60001, 0x1000, &removed), -ENOENT);
	assert_int_equal(gmem_remove(&gmem, 0x1001, 0x60000, 0x1000, &removed), -ENOENT);
	assert_int_equal(gmem_remove(&gmem, 0x0, 0x60000, 0x1000, &removed), -ENOENT);
	assert_int_equal(gmem_remove(&gmem, 0x4000, 0x60000, 0x1000, &removed), -ENOENT);
	assert_int_equal(removed.gpa, 1);
	assert_int_equal(gmem.count, 3);

	assert_int_equal(gmem_remove(&gmem, 0x2000, 0x70000, 0x1000, &removed), 0);
	assert_ptr_equal(removed.hva, fake_hva(0xb0000));
	assert_int_equal(gmem.count, 2);
	assert_int_equal(gmem.regions[1].gpa, 0x8000);
	assert_null(gmem_from_gpa(&gmem, 0x2000, 1));
	assert_int_equal(gmem_remove(&gmem, 0x2000, 0x70000, 0x1000, &removed), -ENOENT);

	assert_int_equal(gmem_remove(&gmem, 0x8000, 0x50000, 0x2000, &removed), 0);
	assert_int_equal(gmem_remove(&gmem, 0x1000, 0x60000, 0x1000, &removed), 0);
	assert_null(gmem.regions);
	assert_int_equal(gmem_remove(&gmem, 0x1000, 0x60000, 0x1000, &removed), -ENOENT);
}

struct iov_case {
	uint64_t gpa, len;
	size_t max;
	int rc;
	uint64_t first, last; /* expected bases */
	uint64_t last_len;
};

static const struct iov_case iov_cases[] = {
	{ 0x1000, 1, 8, 1, 0xa0000, 0xa0000, 1 },
	{ 0x1fff, 1, 8, 1, 0xa0fff, 0xa0fff, 1 },
	{ 0x1000, 0x1000, 8, 1, 0xa0000, 0xa0000, 0x1000 },
	{ 0x1fff, 2, 8, 2, 0xa0fff, 0xb0000, 1 },
	{ 0x1000, 0x2000, 2, 2, 0xa0000, 0xb0000, 0x1000 },
	{ 0x9fff, 1, 8, 1, 0xc1fff, 0xc1fff, 1 },
	{ 0x1000, 0x2000, 1, -ENOBUFS, 0, 0, 0 },
	{ 0x1000, 1, 0, -ENOBUFS, 0, 0, 0 },
	{ 0xfff, 1, 8, -EFAULT, 0, 0, 0 },
	{ 0xfff, 2, 8, -EFAULT, 0, 0, 0 },
	{ 0x3000, 1, 8, -EFAULT, 0, 0, 0 },
	{ 0x2fff, 2, 8, -EFAULT, 0, 0, 0 },
	{ 0x1000, 0x2001, 8, -EFAULT, 0, 0, 0 },
	{ 0x2000, 0x6001, 8, -EFAULT, 0, 0, 0 },
	{ 0xa000, 1, 8, -EFAULT, 0, 0, 0 },
	{ 0x9fff, 2, 8, -EFAULT, 0, 0, 0 },
	{ 0x8000, UINT64_MAX, 8, -EFAULT, 0, 0, 0 },
	{ 0x8000, UINT64_MAX - 0x8000 + 1, 8, -EFAULT, 0, 0, 0 },
	{ UINT64_MAX, 1, 8, -EFAULT, 0, 0, 0 },
	{ UINT64_MAX, UINT64_MAX, 8, -EFAULT, 0, 0, 0 },
	/* nothing is mapped anywhere */
	{ 0x3000, 0, 0, 0, 0, 0, 0 },
	{ UINT64_MAX, 0, 8, 0, 0, 0, 0 },
};

static void test_iov(void **state)
{
	static const uint32_t hints[] = { 0, 1, 2, 3, 4, UINT32_MAX };
	struct gmem gmem = three_regions();

	(void)state;
	for (size_t i = 0; i < array_size(iov_cases) * array_size(hints); i++) {
		const struct iov_case *c = &iov_cases[i / array_size(hints)];
		uint32_t hint = hints[i % array_size(hints)];
		struct iovec out[8];
		int rc = gmem_iov(&gmem, &hint, c->gpa, c->len, out, c->max);

		if (rc != c->rc)
			fail_msg("gpa %#jx len %#jx: %d", (uintmax_t)c->gpa, (uintmax_t)c->len, rc);
		if (rc <= 0)
			continue;
		assert_int_equal(out[0].iov_base, c->first);
		assert_int_equal(out[rc - 1].iov_base, c->last);
		assert_int_equal(out[rc - 1].iov_len, c->last_len);
		assert_true(hint < gmem.count);
		assert_int_equal(gmem_iov(&gmem, &hint, c->gpa, c->len, out, c->max), rc);
	}
	gmem_fini(&gmem);
}

static void test_iov_within(void **state)
{
	static const struct {
		uint32_t hint;
		uint64_t gpa, len;
		bool ok;
	} cases[] = {
		{ 0, 0x1000, 0x1000, true },      { 0, 0x1fff, 1, true },
		{ 0, 0x1fff, 2, false },          { 0, 0x2000, 1, false },
		{ 0, 0xfff, 1, false },           { 0, 0xfff, 2, false },
		{ 0, 0, UINT64_MAX, false },      { 0, 0x1000, UINT64_MAX, false },
		{ 0, UINT64_MAX, 1, false },      { 1, 0x1000, 1, false },
		{ 2, 0x8000, 0x2000, true },      { 3, 0x8000, 1, false },
		{ UINT32_MAX, 0x8000, 1, false },
	};
	struct gmem gmem = three_regions();
	struct iovec out;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		bool ok;

		out = (struct iovec){ NULL, 77 };
		ok = gmem_iov_within(&gmem, cases[i].hint, cases[i].gpa, cases[i].len, &out);
		if (ok != cases[i].ok)
			fail_msg("case %zu", i);
		assert_int_equal(out.iov_len, ok ? cases[i].len : 77);
	}
	gmem_fini(&gmem);
	assert_false(gmem_iov_within(&gmem, 0, 0x1000, 1, &out));
}

static void test_empty_table(void **state)
{
	struct gmem gmem = { 0 };
	uint32_t hint = 0;
	struct iovec out;

	(void)state;
	assert_int_equal(gmem_iov(&gmem, &hint, 0, 1, &out, 1), -EFAULT);
	assert_int_equal(gmem_iov(&gmem, &hint, 0, 0, &out, 1), 0);
	assert_null(gmem_from_gpa(&gmem, 0, 1));
	assert_null(gmem_from_uva(&gmem, 0, 1));
}

/* Both translations within one region, on the third of three_regions(). */
static void test_from(void **state)
{
	static const struct {
		uint64_t offset, len;
		bool ok;
	} cases[] = {
		{ 0, 1, true },
		{ 0, 0x2000, true },
		{ 0x1fff, 1, true },
		{ 0x1ffe, 2, true },
		{ 0, 0x2001, false },
		{ 0x1fff, 2, false },
		{ 0x2000, 1, false },
		{ (uint64_t)-1, 1, false },
		{ (uint64_t)-1, 2, false },
		{ 0x10, UINT64_MAX, false },
		{ 0x10, UINT64_MAX - 0x8000, false },
		{ 0x10, 0, false },
	};
	struct gmem gmem = three_regions();

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		void *expected = cases[i].ok ? fake_hva(0xc0000 + cases[i].offset) : NULL;

		if (gmem_from_gpa(&gmem, 0x8000 + cases[i].offset, cases[i].len) != expected)
			fail_msg("gpa case %zu", i);
		if (gmem_from_uva(&gmem, 0x50000 + cases[i].offset, cases[i].len) != expected)
			fail_msg("uva case %zu", i);
	}
	/* Adjacent regions are not one: a ring must lie within one. */
	assert_null(gmem_from_gpa(&gmem, 0x1fff, 2));
	gmem_fini(&gmem);
}

/* What byte @gpa is in our address space, 0 if nothing. */
static uint64_t model_byte(const struct gmem_region *regions, size_t count, uint64_t gpa)
{
	for (size_t i = 0; i < count; i++) {
		if (gpa >= regions[i].gpa && gpa < regions[i].gpa + regions[i].size)
			return (uintptr_t)regions[i].hva + (gpa - regions[i].gpa);
	}
	return 0;
}

static void check_against_model(const struct gmem *gmem, const struct gmem_region *regions,
				size_t count, struct rng *rng)
{
	struct iovec out[GMEM_MAX_REGIONS];
	uint32_t hint = rng_below(rng, 20);
	uint64_t gpa = rng_below(rng, 1024);
	uint64_t len = 1 + rng_below(rng, 64);
	int rc = gmem_iov(gmem, &hint, gpa, len, out, array_size(out));
	uint64_t at = gpa;

	if (rc < 0) {
		bool hole = false;

		assert_int_equal(rc, -EFAULT);
		for (uint64_t i = 0; i < len; i++)
			hole |= model_byte(regions, count, gpa + i) == 0;
		assert_true(hole);
		return;
	}
	for (int p = 0; p < rc; p++) {
		for (size_t i = 0; i < out[p].iov_len; i++, at++)
			assert_int_equal((uintptr_t)out[p].iov_base + i,
					 model_byte(regions, count, at));
	}
	assert_int_equal(at, gpa + len);
}

static void test_model(void **state)
{
	struct rng rng = rng_new();

	(void)state;
	for (int round = 0; round < 300; round++) {
		struct gmem gmem = { 0 };
		struct gmem_region regions[16];
		size_t count = 0;

		for (uint64_t tries = 0; tries < 40 && count < array_size(regions); tries++) {
			struct gmem_region r = {
				.gpa = rng_below(&rng, 1000),
				.uva = tries * 0x1000,
				.size = 1 + rng_below(&rng, 100),
				.hva = fake_hva(0x100000 + tries * 0x1000),
			};

			if (gmem_insert(&gmem, &r) == 0)
				regions[count++] = r;
		}
		while (count > 0) {
			struct gmem_region *r = &regions[rng_below(&rng, (uint32_t)count)];
			struct gmem_region removed;

			for (int i = 0; i < 50; i++)
				check_against_model(&gmem, regions, count, &rng);
			assert_int_equal(gmem_remove(&gmem, r->gpa, r->uva, r->size, &removed), 0);
			assert_memory_equal(&removed, r, sizeof(removed));
			*r = regions[--count];
		}
		assert_null(gmem.regions);
	}
	figure(300, "tables");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_insert_refuses),
		cmocka_unit_test(test_sorted),
		cmocka_unit_test(test_count_is_bounded),
		cmocka_unit_test(test_remove),
		cmocka_unit_test(test_iov),
		cmocka_unit_test(test_iov_within),
		cmocka_unit_test(test_empty_table),
		cmocka_unit_test(test_from),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
