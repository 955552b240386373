// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_iotlb.c - virtio/iotlb.c: what is taken, translation over every kind of
 * border, permissions, the bound, and random traffic against a page-wise model.
 * And what a ring makes of a miss (virtio/vring_walk.c).
 */
#include <errno.h>
#include <string.h>

#include "unit.h"

#include "fakering.h"
#include "rng.h"
#include "virtio/iotlb.h"
#include "virtio/ring_spec.h"

#define UVA UINT64_C(0x700000)
#define PAGE UINT64_C(0x1000)
#define RW (IOTLB_READ | IOTLB_WRITE)

#define REGION_BYTES (4 * PAGE)

static uint8_t memory[3 * REGION_BYTES];
static uint8_t *const first = memory;
static uint8_t *const second = memory + 2 * REGION_BYTES;

/* Two regions side by side for the front-end, apart for us. */
static struct gmem two_regions(void)
{
	struct gmem gmem = { 0 };
	const struct gmem_region a = { 0x100000, UVA, REGION_BYTES, first };
	const struct gmem_region b = { 0x900000, UVA + REGION_BYTES, REGION_BYTES, second };

	assert_int_equal(gmem_insert(&gmem, &a), 0);
	assert_int_equal(gmem_insert(&gmem, &b), 0);
	return gmem;
}

static int update(struct iotlb *tlb, uint64_t iova, uint64_t size, uint64_t uva, uint8_t access)
{
	const struct iotlb_entry entry = { iova, iova + (size - 1), uva, access };

	return iotlb_update(tlb, &entry);
}

static void test_refuses(void **state)
{
	static const struct {
		uint64_t iova, size, uva;
		uint8_t access;
		int rc;
	} cases[] = {
		{ PAGE, 0, UVA, RW, -EINVAL },
		{ UINT64_MAX - 1, PAGE, UVA, RW, -EINVAL },
		{ PAGE, PAGE, UINT64_MAX - 1, RW, -EINVAL },
		{ PAGE, PAGE, UVA, 4, -EINVAL },
		{ 0, UINT64_MAX, 1, RW, -EINVAL },
		{ PAGE, PAGE, UVA - 1, RW, -EFAULT },
		{ PAGE, 8 * PAGE + 1, UVA, RW, -EFAULT },
		{ PAGE, 1, UVA + 8 * PAGE, RW, -EFAULT },
	};
	struct gmem gmem = two_regions();
	struct iotlb tlb = { .memory = &gmem };

	(void)state;
	assert_int_equal(update(&tlb, PAGE, PAGE, UVA, RW), 0);
	for (size_t i = 0; i < array_size(cases); i++) {
		assert_int_equal(
			update(&tlb, cases[i].iova, cases[i].size, cases[i].uva, cases[i].access),
			cases[i].rc);
		assert_int_equal(tlb.count, 1);
	}
	iotlb_fini(&tlb);
	gmem_fini(&gmem);
}

static void test_translates(void **state)
{
	struct gmem gmem = two_regions();
	struct iotlb tlb = { .memory = &gmem };
	struct iotlb_miss miss = { 0 };
	struct iovec iov[4];

	(void)state;
	/* over the regions' border, then a page from the middle, which may only be read */
	assert_int_equal(update(&tlb, 0x10000, 2 * PAGE, UVA + 3 * PAGE, RW), 0);
	assert_int_equal(update(&tlb, 0x12000, PAGE, UVA + PAGE, IOTLB_READ), 0);
	assert_int_equal(iotlb_iov(&tlb, 0x10ff0, 0x20, IOTLB_WRITE, iov, 4, &miss), 2);
	assert_ptr_equal(iov[0].iov_base, first + 3 * PAGE + 0xff0);
	assert_int_equal(iov[0].iov_len, 0x10);
	assert_ptr_equal(iov[1].iov_base, second);
	assert_int_equal(iotlb_iov(&tlb, 0x10ff0, 0x20, IOTLB_WRITE, iov, 1, &miss), -ENOBUFS);
	assert_int_equal(iotlb_iov(&tlb, 0x10000, 3 * PAGE, IOTLB_READ, iov, 4, &miss), 3);
	assert_int_equal(iotlb_iov(&tlb, 0x11000, 2 * PAGE, IOTLB_WRITE, iov, 4, &miss), -EACCES);
	assert_int_equal(miss.iova, 0x12000);
	assert_int_equal(iotlb_iov(&tlb, 0x12fff, 2, IOTLB_READ, iov, 4, &miss), -EAGAIN);
	assert_int_equal(miss.iova, 0x13000);
	assert_int_equal(miss.access, IOTLB_READ);
	assert_int_equal(iotlb_iov(&tlb, 0xffff, 1, IOTLB_READ, iov, 4, &miss), -EAGAIN);
	assert_int_equal(iotlb_iov(&tlb, UINT64_MAX, 2, IOTLB_READ, iov, 4, &miss), -EFAULT);
	assert_int_equal(iotlb_iov(&tlb, 0, 0, IOTLB_READ, iov, 0, &miss), 0);
	/* what is side by side for us is one piece */
	assert_int_equal(update(&tlb, 0x11000, PAGE, UVA, RW), 0);
	assert_int_equal(iotlb_iov(&tlb, 0x11000, 2 * PAGE, IOTLB_READ, iov, 4, &miss), 1);
	iotlb_fini(&tlb);
	gmem_fini(&gmem);
}

/* The memory goes, and what led there. */
static void test_forgets(void **state)
{
	struct gmem gmem = two_regions();
	struct iotlb tlb = { .memory = &gmem };
	struct iotlb_miss miss;
	struct gmem_region removed;
	struct iovec iov;

	(void)state;
	assert_int_equal(update(&tlb, 0x10000, PAGE, UVA, RW), 0);
	assert_int_equal(update(&tlb, 0x20000, 2 * PAGE, UVA + 3 * PAGE, RW), 0);
	assert_int_equal(update(&tlb, 0x30000, PAGE, UVA + 4 * PAGE, RW), 0);
	assert_int_equal(gmem_remove(&gmem, 0x900000, UVA + REGION_BYTES, REGION_BYTES, &removed),
			 0);
	assert_int_equal(iotlb_iov(&tlb, 0x30000, 1, IOTLB_READ, &iov, 1, &miss), -EFAULT);
	iotlb_forget(&tlb, removed.uva, removed.size);
	assert_int_equal(tlb.count, 1);
	assert_int_equal(iotlb_iov(&tlb, 0x10000, 1, IOTLB_READ, &iov, 1, &miss), 1);
	assert_int_equal(iotlb_iov(&tlb, 0x30000, 1, IOTLB_READ, &iov, 1, &miss), -EAGAIN);
	iotlb_fini(&tlb);
	gmem_fini(&gmem);
}

/* One more takes the place of another, never of the newest. */
static void test_bound(void **state)
{
	struct gmem gmem = two_regions();
	struct iotlb tlb = { .memory = &gmem };
	struct iotlb_miss miss;
	struct iovec iov;

	(void)state;
	for (uint64_t i = 0; i < 3 * IOTLB_MAX_ENTRIES; i++) {
		uint64_t iova = (i * 7919 % (3 * IOTLB_MAX_ENTRIES)) * 2 * PAGE;

		assert_int_equal(update(&tlb, iova, PAGE, UVA, RW), 0);
		assert_true(tlb.count <= IOTLB_MAX_ENTRIES);
		assert_int_equal(iotlb_iov(&tlb, iova, PAGE, IOTLB_READ, &iov, 1, &miss), 1);
	}
	assert_int_equal(tlb.count, IOTLB_MAX_ENTRIES);
	iotlb_invalidate(&tlb, 0, UINT64_MAX);
	assert_int_equal(tlb.count, 0);
	iotlb_fini(&tlb);
	gmem_fini(&gmem);
}

#define MODEL_PAGES 64u

/* Page-wise: 0 unknown, else the front-end's page + 1. */
static void test_model(void **state)
{
	struct gmem gmem = two_regions();
	struct iotlb tlb = { .memory = &gmem };
	uint64_t model[MODEL_PAGES] = { 0 };
	struct rng rng = rng_new();

	(void)state;
	for (unsigned int step = 0; step < 20000; step++) {
		uint64_t at = rng_below(&rng, MODEL_PAGES);
		uint64_t n = 1 + rng_below(&rng, 6);
		uint64_t page = rng_below(&rng, (uint32_t)(9 - n));
		uint64_t last = (at + n) * PAGE - 1;
		bool adds = rng_below(&rng, 2) == 0;

		if (at + n > MODEL_PAGES)
			continue;
		if (adds)
			assert_int_equal(update(&tlb, at * PAGE, n * PAGE, UVA + page * PAGE, RW),
					 0);
		else
			iotlb_invalidate(&tlb, at * PAGE, last);
		for (uint64_t i = 0; i < n; i++)
			model[at + i] = adds ? page + i + 1 : 0;
		for (uint64_t i = 0; i < MODEL_PAGES; i++) {
			struct iotlb_miss miss;
			struct iovec iov;
			int rc = iotlb_iov(&tlb, i * PAGE, PAGE, IOTLB_WRITE, &iov, 1, &miss);
			uint64_t to = model[i] - 1;

			/* what was overlapped may be gone, but nothing stale may be there */
			if (rc == -EAGAIN && (i < at || i >= at + n || !adds)) {
				model[i] = 0;
				continue;
			}
			assert_int_equal(rc, 1);
			assert_int_not_equal(model[i], 0);
			assert_ptr_equal(iov.iov_base,
					 to < 4 ? first + to * PAGE : second + (to - 4) * PAGE);
		}
	}
	iotlb_fini(&tlb);
	gmem_fini(&gmem);
}

/* A chain waits where it is until its pages are known; one that is forsaken breaks. */
static void test_ring_stalls(void **state)
{
	const uint64_t formats[] = { 0, PACKED };

	(void)state;
	for (size_t i = 0; i < array_size(formats); i++) {
		struct fakering *f = fake_make(4, formats[i]);
		struct iotlb tlb = { .memory = &f->gmem };
		struct vring_chain chain;
		uint32_t base;

		fake_start(f, 0);
		vring_use_iotlb(&f->vr, &tlb);
		base = vring_base(&f->vr);
		fake_set(f, 0, (struct fake_desc){ 0x40000000, 16, VRING_DESC_F_WRITE, 0 });
		fake_offer(f, 0);
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), 0);
		assert_true(vring_asks(&f->vr));
		assert_int_equal(f->vr.miss.iova, 0x40000000);
		assert_int_equal(f->vr.miss.access, IOTLB_WRITE);
		assert_int_equal(vring_available(&f->vr), 0);
		assert_false(vring_enable_kick(&f->vr));
		assert_int_equal(vring_base(&f->vr), base);
		vring_resume(&f->vr);
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), 0);
		assert_int_equal(update(&tlb, 0x40000000, PAGE, FAKE_A, RW), 0);
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), 0);
		vring_resume(&f->vr);
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), 1);
		assert_ptr_equal(f->iov[0].iov_base, gmem_from_gpa(&f->gmem, FAKE_A, 16));
		vring_unpop(&f->vr, 1);
		iotlb_invalidate(&tlb, 0, UINT64_MAX);
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), 0);
		vring_forsake(&f->vr);
		assert_int_equal(vring_pop(&f->vr, &chain, f->iov, VRING_MAX_PIECES), -EPROTO);
		assert_true(f->vr.broken);
		iotlb_fini(&tlb);
		fake_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses), cmocka_unit_test(test_translates),
		cmocka_unit_test(test_forgets), cmocka_unit_test(test_bound),
		cmocka_unit_test(test_model),   cmocka_unit_test(test_ring_stalls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
