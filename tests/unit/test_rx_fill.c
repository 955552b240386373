// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_rx_fill.c - vsock/rx_fill.c: a burst is bounded by buffers taken, useful
 * or not, and shares the ring's kicks with whoever fills next.
 */
#include <string.h>

#include "unit.h"

#include "fakering.h"
#include "vsock/rx_fill.h"

#define RING 64u
#define BUDGET 8u

static struct scratch scratch;

/* A ring full of buffers of @bytes each. */
static struct fakering *ring_of(uint32_t bytes)
{
	struct fakering *f = fake_new(RING, 0, 0);

	for (uint16_t i = 0; i < RING; i++) {
		fake_set(f, i, (struct fake_desc){ FAKE_A + i * 1024u, bytes, F_WRITE, 0 });
		fake_avail_slot(f, i);
	}
	fake_avail_show(f);
	return f;
}

static const struct pkt rw = { .src_cid = 2, .dst_cid = 3, .type = 1, .op = VSOCK_OP_RW };

/* Buffers given back by this burst. */
static uint16_t burst(struct fakering *f, struct rx_fill *fill)
{
	rx_fill_publish(fill);
	return fake_used_idx(f);
}

static void test_budget_of_useless_buffers(void **state)
{
	static const uint32_t sizes[] = { 1, 43, 44 };

	(void)state;
	for (size_t i = 0; i < array_size(sizes); i++) {
		struct fakering *f = ring_of(sizes[i]);
		struct rx_fill fill = rx_fill_begin(&f->vr, &scratch, BUDGET);
		struct credit_out credit = { .buf_alloc = 1u << 20 };
		struct iovec piece = { (uint8_t[4]){ 0 }, 4 };
		struct iov_cursor payload = iov_begin(&piece, 1);
		struct rx_slots slots;

		assert_int_equal(rx_emit_bytes(&fill, &rw, &payload, 4, &credit), 0);
		assert_int_equal(burst(f, &fill), BUDGET);
		assert_false(fill.starved);
		assert_false(rx_fill_room(&fill));
		fill = rx_fill_begin(&f->vr, &scratch, BUDGET);
		assert_false(rx_take_slots(&fill, &rw, 4, 4, &slots));
		assert_int_equal(burst(f, &fill), 2 * BUDGET);
		fake_free(f);
	}
}

static void test_budget_of_short_buffers_for_control(void **state)
{
	struct fakering *f = ring_of(20);
	struct rx_fill fill = rx_fill_begin(&f->vr, &scratch, BUDGET);

	(void)state;
	assert_false(rx_emit(&fill, &rw));
	assert_int_equal(burst(f, &fill), BUDGET);
	assert_false(fill.starved);
	fake_free(f);
}

static void test_budget_of_good_buffers(void **state)
{
	struct fakering *f = ring_of(144);
	struct rx_fill fill = rx_fill_begin(&f->vr, &scratch, BUDGET);
	struct credit_out credit = { .buf_alloc = 1u << 20 };
	struct iovec piece = { calloc(1, 10000), 10000 };
	struct iov_cursor payload = iov_begin(&piece, 1);

	(void)state;
	assert_int_equal(rx_emit_bytes(&fill, &rw, &payload, 10000, &credit), BUDGET * 100);
	assert_int_equal(burst(f, &fill), BUDGET);
	assert_int_equal(payload.left, 10000 - BUDGET * 100);
	free(piece.iov_base);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget_of_useless_buffers),
		cmocka_unit_test(test_budget_of_short_buffers_for_control),
		cmocka_unit_test(test_budget_of_good_buffers),
	};

	return cmocka_run_group_tests_name("rx_fill", tests, NULL, NULL);
}
