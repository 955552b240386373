// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_reset_event.c - vsock/reset_event.c: the event waits for a buffer that holds it,
 * the guest knows of it when it gives another one, and a broken ring is let go. Over
 * both ring formats.
 */
#include <errno.h>
#include <string.h>

#include "unit.h"

#include "fakering.h"
#include "vsock/reset_event.h"
#include "vsock/vsock_spec.h"

#define RING 8u
#define UNTOUCHED 0x5a

struct rig {
	struct fakering *f;
	struct reset_event event;
	bool notify;
};

static void rig_init(struct rig *rig, uint64_t features)
{
	*rig = (struct rig){ .f = fake_new(RING, 0, features) };
	rig->event.ring = &rig->f->vr;
	rig->event.state = RESET_EVENT_OWED;
	memset(rig->f->gmem.regions[0].hva, UNTOUCHED, FAKE_REGION_BYTES);
}

static void give(struct rig *rig, uint16_t head, uint32_t bytes, uint16_t flags)
{
	struct fake_desc desc = { FAKE_A + head * 64u, bytes, flags, 0 };

	fake_set(rig->f, head, desc);
	fake_avail_slot(rig->f, head);
	fake_avail_show(rig->f);
}

static int run(struct rig *rig)
{
	return reset_event_run(&rig->event, rig->f->iov, &rig->notify);
}

/* The little-endian id in the buffer of @head. */
static uint32_t seen(const struct rig *rig, uint16_t head)
{
	return le32_load(rig->f->gmem.regions[0].hva + head * 64u);
}

static void test_nothing_to_do(void **state)
{
	struct reset_event none = { .state = RESET_EVENT_OWED };
	struct rig rig;

	(void)state;
	rig.notify = true;
	assert_int_equal(reset_event_run(&none, NULL, &rig.notify), 0);
	assert_false(rig.notify);
	assert_int_equal(none.state, RESET_EVENT_OWED);
	rig_init(&rig, 0);
	rig.event.state = RESET_EVENT_NONE;
	give(&rig, 0, 8, F_WRITE);
	assert_int_equal(run(&rig), 0);
	assert_int_equal(fake_used_idx(rig.f), 0);
	fake_free(rig.f);
}

static void test_shown_then_known(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++) {
		struct rig rig;

		rig_init(&rig, fake_formats[i]);
		assert_int_equal(run(&rig), 0);
		assert_int_equal(rig.event.state, RESET_EVENT_OWED);
		give(&rig, 0, 8, F_WRITE);
		give(&rig, 1, 8, F_WRITE);
		assert_int_equal(run(&rig), 0);
		assert_true(rig.notify);
		assert_int_equal(rig.event.state, RESET_EVENT_SHOWN);
		assert_int_equal(rig.event.left, 1);
		assert_int_equal(seen(&rig, 0), VSOCK_EVENT_TRANSPORT_RESET);
		assert_int_equal(fake_used_idx(rig.f), 1);
		/* one that was there before proves nothing */
		assert_int_equal(run(&rig), 0);
		assert_false(rig.notify);
		assert_int_equal(rig.event.state, RESET_EVENT_SHOWN);
		give(&rig, 2, 8, F_WRITE);
		assert_int_equal(run(&rig), 0);
		assert_int_equal(rig.event.state, RESET_EVENT_NONE);
		assert_int_equal(fake_used_idx(rig.f), 1);
		fake_free(rig.f);
	}
}

/* Too small, or not writable: given back empty. */
static void test_buffers_that_do_not_hold_it(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++) {
		struct rig rig;

		rig_init(&rig, fake_formats[i]);
		give(&rig, 0, VSOCK_EVENT_BYTES - 1, F_WRITE);
		give(&rig, 1, 8, 0);
		assert_int_equal(run(&rig), 0);
		assert_int_equal(rig.event.state, RESET_EVENT_OWED);
		assert_int_equal(fake_used_idx(rig.f), 2);
		assert_int_equal(seen(&rig, 0), UNTOUCHED * UINT32_C(0x01010101));
		give(&rig, 2, VSOCK_EVENT_BYTES, F_WRITE);
		assert_int_equal(run(&rig), 0);
		assert_int_equal(rig.event.state, RESET_EVENT_SHOWN);
		assert_int_equal(seen(&rig, 2), VSOCK_EVENT_TRANSPORT_RESET);
		fake_free(rig.f);
	}
}

static void test_broken_ring(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(fake_formats); i++) {
		struct rig rig;
		struct fake_desc outside = { FAKE_HOLE, 8, F_WRITE, 0 };

		rig_init(&rig, fake_formats[i]);
		fake_set(rig.f, 0, outside);
		fake_avail_slot(rig.f, 0);
		fake_avail_show(rig.f);
		assert_int_equal(run(&rig), -EPROTO);
		assert_null(rig.event.ring);
		assert_int_equal(rig.event.state, RESET_EVENT_OWED);
		assert_int_equal(run(&rig), 0);
		fake_free(rig.f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_to_do),
		cmocka_unit_test(test_shown_then_known),
		cmocka_unit_test(test_buffers_that_do_not_hold_it),
		cmocka_unit_test(test_broken_ring),
	};

	return cmocka_run_group_tests_name("reset_event", tests, NULL, NULL);
}
