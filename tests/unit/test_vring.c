// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring.c - virtio/vring.c: indices, used elements, notifications both
 * ways, start and stop. Chains: test_vring_chain.c; random drivers:
 * test_vring_model.c.
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

static void check_used(const struct fakering *f, uint16_t index, uint32_t id, uint32_t len)
{
	const uint8_t *elem = f->used + VRING_USED_RING + 8 * (size_t)(index & (f->size - 1));

	assert_int_equal(le32_load(elem), id);
	assert_int_equal(le32_load(elem + 4), len);
}

static void test_used_elements(void **state)
{
	struct fakering *f = fake_new(4, 0xfffe, 0);

	(void)state;
	assert_false(vring_publish(&f->vr));
	vring_push(&f->vr, 3, 0xffffffff);
	vring_push(&f->vr, 0, 0);
	vring_push(&f->vr, 2, 44);
	assert_int_equal(fake_used_idx(f), 0xfffe);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 1);
	check_used(f, 0xfffe, 3, 0xffffffff);
	check_used(f, 0xffff, 0, 0);
	check_used(f, 0, 2, 44);
	assert_false(vring_publish(&f->vr));
	/* The index is ours: what a driver writes there is not read back. */
	le16_store(f->used + VRING_USED_IDX, 0x1234);
	vring_push(&f->vr, 1, 5);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 2);
	check_used(f, 1, 1, 5);
	fake_free(f);
}

static void test_unpop(void **state)
{
	struct fakering *f = fake_new(4, 0xfffe, 0);
	struct vring_chain chain;

	(void)state;
	for (uint16_t i = 0; i < 4; i++) {
		fake_set(f, i, (struct fake_desc){ FAKE_A + i, 1, 0, 0 });
		fake_offer(f, i);
	}
	for (uint16_t i = 0; i < 4; i++)
		assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(fake_pop(f, &chain), 0);
	vring_unpop(&f->vr, 3);
	assert_int_equal(f->vr.next_avail, 0xffff);
	assert_int_equal(vring_available(&f->vr), 3);
	for (uint16_t i = 1; i < 4; i++) {
		assert_int_equal(fake_pop(f, &chain), 1);
		assert_int_equal(chain.head, i);
	}
	vring_unpop(&f->vr, 0);
	assert_int_equal(fake_pop(f, &chain), 0);
	/* A chain given back is looked at anew. */
	vring_unpop(&f->vr, 1);
	fake_set(f, 3, (struct fake_desc){ FAKE_HOLE, 1, 0, 0 });
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	fake_free(f);
}

static void test_layout(void **state)
{
	static uint8_t room[64];
	uint8_t *p = room + (16 - (uintptr_t)room % 16) % 16;
	const struct {
		uint32_t size;
		struct vring_layout layout;
		int rc;
	} cases[] = {
		{ 1, { p, p, p }, 0 },           { 32768, { p, p + 2, p + 4 }, 0 },
		{ 0, { p, p, p }, -EINVAL },     { 3, { p, p, p }, -EINVAL },
		{ 65536, { p, p, p }, -EINVAL }, { 0x80000000u, { p, p, p }, -EINVAL },
		{ 4, { NULL, p, p }, -EINVAL },  { 4, { p, NULL, p }, -EINVAL },
		{ 4, { p, p, NULL }, -EINVAL },  { 4, { p + 8, p, p }, -EINVAL },
		{ 4, { p, p + 1, p }, -EINVAL }, { 4, { p, p, p + 2 }, -EINVAL },
	};
	struct gmem gmem = { 0 };

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct vring vr = { .next_avail = 7 };
		int rc = vring_check_layout(cases[i].size, &cases[i].layout);

		if (rc != cases[i].rc)
			fail_msg("case %zu: %d", i, rc);
		rc = vring_start(&vr, cases[i].size, &cases[i].layout, &gmem, 9, 0);
		assert_int_equal(rc, cases[i].rc);
		assert_int_equal(vr.next_avail, rc == 0 ? 9 : 7);
		assert_int_equal(vr.started, rc == 0);
	}
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
	check_used(f, 8, 2, 1);
	fake_free(f);
}

static void check_inert(struct vring *vr, struct iovec *iov)
{
	struct vring_chain chain;

	assert_int_equal(vring_pop(vr, &chain, iov, VRING_MAX_PIECES), 0);
	assert_int_equal(vring_available(vr), 0);
	vring_push(vr, 1, 2);
	assert_false(vring_publish(vr));
	vring_disable_kick(vr);
	assert_false(vring_enable_kick(vr));
}

static void test_stop(void **state)
{
	struct vring never = { 0 };
	struct fakering *f = fake_new(4, 20, 0);
	struct vring_chain chain;

	(void)state;
	check_inert(&never, f->iov);
	vring_stop(&never);
	check_inert(&never, f->iov);

	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_offer(f, 0);
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	vring_stop(&f->vr);
	assert_int_equal(f->vr.next_avail, 21);
	assert_null(f->vr.desc);
	assert_null(f->vr.gmem);
	check_inert(&f->vr, f->iov);
	assert_int_equal(f->vr.next_avail, 21);
	assert_int_equal(fake_used_idx(f), 20);
	vring_stop(&f->vr);
	fake_free(f);
}

/* Breaking lasts until the ring is started anew; what was popped goes back. */
static void test_broken_until_restart(void **state)
{
	struct fakering *f = fake_new(4, 0, 0);
	struct vring_chain chain;

	(void)state;
	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_set(f, 1, (struct fake_desc){ FAKE_HOLE, 1, 0, 0 });
	fake_offer(f, 0);
	fake_offer(f, 1);
	assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	vring_push(&f->vr, 0, 1);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 1);
	vring_stop(&f->vr);
	assert_false(f->vr.broken);
	fake_start(f, 0, 0);
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
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

/* The largest ring: the last slots and the words behind them. */
static void test_largest_ring(void **state)
{
	struct fakering *f = fake_new(VRING_MAX_SIZE, 0x7ffe, bit64(VIRTIO_F_EVENT_IDX_BIT));
	struct vring_chain chain;

	(void)state;
	fake_set(f, VRING_MAX_SIZE - 1, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	for (uint32_t i = 0; i < VRING_MAX_SIZE; i++)
		fake_avail_slot(f, VRING_MAX_SIZE - 1);
	fake_avail_show(f);
	assert_int_equal(vring_available(&f->vr), VRING_MAX_SIZE);
	for (uint32_t i = 0; i < VRING_MAX_SIZE; i++) {
		assert_int_equal(fake_pop(f, &chain), 1);
		vring_push(&f->vr, chain.head, i);
	}
	assert_int_equal(fake_pop(f, &chain), 0);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 0xfffe);
	check_used(f, 0x7fff, VRING_MAX_SIZE - 1, 1);
	assert_false(vring_enable_kick(&f->vr));
	assert_int_equal(fake_avail_event(f), 0xfffe);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_avail_jump),
		cmocka_unit_test(test_avail_jump_later),
		cmocka_unit_test(test_used_elements),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_start_in_the_middle),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_broken_until_restart),
		cmocka_unit_test(test_used_event),
		cmocka_unit_test(test_used_event_is_compared_with_the_last_one),
		cmocka_unit_test(test_avail_flags),
		cmocka_unit_test(test_notify_on_empty),
		cmocka_unit_test(test_kick_flag),
		cmocka_unit_test(test_avail_event),
		cmocka_unit_test(test_largest_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
