// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * iotlb.h - what a front-end has said about the I/O virtual addresses (IOVAs) of
 * a guest behind a virtual IOMMU: a bounded cache of translations.
 *
 * Pure. Not thread-safe: the caller serialises all calls on one cache.
 * Spec: vhost-user, "IOMMU support"
 */
#ifndef VIRTIO_IOTLB_H
#define VIRTIO_IOTLB_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "virtio/gmem.h"

/** Translations kept of one guest; one more takes the place of another. */
#define IOTLB_MAX_ENTRIES 4096u

/* Permissions, as bits */
#define IOTLB_READ 1u
#define IOTLB_WRITE 2u

/** One range. It leads to front-end addresses, which gmem translates at each use:
 *  so nothing here can outlive a change of the memory table. */
struct iotlb_entry {
	uint64_t iova;
	uint64_t last; /* its last byte */
	uint64_t uva;
	uint8_t access;
};

/** Sorted by iova, none overlapping another. Zero but for memory is empty. */
struct iotlb {
	const struct gmem *memory; /* outlives it */
	struct iotlb_entry *entries;
	size_t count;
	size_t room;
	size_t hand; /* whose turn it is to be replaced */
};

/** Where a translation stopped. */
struct iotlb_miss {
	uint64_t iova;
	uint8_t access; /* what was wanted of it */
};

/**
 * iotlb_update() - Take a translation; what it overlaps is dropped
 *
 * Return: 0; -EINVAL: empty, wraps around, or no permissions of ours; -EFAULT:
 *         not wholly in memory; -ENOMEM
 */
int iotlb_update(struct iotlb *tlb, const struct iotlb_entry *entry) must_use;

/** Drop everything that has a byte from @iova to @last. */
void iotlb_invalidate(struct iotlb *tlb, uint64_t iova, uint64_t last);

/** Drop what leads to one of these @size > 0 front-end addresses. */
void iotlb_forget(struct iotlb *tlb, uint64_t uva, uint64_t size);

/** Drop everything and free it. */
void iotlb_fini(struct iotlb *tlb);

/**
 * iotlb_iov() - Translate a range
 * @access: IOTLB_READ or IOTLB_WRITE: what will be done to it
 * @out:    output pieces, scratch space on failure; what lies side by side is one
 * @max:    room in @out
 * @miss:   output for -EAGAIN and -EACCES, else scratch space
 *
 * Return: number of pieces (0 for length 0); -EAGAIN: the front-end has to be
 *         asked; -EACCES: it said that this is not allowed; -EFAULT: wraps
 *         around, or the memory is gone; -ENOBUFS: @max is too small
 */
int iotlb_iov(const struct iotlb *tlb, uint64_t iova, uint64_t len, uint8_t access,
	      struct iovec *out, size_t max, struct iotlb_miss *miss) must_use;

#endif
