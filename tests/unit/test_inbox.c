// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_inbox.c - vsock/inbox.c: what is kept for a receiver that takes nothing,
 * and when it is given up.
 */
#include <errno.h>
#include <string.h>

#include "unit.h"
#include "virtio/iov.h"
#include "vsock/conn.h"
#include "vsock/inbox.h"
#include "vsock/rx_fill.h"
#include "vsock/scratch.h"
#include "vsock/vsock_spec.h"

#define WINDOW 65536u
#define PROBE_MS 1280u

static uint8_t bytes[WINDOW];

struct rig {
	struct inbox inbox;
	struct quota charge;
	struct inbox_flow *flow;
	struct rx_fill fill; /* of a guest without a ring */
};

static void rig_init(struct rig *rig, uint64_t max)
{
	memset(rig, 0, sizeof(*rig));
	rig->charge = (struct quota){ .name = "charge", .max = max };
	inbox_init(&rig->inbox, 4, 1);
	rig->flow = inbox_open(&rig->inbox, 3, 1000, 80, WINDOW, &rig->charge);
	assert_non_null(rig->flow);
	rig->fill = rx_fill_begin(NULL, NULL, 0);
}

static int deliver(struct rig *rig, uint16_t op, uint32_t len)
{
	struct iovec piece = { bytes, len };
	struct iov_cursor payload = iov_begin(&piece, 1);
	struct pkt pkt = {
		.src_cid = 3,
		.dst_cid = 4,
		.src_port = 1000,
		.dst_port = 80,
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.len = len,
	};

	return inbox_deliver(&rig->inbox, rig->flow, &pkt, &payload, &rig->fill);
}

/* The sender pays for what waits, up to its quota. */
static void test_charge(void **state)
{
	struct rig rig;

	(void)state;
	rig_init(&rig, 1500);
	assert_int_equal(deliver(&rig, VSOCK_OP_RW, 1000), 0);
	assert_int_equal(quota_used(&rig.charge), 1000);
	assert_int_equal(deliver(&rig, VSOCK_OP_RW, 1000), -EDQUOT);
	inbox_reset_flow(&rig.inbox, rig.flow);
	assert_int_equal(quota_used(&rig.charge), 0);
	inbox_clear(&rig.inbox);
}

/* An ended flow is given up after its time, one that goes on never. */
static void test_ended_flow_is_given_up(void **state)
{
	struct rig rig;
	uint32_t elapsed = 0;

	(void)state;
	rig_init(&rig, WINDOW);
	assert_int_equal(deliver(&rig, VSOCK_OP_RW, 1000), 0);
	for (unsigned int i = 0; i < 100; i++)
		inbox_probe(&rig.inbox, PROBE_MS);
	assert_int_equal(quota_used(&rig.charge), 1000);
	assert_int_equal(deliver(&rig, VSOCK_OP_RST, 0), 0);
	assert_true(inbox_needs_probe(&rig.inbox));
	while (quota_used(&rig.charge) > 0 && elapsed < 10 * INBOX_STALL_MS) {
		inbox_probe(&rig.inbox, PROBE_MS);
		elapsed += PROBE_MS;
	}
	assert_in_range(elapsed, INBOX_STALL_MS, INBOX_STALL_MS + 2 * PROBE_MS);
	assert_false(inbox_needs_probe(&rig.inbox));
	/* the guest is still told */
	assert_int_equal(rig.flow->owes, CONN_OWES_RST);
	inbox_clear(&rig.inbox);
}

/* A sender whose window the receiver has: the receiver is asked until it says that it read. */
static void test_used_up_window_is_asked_for(void **state)
{
	struct rig rig;
	struct inbox_flow *flow;

	(void)state;
	rig_init(&rig, WINDOW);
	flow = rig.flow;
	inbox_begin_credit(flow, 1000);
	credit_out_sent(&flow->out, 999);
	assert_true(inbox_credit(&rig.inbox, flow, 1000, 0));
	assert_false(inbox_needs_probe(&rig.inbox));
	credit_out_sent(&flow->out, 1);
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(inbox_credit(&rig.inbox, flow, 1000, 0));
		assert_true(inbox_needs_probe(&rig.inbox));
		assert_int_equal(flow->owes, 0);
		inbox_probe(&rig.inbox, PROBE_MS);
		assert_int_equal(flow->owes, CONN_OWES_CREDIT_REQUEST);
		flow->owes = 0; /* it was sent */
	}
	assert_true(inbox_credit(&rig.inbox, flow, 1000, 1));
	assert_false(inbox_needs_probe(&rig.inbox));
	/* a window that shrinks is used up as well; a sender that has ended needs none */
	assert_true(inbox_credit(&rig.inbox, flow, 500, 1));
	assert_true(inbox_needs_probe(&rig.inbox));
	flow->shutdown = VSOCK_SHUTDOWN_SEND;
	assert_true(inbox_credit(&rig.inbox, flow, 500, 1));
	assert_false(inbox_needs_probe(&rig.inbox));
	inbox_clear(&rig.inbox);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_charge),
		cmocka_unit_test(test_ended_flow_is_given_up),
		cmocka_unit_test(test_used_up_window_is_asked_for),
	};

	return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}
