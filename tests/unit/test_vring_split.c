// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring_split.c - virtio/vring_split.c: indices, and notifications both
 * ways.
 */
#include <errno.h>

#include "fakering.h"

static void test_avail_jump(void **state)
{
	static const struct {
		uint32_t size;
		uint16_t ahead;
		bool ok;
	} cases[] = {
		{ 1, 1, true },         { 1, 2, false },         { 1, 0xffff, false },
		{ 4, 4, true },         { 4, 5, false },         { 4, 0x8000, false },
		{ 4, 0xffff, false },   { 256, 256, true },      { 256, 257, false },
		{ 32768, 32768, true }, { 32768, 32769, false }, { 32768, 0xffff, false },
	};

	(void)state;
	for (size_t i = 0; i < 2 * array_size(cases); i++) {
		struct fakering *f = fake_new(cases[i / 2].size, i % 2 ? 0 : 0xfffe, 0);
		uint16_t ahead = cases[i / 2].ahead;
		struct vring_chain chain;

		fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
		le16_store(f->avail + VRING_AVAIL_IDX, (uint16_t)(f->avail_idx + ahead));
		/* Looking is enough to be sent to vring_pop(), which reports it. */
		assert_int_equal(vring_available(&f->vr), cases[i / 2].ok ? ahead : 1);
		assert_true(vring_enable_kick(&f->vr));
		assert_false(f->vr.broken);
		assert_int_equal(fake_pop(f, &chain), cases[i / 2].ok ? 1 : -EPROTO);
		assert_int_equal(f->vr.broken, !cases[i / 2].ok);
		fake_free(f);
	}
}

/* What was seen stays valid; a jump is found when the ring is looked at again. */
static void test_avail_jump_later(void **state)
{
	struct fakering *f = fake_new(4, 0, 0);
	struct vring_chain chain;

	(void)state;
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_offer(f, 0);
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	le16_store(f->avail + VRING_AVAIL_IDX, 100);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	fake_free(f);
}

/* A ring that another device left half done goes on at both its indices. */
static void test_start_in_the_middle(void **state)
{
	struct fakering *f = fake_new(4, 0, 0);
	struct vring_layout layout = { f->desc, f->avail, f->used };
	struct vring_chain chain;

	(void)state;
	fake_set(f, 2, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	f->avail_idx = 10;
	fake_offer(f, 2);
	le16_store(f->used + VRING_USED_IDX, 8);
	assert_int_equal(vring_start(&f->vr, 4, &layout, &f->gmem, 10, 0), 0);
	assert_false(vring_publish(&f->vr));
	assert_int_equal(fake_pop(f, &chain), 1);
	vring_push(&f->vr, chain.head, 1);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 9);
	assert_int_equal(fake_used_at(f, 8).id, 2);
	assert_int_equal(fake_used_at(f, 8).len, 1);
	fake_free(f);
}

struct event_case {
	uint16_t old, new, event;
	bool wanted;
};

/* "Used Buffer Notification Suppression": when the element at used_event is
 * among those just published. */
static const struct event_case event_cases[] = {
	{ 0, 1, 0, true },
	{ 0, 1, 1, false },
	{ 0, 1, 0xffff, false },
	{ 5, 8, 4, false },
	{ 5, 8, 5, true },
	{ 5, 8, 7, true },
	{ 5, 8, 8, false },
	{ 5, 8, 0x8005, false },
	{ 0xfffe, 2, 0xfffd, false },
	{ 0xfffe, 2, 0xfffe, true },
	{ 0xfffe, 2, 0, true },
	{ 0xfffe, 2, 1, true },
	{ 0xfffe, 2, 2, false },
	{ 0x7fff, 0x8001, 0x8000, true },
	{ 0x7fff, 0x8001, 0x8001, false },
};

/* Publish @n elements and tell whether the driver is to be notified. */
static bool publish(struct fakering *f, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		vring_push(&f->vr, 0, 0);
	return vring_publish(&f->vr);
}

static void test_used_event(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(event_cases); i++) {
		const struct event_case *c = &event_cases[i];
		struct fakering *f =
			fake_new(8, (uint16_t)(c->old - 1), bit64(VIRTIO_F_EVENT_IDX_BIT));

		/* The first one is always signalled: nothing is known yet. */
		fake_set_used_event(f, (uint16_t)(c->old + 100));
		assert_true(publish(f, 1));
		fake_set_used_event(f, c->event);
		/* The flag means nothing when the event index is in use. */
		le16_store(f->avail, VRING_AVAIL_F_NO_INTERRUPT);
		if (publish(f, (uint16_t)(c->new - c->old)) != c->wanted)
			fail_msg("%u to %u, event %u", c->old, c->new, c->event);
		assert_false(publish(f, 0));
		fake_free(f);
	}
}

/* What one publication passed without a signal, no later one signals. */
static void test_used_event_is_compared_with_the_last_one(void **state)
{
	struct fakering *f = fake_new(8, 0, bit64(VIRTIO_F_EVENT_IDX_BIT));

	(void)state;
	assert_true(publish(f, 1));
	fake_set_used_event(f, 3);
	assert_false(publish(f, 2));
	assert_true(publish(f, 1));
	assert_false(publish(f, 1));
	fake_set_used_event(f, 4);
	assert_false(publish(f, 1));
	fake_free(f);
}

static void test_avail_flags(void **state)
{
	struct fakering *f = fake_new(8, 0, 0);

	(void)state;
	assert_true(publish(f, 1));
	assert_true(publish(f, 1));
	le16_store(f->avail, VRING_AVAIL_F_NO_INTERRUPT);
	assert_false(publish(f, 1));
	le16_store(f->avail, 0xfffe);
	assert_true(publish(f, 1));
	/* used_event is out of use. */
	fake_set_used_event(f, 100);
	assert_true(publish(f, 1));
	fake_free(f);
}

static void test_notify_on_empty(void **state)
{
	static const uint64_t features[] = {
		UINT64_C(1) << VIRTIO_F_NOTIFY_ON_EMPTY_BIT,
		(UINT64_C(1) << VIRTIO_F_NOTIFY_ON_EMPTY_BIT) |
			(UINT64_C(1) << VIRTIO_F_EVENT_IDX_BIT),
	};

	(void)state;
	for (size_t i = 0; i < array_size(features); i++) {
		struct fakering *f = fake_new(8, 0, features[i]);
		struct vring_chain chain;

		le16_store(f->avail, VRING_AVAIL_F_NO_INTERRUPT);
		fake_set_used_event(f, 0x8000);
		fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
		assert_true(publish(f, 1));
		fake_offer(f, 0);
		fake_offer(f, 0);
		assert_int_equal(fake_pop(f, &chain), 1);
		assert_false(publish(f, 1));
		assert_int_equal(fake_pop(f, &chain), 1);
		assert_true(publish(f, 1));
		vring_unpop(&f->vr, 1);
		assert_false(publish(f, 1));
		fake_free(f);
	}
}

static void test_kick_flag(void **state)
{
	struct fakering *f = fake_new(4, 0, 0);

	(void)state;
	vring_disable_kick(&f->vr);
	assert_int_equal(le16_load(f->used), VRING_USED_F_NO_NOTIFY);
	assert_false(vring_enable_kick(&f->vr));
	assert_int_equal(le16_load(f->used), 0);
	assert_int_equal(fake_avail_event(f), 0);
	vring_disable_kick(&f->vr);
	fake_offer(f, 0);
	assert_true(vring_enable_kick(&f->vr));
	assert_int_equal(vring_available(&f->vr), 1);
	fake_free(f);
}

static void test_avail_event(void **state)
{
	struct fakering *f = fake_new(4, 0xffff, bit64(VIRTIO_F_EVENT_IDX_BIT));
	struct vring_chain chain;

	(void)state;
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	assert_false(vring_enable_kick(&f->vr));
	assert_int_equal(fake_avail_event(f), 0xffff);
	fake_offer(f, 0);
	fake_offer(f, 0);
	vring_disable_kick(&f->vr);
	assert_int_equal(le16_load(f->used), 0);
	assert_int_equal(fake_avail_event(f), 0xffff);
	assert_true(vring_enable_kick(&f->vr));
	assert_true(vring_enable_kick(&f->vr));
	assert_int_equal(fake_avail_event(f), 0xffff);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_false(vring_enable_kick(&f->vr));
	assert_int_equal(fake_avail_event(f), 1);
	fake_free(f);
}

/* Where a guest writes an index of a descriptor. */
enum index_place { IN_AVAIL, IN_RING, IN_TABLE, INDEX_PLACES };

/* All descriptors are whole chains, but that the first leads to @index where that is written. */
static void lay_index(struct fakering *f, enum index_place place, uint32_t count, uint16_t index)
{
	const struct fake_desc plain = { FAKE_A, 1, 0, 0 };
	const struct fake_desc leads = { FAKE_A, 1, F_NEXT, index };
	uint8_t *table = f->gmem.regions[f->gmem.count - 1].hva + FAKE_REGION_BYTES -
			 (size_t)count * VRING_DESC_BYTES;

	for (uint32_t i = 0; i < count; i++) {
		const struct fake_desc *desc = i == 0 && place != IN_AVAIL ? &leads : &plain;

		fake_set(f, i, *desc);
		fake_put(f, table + (size_t)i * VRING_DESC_BYTES, desc);
	}
	if (place == IN_TABLE)
		fake_set(f, 0,
			 (struct fake_desc){ FAKE_C + FAKE_REGION_BYTES - count * VRING_DESC_BYTES,
					     count * VRING_DESC_BYTES, F_INDIRECT, 0 });
}

/* Each place, each value: beyond the table none is followed, which ends with its block. */
static void test_every_index(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 64 };
	unsigned int tried = 0;

	(void)state;
	for (unsigned int n = 0; n < array_size(sizes) * INDEX_PLACES; n++) {
		enum index_place place = n % INDEX_PLACES;
		struct fakering *f = fake_new(sizes[n / INDEX_PLACES], 0, 0);

		for (uint32_t index = 0; index <= UINT16_MAX; index++, tried++) {
			bool good = index < f->size && (place == IN_AVAIL || index != 0);
			struct vring_chain chain;

			lay_index(f, place, f->size, (uint16_t)index);
			fake_offer(f, place == IN_AVAIL ? (uint16_t)index : 0);
			assert_int_equal(fake_pop(f, &chain), good ? 1 : -EPROTO);
			vring_stop(&f->vr);
			fake_start(f, 0);
		}
		fake_free(f);
	}
	figure(tried, "indices");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_avail_jump),
		cmocka_unit_test(test_avail_jump_later),
		cmocka_unit_test(test_start_in_the_middle),
		cmocka_unit_test(test_used_event),
		cmocka_unit_test(test_used_event_is_compared_with_the_last_one),
		cmocka_unit_test(test_avail_flags),
		cmocka_unit_test(test_notify_on_empty),
		cmocka_unit_test(test_kick_flag),
		cmocka_unit_test(test_avail_event),
		cmocka_unit_test(test_every_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
