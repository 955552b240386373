// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring.c - the device side of a virtqueue: what both formats have in common,
 * and the way into the one that a ring has.
 *
 * Makes no system call and signals nobody: the caller owns the eventfds. The
 * rings are the first code to touch what a hostile driver wrote.
 *
 * Theory of operation (indices and memory ordering: vring_split.c,
 * vring_packed.c)
 *
 * Trust. A driver may rewrite any word at any time. A descriptor is taken with
 * one load per 64-bit half into a local; only the local is checked and used.
 * Addresses go through gmem and nothing else. Indices are masked or compared
 * before they address anything. Our own indices are private; what was written
 * to the guest is never read back.
 *
 * Bounds. A chain has at most size descriptors, those of an indirect table
 * included, however the driver links them; that ends every loop. A chain may
 * still name the same region border over and over, so the number of pieces is
 * bounded by the caller's room. A packed ring allocates two bytes for each
 * entry when it starts, nothing afterwards.
 *
 * Order. Chains are pushed in the order in which they were popped: that is what
 * VIRTIO_F_IN_ORDER promises, which may be negotiated for either format. Each
 * has a used element of its own; batches of them, which IN_ORDER allows, are
 * not made.
 *
 * Speed. A buffer within the region of the last one, which is nearly every
 * buffer, is translated inline (gmem_iov_within()), and a chain of one such
 * buffer never reaches the general walk. Prefetching the next descriptor was
 * measured and costs more than it gains. One comparison finds both that a split
 * ring is usable and that it is split.
 *
 * Log of written memory. Only what the device wrote counts: buffers, which the
 * caller reports by vring_wrote(), and our parts of the ring. Elements are logged
 * when they are published, all of a batch together. Where a part lies is found
 * from our own mapping of it, so nothing is missed whatever the front-end says;
 * what it says is logged besides.
 */
#include "virtio/vring.h"

#include <stdlib.h>

#include "virtio/vring_internal.h"

static bool is_packed(uint64_t features)
{
	return features & bit64(VIRTIO_F_RING_PACKED_BIT);
}

struct vring_extent vring_extent(uint32_t size, uint64_t features)
{
	uint64_t desc = VRING_DESC_BYTES * (uint64_t)size;

	if (is_packed(features))
		return (struct vring_extent){
			.desc = desc,
			.avail = VRING_PACKED_EVENT_BYTES,
			.used = VRING_PACKED_EVENT_BYTES,
			.avail_align = VRING_PACKED_EVENT_BYTES,
		};
	return (struct vring_extent){
		.desc = desc,
		.avail = VRING_AVAIL_RING + VRING_INDEX_BYTES * ((uint64_t)size + 1),
		.used = VRING_USED_RING + VRING_USED_ELEM_BYTES * (uint64_t)size +
			VRING_INDEX_BYTES,
		.avail_align = VRING_INDEX_BYTES,
	};
}

bool vring_size_is_legal(uint32_t size, uint64_t features)
{
	if (size == 0 || size > VRING_MAX_SIZE)
		return false;
	return is_packed(features) || (size & (size - 1)) == 0;
}

int vring_check_layout(uint32_t size, const struct vring_layout *layout, uint64_t features)
{
	if (!vring_size_is_legal(size, features))
		return -EINVAL;
	if (!layout->desc || !layout->avail || !layout->used)
		return -EINVAL;
	if ((uintptr_t)layout->desc % VRING_DESC_ALIGN != 0 ||
	    (uintptr_t)layout->avail % vring_extent(size, features).avail_align != 0 ||
	    (uintptr_t)layout->used % VRING_USED_ALIGN != 0)
		return -EINVAL;
	return 0;
}

static int start_packed(struct vring *vr, uint32_t base)
{
	int rc = packed_start(vr, base);

	if (rc < 0)
		return rc;
	vr->counts = calloc(vr->mask + 1u, sizeof(*vr->counts));
	return vr->counts ? 0 : -ENOMEM;
}

int vring_start(struct vring *vr, uint32_t size, const struct vring_layout *layout,
		const struct gmem *gmem, uint32_t base, uint64_t features)
{
	struct vring fresh = {
		.desc = layout->desc,
		.avail = layout->avail,
		.used = layout->used,
		.gmem = gmem,
		.format = VRING_SPLIT,
		.usable = VRING_SPLIT,
		.event_idx = features & bit64(VIRTIO_F_EVENT_IDX_BIT),
		.notify_on_empty = features & bit64(VIRTIO_F_NOTIFY_ON_EMPTY_BIT),
		.size = size,
		.log_used = VRING_NO_LOG_ADDR,
	};
	int rc = vring_check_layout(size, layout, features);

	if (rc < 0)
		return rc;
	if (is_packed(features)) {
		fresh.ring = layout->desc;
		fresh.format = VRING_PACKED;
		fresh.usable = VRING_PACKED;
		rc = start_packed(&fresh, base);
	} else if (base > UINT16_MAX) {
		rc = -EINVAL;
	} else {
		split_start(&fresh, base);
	}
	if (rc == 0)
		*vr = fresh;
	return rc;
}

void vring_set_log(struct vring *vr, struct dirty_log *log, uint64_t log_used)
{
	if (vr->format == VRING_STOPPED)
		return;
	vr->log = log;
	vr->log_used = log_used;
}

/* Behind a virtual IOMMU gmem is empty, and the log is of guest-physical pages still. */
static const struct gmem *log_memory(const struct vring *vr)
{
	return vr->iotlb ? vr->iotlb->memory : vr->gmem;
}

cold_path void vring_log_pieces(const struct vring *vr, const struct iovec *iov, size_t count,
				uint64_t len)
{
	dirty_mark_iov(vr->log, log_memory(vr), vr->gmem_hint, iov, count, len);
}

cold_path void vring_log_desc(const struct vring *vr, size_t offset, size_t len)
{
	dirty_mark(vr->log, log_memory(vr), vr->gmem_hint, vr->desc + offset, len);
}

cold_path void vring_log_used(const struct vring *vr, size_t offset, size_t len)
{
	dirty_mark(vr->log, log_memory(vr), vr->gmem_hint, vr->used + offset, len);
	if (vr->log_used != VRING_NO_LOG_ADDR)
		dirty_mark_gpa(vr->log, vr->log_used + offset, len);
}

void vring_resume(struct vring *vr)
{
	if (!vr->stalled)
		return;
	vr->stalled = false;
	vr->usable = vr->format;
}

void vring_move(struct vring *vr, const struct vring_layout *layout)
{
	vr->desc = layout->desc;
	vr->avail = layout->avail;
	vr->used = layout->used;
	if (vr->format == VRING_PACKED)
		vr->ring = layout->desc;
	vr->lost = false;
	vring_resume(vr);
}

void vring_lose(struct vring *vr)
{
	vr->lost = true;
	vr->stalled = !vr->broken;
	vr->usable = VRING_STOPPED;
}

void vring_forsake(struct vring *vr)
{
	vr->forsaken = vr->stalled;
	vring_resume(vr);
}

void vring_stop(struct vring *vr)
{
	uint32_t base = vring_base(vr);

	free(vr->counts);
	*vr = (struct vring){ .base = base };
}

uint32_t vring_base(const struct vring *vr)
{
	if (vr->format == VRING_SPLIT)
		return split_base(vr);
	return vr->format == VRING_PACKED ? packed_base(vr) : vr->base;
}

int vring_pop(struct vring *vr, struct vring_chain *chain, struct iovec *iov, size_t max)
{
	if (likely(vr->usable == VRING_SPLIT))
		return split_pop(vr, chain, iov, max);
	return vr->usable == VRING_PACKED ? packed_pop(vr, chain, iov, max) : 0;
}

void vring_unpop(struct vring *vr, uint16_t n)
{
	if (likely(vr->format == VRING_SPLIT))
		vr->next_avail = (uint16_t)(vr->next_avail - n);
	else if (vr->format == VRING_PACKED)
		packed_unpop(vr, n);
}

void vring_push(struct vring *vr, uint16_t head, uint32_t len)
{
	if (likely(vr->format == VRING_SPLIT))
		split_push(vr, head, len);
	else if (vr->format == VRING_PACKED)
		packed_push(vr, head, len);
}

bool vring_publish(struct vring *vr)
{
	if (likely(vr->format == VRING_SPLIT))
		return split_publish(vr);
	return vr->format == VRING_PACKED && packed_publish(vr);
}

void vring_disable_kick(struct vring *vr)
{
	if (likely(vr->usable == VRING_SPLIT))
		split_disable_kick(vr);
	else if (vr->usable == VRING_PACKED)
		packed_disable_kick(vr);
}

bool vring_enable_kick(struct vring *vr)
{
	if (likely(vr->usable == VRING_SPLIT))
		return split_enable_kick(vr);
	return vr->usable == VRING_PACKED && packed_enable_kick(vr);
}

uint16_t vring_available(struct vring *vr)
{
	if (likely(vr->usable == VRING_SPLIT))
		return split_available(vr);
	return vr->usable == VRING_PACKED ? packed_available(vr) : 0;
}
