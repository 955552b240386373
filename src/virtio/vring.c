// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring.c - the device side of a split virtqueue.
 *
 * Makes no system call, allocates nothing, signals nobody: the caller owns the
 * eventfds. This is the first code to touch what a hostile driver wrote.
 *
 * Theory of operation
 *
 * Trust. A driver may rewrite any word at any time. A descriptor is taken with
 * one load per 64-bit half (see desc_load()) into a local; only the local is
 * checked and used. Addresses go through gmem and nothing else. Ring indices
 * are masked, indices of descriptors compared with the table's length.
 *
 * Bounds. A chain has at most size descriptors, those of an indirect table
 * included, however the driver links them; that ends every loop. A chain may
 * still name the same region border over and over, so the number of pieces is
 * bounded by the caller's room.
 *
 * Indices. next_avail, seen_avail, next_used and published count modulo 2^16
 * and are masked only to address a slot. A difference of two of them is the
 * number of entries between, also for a ring of 32768.
 *
 * Speed. A buffer within the region of the last one, which is nearly every
 * buffer, is translated inline (gmem_iov_within()), and a chain of one such
 * buffer never reaches the general walk. Prefetching the next descriptor was
 * measured and costs more than it gains.
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
 */
#include "virtio/vring.h"

#include <errno.h>

#include "base/checked.h"
#include "base/shared.h"
#include "virtio/ring_spec.h"

/** Private copy of a descriptor. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

/** An indirect table: in one stretch of our memory where possible. */
struct table {
	const uint8_t *direct; /* NULL: read each descriptor through gmem */
	uint64_t gpa;
	uint32_t count;
};

/** A chain being collected. */
struct walk {
	struct vring *vr;
	struct iovec *next;      /* first free piece */
	struct iovec *end;       /* of the caller's room */
	uint64_t bytes;          /* of the buffers so far, both kinds */
	uint32_t budget;         /* descriptors the chain may still have */
	bool writable;           /* the writable part has begun: */
	struct iovec *turn;      /* its first piece... */
	uint64_t readable_bytes; /* ...and the bytes before it */
};

/* The driver may be writing: each half is loaded exactly once. */
static inline struct desc desc_load(const uint8_t *p)
{
	uint64_t addr = shared_load64(p);
	uint64_t rest = shared_load64(p + 8);

	return (struct desc){
		.addr = addr,
		.len = (uint32_t)rest,
		.flags = (uint16_t)(rest >> 32),
		.next = (uint16_t)(rest >> 48),
	};
}

/* Indirect tables need no alignment and may cross regions anywhere: byte by
 * byte, volatile so that no byte is loaded twice. */
static cold_path int desc_gather(struct vring *vr, uint64_t gpa, struct desc *desc)
{
	struct iovec pieces[VRING_DESC_BYTES];
	_Alignas(8) uint8_t raw[VRING_DESC_BYTES];
	size_t filled = 0;
	int n = gmem_iov(vr->gmem, &vr->gmem_hint, gpa, sizeof(raw), pieces, array_size(pieces));

	if (n < 0)
		return -EPROTO;
	for (int i = 0; i < n; i++) {
		const volatile uint8_t *src = pieces[i].iov_base;

		for (size_t k = 0; k < pieces[i].iov_len; k++)
			raw[filled++] = src[k];
	}
	*desc = desc_load(raw);
	return 0;
}

static inline int table_load(struct vring *vr, const struct table *table, uint32_t index,
			     struct desc *desc)
{
	uint64_t offset = (uint64_t)index * VRING_DESC_BYTES;

	if (unlikely(index >= table->count))
		return -EPROTO;
	if (unlikely(!table->direct))
		return desc_gather(vr, table->gpa + offset, desc);
	*desc = desc_load(table->direct + offset);
	return 0;
}

/* Take over the table an INDIRECT descriptor names. */
static int table_open(struct vring *vr, const struct desc *desc, struct table *table)
{
	struct iovec piece;
	uint64_t end;

	if (desc->flags & VRING_DESC_F_NEXT)
		return -EPROTO;
	table->gpa = desc->addr;
	table->count = desc->len / VRING_DESC_BYTES;
	if (table->count == 0 || table->count > vr->size || desc->len % VRING_DESC_BYTES != 0)
		return -EPROTO;
	/* Everything in the table then has an address that does not wrap. */
	if (!checked_add_u64(desc->addr, desc->len, &end))
		return -EPROTO;
	table->direct = NULL;
	if (likely(gmem_iov_within(vr->gmem, vr->gmem_hint, desc->addr, desc->len, &piece)) ||
	    gmem_iov(vr->gmem, &vr->gmem_hint, desc->addr, desc->len, &piece, 1) == 1) {
		if (likely((uintptr_t)piece.iov_base % sizeof(uint64_t) == 0))
			table->direct = piece.iov_base;
	}
	return 0;
}

/* A buffer that is empty, in another region than the last or in several. */
static cold_path int walk_pieces(struct walk *w, const struct desc *desc)
{
	struct vring *vr = w->vr;
	int n = gmem_iov(vr->gmem, &vr->gmem_hint, desc->addr, desc->len, w->next,
			 (size_t)(w->end - w->next));

	if (n < 0)
		return n == -ENOBUFS ? n : -EPROTO;
	w->next += n;
	return 0;
}

/* Add the buffer of one descriptor to the chain. */
static inline int walk_add(struct walk *w, const struct desc *desc)
{
	bool writable = desc->flags & VRING_DESC_F_WRITE;

	if (unlikely(w->budget == 0))
		return -EPROTO;
	w->budget--;
	if (writable != w->writable) {
		if (unlikely(!writable))
			return -EPROTO;
		w->writable = true;
		w->turn = w->next;
		w->readable_bytes = w->bytes;
	}
	w->bytes += desc->len;
	if (unlikely(w->next == w->end) || unlikely(desc->len == 0) ||
	    unlikely(!gmem_iov_within(w->vr->gmem, w->vr->gmem_hint, desc->addr, desc->len,
				      w->next)))
		return walk_pieces(w, desc);
	w->next++;
	return 0;
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
		rc = table_load(w->vr, &table, entry.next, &entry);
		if (unlikely(rc < 0))
			return rc;
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
		desc = desc_load(w->vr->desc + (size_t)desc.next * VRING_DESC_BYTES);
	}
}

/* Collect the chain that begins with @first. */
static int walk_chain(struct vring *vr, struct desc first, struct vring_chain *chain,
		      struct iovec *iov, size_t max)
{
	struct walk w = { .vr = vr, .next = iov, .end = iov + max, .budget = vr->size };
	int rc = walk_direct(&w, first);

	if (unlikely(rc < 0))
		return rc;
	if (!w.writable) {
		w.turn = w.next;
		w.readable_bytes = w.bytes;
	}
	chain->readable = (uint32_t)(w.turn - iov);
	chain->writable = (uint32_t)(w.next - w.turn);
	chain->readable_bytes = w.readable_bytes;
	chain->writable_bytes = w.bytes - w.readable_bytes;
	return 0;
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

static bool is_usable(const struct vring *vr)
{
	return vr->started && !vr->broken;
}

int vring_check_layout(uint32_t size, const struct vring_layout *layout)
{
	if (size == 0 || size > VRING_MAX_SIZE || (size & (size - 1)) != 0)
		return -EINVAL;
	if (!layout->desc || !layout->avail || !layout->used)
		return -EINVAL;
	if ((uintptr_t)layout->desc % 16 != 0 || (uintptr_t)layout->avail % 2 != 0 ||
	    (uintptr_t)layout->used % 4 != 0)
		return -EINVAL;
	return 0;
}

int vring_start(struct vring *vr, uint32_t size, const struct vring_layout *layout,
		const struct gmem *gmem, uint16_t next_avail, uint64_t features)
{
	int rc = vring_check_layout(size, layout);
	uint16_t used;

	if (rc < 0)
		return rc;
	used = shared_load16(layout->used + VRING_USED_IDX);
	*vr = (struct vring){
		.desc = layout->desc,
		.avail = layout->avail,
		.used = layout->used,
		.gmem = gmem,
		.mask = (uint16_t)(size - 1),
		.next_avail = next_avail,
		.seen_avail = next_avail,
		.next_used = used,
		.published = used,
		.event_idx = features & bit64(VIRTIO_F_EVENT_IDX_BIT),
		.notify_on_empty = features & bit64(VIRTIO_F_NOTIFY_ON_EMPTY_BIT),
		.started = true,
		.size = size,
	};
	return 0;
}

void vring_stop(struct vring *vr)
{
	uint16_t next_avail = vr->next_avail;

	*vr = (struct vring){ .next_avail = next_avail, .seen_avail = next_avail };
}

/* The chain is refused. A chain that not even VRING_MAX_PIECES can hold goes
 * over the same region border again and again, which no honest one does. */
static cold_path int refuse(struct vring *vr, int rc, size_t max)
{
	if (rc == -ENOBUFS && max < VRING_MAX_PIECES)
		return rc;
	vr->broken = true;
	return -EPROTO;
}

/* The most frequent chain: one buffer within the region of the last one.
 * Return: false if it is any other, with nothing changed. */
static inline bool pop_single(struct vring *vr, const struct desc *desc, struct vring_chain *chain,
			      struct iovec *iov, size_t max)
{
	uint32_t writable = (desc->flags & VRING_DESC_F_WRITE) != 0;

	if ((desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)) || max == 0 ||
	    desc->len == 0)
		return false;
	if (unlikely(!gmem_iov_within(vr->gmem, vr->gmem_hint, desc->addr, desc->len, iov)))
		return false;
	chain->readable = 1 - writable;
	chain->writable = writable;
	chain->readable_bytes = writable ? 0 : desc->len;
	chain->writable_bytes = writable ? desc->len : 0;
	return true;
}

int vring_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max)
{
	uint16_t head;
	struct desc desc;
	int rc;

	if (unlikely(!is_usable(vr)))
		return 0;
	if (vr->seen_avail == vr->next_avail) {
		if (unlikely(!refresh_avail(vr)))
			return refuse(vr, -EPROTO, max);
		if (vr->seen_avail == vr->next_avail)
			return 0;
	}
	head = shared_load16(vr->avail + VRING_AVAIL_RING +
			     2 * (size_t)(vr->next_avail & vr->mask));
	if (unlikely(head >= vr->size))
		return refuse(vr, -EPROTO, max);
	desc = desc_load(vr->desc + (size_t)head * VRING_DESC_BYTES);
	if (!pop_single(vr, &desc, chain, iov, max)) {
		rc = walk_chain(vr, desc, chain, iov, max);
		if (unlikely(rc < 0))
			return refuse(vr, rc, max);
	}
	chain->head = head;
	vr->next_avail++;
	return 1;
}

void vring_unpop(struct vring *vr, uint16_t n)
{
	vr->next_avail = (uint16_t)(vr->next_avail - n);
}

void vring_push(struct vring *vr, uint16_t head, uint32_t len)
{
	uint8_t *elem;

	if (unlikely(!vr->started))
		return;
	elem = vr->used + VRING_USED_RING +
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

bool vring_publish(struct vring *vr)
{
	uint16_t old = vr->published;
	bool wanted;

	if (vr->next_used == old)
		return false;
	shared_store16_release(vr->used + VRING_USED_IDX, vr->next_used);
	vr->published = vr->next_used;
	/* Pairs with the driver's fence between its event index and our index. */
	shared_fence();
	wanted = driver_wants_signal(vr, old);
	vr->signalled_valid = true;
	return wanted;
}

void vring_disable_kick(struct vring *vr)
{
	/* With an event index there is nothing better than leaving it behind. */
	if (vr->started && !vr->event_idx)
		shared_store16(vr->used, VRING_USED_F_NO_NOTIFY);
}

bool vring_enable_kick(struct vring *vr)
{
	size_t avail_event = VRING_USED_RING + (size_t)vr->size * VRING_USED_ELEM_BYTES;

	if (!is_usable(vr))
		return false;
	if (vr->event_idx)
		shared_store16(vr->used + avail_event, vr->next_avail);
	else
		shared_store16(vr->used, 0);
	/* Pairs with the driver's fence between avail->idx and our event index. */
	shared_fence();
	return vring_available(vr) != 0;
}

uint16_t vring_available(struct vring *vr)
{
	if (!is_usable(vr))
		return 0;
	/* An impossible index is for vring_pop() to find and to report. */
	if (unlikely(!refresh_avail(vr)))
		return 1;
	return (uint16_t)(vr->seen_avail - vr->next_avail);
}
