// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring_internal.h - what the files of the rings share with each other and
 * nobody else may include.
 *
 * vring.c holds the interface and knows which format a ring has; vring_split.c
 * and vring_packed.c are the two formats; vring_walk.c collects the buffers of
 * a chain for both.
 */
#ifndef VIRTIO_VRING_INTERNAL_H
#define VIRTIO_VRING_INTERNAL_H

#include <errno.h>

#include "base/checked.h"
#include "base/shared.h"
#include "virtio/ring_spec.h"
#include "virtio/vring.h"

/** Private copy of a descriptor. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /* split: the descriptor that follows; packed: the buffer's id */
};

/** A descriptor as it lies in memory: two halves, each loaded once. */
struct raw_desc {
	uint64_t addr;
	uint64_t rest;
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

/* --- vring_walk.c --- */

/** Take over the table an INDIRECT descriptor names. Return: 0, -EPROTO or -EAGAIN */
int table_open(struct vring *vr, const struct desc *desc, struct table *table) must_use;

/** Load one descriptor of the table. Return: 0; -EAGAIN; -EPROTO: beyond its end, or gone */
int table_load(struct vring *vr, const struct table *table, uint32_t index, struct raw_desc *raw)
	must_use;

/** Add a buffer that is empty, in another region than the last, or in several.
 *  Return: 0, -ENOBUFS, -EAGAIN or -EPROTO */
int walk_pieces(struct walk *w, const struct desc *desc) must_use;

/** Describe what was collected. */
void walk_finish(const struct walk *w, struct vring_chain *chain, const struct iovec *iov);

/** Refuse the next chain because of @rc. Return: -ENOBUFS if the room @max is to
 *  blame, 0 with the ring stalled if a translation is, else -EPROTO with the ring
 *  broken. */
int vring_refuse(struct vring *vr, int rc, size_t max) must_use;

static inline struct walk walk_begin(struct vring *vr, struct iovec *iov, size_t max,
				     uint32_t budget)
{
	return (struct walk){ .vr = vr, .next = iov, .end = iov + max, .budget = budget };
}

/** Add the buffer of one descriptor to the chain. Return: as walk_pieces() */
static inline must_use int walk_add(struct walk *w, const struct desc *desc)
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

/** The most frequent chain: one buffer within the region of the last one.
 *  Return: false if it is any other, with nothing changed. */
static inline must_use bool walk_single(struct vring *vr, const struct desc *desc,
					struct vring_chain *chain, struct iovec *iov, size_t max)
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

/* --- vring.c: the log of written memory, for a ring that has one; @len bytes
 *     at @offset of a part of the ring --- */

void vring_log_desc(const struct vring *vr, size_t offset, size_t len);
void vring_log_used(const struct vring *vr, size_t offset, size_t len);

/* --- The formats; each as the function of vring.h without its "split_" or
 *     "packed_", for a ring that runs and is not broken unless that says more. --- */

/* vring_split.c */
void split_start(struct vring *vr, uint32_t base);
uint32_t split_base(const struct vring *vr) must_use;
int split_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max) must_use;
void split_push(struct vring *vr, uint16_t head, uint32_t len);
bool split_publish(struct vring *vr) must_use;
void split_disable_kick(struct vring *vr);
bool split_enable_kick(struct vring *vr) must_use;
uint16_t split_available(struct vring *vr) must_use;

/* vring_packed.c */
int packed_start(struct vring *vr, uint32_t base) must_use; /* sets the mask of counts */
uint32_t packed_base(const struct vring *vr) must_use;
int packed_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max) must_use;
void packed_unpop(struct vring *vr, uint16_t n);
void packed_push(struct vring *vr, uint16_t head, uint32_t len);
bool packed_publish(struct vring *vr) must_use;
void packed_disable_kick(struct vring *vr);
bool packed_enable_kick(struct vring *vr) must_use;
uint16_t packed_available(struct vring *vr) must_use;

#endif
