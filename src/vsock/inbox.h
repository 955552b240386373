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
 * to A's window: if more piles up, A cheats, and the flow is reset. All bytes
 * kept for A, in whatever inbox, are charged to A and bounded together.
 *
 * Both directions' records are made when REQUEST passes, the asking guest's own
 * first, so that a guest that goes away finds every flow in its sibling's
 * inbox. A guest may have asked for INBOX_MAX_FLOWS flows at a time; what
 * siblings asked for counts for them, so nobody can use up another's share.
 *
 * On seqpacket flows what is kept keeps the bounds of its messages. A receiver
 * reads whole ones only: the end of one that has begun goes past the limit on
 * packets. A message without a byte is dropped, as in conn_messages.c.
 *
 * Bytes may also wait because the receiver has too many packets queued
 * (credit.h). Older kernels volunteer no credit when they have read everything,
 * so such a flow is blocked, the guest is asked by CREDIT_REQUEST, and asked
 * again by the owner's timer (inbox_probe) until its answer lets bytes go on.
 *
 * A sender whose whole window is in the receiver's hands cannot send, and may not
 * ask either. Its flow is blocked with nothing held: the timer asks the receiver
 * for it, until the credit that is said has something left.
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
#include "base/quota.h"
#include "vsock/credit.h"
#include "vsock/messages.h"
#include "vsock/pkt.h"

#define INBOX_MAX_FLOWS 4096u
#define INBOX_BUCKETS 256u
#define INBOX_STALL_MS 60000u /* an ended flow, without one byte taken */

struct rx_fill; /* rx_fill.h */
struct iov_cursor;

/** One direction of a connection between siblings, kept by its receiver. */
struct inbox_flow {
	uint64_t src_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t window;      /* bytes the sender may have waiting here */
	struct quota *charge; /* the sender's, of all bytes kept for it */
	uint32_t buf_alloc;   /* of the sender, as last said and clamped */
	uint32_t fwd_cnt;
	uint8_t owes;          /* CONN_OWES_* for the receiving guest */
	uint8_t shutdown;      /* flags of the SHUTDOWN that is owed */
	uint8_t type;          /* VSOCK_TYPE_* */
	uint8_t replaced;      /* type of a predecessor whose RST goes first, or 0 */
	bool own;              /* the receiving guest asked for this connection */
	bool unanswered;       /* own, and the sender has not sent its RESPONSE */
	bool open;             /* the receiver took part: its credit means this flow */
	bool asked;            /* CREDIT_REQUEST sent since its credit last moved */
	uint64_t passed;       /* bytes that the sender sent */
	uint32_t stalled_at;   /* bytes held at the last probe after its end */
	uint32_t stalled_ms;   /* for how long it has been so many */
	struct credit_out out; /* towards the receiving guest */
	struct buf bytes;      /* not yet in its RX ring */
	struct messages ends;  /* of messages in bytes; a stream is one without end */
	bool partly;           /* seqpacket: a part of the first one is in the ring */
	struct inbox_flow *hash_next;
	struct list all;
	struct list ready; /* on inbox.ready or inbox.blocked while something waits */
};

/** Whether bytes wait, or the end of a message. */
static inline bool inbox_flow_waits(const struct inbox_flow *flow)
{
	return buf_length(&flow->bytes) > 0 || flow->ends.complete > 0;
}

/** Whether the receiver has all that the sender may send, and the sender may want to go on. */
static inline bool inbox_flow_is_used_up(const struct inbox_flow *flow)
{
	uint32_t in_flight = credit_out_in_flight(&flow->out);

	return in_flight > 0 && in_flight >= min_u32(flow->out.buf_alloc, flow->window) &&
	       (flow->shutdown & VSOCK_SHUTDOWN_SEND) == 0;
}

struct inbox {
	struct inbox_flow *buckets[INBOX_BUCKETS];
	struct list all;
	struct list ready;   /* flows that could be emitted if the ring had room */
	struct list blocked; /* flows whose receiver must read first */
	uint32_t count;      /* of all */
	uint32_t own_count;  /* flows the receiving guest asked for */
	bool watched;        /* the owner's timer will probe blocked flows */
	bool ending;         /* there may be ended flows whose bytes are not taken */
	bool yield;          /* host packets wait for RX buffers: keep, do not fill */
	uint64_t guest_cid;  /* the receiver */
	uint64_t key;        /* secret: guests choose ports */
};

void inbox_init(struct inbox *inbox, uint64_t guest_cid, uint64_t key);

/** Forget every flow and its bytes. */
void inbox_clear(struct inbox *inbox);

/**
 * inbox_open() - Make (or renew) the record of a flow
 * @src_cid, @src_port: the sending sibling
 * @dst_port:           port of the receiving guest
 * @window:             bytes the sender may have waiting
 * @charge:             the sender's quota of bytes kept for it, outlives the flow
 *
 * Return: the flow, whose type the caller sets, or NULL when memory is short
 */
struct inbox_flow *inbox_open(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
			      uint32_t dst_port, uint32_t window, struct quota *charge) must_use;

/** The same for a connection the receiving guest itself asks for; also NULL
 *  when it has INBOX_MAX_FLOWS already. */
struct inbox_flow *inbox_open_own(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
				  uint32_t dst_port, uint32_t window, struct quota *charge)
	must_use;

/** Look up. Return: the flow, or NULL. */
struct inbox_flow *inbox_find(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
			      uint32_t dst_port) must_use;

/** Forget one flow and its bytes; NULL is legal. */
void inbox_close(struct inbox *inbox, struct inbox_flow *flow);

/**
 * inbox_deliver() - A sibling's packet for this guest
 * @flow:    its flow
 * @pkt:     its header as sent; buf_alloc already clamped; flags may be changed
 * @payload: pkt->len bytes in the sender's memory
 * @fill:    the RX ring being filled
 *
 * Return: 0; -ENOBUFS: more bytes than the sender had credit for; -EDQUOT: more
 *         than it may have waiting anywhere; -ENOMEM (part of the packet may
 *         have been kept; the caller resets the flow)
 */
int inbox_deliver(struct inbox *inbox, struct inbox_flow *flow, struct pkt *pkt,
		  struct iov_cursor *payload, struct rx_fill *fill) must_use;

/** The receiving guest asked for @flow or answered: from now on its credit counts. */
void inbox_begin_credit(struct inbox_flow *flow, uint32_t buf_alloc);

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

/** The sender takes the flow back: an RST if the guest has seen it, else nothing. */
void inbox_withdraw(struct inbox *inbox, struct inbox_flow *flow);

/** The guest's oldest request that its sibling has not answered, or NULL. */
struct inbox_flow *inbox_oldest_unanswered(struct inbox *inbox) must_use;

/** The sibling @src_cid is gone: owe the guest an RST for each of its flows. */
void inbox_drop_source(struct inbox *inbox, uint64_t src_cid);

/** Whether inbox_probe() has something to do later. */
static inline bool inbox_needs_probe(const struct inbox *inbox)
{
	return !list_empty(&inbox->blocked) || inbox->ending;
}

/**
 * inbox_probe() - Ask the receivers of blocked flows for credit (again)
 * @elapsed_ms: since the last time, about
 *
 * A flow that its sender has ended, and whose receiver takes no byte for
 * INBOX_STALL_MS, loses its bytes: they would be charged to the sender for ever.
 */
void inbox_probe(struct inbox *inbox, uint32_t elapsed_ms);

/** Put what waits into the ring as far as it goes. */
void inbox_drain(struct inbox *inbox, struct rx_fill *fill);

#endif
