// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_rx_fill.c - vsock/rx_fill.c: a burst is bounded by buffers taken, useful
 * or not, shares the ring's kicks with whoever fills next, and puts bytes right
 * into buffers of any shape.
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

		assert_int_equal(rx_emit_bytes(&fill, &rw, &payload, 4, UINT32_MAX, &credit), 0);
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
	assert_int_equal(rx_emit_bytes(&fill, &rw, &payload, 10000, UINT32_MAX, &credit),
			 BUDGET * 100);
	assert_int_equal(burst(f, &fill), BUDGET);
	assert_int_equal(payload.left, 10000 - BUDGET * 100);
	free(piece.iov_base);
	fake_free(f);
}

#define SHAPE_BYTES 144u /* each shape below together */
#define SHAPE_PAYLOAD (SHAPE_BYTES - VSOCK_HDR_BYTES)

/* A ring with one buffer, its pieces apart from each other. */
static struct fakering *ring_of_shape(const uint32_t *pieces)
{
	struct fakering *f = fake_new(RING, 0, 0);

	for (uint16_t i = 0; pieces[i] != 0; i++) {
		uint16_t next = pieces[i + 1] != 0 ? F_NEXT : 0;

		fake_set(f, i,
			 (struct fake_desc){ FAKE_A + i * 1024u, pieces[i],
					     (uint16_t)(F_WRITE | next), (uint16_t)(i + 1) });
	}
	fake_avail_slot(f, 0);
	fake_avail_show(f);
	return f;
}

/* The driver finds a header and the pattern in the buffer. */
static void check_shape(struct fakering *f, const uint32_t *pieces)
{
	uint8_t got[SHAPE_BYTES];
	size_t at = 0;
	struct pkt pkt;

	for (size_t i = 0; pieces[i] != 0; i++) {
		struct iovec iov;

		assert_int_equal(gmem_iov(&f->gmem, &(uint32_t){ 0 }, FAKE_A + i * 1024u, pieces[i],
					  &iov, 1),
				 1);
		memcpy(got + at, iov.iov_base, pieces[i]);
		at += pieces[i];
	}
	pkt_decode(&pkt, got);
	assert_int_equal(pkt.len, SHAPE_PAYLOAD);
	assert_int_equal(pkt.op, VSOCK_OP_RW);
	for (size_t i = 0; i < SHAPE_PAYLOAD; i++)
		assert_int_equal(got[VSOCK_HDR_BYTES + i], (uint8_t)(i + 1));
}

static void test_any_shape(void **state)
{
	static const uint32_t shapes[][5] = {
		{ 144 },        { 44, 100 },     { 43, 101 },      { 45, 99 },
		{ 60, 84 },     { 20, 24, 100 }, { 44, 50, 50 },   { 44, 1, 99 },
		{ 20, 30, 94 }, { 143, 1 },      { 1, 1, 1, 141 },
	};
	uint8_t pattern[SHAPE_PAYLOAD];

	(void)state;
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i + 1);
	for (size_t i = 0; i < array_size(shapes); i++) {
		struct fakering *f = ring_of_shape(shapes[i]);
		struct rx_fill fill = rx_fill_begin(&f->vr, &scratch, BUDGET);
		struct credit_out credit = { .buf_alloc = 1u << 20 };
		struct iovec piece = { pattern, sizeof(pattern) };
		struct iov_cursor payload = iov_begin(&piece, 1);

		assert_int_equal(rx_emit_bytes(&fill, &rw, &payload, 1000, UINT32_MAX, &credit),
				 SHAPE_PAYLOAD);
		check_shape(f, shapes[i]);
		fake_free(f);
	}
}

static void test_read_into_any_shape(void **state)
{
	static const uint32_t shapes[][5] = {
		{ 144 }, { 44, 100 }, { 43, 101 }, { 44, 50, 50 }, { 20, 30, 94 }, { 1, 1, 1, 141 },
	};

	(void)state;
	for (size_t i = 0; i < array_size(shapes); i++) {
		struct fakering *f = ring_of_shape(shapes[i]);
		struct rx_fill fill = rx_fill_begin(&f->vr, &scratch, BUDGET);
		struct credit_out credit = { .buf_alloc = 1u << 20 };
		struct rx_slots slots;
		uint8_t next = 0;

		assert_true(rx_take_slots(&fill, &rw, 1000, 10, &slots));
		assert_int_equal(slots.count, 1);
		for (size_t k = 0; k < slots.pieces; k++) {
			uint8_t *to = scratch.rx_pieces[k].iov_base;

			for (size_t b = 0; b < scratch.rx_pieces[k].iov_len; b++)
				to[b] = ++next;
		}
		assert_int_equal(next, SHAPE_PAYLOAD);
		assert_int_equal(rx_commit_slots(&fill, &rw, &slots, SHAPE_PAYLOAD, &credit), 1);
		check_shape(f, shapes[i]);
		fake_free(f);
	}
}

/* Payload and flags of the packet in buffer @i of ring_of(). */
static uint32_t packet_flags(struct fakering *f, uint32_t i, uint32_t bytes)
{
	struct pkt pkt;

	pkt_decode(&pkt, gmem_from_gpa(&f->gmem, FAKE_A + i * 1024u, VSOCK_HDR_BYTES));
	assert_int_equal(pkt.len, bytes);
	return pkt.flags;
}

static void test_flags_on_the_last_packet(void **state)
{
	static const struct pkt end = { .type = 2, .op = VSOCK_OP_RW, .flags = 3 };
	struct fakering *f = ring_of(144);
	struct rx_fill fill = rx_fill_begin(&f->vr, &scratch, RING);
	struct credit_out credit = { .buf_alloc = 1u << 20 };
	struct iovec piece = { calloc(1, 500), 500 };
	struct iov_cursor payload = iov_begin(&piece, 1);
	struct rx_slots slots;

	(void)state;
	assert_int_equal(rx_emit_bytes(&fill, &end, &payload, 250, UINT32_MAX, &credit), 250);
	assert_int_equal(packet_flags(f, 0, 100), 0);
	assert_int_equal(packet_flags(f, 1, 100), 0);
	assert_int_equal(packet_flags(f, 2, 50), 3);
	/* not the end of what was to be sent */
	assert_int_equal(rx_emit_bytes(&fill, &end, &payload, 250, 2, &credit), 200);
	assert_int_equal(packet_flags(f, 3, 100), 0);
	assert_int_equal(packet_flags(f, 4, 100), 0);
	assert_true(rx_take_slots(&fill, &end, 300, 10, &slots));
	assert_int_equal(rx_commit_slots(&fill, &end, &slots, 200, &credit), 2);
	assert_int_equal(packet_flags(f, 5, 100), 0);
	assert_int_equal(packet_flags(f, 6, 100), 3);
	free(piece.iov_base);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget_of_useless_buffers),
		cmocka_unit_test(test_budget_of_short_buffers_for_control),
		cmocka_unit_test(test_budget_of_good_buffers),
		cmocka_unit_test(test_any_shape),
		cmocka_unit_test(test_read_into_any_shape),
		cmocka_unit_test(test_flags_on_the_last_packet),
	};

	return cmocka_run_group_tests_name("rx_fill", tests, NULL, NULL);
}
