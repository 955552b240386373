// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring_packed.c - the packed format: one ring of descriptors, which the
 * driver makes available and we mark as used in place. Entered through vring.c
 * only, for a ring that runs.
 *
 * Theory of operation: trust and bounds as in vring.c.
 *
 * Places. next_avail, next_used and published are places of two laps: 0 to
 * size - 1 in laps with wrap counter 1, size to 2 * size - 1 in those with 0.
 * The difference of two places modulo 2 * size is the number of descriptors
 * between them.
 *
 * Who owns what. Descriptors from published to next_avail are ours: popped and
 * not shown as used. A chain may take only what is left of the ring, so no
 * descriptor is ever in two chains, whatever the driver's flags claim.
 *
 * Skipping. A chain of n descriptors is used by one descriptor and n - 1 that
 * are skipped. n is counted when the chain is popped and remembered in
 * vr->counts, in order of popping, because what then stands in the ring may be
 * something else. Chains are pushed in that order (as IN_ORDER promises), so
 * the oldest count belongs to the chain that is pushed.
 *
 * A batch appears at once: of all elements pushed since the last publication
 * the first one is written last, and the driver looks nowhere else.
 *
 * Ordering, the other half being in the driver's virtqueue code:
 *  - acquire load of the half descriptor with the flags  /  release store of
 *    the flags of a chain's first descriptor: the rest of the chain is visible.
 *    An aligned 64-bit load that sees the flags also sees the length and id
 *    that were written before them.
 *  - release store of the half descriptor with the flags  /  acquire load of
 *    the flags: the other elements of the batch and the buffers are visible.
 *  - store that half, fence, load the driver's event word  /  store the event
 *    word, fence, load the flags: one of the two sees the other.
 *  - store our event word, fence, load the flags of the next descriptor  /
 *    store the flags, fence, load our event word: the same for kicks.
 * Both event structures are loaded and stored as one word of 32 bits, so that
 * place and flags belong together.
 *
 * Spec: virtio 1.3, "Packed Virtqueues"
 */
#include "virtio/vring_internal.h"

#define USED_AND_AVAIL (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)

/* The wrap counter of a place. */
static inline bool wraps(const struct vring *vr, uint32_t place)
{
	return place < vr->size;
}

static inline size_t offset_of(const struct vring *vr, uint32_t place)
{
	return wraps(vr, place) ? place : place - vr->size;
}

static inline uint16_t forward(const struct vring *vr, uint32_t place, uint32_t n)
{
	place += n;
	return (uint16_t)(place < 2 * vr->size ? place : place - 2 * vr->size);
}

/* Descriptors from @from up to @to. */
static inline uint32_t span(const struct vring *vr, uint32_t from, uint32_t to)
{
	return to >= from ? to - from : to + 2 * vr->size - from;
}

/* Descriptors that the driver may have made available at most. */
static inline uint32_t reach(const struct vring *vr)
{
	return vr->size - span(vr, vr->published, vr->next_avail);
}

static uint16_t encode(const struct vring *vr, uint32_t place)
{
	return (uint16_t)(offset_of(vr, place) | (wraps(vr, place) ? VRING_PACKED_WRAP : 0));
}

/* Return: a place, or 2 * size if there is none like that. */
static uint32_t decode(const struct vring *vr, uint32_t wire)
{
	uint32_t offset = wire & VRING_PACKED_OFFSET_MASK;

	if (offset >= vr->size)
		return 2 * vr->size;
	return wire & VRING_PACKED_WRAP ? offset : offset + vr->size;
}

static inline const uint8_t *desc_at(const struct vring *vr, uint32_t place)
{
	return vr->desc + offset_of(vr, place) * VRING_DESC_BYTES;
}

static inline bool is_available(const struct vring *vr, uint32_t place, uint64_t rest)
{
	uint32_t expected = wraps(vr, place) ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;

	return (rest >> 48 & USED_AND_AVAIL) == expected;
}

static bool available_at(const struct vring *vr, uint32_t place)
{
	return is_available(vr, place, shared_load64_acquire(desc_at(vr, place) + 8));
}

static inline struct desc desc_of(struct raw_desc raw)
{
	return (struct desc){
		.addr = raw.addr,
		.len = (uint32_t)raw.rest,
		.next = (uint16_t)(raw.rest >> 32),
		.flags = (uint16_t)(raw.rest >> 48),
	};
}

/* All of the table that @desc refers to, in order; of the flags only WRITE counts. */
static int walk_indirect(struct walk *w, const struct desc *desc)
{
	struct table table;
	int rc = table_open(w->vr, desc, &table);

	for (uint32_t i = 0; rc == 0 && i < table.count; i++) {
		struct raw_desc raw;
		struct desc entry;

		rc = table_load(w->vr, &table, i, &raw);
		if (unlikely(rc < 0))
			return rc;
		entry = desc_of(raw);
		rc = walk_add(w, &entry);
	}
	return rc;
}

/* Descriptors in a row. @desc: in: the first; out: the last, which has the id. */
static int walk_direct(struct walk *w, struct desc *desc, uint32_t *count)
{
	struct vring *vr = w->vr;
	uint32_t place = vr->next_avail;

	for (*count = 1;; ++*count) {
		const uint8_t *p;
		int rc;

		if (unlikely(desc->flags & VRING_DESC_F_INDIRECT))
			return -EPROTO;
		rc = walk_add(w, desc);
		if (unlikely(rc < 0) || !(desc->flags & VRING_DESC_F_NEXT))
			return rc;
		place = forward(vr, place, 1);
		p = desc_at(vr, place);
		*desc = desc_of((struct raw_desc){ shared_load64(p), shared_load64(p + 8) });
	}
}

/* Any chain. Return: the descriptors of the ring it has, or a negative error. */
static int collect(struct vring *vr, struct desc *desc, struct vring_chain *chain,
		   struct iovec *iov, size_t max)
{
	struct walk w = walk_begin(vr, iov, max, reach(vr));
	uint32_t count = 1;
	int rc;

	if (desc->flags & VRING_DESC_F_INDIRECT) {
		w.budget = vr->size;
		rc = walk_indirect(&w, desc);
	} else {
		rc = walk_direct(&w, desc, &count);
	}
	if (unlikely(rc < 0))
		return rc;
	walk_finish(&w, chain, iov);
	return (int)count;
}

int packed_start(struct vring *vr, uint32_t base)
{
	uint32_t wire_used = base >> 16;
	uint32_t avail = decode(vr, base);
	uint32_t used;
	uint32_t room = 1;

	/* Some front-ends know of one place only, and leave the other half zero. */
	if (wire_used == 0 && (base & VRING_PACKED_WRAP))
		wire_used = base;
	used = decode(vr, wire_used);
	if (avail == 2 * vr->size || used == 2 * vr->size || span(vr, used, avail) > vr->size)
		return -EINVAL;
	while (room < vr->size)
		room *= 2;
	vr->mask = (uint16_t)(room - 1);
	vr->next_avail = (uint16_t)avail;
	vr->next_used = (uint16_t)used;
	vr->published = (uint16_t)used;
	return 0;
}

uint32_t packed_base(const struct vring *vr)
{
	return encode(vr, vr->next_avail) | (uint32_t)encode(vr, vr->published) << 16;
}

int packed_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max)
{
	const uint8_t *p = desc_at(vr, vr->next_avail);
	uint64_t rest = shared_load64_acquire(p + 8);
	struct desc desc;
	int count = 1;

	if (!is_available(vr, vr->next_avail, rest))
		return 0;
	if (unlikely(reach(vr) == 0)) /* it is in a chain that we have not given back */
		return vring_refuse(vr, -EPROTO, max);
	desc = desc_of((struct raw_desc){ shared_load64(p), rest });
	if (!walk_single(vr, &desc, chain, iov, max)) {
		count = collect(vr, &desc, chain, iov, max);
		if (unlikely(count < 0))
			return vring_refuse(vr, count, max);
	}
	chain->head = desc.next;
	vr->counts[vr->n_popped++ & vr->mask] = (uint16_t)count;
	vr->next_avail = forward(vr, vr->next_avail, (uint32_t)count);
	return 1;
}

void packed_unpop(struct vring *vr, uint16_t n)
{
	while (n-- > 0 && vr->n_popped != vr->n_pushed) {
		uint32_t back = 2 * vr->size - vr->counts[--vr->n_popped & vr->mask];

		vr->next_avail = forward(vr, vr->next_avail, back);
	}
}

void packed_push(struct vring *vr, uint16_t head, uint32_t len)
{
	uint16_t place = vr->next_used;
	uint64_t flags = wraps(vr, place) ? USED_AND_AVAIL : 0;
	uint64_t rest;

	if (unlikely(vr->n_pushed == vr->n_popped))
		return;
	if (len > 0)
		flags |= VRING_DESC_F_WRITE;
	rest = len | (uint64_t)head << 32 | flags << 48;
	if (place == vr->published)
		vr->first_used = rest;
	else
		shared_store64(vr->ring + offset_of(vr, place) * VRING_DESC_BYTES + 8, rest);
	vr->next_used = forward(vr, place, vr->counts[vr->n_pushed++ & vr->mask]);
}

/* Whether using the descriptors from @old up to next_used is to be signalled. */
static bool driver_wants_signal(const struct vring *vr, uint16_t old)
{
	uint32_t event = shared_load32(vr->avail);
	uint32_t place;

	switch (event >> 16 & VRING_PACKED_EVENT_F_MASK) {
	case VRING_PACKED_EVENT_F_DISABLE:
		return false;
	case VRING_PACKED_EVENT_F_DESC:
		break;
	default:
		return true;
	}
	/* What the driver asked for before we started may date from any lap. */
	if (!vr->event_idx || !vr->signalled_valid)
		return true;
	place = decode(vr, event);
	return place == 2 * vr->size || span(vr, old, place) < span(vr, old, vr->next_used);
}

/* Elements were written from place @old up to next_used; those between them were not. */
static cold_path void log_publication(const struct vring *vr, uint16_t old)
{
	size_t first = offset_of(vr, old);
	size_t count = span(vr, old, vr->next_used);
	size_t straight = min_size(count, vr->size - first);

	vring_log_desc(vr, first * VRING_DESC_BYTES, straight * VRING_DESC_BYTES);
	vring_log_desc(vr, 0, (count - straight) * VRING_DESC_BYTES);
}

/* What asks the driver for kicks, or for none. */
static void store_event(struct vring *vr, uint32_t event)
{
	shared_store32(vr->used, event);
	if (unlikely(vr->log != NULL))
		vring_log_used(vr, 0, VRING_PACKED_EVENT_BYTES);
}

bool packed_publish(struct vring *vr)
{
	uint16_t old = vr->published;
	bool wanted;

	if (vr->next_used == old)
		return false;
	shared_store64_release(vr->ring + offset_of(vr, old) * VRING_DESC_BYTES + 8,
			       vr->first_used);
	vr->published = vr->next_used;
	if (unlikely(vr->log != NULL))
		log_publication(vr, old);
	/* Pairs with the driver's fence between its event word and our flags. */
	shared_fence();
	wanted = driver_wants_signal(vr, old);
	vr->signalled_valid = true;
	return wanted;
}

void packed_disable_kick(struct vring *vr)
{
	store_event(vr, VRING_PACKED_EVENT_F_DISABLE << 16);
}

bool packed_enable_kick(struct vring *vr)
{
	uint32_t event = VRING_PACKED_EVENT_F_ENABLE << 16;

	if (vr->event_idx)
		event = VRING_PACKED_EVENT_F_DESC << 16 | encode(vr, vr->next_avail);
	store_event(vr, event);
	/* Pairs with the driver's fence between its flags and our event word. */
	shared_fence();
	return available_at(vr, vr->next_avail);
}

uint16_t packed_available(struct vring *vr)
{
	uint32_t low = 1;
	uint32_t high = reach(vr);

	/* The rest of a chain may be there before its first descriptor. */
	if (!available_at(vr, vr->next_avail))
		return 0;
	/* The first @low are available, the one behind @high is not: bisect. */
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;

		if (available_at(vr, forward(vr, vr->next_avail, middle - 1)))
			low = middle;
		else
			high = middle - 1;
	}
	return (uint16_t)low;
}
