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
#include <string.h>

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
		fill->signal |= 1u << VSOCK_RING_RX;
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
			slot->iov = iov + chain.readable;
			slot->pieces = chain.writable;
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

static cold_path void scatter_header(const struct rx_slot *slot, const uint8_t *header)
{
	struct iov_cursor to = iov_begin(slot->iov, slot->pieces);

	iov_copy_in(&to, header, VSOCK_HDR_BYTES);
}

static cold_path void show_slot(struct rx_fill *fill, const struct rx_slot *slot,
				const uint8_t header[VSOCK_HDR_BYTES], uint32_t payload_bytes)
{
	struct iov_cursor payload = iov_begin(slot->iov, slot->pieces);

	iov_advance(&payload, VSOCK_HDR_BYTES);
	taps_show(fill->taps, header, payload, payload_bytes);
}

/* Write the header and give the buffer to the driver. */
static void push_slot(struct rx_fill *fill, const struct rx_slot *slot,
		      const uint8_t header[VSOCK_HDR_BYTES], uint32_t payload_bytes)
{
	if (likely(slot->iov->iov_len >= VSOCK_HDR_BYTES))
		memcpy(slot->iov->iov_base, header, VSOCK_HDR_BYTES);
	else
		scatter_header(slot, header);
	vring_wrote(fill->ring, slot->iov, slot->pieces, VSOCK_HDR_BYTES + payload_bytes);
	if (unlikely(fill->taps != NULL))
		show_slot(fill, slot, header, payload_bytes);
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

static void use_up_slot(struct rx_fill *fill, const struct pkt *pkt, const struct rx_slot *slot)
{
	uint8_t header[VSOCK_HDR_BYTES];
	struct pkt update = *pkt;

	update.op = VSOCK_OP_CREDIT_UPDATE;
	update.len = 0;
	update.flags = 0;
	pkt_encode(header, &update);
	push_slot(fill, slot, header, 0);
}

/*
 * The slot's payload area as pieces, at most @limit bytes and @max_pieces of it.
 * Nearly every buffer of every driver is one piece, or a header and one piece.
 * Return: pieces; *@bytes: how many they hold together
 */
static size_t slot_payload(const struct rx_slot *slot, uint32_t limit, struct iovec *out,
			   size_t max_pieces, uint32_t *bytes)
{
	const struct iovec *piece = slot->iov;
	size_t skip = VSOCK_HDR_BYTES;
	struct iov_cursor cursor;
	size_t count;

	*bytes = min_u32(slot->room, limit);
	if (piece->iov_len == skip && slot->pieces > 1) {
		piece++;
		skip = 0;
	}
	if (likely(piece->iov_len >= skip + *bytes)) {
		out->iov_base = (uint8_t *)piece->iov_base + skip;
		out->iov_len = *bytes;
		return 1;
	}
	cursor = iov_begin(slot->iov, slot->pieces);
	iov_advance(&cursor, VSOCK_HDR_BYTES);
	limit = *bytes;
	*bytes = (uint32_t)cursor.left;
	count = iov_slice(&cursor, limit, out, max_pieces);
	*bytes -= (uint32_t)cursor.left;
	return count;
}

uint32_t rx_emit_bytes(struct rx_fill *fill, const struct pkt *pkt, struct iov_cursor *payload,
		       uint32_t max, uint32_t max_packets, struct credit_out *credit)
{
	uint8_t header[VSOCK_HDR_BYTES];
	uint32_t sent = 0;

	pkt_encode(header, pkt);
	while (sent < max && max_packets > 0) {
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
		room.iov = fill->scratch->rx_pieces;
		room.count = slot_payload(&slot, max - sent, fill->scratch->rx_pieces,
					  ENDPOINT_MAX_PIECES, &part);
		room.offset = 0;
		room.left = part;
		iov_copy(&room, payload, part);
		sent += part;
		max_packets--;
		pkt_patch_len(header, part);
		if (unlikely(pkt->flags != 0))
			pkt_patch_flags(header, sent == max ? pkt->flags : 0);
		push_slot(fill, &slot, header, part);
		credit_out_sent(credit, part);
	}
	return sent;
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
		slots->pieces += slot_payload(slot, max_bytes - bytes,
					      fill->scratch->rx_pieces + slots->pieces,
					      ENDPOINT_MAX_PIECES - slots->pieces, &slot->room);
		bytes += slot->room;
		slots->count++;
	}
	return slots->count > 0;
}

/* A read that failed may have left bytes in buffers that nobody gets to see. */
static cold_path void log_unseen(const struct vring *ring, const struct rx_slots *slots)
{
	for (uint32_t i = 0; i < slots->count; i++) {
		const struct rx_slot *slot = &slots->slot[i];

		vring_log_pieces(ring, slot->iov, slot->pieces, VSOCK_HDR_BYTES + slot->room);
	}
}

uint32_t rx_commit_slots(struct rx_fill *fill, const struct pkt *pkt, struct rx_slots *slots,
			 uint32_t bytes, struct credit_out *credit)
{
	uint8_t header[VSOCK_HDR_BYTES];
	uint32_t used = 0;

	if (unlikely(fill->ring->log != NULL && bytes == 0))
		log_unseen(fill->ring, slots);
	pkt_encode(header, pkt);
	while (bytes > 0 && used < slots->count) {
		const struct rx_slot *slot = &slots->slot[used++];
		uint32_t part = min_u32(slot->room, bytes);

		bytes -= part;
		pkt_patch_len(header, part);
		if (unlikely(pkt->flags != 0))
			pkt_patch_flags(header, bytes == 0 ? pkt->flags : 0);
		push_slot(fill, slot, header, part);
		credit_out_sent(credit, part);
	}
	if (used < slots->count)
		vring_unpop(fill->ring, (uint16_t)(slots->count - used));
	return used;
}
