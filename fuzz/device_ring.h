// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_ring.h - part of fuzz_device.c: the driver's half of a ring.
 *
 * r->desc is a table of descriptors in either format. The device sees it if the
 * ring is split; what it sees of a packed ring is r->ring, where chains of the
 * table are laid out.
 *
 * Under MemorySanitizer RX buffers hold bytes that nobody has written when the
 * device gets them, so each byte of the length it tells must be one that it
 * wrote, and one that it knew; beyond that length the buffer is as it was.
 */
#ifndef FUZZ_DEVICE_RING_H
#define FUZZ_DEVICE_RING_H

#include <string.h>

#include "base/le.h"
#include "device_world.h"

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define FUZZ_MSAN
#endif
#endif

#define PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED_BIT)
#define RX_FILL 0xa5

/* An RX buffer's content before the device has it; a header of it looks wrong. */
static inline void rx_prepare(uint8_t *memory, uint32_t bytes)
{
#ifdef FUZZ_MSAN
	memset(memory, RX_FILL, bytes);
	__msan_poison(memory, bytes);
#else
	memset(memory, RX_FILL, min_u32(44, bytes));
#endif
}

/* What the device wrote to a part of an RX buffer, and what it left alone. */
static inline void rx_check(uint8_t *memory, uint32_t written, uint32_t bytes)
{
#ifdef FUZZ_MSAN
	__msan_check_mem_is_initialized(memory, written);
	__msan_unpoison(memory + written, bytes - written);
	for (uint32_t i = written; i < bytes; i++)
		check(memory[i] == RX_FILL);
#else
	(void)memory;
	(void)written;
	(void)bytes;
#endif
}

static inline void ring_reset(struct driver_ring *r)
{
	struct vring_extent extent = vring_extent(r->size, r->packed ? PACKED : 0);

	memset(r->desc, 0, extent.desc);
	memset(r->avail, 0, extent.avail);
	memset(r->used, 0, extent.used);
	if (r->packed)
		memset(r->ring, 0, extent.desc);
	r->place = r->shown_place = r->used_place = 0;
	memset(r->chain, 0, sizeof(r->chain));
	r->avail_idx = r->shown = r->used_idx = 0;
	r->free_count = (uint16_t)r->size;
	for (uint16_t i = 0; i < r->size; i++)
		r->free[i] = i;
	r->called = false;
	r->dead = false;
}

/* What begins a packed ring: the first places, wrap counters 1. */
static inline uint32_t ring_first_base(const struct driver_ring *r)
{
	return r->packed ? VRING_PACKED_WRAP | VRING_PACKED_WRAP << 16 : 0;
}

static inline uint8_t *packed_at(const struct driver_ring *r, uint32_t place)
{
	return r->ring + 16 * (size_t)(place % r->size);
}

static inline uint32_t packed_encode(const struct driver_ring *r, uint32_t place)
{
	return place < r->size ? place | VRING_PACKED_WRAP : place - r->size;
}

static inline uint32_t packed_span(const struct driver_ring *r, uint32_t from, uint32_t to)
{
	return (to + 2 * r->size - from) % (2 * r->size);
}

/* One descriptor, hidden if it is the first of a batch. */
static inline void packed_lay(struct driver_ring *r, const uint8_t *desc, uint16_t id)
{
	uint8_t *p = packed_at(r, r->place);
	uint16_t flags = le16_load(desc + 12);

	flags |= r->place < r->size ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
	memcpy(p, desc, 12);
	le16_store(p + 12, id);
	if (r->place == r->shown_place)
		r->first_flags = flags;
	else
		le16_store(p + 14, flags);
	r->place = (r->place + 1) % (2 * r->size);
}

static inline void packed_show(struct driver_ring *r)
{
	if (r->place != r->shown_place)
		le16_store(packed_at(r, r->shown_place) + 14, r->first_flags);
	r->shown_place = r->place;
}

static inline bool packed_is_used(const struct driver_ring *r)
{
	uint16_t both = VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED;
	uint16_t flags = le16_load(packed_at(r, r->used_place) + 14) & both;

	return r->used_idx != r->shown && flags == (r->used_place < r->size ? both : 0);
}

/* Whether the device wants to be told of the places from @old on. */
static inline bool packed_kicks(const struct driver_ring *r, uint32_t old)
{
	uint32_t event = le32_load(r->used);
	uint32_t n = packed_span(r, old, r->place);

	if (event >> 16 != VRING_PACKED_EVENT_F_DESC)
		return event >> 16 == VRING_PACKED_EVENT_F_ENABLE;
	while (n-- > 0) {
		if (packed_encode(r, (old + n) % (2 * r->size)) == (event & UINT16_MAX))
			return true;
	}
	return false;
}

/** Break the ring, whatever state it is in. */
static inline void ring_break(struct driver_ring *r)
{
	static const uint8_t bad[16] = { [12] = VRING_DESC_F_INDIRECT };

	r->dead = true;
	if (r->packed) {
		packed_lay(r, bad, 0);
		packed_show(r);
	} else {
		le16_store(r->avail + 2, (uint16_t)(r->avail_idx + r->size + 1));
	}
}

/* Put the chain at @head, of @count descriptors, where the device will look. */
static inline void ring_offer(struct driver_ring *r, uint16_t head, uint8_t count)
{
	uint16_t at = head;

	if (!r->packed)
		le16_store(r->avail + 4 + 2 * (size_t)(r->avail_idx & (r->size - 1)), head);
	for (; r->packed && count > 0; count--) {
		const uint8_t *desc = r->desc + 16 * (size_t)at;

		packed_lay(r, desc, head);
		at = le16_load(desc + 14);
	}
	r->avail_idx++;
}

/** One descriptor's memory; @content NULL: for the device to write. */
struct piece {
	uint32_t bytes;
	const uint8_t *content;
};

static inline bool ring_add(struct side *s, unsigned int index, const struct piece *pieces,
			    uint8_t count)
{
	struct driver_ring *r = &s->ring[index];
	uint64_t base = index == VSOCK_RING_RX ? 0 : MAX_RING * RX_AREA;
	uint64_t area = index == VSOCK_RING_RX ? RX_AREA : TX_AREA;
	uint16_t next = 0;

	if (r->free_count < count || r->dead)
		return false;
	for (uint8_t i = count; i-- > 0;) {
		uint16_t at = r->free[--r->free_count];
		uint8_t *d = r->desc + 16 * (size_t)at;
		uint16_t flags = index == VSOCK_RING_RX ? VRING_DESC_F_WRITE : 0;

		check(pieces[i].bytes <= area);
		if (i + 1 < count)
			flags |= VRING_DESC_F_NEXT;
		le64_store(d, base + at * area);
		le32_store(d + 8, pieces[i].bytes);
		le16_store(d + 12, flags);
		le16_store(d + 14, next);
		if (pieces[i].content)
			memcpy(s->memory + base + at * area, pieces[i].content, pieces[i].bytes);
		else
			rx_prepare(s->memory + base + at * area, pieces[i].bytes);
		next = at;
	}
	r->chain[next] = count;
	ring_offer(r, next, count);
	return true;
}

static inline void ring_publish(struct side *s, unsigned int index)
{
	struct driver_ring *r = &s->ring[index];
	uint32_t old_place = r->shown_place;
	uint16_t old = r->shown;
	uint16_t event;
	bool kicks;

	if (r->dead || old == r->avail_idx)
		return;
	if (r->packed)
		packed_show(r);
	else
		le16_store(r->avail + 2, r->avail_idx);
	r->shown = r->avail_idx;
	while_publishing(s);
	if (r->packed) {
		kicks = packed_kicks(r, old_place);
	} else if (s->event_idx) {
		event = le16_load(r->used + 4 + 8 * (size_t)r->size);
		kicks = (uint16_t)(r->shown - event - 1) < (uint16_t)(r->shown - old);
	} else {
		kicks = (le16_load(r->used) & 1) == 0;
	}
	if (kicks)
		schedule_side(s);
}

static inline int packed_take(struct driver_ring *r, uint32_t *len)
{
	const uint8_t *p = packed_at(r, r->used_place);
	uint16_t head = le16_load(p + 12);

	if (!packed_is_used(r))
		return -1;
	check(head < r->size && r->chain[head] > 0);
	*len = le32_load(p + 8);
	r->used_place = (r->used_place + r->chain[head]) % (2 * r->size);
	r->used_idx++;
	return head;
}

/* The next used chain. Return: its head, or -1. */
static inline int ring_take(struct driver_ring *r, uint32_t *len)
{
	const uint8_t *e;
	uint16_t behind;
	uint32_t head;

	if (r->packed)
		return packed_take(r, len);
	e = r->used + 4 + 8 * (size_t)(r->used_idx & (r->size - 1));
	behind = (uint16_t)(le16_load(r->used + 2) - r->used_idx);
	head = le32_load(e);
	check(behind <= r->size);
	if (behind == 0)
		return -1;
	check(head < r->size && r->chain[head] > 0);
	*len = le32_load(e + 4);
	r->used_idx++;
	return (int)head;
}

/* Ask for a notification. Return: whether something came meanwhile. */
static inline bool ring_arm(struct side *s, struct driver_ring *r)
{
	uint32_t word = VRING_PACKED_EVENT_F_DESC << 16;

	if (r->packed) {
		le32_store(r->avail, s->event_idx ? word | packed_encode(r, r->used_place) : 0);
		return packed_is_used(r);
	}
	if (s->event_idx)
		le16_store(r->avail + 4 + 2 * (size_t)r->size, r->used_idx);
	return le16_load(r->used + 2) != r->used_idx;
}

static inline void ring_release(struct driver_ring *r, int head)
{
	uint16_t at = (uint16_t)head;

	for (uint8_t n = r->chain[head]; n > 0; n--) {
		r->free[r->free_count++] = at;
		at = le16_load(r->desc + 16 * (size_t)at + 14);
	}
	r->chain[head] = 0;
}

/* The bytes of a used RX buffer, in order. */
static inline uint32_t ring_read(const struct side *s, int head, uint8_t *out, uint32_t len)
{
	const struct driver_ring *r = &s->ring[VSOCK_RING_RX];
	uint16_t at = (uint16_t)head;
	uint32_t done = 0;

	for (uint8_t n = r->chain[head]; n > 0; n--) {
		const uint8_t *d = r->desc + 16 * (size_t)at;
		uint32_t part = min_u32(le32_load(d + 8), len - done);

		rx_check(s->memory + le64_load(d), part, le32_load(d + 8));
		memcpy(out + done, s->memory + le64_load(d), part);
		done += part;
		at = le16_load(d + 14);
	}
	return done;
}

#endif
