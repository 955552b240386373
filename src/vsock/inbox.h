// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * inbox.h - what sibling guests have sent to one guest: the flows, what could
 * not be put into its RX ring yet, and the rules that bound it.
 *
 * Theory of operation
 *
 * A sibling connection is passed through, not terminated: both guests' kernels
 * keep its state, and credit stays end to end. The inbox of guest B holds one
 * record per flow and direction (A to B). A packet from A is copied straight
 * from A's memory into B's RX ring, split to B's buffers. What does not fit is
 * kept: bytes in the flow's buffer, everything else as a bit, so nothing but
 * bytes can pile up. Bytes are bounded because the credit A is shown is clamped
 * to A's window: if more piles up, A cheats, and the flow is reset.
 *
 * Both directions' records are made when REQUEST passes, the sender's own
 * first, so that a guest that goes away finds every flow in its sibling's
 * inbox.
 *
 * Locking: an inbox, and the RX ring it fills, are touched by the guest's owner
 * and by siblings' owners, always under the lock of the guest they belong to.
 * No thread ever holds two of these locks.
 */
#ifndef VSOCK_INBOX_H
#define VSOCK_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "vsock/credit.h"
#include "vsock/pkt.h"

#define INBOX_MAX_FLOWS 4096u
#define INBOX_BUCKETS 64u

struct rx_fill; /* rx_fill.h */
struct iov_cursor;

/** One direction of a connection between siblings, kept by its receiver. */
struct inbox_flow {
	uint64_t src_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t window;    /* bytes the sender may have waiting here */
	uint32_t buf_alloc; /* of the sender, as last said and clamped */
	uint32_t fwd_cnt;
	uint8_t owes;       /* CONN_OWES_* for the receiving guest */
	uint8_t shutdown;   /* flags of the SHUTDOWN that is owed */
	bool replaced;      /* an RST for the flow's predecessor goes first */
	struct credit_out out; /* towards the receiving guest */
	struct buf bytes;   /* not yet in its RX ring */
	struct inbox_flow *hash_next;
	struct list all;
	struct list ready;  /* on inbox.ready while something waits */
};

struct inbox {
	struct inbox_flow *buckets[INBOX_BUCKETS];
	struct list all;
	struct list ready;
	uint32_t count;
	uint64_t guest_cid; /* the receiver */
};

void inbox_init(struct inbox *inbox, uint64_t guest_cid);

/** Forget every flow and its bytes. */
void inbox_clear(struct inbox *inbox);

/**
 * inbox_open() - Make (or renew) the record of a flow
 * @src_cid, @src_port: the sending sibling
 * @dst_port:           port of the receiving guest
 * @window:             bytes the sender may have waiting
 *
 * Return: the flow, or NULL when INBOX_MAX_FLOWS or memory is reached
 */
struct inbox_flow *inbox_open(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
			      uint32_t dst_port, uint32_t window) must_use;

/** Look up. Return: the flow, or NULL. */
struct inbox_flow *inbox_find(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
			      uint32_t dst_port) must_use;

/** Forget one flow and its bytes; NULL is legal. */
void inbox_close(struct inbox *inbox, struct inbox_flow *flow);

/**
 * inbox_deliver() - A sibling's packet for this guest
 * @flow:    its flow
 * @pkt:     its header as sent; buf_alloc already clamped
 * @payload: pkt->len bytes in the sender's memory
 * @fill:    the RX ring being filled
 *
 * Return: 0, or -ENOBUFS: more bytes than the sender had credit for (nothing
 *         was kept of this packet; the caller resets the flow)
 */
int inbox_deliver(struct inbox *inbox, struct inbox_flow *flow, const struct pkt *pkt,
		  struct iov_cursor *payload, struct rx_fill *fill) must_use;

/**
 * inbox_credit() - What the receiving guest said about its buffer for @flow
 *
 * Bytes that waited for it become ready.
 *
 * Return: false if it claims bytes it was never sent
 */
bool inbox_credit(struct inbox *inbox, struct inbox_flow *flow, uint32_t buf_alloc,
		  uint32_t fwd_cnt) must_use;

/** Owe the guest an RST for a flow and drop its bytes. */
void inbox_reset_flow(struct inbox *inbox, struct inbox_flow *flow);

/** The sibling @src_cid is gone: owe the guest an RST for each of its flows. */
void inbox_drop_source(struct inbox *inbox, uint64_t src_cid);

/** Put what waits into the ring as far as it goes. */
void inbox_drain(struct inbox *inbox, struct rx_fill *fill);

#endif
