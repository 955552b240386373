// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_credit.c - vsock/credit.h against the specification's arithmetic and a
 * receiver that keeps a real queue of packets.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "rng.h"
#include "vsock/credit.h"

static void test_bytes(void **state)
{
	struct credit_out c = { .buf_alloc = 1000 };

	(void)state;
	assert_int_equal(credit_out_bytes(&c), 1000);
	credit_out_sent(&c, 400);
	assert_int_equal(credit_out_bytes(&c), 600);
	assert_true(credit_out_update(&c, 1000, 300));
	assert_int_equal(credit_out_bytes(&c), 900);
	/* the peer shrinks its buffer below what is in flight */
	assert_true(credit_out_update(&c, 50, 300));
	assert_int_equal(credit_out_bytes(&c), 0);
	assert_true(credit_out_update(&c, 150, 400));
	assert_int_equal(credit_out_bytes(&c), 150);
}

static void test_wrap(void **state)
{
	struct credit_out c = {
		.buf_alloc = 1000,
		.sent = UINT32_MAX - 99,
		.fwd_cnt = UINT32_MAX - 99,
	};

	(void)state;
	credit_out_sent(&c, 300);
	assert_int_equal(c.sent, 200);
	assert_int_equal(credit_out_bytes(&c), 700);
	assert_true(credit_out_update(&c, 1000, 100));
	assert_int_equal(credit_out_bytes(&c), 900);
	assert_int_equal(c.packets, 1);
	assert_true(credit_out_update(&c, 1000, 200));
	assert_int_equal(c.packets, 0);
}

static void test_lies(void **state)
{
	struct credit_out c = { .buf_alloc = 1000 };

	(void)state;
	credit_out_sent(&c, 100);
	assert_false(credit_out_update(&c, 1000, 101));
	assert_false(credit_out_update(&c, 1000, UINT32_MAX));
	assert_true(credit_out_update(&c, 1000, 60));
	assert_false(credit_out_update(&c, 1000, 59));
	assert_int_equal(c.fwd_cnt, 60);
}

static void test_packet_limit(void **state)
{
	struct credit_out c = { .buf_alloc = 256 * 1024 };
	uint32_t sent = 0;

	(void)state;
	while (credit_out_packets(&c) > 0) {
		credit_out_sent(&c, 1);
		sent++;
	}
	assert_int_equal(sent, 256);
	assert_int_equal(credit_out_usable(&c), 0);
	assert_true(credit_out_update(&c, 256 * 1024, sent));
	assert_int_equal(credit_out_packets(&c), 256);
	/* even a tiny buffer takes one packet */
	memset(&c, 0, sizeof(c));
	c.buf_alloc = 10;
	assert_int_equal(credit_out_packets(&c), 1);
}

/* A buffer of a GiB allows more packets than any counter of them may lose. */
static void test_a_packet_always_unread(void **state)
{
	struct credit_out c = { .buf_alloc = UINT32_C(1) << 30 };

	(void)state;
	for (uint32_t i = 0; i < 2000000; i++) {
		assert_true(credit_out_packets(&c) > 0);
		credit_out_sent(&c, 10);
		assert_true(credit_out_update(&c, c.buf_alloc, c.sent - 10));
	}
	assert_true(credit_out_update(&c, c.buf_alloc, c.sent));
	assert_int_equal(c.packets, 0);
	/* and as many as the limit allows without a word in between */
	for (uint32_t i = credit_out_packets(&c); i > 0; i--)
		credit_out_sent(&c, 1);
	assert_int_equal(credit_out_packets(&c), 0);
	assert_true(credit_out_update(&c, c.buf_alloc, c.sent));
	assert_int_equal(c.packets, 0);
	assert_true(credit_out_usable(&c) > 0);
}

static void test_sliver(void **state)
{
	struct credit_out c = { .buf_alloc = 100000 };

	(void)state;
	credit_out_sent(&c, 99000);
	assert_int_equal(credit_out_bytes(&c), 1000);
	assert_int_equal(credit_out_usable(&c), 0);
	assert_true(credit_out_update(&c, 100000, 99000));
	assert_int_equal(credit_out_usable(&c), 100000);
	/* with nothing in flight a sliver is all there will ever be */
	assert_true(credit_out_update(&c, 10, 99000));
	assert_int_equal(credit_out_usable(&c), 10);
}

static void test_receive_window(void **state)
{
	struct credit_in in = { .received = UINT32_MAX, .fwd_cnt = UINT32_MAX - 10 };

	(void)state;
	assert_int_equal(credit_in_held(&in), 10);
	assert_true(credit_in_fits(&in, 90, 100));
	assert_false(credit_in_fits(&in, 91, 100));
	assert_false(credit_in_fits(&in, UINT32_MAX, 100));
	in.received += 5;
	assert_int_equal(credit_in_held(&in), 15);
}

static void test_update_due(void **state)
{
	struct credit_in in = { 0 };

	(void)state;
	assert_false(credit_in_update_due(&in, 1000, 1000, 0));
	in.fwd_cnt = 499;
	assert_false(credit_in_update_due(&in, 1000, 1000, 0));
	in.fwd_cnt = 500;
	assert_true(credit_in_update_due(&in, 1000, 1000, 0));
	/* a guest with a smaller buffer never sends half of ours */
	in.fwd_cnt = 100;
	assert_true(credit_in_update_due(&in, 1000, 200, 0));
	assert_true(credit_in_update_due(&in, 1000, 0, 0));
}

/* What was told is never taken back, and a sender whose bytes are all handed on may send. */
static void test_withheld(void **state)
{
	struct credit_in in = { .fwd_cnt = 1000, .reported = 1000 };

	(void)state;
	assert_int_equal(credit_in_told(&in, 0), 1000);
	assert_int_equal(credit_in_told(&in, 600), 1000);
	in.fwd_cnt = 1600;
	assert_int_equal(credit_in_told(&in, 600), 1000);
	assert_false(credit_in_update_due(&in, 1000, 1000, 600));
	in.fwd_cnt = 1799;
	assert_int_equal(credit_in_told(&in, 600), 1199);
	assert_false(credit_in_update_due(&in, 1000, 1000, 600));
	in.fwd_cnt = 1800;
	assert_true(credit_in_update_due(&in, 1000, 1000, 600));
	in.reported = credit_in_told(&in, 600);
	assert_false(credit_in_update_due(&in, 1000, 1000, 600));
	assert_int_equal(credit_in_told(&in, 900), in.reported);
	assert_true(credit_in_update_due(&in, 1000, 1000, 0));
	assert_int_equal(credit_in_told(&in, 0), 1800);
}

/* A receiver as Linux keeps it: a queue of packets, consumed as a whole. */
struct receiver {
	uint32_t lengths[4096];
	uint32_t first;
	uint32_t count;
	uint32_t bytes;
	uint32_t fwd_cnt;
};

static void consume(struct receiver *r)
{
	uint32_t len = r->lengths[r->first];

	r->first = (r->first + 1) % 4096;
	r->count--;
	r->bytes -= len;
	r->fwd_cnt += len;
}

/* Never more bytes than the buffer nor more packets than the limit are queued,
 * and a sender that stopped can always go on once all was consumed. */
static void test_model(void **state)
{
	struct rng rng = rng_new();
	struct receiver r = { .fwd_cnt = (uint32_t)rng_next(&rng) };
	struct credit_out c = { .buf_alloc = 1 + (uint32_t)(rng_next(&rng) % 400000),
				.sent = r.fwd_cnt,
				.fwd_cnt = r.fwd_cnt };

	(void)state;
	for (uint32_t step = 0; step < 300000; step++) {
		uint64_t what = rng_next(&rng);
		uint32_t room = credit_out_usable(&c);

		if ((what & 3) != 0 && room > 0) {
			uint32_t len = 1 + (uint32_t)((what >> 8) % (what & 4 ? 10 : 5000));

			len = min_u32(len, room);
			credit_out_sent(&c, len);
			r.lengths[(r.first + r.count++) % 4096] = len;
			r.bytes += len;
			assert_true(r.bytes <= c.buf_alloc);
			assert_true(r.count <= credit_out_packet_limit(&c));
			assert_true(c.packets >= r.count);
		}
		while (r.count > 0 && (rng_next(&rng) & 7) == 0)
			consume(&r);
		if ((what & 0x700) == 0)
			assert_true(credit_out_update(&c, c.buf_alloc, r.fwd_cnt));
		if ((what & 0xff000) == 0) {
			while (r.count > 0)
				consume(&r);
			assert_true(credit_out_update(&c, c.buf_alloc, r.fwd_cnt));
			assert_true(credit_out_usable(&c) > 0);
			assert_int_equal(c.packets, 0);
		}
	}
	figure(300000, "steps");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_packet_limit),
		cmocka_unit_test(test_sliver),
		cmocka_unit_test(test_a_packet_always_unread),
		cmocka_unit_test(test_receive_window),
		cmocka_unit_test(test_update_due),
		cmocka_unit_test(test_withheld),
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests_name("credit", tests, NULL, NULL);
}
