// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rx_fill.h - one burst of packets into a guest's RX ring.
 *
 * Whoever fills (the guest's owner, or a sibling's owner) holds the guest's
 * lock, begins a fill with its own scratch memory, emits packets, publishes and
 * notifies the driver if it wants that. Pure.
 */
#ifndef VSOCK_RX_FILL_H
#define VSOCK_RX_FILL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "virtio/iov.h"
#include "virtio/vring.h"
#include "vsock/credit.h"
#include "vsock/pkt.h"
#include "vsock/scratch.h"
#include "vsock/tap.h"

/** A burst in progress; lives on the filler's stack. */
struct rx_fill {
	struct vring *ring;      /* NULL: the guest is not running */
	struct scratch *scratch; /* the filler's thread's */
	uint32_t packets_left;   /* budget of this burst */
	struct taps *taps;       /* NULL: nobody looks at the packets */
	bool starved;            /* the ring has no buffer left */
	uint32_t signal;         /* rings, as bits: the driver wants to be told of what was used */
};

#define RX_BUDGET_PACKETS 256u /* as Linux vhost: VHOST_VSOCK_PKT_WEIGHT */

/* Room for what a sender's turn may take; the owner is woken for the rest. */
#define RX_BUDGET_SIBLING 1024u

/** Begin; @ring may be NULL, then nothing can be emitted. */
struct rx_fill rx_fill_begin(struct vring *ring, struct scratch *scratch, uint32_t budget) must_use;

/**
 * rx_fill_publish() - Make what was emitted visible; the burst may go on
 *
 * When buffers ran out, asks the driver for a kick; if buffers came meanwhile
 * the fill is not starved any more. fill->signal tells at the end whether the
 * guest must be notified.
 */
void rx_fill_publish(struct rx_fill *fill);

/** Whether another packet may be emitted in this burst. */
static inline bool rx_fill_room(const struct rx_fill *fill)
{
	return !fill->starved && fill->packets_left > 0;
}

/** Emit a packet without payload. Return: false when there was no room. */
bool rx_emit(struct rx_fill *fill, const struct pkt *pkt) must_use;

/**
 * rx_emit_bytes() - Copy payload out as one packet per RX buffer
 * @pkt:     header; len is set for each piece, and the piece that ends @max
 *           bytes has the flags
 * @payload: bytes to send; advances by what was sent
 * @max:     at most this many bytes
 * @max_packets: and this many packets
 * @credit:  told of each packet
 *
 * Return: bytes sent; 0 when there was no room
 */
uint32_t rx_emit_bytes(struct rx_fill *fill, const struct pkt *pkt, struct iov_cursor *payload,
		       uint32_t max, uint32_t max_packets, struct credit_out *credit);

/**
 * rx_take_slots() - Take RX buffers
 * @pkt:         header of the packets to come; a buffer without room for
 *               payload is used up by a credit update of the same connection
 * @max_bytes:   stop when this much payload fits
 * @max_packets: and at this many buffers
 * @slots:       output; the payload areas together hold at most @max_bytes
 *
 * Return: whether there is at least one slot
 */
bool rx_take_slots(struct rx_fill *fill, const struct pkt *pkt, uint32_t max_bytes,
		   uint32_t max_packets, struct rx_slots *slots) must_use;

/**
 * rx_commit_slots() - Send the first @bytes of payload that were read
 * @pkt:    header; len is set for each buffer, and the last one has the flags
 * @bytes:  0: all slots go back to the ring, as do those that are not needed
 * @credit: told of each packet
 *
 * Return: slots used
 */
uint32_t rx_commit_slots(struct rx_fill *fill, const struct pkt *pkt, struct rx_slots *slots,
			 uint32_t bytes, struct credit_out *credit);

#endif
