// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rx_fill.c - packets into an RX ring: any buffer shape, any split. Pure.
 *
 * A buffer too small for a header is given back with length 0: the driver
 * wasted it. A buffer with room for a header only cannot carry bytes; when
 * bytes are to be sent it is used up by a credit update, which is always true.
 */
#include "vsock/rx_fill.h"

#include <errno.h>

struct rx_fill rx_fill_begin(struct vring *ring, struct scratch *scratch, uint32_t budget)
{
	return (struct rx_fill){
		.ring = ring,
		.scratch = scratch,
		.packets_left = budget,
		.starved = ring == NULL,
	};
}

void rx_fill_publish(struct rx_fill *fill)
{
	if (fill->ring == NULL)
		return;
	if (vring_publish(fill->ring))
		fill->notify = true;
	if (fill->starved && vring_enable_kick(fill->ring))
		fill->starved = false;
}

/*
 * Take one buffer with room for a header; its pieces are stored from
 * scratch->rx_chains[*at] on. Unusable ones are given back on the way as long
 * as @first: later ones must not overtake slots that are not pushed yet.
 */
static bool take_slot(struct rx_fill *fill, size_t *at, bool first, struct rx_slot *slot)
{
	struct iovec *iov = fill->scratch->rx_chains + *at;
	struct vring_chain chain;

	while (rx_fill_room(fill)) {
		int got = vring_pop(fill->ring, &chain, iov, VRING_MAX_PIECES - *at);

		if (got != 1) {
			fill->starved = got != -ENOBUFS;
			return false;
		}
		if (chain.writable_bytes >= VSOCK_HDR_BYTES) {
			uint64_t room = chain.writable_bytes - VSOCK_HDR_BYTES;

			slot->head = chain.head;
			slot->header = iov_begin(iov + chain.readable, chain.writable);
			slot->room = room < VSOCK_MAX_PAYLOAD ? (uint32_t)room : VSOCK_MAX_PAYLOAD;
			*at += chain.readable + chain.writable;
			return true;
		}
		if (!first) {
			vring_unpop(fill->ring, 1);
			return false;
		}
		vring_push(fill->ring, chain.head, 0);
		fill->packets_left--;
	}
	return false;
}

/* Write the header and give the buffer to the driver. */
static void push_slot(struct rx_fill *fill, struct rx_slot *slot,
		      const uint8_t header[VSOCK_HDR_BYTES], uint32_t payload_bytes)
{
	iov_copy_in(&slot->header, header, VSOCK_HDR_BYTES);
	vring_push(fill->ring, slot->head, VSOCK_HDR_BYTES + payload_bytes);
	fill->packets_left--;
}

bool rx_emit(struct rx_fill *fill, const struct pkt *pkt)
{
	uint8_t header[VSOCK_HDR_BYTES];
	struct rx_slot slot;
	size_t at = 0;

	if (!take_slot(fill, &at, true, &slot))
		return false;
	pkt_encode(header, pkt);
	push_slot(fill, &slot, header, 0);
	return true;
}

static void use_up_slot(struct rx_fill *fill, const struct pkt *pkt, struct rx_slot *slot)
{
	uint8_t header[VSOCK_HDR_BYTES];
	struct pkt update = *pkt;

	update.op = VSOCK_OP_CREDIT_UPDATE;
	update.len = 0;
	update.flags = 0;
	pkt_encode(header, &update);
	push_slot(fill, slot, header, 0);
}

uint32_t rx_emit_bytes(struct rx_fill *fill, const struct pkt *pkt, struct iov_cursor *payload,
		       uint32_t max, struct credit_out *credit)
{
	uint8_t header[VSOCK_HDR_BYTES];
	uint32_t sent = 0;

	pkt_encode(header, pkt);
	while (sent < max && credit_out_packets(credit) > 0) {
		struct rx_slot slot;
		struct iov_cursor room;
		uint32_t part;
		size_t at = 0;

		if (!take_slot(fill, &at, true, &slot))
			break;
		if (slot.room == 0) {
			use_up_slot(fill, pkt, &slot);
			continue;
		}
		part = min_u32(slot.room, max - sent);
		room = slot.header;
		iov_advance(&room, VSOCK_HDR_BYTES);
		iov_copy(&room, payload, part);
		pkt_patch_len(header, part);
		push_slot(fill, &slot, header, part);
		credit_out_sent(credit, part);
		sent += part;
	}
	return sent;
}

/* Add the slot's payload area, at most @max bytes of it, to the pieces to read into. */
static void slot_pieces(struct rx_fill *fill, struct rx_slots *slots, struct rx_slot *slot,
			uint32_t max)
{
	struct iov_cursor room = slot->header;
	size_t before;

	iov_advance(&room, VSOCK_HDR_BYTES);
	before = room.left;
	slots->pieces +=
		iov_slice(&room, min_u32(slot->room, max), fill->scratch->rx_pieces + slots->pieces,
			  ENDPOINT_MAX_PIECES - slots->pieces);
	slot->room = (uint32_t)(before - room.left);
}

bool rx_take_slots(struct rx_fill *fill, const struct pkt *pkt, uint32_t max_bytes,
		   uint32_t max_packets, struct rx_slots *slots)
{
	uint32_t limit = min_u32(min_u32(max_packets, RX_MAX_SLOTS), fill->packets_left);
	uint32_t bytes = 0;
	size_t at = 0;

	slots->count = 0;
	slots->pieces = 0;
	while (slots->count < limit && bytes < max_bytes && slots->pieces < ENDPOINT_MAX_PIECES) {
		struct rx_slot *slot = &slots->slot[slots->count];

		if (!take_slot(fill, &at, slots->count == 0, slot))
			break;
		if (slot->room == 0 && slots->count > 0) {
			vring_unpop(fill->ring, 1);
			break;
		}
		if (slot->room == 0) {
			use_up_slot(fill, pkt, slot);
			at = 0;
			continue;
		}
		slot_pieces(fill, slots, slot, max_bytes - bytes);
		bytes += slot->room;
		slots->count++;
	}
	return slots->count > 0;
}

uint32_t rx_commit_slots(struct rx_fill *fill, const struct pkt *pkt, struct rx_slots *slots,
			 uint32_t bytes, struct credit_out *credit)
{
	uint8_t header[VSOCK_HDR_BYTES];
	uint32_t used = 0;

	pkt_encode(header, pkt);
	while (bytes > 0 && used < slots->count) {
		struct rx_slot *slot = &slots->slot[used++];
		uint32_t part = min_u32(slot->room, bytes);

		pkt_patch_len(header, part);
		push_slot(fill, slot, header, part);
		credit_out_sent(credit, part);
		bytes -= part;
	}
	if (used < slots->count)
		vring_unpop(fill->ring, (uint16_t)(slots->count - used));
	return used;
}
