// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring_split.c - the split format: a table of descriptors, a ring of those
 * available and a ring of those used. Entered through vring.c only, for a ring
 * that runs.
 *
 * Theory of operation: trust and bounds as in vring.c.
 *
 * Indices. next_avail, seen_avail, next_used and published count modulo 2^16
 * and are masked only to address a slot. A difference of two of them is the
 * number of entries between, also for a ring of 32768.
 *
 * Ordering, the other half being in the driver's virtqueue code:
 *  - acquire load of avail->idx  / its release store: the ring slots and the
 *    descriptors below that index are visible.
 *  - release store of used->idx  / its acquire load: our used elements and
 *    the buffers are visible.
 *  - store used->idx, fence, load used_event or avail->flags  /  store
 *    used_event, fence, load used->idx: one of the two sees the other.
 *  - store avail_event or used->flags, fence, load avail->idx  /  store
 *    avail->idx, fence, load avail_event: the same for kicks.
 *
 * Spec: virtio 1.3, "Split Virtqueues"
 */
#include "virtio/vring_internal.h"

static inline struct desc desc_of(struct raw_desc raw)
{
	return (struct desc){
		.addr = raw.addr,
		.len = (uint32_t)raw.rest,
		.flags = (uint16_t)(raw.rest >> 32),
		.next = (uint16_t)(raw.rest >> 48),
	};
}

/* The driver may be writing: each half is loaded exactly once. */
static inline struct desc desc_load(const struct vring *vr, uint16_t index)
{
	const uint8_t *p = vr->desc + (size_t)index * VRING_DESC_BYTES;

	return desc_of((struct raw_desc){ shared_load64(p), shared_load64(p + 8) });
}

/* Follow the chain of the indirect table that @desc refers to. */
static int walk_indirect(struct walk *w, const struct desc *desc)
{
	struct desc entry = { .flags = VRING_DESC_F_NEXT };
	struct table table;
	int rc = table_open(w->vr, desc, &table);

	if (unlikely(rc < 0))
		return rc;
	while (entry.flags & VRING_DESC_F_NEXT) {
		struct raw_desc raw;

		rc = table_load(w->vr, &table, entry.next, &raw);
		if (unlikely(rc < 0))
			return rc;
		entry = desc_of(raw);
		if (unlikely(entry.flags & VRING_DESC_F_INDIRECT))
			return -EPROTO;
		rc = walk_add(w, &entry);
		if (unlikely(rc < 0))
			return rc;
	}
	return 0;
}

/* Follow a chain through the ring's own table. */
static int walk_direct(struct walk *w, struct desc desc)
{
	for (;;) {
		int rc;

		if (desc.flags & VRING_DESC_F_INDIRECT)
			return walk_indirect(w, &desc);
		rc = walk_add(w, &desc);
		if (unlikely(rc < 0) || !(desc.flags & VRING_DESC_F_NEXT))
			return rc;
		if (unlikely(desc.next >= w->vr->size))
			return -EPROTO;
		desc = desc_load(w->vr, desc.next);
	}
}

/* Load avail->idx. Return: false, and nothing changed, if no driver that keeps
 * to the rules can have written it. */
static bool refresh_avail(struct vring *vr)
{
	uint16_t idx = shared_load16_acquire(vr->avail + VRING_AVAIL_IDX);

	if (unlikely((uint16_t)(idx - vr->next_avail) > vr->size))
		return false;
	vr->seen_avail = idx;
	return true;
}

void split_start(struct vring *vr, uint32_t base)
{
	uint16_t used = shared_load16(vr->used + VRING_USED_IDX);

	vr->mask = (uint16_t)(vr->size - 1);
	vr->next_avail = (uint16_t)base;
	vr->seen_avail = (uint16_t)base;
	vr->next_used = used;
	vr->published = used;
}

uint32_t split_base(const struct vring *vr)
{
	return vr->next_avail;
}

int split_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max)
{
	uint16_t head;
	struct desc desc;

	if (vr->seen_avail == vr->next_avail) {
		if (unlikely(!refresh_avail(vr)))
			return vring_refuse(vr, -EPROTO, max);
		if (vr->seen_avail == vr->next_avail)
			return 0;
	}
	head = shared_load16(vr->avail + VRING_AVAIL_RING +
			     2 * (size_t)(vr->next_avail & vr->mask));
	if (unlikely(head >= vr->size))
		return vring_refuse(vr, -EPROTO, max);
	desc = desc_load(vr, head);
	if (!walk_single(vr, &desc, chain, iov, max)) {
		struct walk w = walk_begin(vr, iov, max, vr->size);
		int rc = walk_direct(&w, desc);

		if (unlikely(rc < 0))
			return vring_refuse(vr, rc, max);
		walk_finish(&w, chain, iov);
	}
	chain->head = head;
	vr->next_avail++;
	return 1;
}

void split_push(struct vring *vr, uint16_t head, uint32_t len)
{
	uint8_t *elem = vr->used + VRING_USED_RING +
			(size_t)(vr->next_used & vr->mask) * VRING_USED_ELEM_BYTES;

	shared_store32(elem, head);
	shared_store32(elem + 4, len);
	vr->next_used++;
}

/* Whether the driver's event index lies among the entries @old to @new - 1. */
static bool event_is_passed(uint16_t event, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* Whether going from used index @old to next_used is to be signalled. */
static bool driver_wants_signal(struct vring *vr, uint16_t old)
{
	size_t used_event = VRING_AVAIL_RING + 2 * (size_t)vr->size;

	if (vr->notify_on_empty && vr->seen_avail == vr->next_avail)
		return true;
	if (!vr->event_idx)
		return !(shared_load16(vr->avail) & VRING_AVAIL_F_NO_INTERRUPT);
	/* What the driver asked for before we started may date from any lap. */
	if (!vr->signalled_valid)
		return true;
	return event_is_passed(shared_load16(vr->avail + used_event), vr->next_used, old);
}

/* All elements from @old up to next_used were written, and the index. */
static cold_path void log_publication(const struct vring *vr, uint16_t old)
{
	size_t first = old & vr->mask;
	size_t count = (uint16_t)(vr->next_used - old);
	size_t straight = min_size(count, vr->size - first);

	vring_log_used(vr, VRING_USED_IDX, VRING_INDEX_BYTES);
	vring_log_used(vr, VRING_USED_RING + first * VRING_USED_ELEM_BYTES,
		       straight * VRING_USED_ELEM_BYTES);
	vring_log_used(vr, VRING_USED_RING, (count - straight) * VRING_USED_ELEM_BYTES);
}

bool split_publish(struct vring *vr)
{
	uint16_t old = vr->published;
	bool wanted;

	if (vr->next_used == old)
		return false;
	shared_store16_release(vr->used + VRING_USED_IDX, vr->next_used);
	vr->published = vr->next_used;
	if (unlikely(vr->log != NULL))
		log_publication(vr, old);
	/* Pairs with the driver's fence between its event index and our index. */
	shared_fence();
	wanted = driver_wants_signal(vr, old);
	vr->signalled_valid = true;
	return wanted;
}

void split_disable_kick(struct vring *vr)
{
	/* With an event index there is nothing better than leaving it behind. */
	if (vr->event_idx)
		return;
	shared_store16(vr->used, VRING_USED_F_NO_NOTIFY);
	if (unlikely(vr->log != NULL))
		vring_log_used(vr, 0, VRING_INDEX_BYTES);
}

bool split_enable_kick(struct vring *vr)
{
	size_t avail_event = VRING_USED_RING + (size_t)vr->size * VRING_USED_ELEM_BYTES;

	if (vr->event_idx)
		shared_store16(vr->used + avail_event, vr->next_avail);
	else
		shared_store16(vr->used, 0);
	if (unlikely(vr->log != NULL))
		vring_log_used(vr, vr->event_idx ? avail_event : 0, VRING_INDEX_BYTES);
	/* Pairs with the driver's fence between avail->idx and our event index. */
	shared_fence();
	return split_available(vr) != 0;
}

uint16_t split_available(struct vring *vr)
{
	/* An impossible index is for vring_pop() to find and to report. */
	if (unlikely(!refresh_avail(vr)))
		return 1;
	return (uint16_t)(vr->seen_avail - vr->next_avail);
}
