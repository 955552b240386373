// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_dirty.c - virtio/dirty.c: which bits are set for which bytes; and that
 * rings of either format log every byte they write.
 */
#include "fakering.h"

#include <string.h>

#include "virtio/dirty.h"

#define PAGE UINT64_C(4096)
#define LOG_BYTES 512u
#define EVENT_IDX (UINT64_C(1) << VIRTIO_F_EVENT_IDX_BIT)
#define RING_GPA 0x300000u /* of the parts of a ring that lies in guest memory */

struct board {
	uint8_t bits[LOG_BYTES];
	struct dirty_log log;
};

static void wipe(struct board *b, uint64_t bytes)
{
	memset(b->bits, 0, sizeof(b->bits));
	b->log = dirty_log_at(b->bits, bytes);
}

static bool is_marked(const struct board *b, uint64_t page)
{
	return b->bits[page / 8] >> page % 8 & 1;
}

/* Exactly the pages @first to @last - 1 are marked. */
static void expect(const struct board *b, uint64_t first, uint64_t last)
{
	for (uint64_t page = 0; page < UINT64_C(8) * LOG_BYTES; page++) {
		if (is_marked(b, page) != (page >= first && page < last))
			fail_msg("page %u", (unsigned int)page);
	}
}

static void test_pages(void **state)
{
	static const struct {
		uint64_t gpa;
		uint64_t len;
		uint64_t first, last;
	} cases[] = {
		{ 0, 1, 0, 1 },
		{ 0, 0, 0, 0 },
		{ PAGE - 1, 1, 0, 1 },
		{ PAGE - 1, 2, 0, 2 },
		{ PAGE, PAGE, 1, 2 },
		{ PAGE, PAGE + 1, 1, 3 },
		{ 7 * PAGE, PAGE, 7, 8 },
		{ 7 * PAGE, PAGE + 1, 7, 9 },
		{ 8 * PAGE, 8 * PAGE, 8, 16 },
		{ 3 * PAGE + 5, 65536, 3, 20 },
		{ 5 * PAGE, 40 * PAGE, 5, 45 },
	};
	struct board b;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		wipe(&b, LOG_BYTES);
		dirty_mark_gpa(&b.log, cases[i].gpa, cases[i].len);
		expect(&b, cases[i].first, cases[i].last);
		assert_int_equal(dirty_take_touched(&b.log), cases[i].len != 0);
		assert_false(dirty_take_touched(&b.log));
	}
}

/* What lies beyond the log is left out, and no byte behind it is touched. */
static void test_too_small(void **state)
{
	struct board b;

	(void)state;
	wipe(&b, 2);
	dirty_mark_gpa(&b.log, 15 * PAGE, 3 * PAGE);
	expect(&b, 15, 16);
	wipe(&b, 2);
	dirty_mark_gpa(&b.log, 16 * PAGE, 1);
	dirty_mark_gpa(&b.log, UINT64_MAX, 1);
	dirty_mark_gpa(&b.log, UINT64_MAX - PAGE, UINT64_MAX);
	expect(&b, 0, 0);
	dirty_mark_gpa(&b.log, PAGE, UINT64_MAX);
	expect(&b, 1, 16);
	wipe(&b, 0);
	dirty_mark_gpa(&b.log, 0, UINT64_MAX);
	expect(&b, 0, 0);
	assert_int_equal(dirty_log_at(b.bits, UINT64_MAX).pages, UINT64_MAX / 8 * 8);
}

/* Bits are only ever added. */
static void test_adds(void **state)
{
	struct board b;

	(void)state;
	wipe(&b, LOG_BYTES);
	dirty_mark_gpa(&b.log, 0, PAGE);
	dirty_mark_gpa(&b.log, 2 * PAGE, PAGE);
	assert_int_equal(b.bits[0], 5);
}

static void test_mapped(void **state)
{
	struct fakering *f = fake_make(4, 0);
	uint8_t *a = f->gmem.regions[0].hva;
	uint8_t *c = f->gmem.regions[2].hva;
	struct iovec iov[3] = { { a + FAKE_REGION_BYTES - 1, 1 },
				{ a, 0 },
				{ c + PAGE, 3 * PAGE } };
	uint8_t stranger[16];
	struct board b;

	(void)state;
	for (uint32_t hint = 0; hint < 5; hint++) {
		wipe(&b, LOG_BYTES);
		dirty_mark(&b.log, &f->gmem, hint, c + FAKE_REGION_BYTES - PAGE, PAGE);
		expect(&b, 0x20f, 0x210);
	}
	wipe(&b, LOG_BYTES);
	dirty_mark(&b.log, &f->gmem, 0, c + FAKE_REGION_BYTES - PAGE, PAGE + 1);
	dirty_mark(&b.log, &f->gmem, 0, stranger, sizeof(stranger));
	expect(&b, 0, 0);
	dirty_mark_iov(&b.log, &f->gmem, 0, iov, 3, 0);
	expect(&b, 0, 0);
	dirty_mark_iov(&b.log, &f->gmem, 0, iov, 3, 1);
	expect(&b, 0x10f, 0x110);
	wipe(&b, LOG_BYTES);
	dirty_mark_iov(&b.log, &f->gmem, 0, iov, 3, 1 + PAGE + 1);
	assert_true(is_marked(&b, 0x10f) && is_marked(&b, 0x201) && is_marked(&b, 0x202));
	assert_false(is_marked(&b, 0x203));
	fake_free(f);
}

/* The parts of a ring as regions, so that they have guest addresses. */
static void map_part(struct fakering *f, uint64_t gpa, uint8_t *hva, uint64_t bytes)
{
	struct gmem_region region = { .gpa = gpa, .uva = gpa, .size = bytes, .hva = hva };

	assert_int_equal(gmem_insert(&f->gmem, &region), 0);
}

struct shadow {
	uint8_t *copy;
	const uint8_t *part;
	uint64_t bytes;
	uint64_t gpa;
};

/* Every byte that differs from the copy lies in a marked page; then copy again. */
static void compare(struct board *b, struct shadow *s)
{
	for (uint64_t i = 0; i < s->bytes; i++) {
		if (s->part[i] != s->copy[i] && !is_marked(b, (s->gpa + i) / PAGE))
			fail_msg("byte %u at 0x%x", (unsigned int)i, (unsigned int)s->gpa);
	}
	memcpy(s->copy, s->part, s->bytes);
}

static void run_ring(uint32_t size, uint64_t features)
{
	struct fakering *f = fake_make(size, features);
	struct vring_extent extent = vring_extent(size, features);
	struct shadow desc = { calloc(1, extent.desc), f->desc, extent.desc, RING_GPA };
	struct shadow used = { calloc(1, extent.used), f->used, extent.used, RING_GPA + 0x80000 };
	struct vring_chain chain;
	struct board b;

	map_part(f, desc.gpa, f->desc, extent.desc);
	map_part(f, used.gpa, f->used, extent.used);
	fake_start(f, f->packed ? 0 : 65000); /* the index wraps on the way */
	for (uint32_t turn = 0; turn < 2000; turn++) {
		uint16_t batch = (uint16_t)(1 + turn % (size < 7 ? size : 7));

		for (uint16_t i = 0; i < batch; i++) {
			fake_set(f, i, (struct fake_desc){ FAKE_A, 64, F_WRITE, 0 });
			fake_avail_slot(f, i);
		}
		fake_avail_show(f);
		wipe(&b, LOG_BYTES);
		vring_set_log(&f->vr, &b.log, VRING_NO_LOG_ADDR);
		memcpy(desc.copy, f->desc, extent.desc);
		memcpy(used.copy, f->used, extent.used);
		vring_disable_kick(&f->vr);
		compare(&b, &used);
		for (uint16_t i = 0; i < batch; i++) {
			assert_int_equal(fake_pop(f, &chain), 1);
			vring_wrote(&f->vr, f->iov, chain.writable, 1);
			vring_push(&f->vr, chain.head, 1);
		}
		(void)!vring_publish(&f->vr);
		compare(&b, &used);
		compare(&b, &desc);
		assert_true(is_marked(&b, FAKE_A / PAGE));
		wipe(&b, LOG_BYTES);
		vring_set_log(&f->vr, &b.log, VRING_NO_LOG_ADDR);
		(void)!vring_enable_kick(&f->vr);
		compare(&b, &used);
		fake_used_idx(f);
	}
	/* Off again: nothing more is logged. */
	wipe(&b, LOG_BYTES);
	vring_set_log(&f->vr, NULL, VRING_NO_LOG_ADDR);
	vring_disable_kick(&f->vr);
	(void)!vring_enable_kick(&f->vr);
	expect(&b, 0, 0);
	f->gmem.count = 3; /* the ring's parts are freed as such */
	free(desc.copy);
	free(used.copy);
	fake_free(f);
}

static void test_rings(void **state)
{
	static const uint32_t sizes[] = { 1, 4, 512, 4096 };

	(void)state;
	for (size_t i = 0; i < array_size(sizes); i++) {
		run_ring(sizes[i], 0);
		run_ring(sizes[i], EVENT_IDX);
		run_ring(sizes[i], PACKED);
		run_ring(sizes[i], PACKED | EVENT_IDX);
	}
	run_ring(300, PACKED | EVENT_IDX);
}

/* What the front-end calls the address of the used part is logged besides. */
static void test_used_address(void **state)
{
	struct fakering *f = fake_new(4, 0, 0);
	struct vring_chain chain;
	struct board b;

	(void)state;
	wipe(&b, LOG_BYTES);
	vring_set_log(&f->vr, &b.log, 0x50 * PAGE + 8);
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 64, F_WRITE, 0 });
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	vring_push(&f->vr, chain.head, 0);
	expect(&b, 0, 0);
	(void)!vring_publish(&f->vr);
	expect(&b, 0x50, 0x51);
	vring_stop(&f->vr);
	vring_set_log(&f->vr, &b.log, 0);
	assert_null(f->vr.log);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages), cmocka_unit_test(test_too_small),
		cmocka_unit_test(test_adds),  cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_rings), cmocka_unit_test(test_used_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
