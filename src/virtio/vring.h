// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring.h - the device side of a virtqueue, split or packed.
 *
 * Pure: no system calls; the caller signals eventfds. Everything in the ring
 * is written by a hostile driver while we look: each guest word is loaded once
 * into a local, the local is checked and then used; our indices are private
 * and only ever written to the guest, never read back.
 *
 * Not thread-safe: the caller serialises all calls on one ring.
 * Spec: virtio 1.3, "Split Virtqueues", "Packed Virtqueues"
 */
#ifndef VIRTIO_VRING_H
#define VIRTIO_VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "virtio/dirty.h"
#include "virtio/gmem.h"
#include "virtio/iotlb.h"

#define VRING_MAX_SIZE 32768u /* virtio 1.3, "Virtqueues", either format */

/** Where a ring lies, translated; the parts as vhost-user calls them. */
struct vring_layout {
	uint8_t *desc;        /* split: descriptor table; packed: descriptor ring */
	const uint8_t *avail; /* available ring; driver event suppression */
	uint8_t *used;        /* used ring; device event suppression */
};

/** Bytes of each part; alignment of the one where the formats differ in it. */
struct vring_extent {
	uint64_t desc;
	uint64_t avail;
	uint64_t used;
	uint32_t avail_align;
};

#define VRING_DESC_ALIGN 16u
#define VRING_USED_ALIGN 4u

enum vring_format {
	VRING_STOPPED,
	VRING_SPLIT,
	VRING_PACKED, /* VIRTIO_F_RING_PACKED negotiated */
};

/** Private to virtio/, but for broken. */
struct vring {
	/* what pop and push touch */
	const uint8_t *desc;
	const uint8_t *avail;
	uint8_t *used;
	const struct gmem *gmem;
	uint32_t gmem_hint;
	uint16_t mask;        /* split: size - 1; packed: of counts */
	uint16_t next_avail;  /* index (packed: place) of the next chain to pop */
	uint16_t seen_avail;  /* split: avail->idx when last loaded */
	uint16_t next_used;   /* of the next used element, not yet published */
	uint16_t published;   /* of the next used element, as the driver sees it */
	uint8_t format;       /* enum vring_format */
	uint8_t usable;       /* the same; VRING_STOPPED when broken */
	bool signalled_valid; /* the driver's event index is from our time */
	bool event_idx;       /* VIRTIO_F_EVENT_IDX negotiated */
	bool notify_on_empty; /* VIRTIO_F_NOTIFY_ON_EMPTY negotiated; split only */
	bool broken;          /* a chain broke a rule: nothing more until restart */
	uint32_t size;
	uint32_t base;         /* where a stopped ring goes on */
	struct dirty_log *log; /* NULL: nobody wants to know what is written */
	uint64_t log_used;     /* used is logged at this address, too; VRING_NO_LOG_ADDR */

	/* behind a virtual IOMMU only, see vring_use_iotlb() */
	const struct iotlb *iotlb; /* NULL: addresses are guest-physical */
	struct iotlb_miss miss;    /* the last one */
	uint32_t misses;           /* since the last chain */
	bool stalled;              /* a chain waits for a translation */
	bool asks;                 /* of the miss nobody was told yet */
	bool denied;               /* it is no miss: the access is not allowed */
	bool forsaken;             /* it will not be answered */
	bool lost;                 /* where the ring itself lies is not known */

	/* packed only */
	uint8_t *ring;       /* desc, for writing used elements */
	uint64_t first_used; /* second half of the element that publishes the rest */
	uint16_t *counts;    /* descriptors of each popped chain, by order of popping */
	uint16_t n_popped;   /* modulo 2^16; at most size more than n_pushed */
	uint16_t n_pushed;
};

/** One descriptor chain. */
struct vring_chain {
	uint16_t head;     /* to be given back by vring_push(); packed: buffer id */
	uint32_t readable; /* pieces the device may read, first in iov */
	uint32_t writable; /* pieces the device may write, after those */
	uint64_t readable_bytes;
	uint64_t writable_bytes;
};

/** How much memory a ring of @size entries takes. @features: negotiated */
struct vring_extent vring_extent(uint32_t size, uint64_t features) must_use;

/** Whether a ring may have @size entries: 1 to VRING_MAX_SIZE, and a power of
 *  two unless it is packed. */
bool vring_size_is_legal(uint32_t size, uint64_t features) must_use;

/**
 * vring_check_layout() - Whether a ring of this size may lie there
 *
 * Return: 0, -EINVAL for a bad size, NULL part or bad alignment
 */
int vring_check_layout(uint32_t size, const struct vring_layout *layout, uint64_t features)
	must_use;

/**
 * vring_start() - Begin to process
 * @vr:       stopped
 * @size:     entries
 * @layout:   parts of vring_extent() bytes, mapped until vring_stop()
 * @gmem:     the guest's memory; stays valid until vring_stop()
 * @base:     where to begin, as SET_VRING_BASE encodes it for the format: the
 *            next available index; packed: two places of 15 bits with their
 *            wrap counters on top, the next one available and, in the upper
 *            half, the next one used
 * @features: negotiated virtio feature bits
 *
 * The private used index of a split ring starts at the driver-visible
 * used->idx, so that a ring another device left half done goes on where its
 * driver expects. A packed ring takes it from @base; if that has only a lower
 * half, nothing is in flight.
 *
 * Return: 0; -EINVAL as vring_check_layout(), or @base is impossible; -ENOMEM
 */
int vring_start(struct vring *vr, uint32_t size, const struct vring_layout *layout,
		const struct gmem *gmem, uint32_t base, uint64_t features) must_use;

#define VRING_NO_LOG_ADDR UINT64_MAX

/**
 * vring_set_log() - Log what is written from now on
 * @log:      NULL: nothing is; else it stays valid until this is called again or
 *            the ring stops
 * @log_used: guest address where the front-end wants to see what is written to
 *            the part "used", besides where that part lies; or VRING_NO_LOG_ADDR
 *
 * Legal on any ring, and does nothing to a stopped one.
 * Spec: vhost-user, "Migration"
 */
void vring_set_log(struct vring *vr, struct dirty_log *log, uint64_t log_used);

/** As vring_wrote(), for a ring that has a log. */
void vring_log_pieces(const struct vring *vr, const struct iovec *iov, size_t count, uint64_t len);

/**
 * vring_wrote() - The first @len bytes of these pieces of a chain were written
 *
 * For the log of written memory; called after writing, before vring_stop(). What
 * the ring writes into its own parts it logs by itself.
 */
static inline void vring_wrote(const struct vring *vr, const struct iovec *iov, size_t count,
			       uint64_t len)
{
	if (unlikely(vr->log != NULL))
		vring_log_pieces(vr, iov, count, len);
}

/** Chains that need this many translations one after the other are refused: more
 *  than there can be at a time. */
#define VRING_MAX_MISSES (2 * IOTLB_MAX_ENTRIES)

/**
 * vring_use_iotlb() - From now on a running ring's addresses are IOVAs
 *
 * A chain that needs a translation which is not there stalls the ring: it has
 * nothing available until vring_resume(), which is to follow every update. The
 * chain stays where it is, so that nothing is lost.
 */
void vring_use_iotlb(struct vring *vr, const struct iotlb *iotlb);

/** Whether there is a miss, or a denial, that the front-end is to be told of. */
static inline must_use bool vring_asks(const struct vring *vr)
{
	return unlikely(vr->asks);
}

/** Try again what stalled; legal when nothing did. */
void vring_resume(struct vring *vr);

/** The ring lies there now; tries again as vring_resume(). Between bursts only. */
void vring_move(struct vring *vr, const struct vring_layout *layout);

/** Where the ring lies is not known any more: stalled until vring_move(), and none of
 *  its memory is touched. Between bursts only. */
void vring_lose(struct vring *vr);

/** The miss will not be answered: the chain is refused, the ring breaks. */
void vring_forsake(struct vring *vr);

/** Stop; the ring forgets its memory but keeps vring_base(). Legal when stopped. */
void vring_stop(struct vring *vr);

/** Where the ring goes on when it is started again, as GET_VRING_BASE encodes it. */
uint32_t vring_base(const struct vring *vr) must_use;

/**
 * vring_pop() - Take the next descriptor chain the driver made available
 * @vr:    ring; a stopped or broken one has nothing available
 * @chain: output: the head, and how many pieces of @iov are which
 * @iov:   output: the chain's pieces over guest memory, readable then writable,
 *         empty descriptors left out; valid until the end of this dispatch
 * @max:   room in @iov; VRING_MAX_PIECES is always enough
 *
 * Indirect tables are followed; a table's length and each descriptor are
 * loaded once.
 *
 * A chain is refused if: an index is beyond its table; it has more than size
 * descriptors, or its indirect table has (empty ones count, the one that
 * refers to the table does not); a readable one follows a writable one; a
 * buffer is not wholly mapped; a table's length is 0 or no multiple of 16; INDIRECT comes
 * with NEXT or within a table; it has more pieces than VRING_MAX_PIECES. The
 * available index may be at most size ahead. In a packed ring: a chain reaches
 * into descriptors not given back; INDIRECT follows another descriptor (in a
 * table it is ignored, as are all flags but WRITE).
 *
 * Return: 1 @chain filled; 0 nothing available, or stalled; -EPROTO the chain or an index
 *         breaks a rule (the ring is broken from now on); -ENOBUFS @max is too
 *         small (nothing is taken). @iov is scratch space on failure
 * Trust: loads each guest field once, validates the copy
 * Spec: virtio 1.3, "The Virtqueue Descriptor Table", "Indirect Descriptors",
 * "Scatter-Gather Support"
 */
int vring_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max) must_use;

/** Every chain has at most size descriptors; each region border is crossed at
 *  most once by a chain whose buffers do not overlap. */
#define VRING_MAX_PIECES (VRING_MAX_SIZE + GMEM_MAX_REGIONS)

/** Give back the last @n popped chains unused, newest first, so that they are
 *  popped again. Only chains that were not pushed; legal on a broken ring. */
void vring_unpop(struct vring *vr, uint16_t n);

/**
 * vring_push() - Write the next used element; invisible until vring_publish()
 * @head: from vring_pop()
 * @len:  bytes written into the chain's writable part
 *
 * Chains are pushed in the order in which they were popped (VIRTIO_F_IN_ORDER).
 *
 * Legal on a broken ring; does nothing on a stopped one. At most size elements
 * may be pushed between two calls of vring_publish().
 */
void vring_push(struct vring *vr, uint16_t head, uint32_t len);

/**
 * vring_publish() - Make all pushed elements visible with one store
 *
 * Return: whether the driver wants a notification for them (false when there
 *         is nothing new)
 * Spec: virtio 1.3, "Used Buffer Notification Suppression"
 */
bool vring_publish(struct vring *vr) must_use;

/** Ask the driver not to kick (a hint); nothing on a broken or stalled ring. */
void vring_disable_kick(struct vring *vr);

/**
 * vring_enable_kick() - Ask the driver to kick at the next available chain
 *
 * Return: true if chains became available meanwhile: process them, no kick
 *         may come for them; also true when the index is impossible, which
 *         vring_pop() then reports
 */
bool vring_enable_kick(struct vring *vr) must_use;

/** Chains available now: loads avail->idx; packed: about how many descriptors, 0
 *  only if there is no chain. 0 for a stopped or broken ring; not 0 when the
 *  index is impossible, for vring_pop() to report. */
uint16_t vring_available(struct vring *vr) must_use;

#endif
