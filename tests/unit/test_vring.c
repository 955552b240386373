// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring.c - virtio/vring.c over both formats: used elements, start and
 * stop. What only one has: test_vring_split.c, test_vring_packed.c; chains:
 * test_vring_chain.c; random drivers: test_vring_model.c.
 */
#include <errno.h>

#include "fakering.h"

static void check_used(const struct fakering *f, uint16_t index, uint32_t id, uint32_t len)
{
	struct fake_used used = fake_used_at(f, index);

	assert_int_equal(used.id, id);
	assert_int_equal(used.len, len);
}

/* Let the device take and give back single descriptors: @n of these heads. */
static void pass_chains(struct fakering *f, const struct fake_used *chains, size_t n)
{
	struct vring_chain chain;

	for (size_t i = 0; i < n; i++) {
		fake_set(f, chains[i].id, (struct fake_desc){ FAKE_A, 1, 0, 0 });
		fake_offer(f, (uint16_t)chains[i].id);
		assert_int_equal(fake_pop(f, &chain), 1);
		assert_int_equal(chain.head, chains[i].id);
		vring_push(&f->vr, chain.head, chains[i].len);
	}
}

static void check_used_elements(uint64_t format)
{
	static const struct fake_used three[] = { { 3, 0xffffffff }, { 0, 0 }, { 2, 44 } };
	static const struct fake_used one = { 1, 5 };
	struct fakering *f = fake_new(4, 0xfffe, format);

	assert_false(vring_publish(&f->vr));
	pass_chains(f, three, 3);
	assert_int_equal(fake_used_idx(f), 0xfffe);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 1);
	check_used(f, 0xfffe, 3, 0xffffffff);
	check_used(f, 0xffff, 0, 0);
	check_used(f, 0, 2, 44);
	assert_false(vring_publish(&f->vr));
	/* The index is ours: what a driver writes there is not read back. */
	if (!f->packed)
		le16_store(f->used + VRING_USED_IDX, 0x1234);
	pass_chains(f, &one, 1);
	assert_true(vring_publish(&f->vr));
	assert_int_equal(fake_used_idx(f), 2);
	check_used(f, 1, 1, 5);
	fake_free(f);
}

static void test_used_elements(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_used_elements(fake_formats[i]);
}

static void check_unpop(uint64_t format)
{
	struct fakering *f = fake_new(4, 0xfffe, format);
	struct vring_chain chain;

	for (uint16_t i = 0; i < 4; i++) {
		fake_set(f, i, (struct fake_desc){ FAKE_A + i, 1, 0, 0 });
		fake_offer(f, i);
	}
	for (uint16_t i = 0; i < 4; i++)
		assert_int_equal(fake_pop(f, &chain), 1);
	assert_int_equal(fake_pop(f, &chain), 0);
	vring_unpop(&f->vr, 3);
	assert_int_equal(fake_next(f), 0xffff);
	assert_int_equal(vring_available(&f->vr), 3);
	for (uint16_t i = 1; i < 4; i++) {
		assert_int_equal(fake_pop(f, &chain), 1);
		assert_int_equal(chain.head, i);
	}
	vring_unpop(&f->vr, 0);
	assert_int_equal(fake_pop(f, &chain), 0);
	/* A chain given back is looked at anew. */
	vring_unpop(&f->vr, 1);
	le64_store(f->desc + (f->packed ? 1 : 3) * VRING_DESC_BYTES, FAKE_HOLE);
	assert_int_equal(fake_pop(f, &chain), -EPROTO);
	fake_free(f);
}

static void test_unpop(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_unpop(fake_formats[i]);
}

static void test_layout(void **state)
{
	static uint8_t room[64];
	uint8_t *p = room + (16 - (uintptr_t)room % 16) % 16;
	const struct {
		uint32_t size;
		struct vring_layout layout;
		int split;
		int packed;
	} cases[] = {
		{ 1, { p, p, p }, 0, 0 },
		{ 32768, { p, p + 4, p + 4 }, 0, 0 },
		{ 4, { p, p + 2, p }, 0, -EINVAL },
		{ 3, { p, p, p }, -EINVAL, 0 },
		{ 32767, { p, p, p }, -EINVAL, 0 },
		{ 0, { p, p, p }, -EINVAL, -EINVAL },
		{ 32769, { p, p, p }, -EINVAL, -EINVAL },
		{ 65536, { p, p, p }, -EINVAL, -EINVAL },
		{ 0x80000000u, { p, p, p }, -EINVAL, -EINVAL },
		{ 4, { NULL, p, p }, -EINVAL, -EINVAL },
		{ 4, { p, NULL, p }, -EINVAL, -EINVAL },
		{ 4, { p, p, NULL }, -EINVAL, -EINVAL },
		{ 4, { p + 8, p, p }, -EINVAL, -EINVAL },
		{ 4, { p, p + 1, p }, -EINVAL, -EINVAL },
		{ 4, { p, p, p + 2 }, -EINVAL, -EINVAL },
	};
	struct gmem gmem = { 0 };

	(void)state;
	for (size_t i = 0; i < 2 * array_size(cases); i++) {
		struct vring vr = { .base = 7 };
		uint32_t size = cases[i / 2].size;
		const struct vring_layout *layout = &cases[i / 2].layout;
		uint64_t format = fake_formats[i % 2];
		int expected = i % 2 ? cases[i / 2].packed : cases[i / 2].split;
		int rc = vring_check_layout(size, layout, format);

		if (rc != expected)
			fail_msg("case %zu: %d", i / 2, rc);
		rc = vring_start(&vr, size, layout, &gmem, 0, format);
		assert_int_equal(rc, expected);
		assert_int_equal(vring_base(&vr), rc == 0 ? 0 : 7);
		vring_stop(&vr);
	}
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

static void check_stop(uint64_t format)
{
	struct vring never = { 0 };
	struct fakering *f = fake_new(4, 20, format);
	struct vring_chain chain;

	check_inert(&never, f->iov);
	vring_stop(&never);
	check_inert(&never, f->iov);

	fake_set(f, 0, (struct fake_desc){ FAKE_A, 1, 0, 0 });
	fake_offer(f, 0);
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	vring_push(&f->vr, chain.head, 0);
	assert_true(vring_publish(&f->vr));
	vring_stop(&f->vr);
	assert_int_equal(vring_base(&f->vr), fake_base(f, 21));
	assert_null(f->vr.desc);
	assert_null(f->vr.gmem);
	check_inert(&f->vr, f->iov);
	vring_unpop(&f->vr, 1);
	assert_int_equal(vring_base(&f->vr), fake_base(f, 21));
	assert_int_equal(fake_used_idx(f), 21);
	vring_stop(&f->vr);
	assert_int_equal(vring_base(&f->vr), fake_base(f, 21));
	fake_free(f);
}

static void test_stop(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_stop(fake_formats[i]);
}

/* Breaking lasts until the ring is started anew; what was popped goes back. */
static void check_broken_until_restart(uint64_t format)
{
	struct fakering *f = fake_new(4, 0, format);
	struct vring_chain chain;

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
	fake_start(f, 0);
	fake_offer(f, 0);
	assert_int_equal(fake_pop(f, &chain), 1);
	fake_free(f);
}

static void test_broken_until_restart(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_broken_until_restart(fake_formats[i]);
}

/* The largest ring: the last slots and the words behind them. */
static void check_largest_ring(uint64_t format)
{
	struct fakering *f =
		fake_new(VRING_MAX_SIZE, 0x7ffe, format | bit64(VIRTIO_F_EVENT_IDX_BIT));
	struct vring_chain chain;

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
	if (f->packed)
		assert_int_equal(fake_device_event(f),
				 VRING_PACKED_EVENT_F_DESC << 16 | (0xfffe - 0x8000));
	else
		assert_int_equal(fake_avail_event(f), 0xfffe);
	fake_free(f);
}

static void test_largest_ring(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++)
		check_largest_ring(fake_formats[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_used_elements),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_broken_until_restart),
		cmocka_unit_test(test_largest_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
