// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring_packed.c - virtio/vring_packed.c: what only packed rings have:
 * wrap counters, places, event structures, skipping, hostile flags.
 */
#include <errno.h>

#include "fakering.h"

#define EVENT_IDX (UINT64_C(1) << VIRTIO_F_EVENT_IDX_BIT)
#define ENABLE VRING_PACKED_EVENT_F_ENABLE
#define DISABLE VRING_PACKED_EVENT_F_DISABLE
#define DESC VRING_PACKED_EVENT_F_DESC
#define WRAP VRING_PACKED_WRAP

/* Offer, pop and push a chain of @n descriptors. */
static void pass(struct fakering *f, uint16_t n)
{
	struct vring_chain chain;

	for (uint16_t i = 0; i < n; i++)
		fake_set(
			f, i,
			(struct fake_desc){ FAKE_A, 1, i + 1 < n ? F_NEXT : 0, (uint16_t)(i + 1) });
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(chain.readable, n);
	vring_push(&f->vr, chain.head, 0);
}

static uint16_t flags_at(const struct fakering *f, uint32_t offset)
{
	return le16_load(f->desc + offset * (size_t)VRING_DESC_BYTES + 14);
}

static void test_base(void **state)
{
	static const struct {
		uint32_t base;
		bool ok;
	} cases[] = {
		{ WRAP | WRAP << 16, true },
		{ 0, true },
		{ (WRAP | 4) | (WRAP | 4u) << 16, true },
		{ 2 | 2 << 16, true },
		{ WRAP | 5, false }, /* beyond a ring of 5 */
		{ WRAP | (WRAP | 5u) << 16, false },
		{ 0x7fff | 0x7fffu << 16, false },
		{ (WRAP | 3) | (WRAP | 1u) << 16, true },  /* two in flight */
		{ 1 | (WRAP | 1u) << 16, true },           /* a ring full of them */
		{ 2 | (WRAP | 1u) << 16, false },          /* more than that */
		{ (WRAP | 1) | (WRAP | 3u) << 16, false }, /* used ahead of available */
	};
	struct fakering *f = fake_make(5, PACKED);
	struct vring_layout layout = { f->desc, f->avail, f->used };

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int rc = vring_start(&f->vr, 5, &layout, &f->gmem, cases[i].base, PACKED);

		if (rc != (cases[i].ok ? 0 : -EINVAL))
			fail_msg("case %zu: %d", i, rc);
		if (rc == 0)
			assert_int_equal(vring_base(&f->vr), cases[i].base);
		vring_stop(&f->vr);
	}
	/* Only the lower half was given. */
	assert_int_equal(vring_start(&f->vr, 5, &layout, &f->gmem, WRAP | 3, PACKED), 0);
	assert_int_equal(vring_base(&f->vr), (WRAP | 3) | (WRAP | 3u) << 16);
	/* A split ring has one index. */
	vring_stop(&f->vr);
	assert_int_equal(vring_start(&f->vr, 4, &layout, &f->gmem, WRAP << 16, 0), -EINVAL);
	fake_free(f);
}

/* Neither a ring of zeros nor what is used already counts as available. */
static void test_available_flags(void **state)
{
	static const struct {
		uint16_t flags;
		bool in_lap_1, in_lap_0;
	} cases[] = {
		{ 0, false, false },
		{ USED_FLAGS, false, false },
		{ VRING_PACKED_DESC_F_AVAIL, true, false },
		{ VRING_PACKED_DESC_F_USED, false, true },
	};
	struct vring_chain chain;

	(void)state;
	for (size_t i = 0; i < 2 * array_size(cases); i++) {
		struct fakering *f = fake_new(4, i % 2 ? 4 : 0, PACKED);
		bool expected = i % 2 ? cases[i / 2].in_lap_0 : cases[i / 2].in_lap_1;
		struct fake_desc d = { FAKE_A, 1, cases[i / 2].flags, 7 };

		fake_put(f, f->desc, &d);
		assert_int_equal(vring_available(&f->vr), expected);
		assert_int_equal(vring_enable_kick(&f->vr), expected);
		assert_int_equal(fake_pop(f, &chain), expected);
		if (expected)
			assert_int_equal(chain.head, 7);
		fake_free(f);
	}
}

/* A used element stands where its chain began; the rest is left as it was. */
static void test_skipping(void **state)
{
	struct fakering *f = fake_new(5, 0, PACKED);

	(void)state;
	pass(f, 2);
	pass(f, 2);
	pass(f, 1);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(flags_at(f, 0), USED_FLAGS);
	assert_int_equal(flags_at(f, 1), VRING_PACKED_DESC_F_AVAIL);
	assert_int_equal(flags_at(f, 2), USED_FLAGS);
	assert_int_equal(flags_at(f, 3), VRING_PACKED_DESC_F_AVAIL);
	assert_int_equal(flags_at(f, 4), USED_FLAGS);
	/* the next lap, with a chain over the end of the ring */
	pass(f, 4);
	assert_true(vring_publish(&f->vr));
	pass(f, 3);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(flags_at(f, 4), 0);
	assert_int_equal(flags_at(f, 0), VRING_PACKED_DESC_F_AVAIL | F_NEXT);
	assert_int_equal(vring_base(&f->vr), (WRAP | 2) | (WRAP | 2u) << 16);
	fake_free(f);
}

/* What is pushed first is written last. */
static void test_batch(void **state)
{
	struct fakering *f = fake_new(4, 0, PACKED);

	(void)state;
	pass(f, 1);
	assert_int_equal(flags_at(f, 0), VRING_PACKED_DESC_F_AVAIL);
	pass(f, 1);
	pass(f, 1);
	assert_int_equal(flags_at(f, 0), VRING_PACKED_DESC_F_AVAIL);
	assert_int_equal(flags_at(f, 1), USED_FLAGS);
	assert_int_equal(fake_used_idx(f), 0);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 3);
	fake_free(f);
}

/* The id is that of a chain's last descriptor, and any number. */
static void test_ids(void **state)
{
	struct fakering *f = fake_new(4, 0, PACKED);
	struct fake_desc first = { FAKE_A, 1, F_NEXT | VRING_PACKED_DESC_F_AVAIL, 1 };
	struct fake_desc last = { FAKE_A, 1, VRING_PACKED_DESC_F_AVAIL, 0xffff };
	struct vring_chain chain;

	(void)state;
	fake_put(f, f->desc, &first);
	fake_put(f, f->desc + VRING_DESC_BYTES, &last);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(chain.head, 0xffff);
	vring_push(&f->vr, chain.head, 9);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(le16_load(f->desc + 12), 0xffff);
	assert_int_equal(le32_load(f->desc + 8), 9);
	assert_int_equal(flags_at(f, 0), USED_FLAGS | F_WRITE);
	fake_free(f);
}

/* Only what was popped can be given back, and once. */
static void test_nothing_to_give_back(void **state)
{
	struct fakering *f = fake_new(4, 0, PACKED);
	uint32_t base = vring_base(&f->vr);

	(void)state;
	vring_push(&f->vr, 1, 2);
	assert_false(vring_publish(&f->vr));
	vring_unpop(&f->vr, 9);
	assert_int_equal(vring_base(&f->vr), base);
	pass(f, 2);
	vring_push(&f->vr, 0, 0);
	vring_unpop(&f->vr, 1);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(vring_base(&f->vr), (WRAP | 2) | (WRAP | 2u) << 16);
	assert_false(vring_publish(&f->vr));
	fake_free(f);
}

/* Available again while it is in a chain that was not given back. */
static void test_descriptor_in_flight(void **state)
{
	struct fakering *f = fake_new(2, 0, PACKED);
	struct fake_desc again = { FAKE_A, 1, VRING_PACKED_DESC_F_USED, 0 };
	struct vring_chain chain;

	(void)state;
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_offer(f, 0);
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(fake_pop(f, &chain), 1);
	fake_put(f, f->desc, &again);
	assert_int_equal(vring_available(&f->vr), 1);
	assert_true(vring_enable_kick(&f->vr));
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	assert_true(f->vr.broken);
	vring_push(&f->vr, 0, 0);
	vring_push(&f->vr, 0, 0);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(vring_base(&f->vr), 0);
	fake_free(f);
}

/* A chain that goes on into descriptors of one that was not given back. */
static void test_chain_into_flight(void **state)
{
	struct fakering *f = fake_new(4, 0, PACKED);
	struct fake_desc more = { FAKE_A, 1, F_NEXT | VRING_PACKED_DESC_F_AVAIL, 0 };
	struct vring_chain chain;

	(void)state;
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	for (uint32_t place = 1; place < 4; place++)
		fake_put(f, fake_at(f, place), &more);
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	fake_free(f);
}

struct event_case {
	uint16_t old; /* the place before, on a ring of 5 */
	uint16_t n;   /* descriptors used, singly */
	uint16_t flags;
	uint16_t place; /* as it is written */
	bool wanted;
};

static const struct event_case event_cases[] = {
	{ 0, 1, ENABLE, 0, true },
	{ 0, 1, DISABLE, WRAP, false },
	{ 0, 1, DESC, WRAP, true },
	{ 0, 1, DESC, 0, false },
	{ 0, 1, DESC, WRAP | 1, false },
	{ 1, 3, DESC, WRAP, false },
	{ 1, 3, DESC, WRAP | 1, true },
	{ 1, 3, DESC, WRAP | 3, true },
	{ 1, 3, DESC, WRAP | 4, false },
	{ 1, 3, DESC, 2, false },
	{ 3, 4, DESC, WRAP | 4, true },
	{ 3, 4, DESC, 4, false },
	{ 3, 4, DESC, 1, true },
	{ 3, 4, DESC, WRAP | 1, false },
	{ 3, 4, DESC, 2, false },
	{ 8, 4, DESC, 4, true },
	{ 8, 4, DESC, WRAP | 1, true },
	{ 8, 4, DESC, 1, false },
	{ 2, 5, DESC, 1, true },
	{ 2, 5, DESC, 2, false },
	/* nonsense: rather too many than too few */
	{ 0, 1, DESC, WRAP | 5, true },
	{ 0, 1, 3, 0, true },
	{ 0, 1, 0xfffc | DISABLE, 0, false },
};

static void test_driver_event(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(event_cases); i++) {
		const struct event_case *c = &event_cases[i];
		struct fakering *f = fake_new(5, (uint16_t)(c->old + 9), PACKED | EVENT_IDX);

		/* The first one is always signalled: nothing is known yet. */
		fake_set_event(f, DESC, fake_encode_place(f, (c->old + 5u) % 10));
		pass(f, 1);
		assert_true(vring_publish(&f->vr));
		for (uint16_t k = 0; k < c->n; k++)
			pass(f, 1);
		fake_set_event(f, c->flags, c->place);
		if (vring_publish(&f->vr) != c->wanted)
			fail_msg("case %zu", i);
		fake_free(f);
	}
}

/* Without EVENT_IDX a place means nothing. */
static void test_driver_event_without_places(void **state)
{
	struct fakering *f = fake_new(5, 0, PACKED);

	(void)state;
	for (int i = 0; i < 3; i++) {
		pass(f, 1);
		fake_set_event(f, DESC, 4);
		assert_true(vring_publish(&f->vr));
	}
	pass(f, 1);
	fake_set_event(f, DISABLE, 0);
	assert_false(vring_publish(&f->vr));
	fake_free(f);
}

static void test_device_event(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t features = i ? EVENT_IDX : 0;
		struct fakering *f = fake_new(3, 2, PACKED | features);

		vring_disable_kick(&f->vr);
		assert_int_equal(fake_device_event(f) >> 16, DISABLE);
		assert_false(vring_enable_kick(&f->vr));
		assert_int_equal(fake_device_event(f), i ? DESC << 16 | WRAP | 2 : ENABLE);
		pass(f, 1);
		assert_false(vring_enable_kick(&f->vr));
		assert_int_equal(fake_device_event(f), i ? DESC << 16 | 0 : ENABLE);
		fake_offer(f, 0);
		assert_true(vring_enable_kick(&f->vr));
		fake_free(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base),
		cmocka_unit_test(test_available_flags),
		cmocka_unit_test(test_skipping),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_nothing_to_give_back),
		cmocka_unit_test(test_descriptor_in_flight),
		cmocka_unit_test(test_chain_into_flight),
		cmocka_unit_test(test_driver_event),
		cmocka_unit_test(test_driver_event_without_places),
		cmocka_unit_test(test_device_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
