// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * gmem.h - the table of a guest's memory regions as mapped into this process.
 *
 * Pure: it is told where a region is mapped, it maps nothing itself. There is
 * no way to translate an address without a length.
 */
#ifndef VIRTIO_GMEM_H
#define VIRTIO_GMEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/checked.h"
#include "base/compiler.h"

/** Regions per guest: as the slots that vhost-user front-ends may use. */
#define GMEM_MAX_REGIONS 509u

/** One region of guest-physical memory. */
struct gmem_region {
	uint64_t gpa;  /* guest-physical address of its first byte */
	uint64_t uva;  /* the same byte in the front-end's address space */
	uint64_t size; /* bytes, not 0 */
	uint8_t *hva;  /* the same byte in ours */
};

/** Regions sorted by gpa, none overlapping another in gpa or uva. */
struct gmem {
	struct gmem_region *regions; /* NULL when count is 0 */
	size_t count;
};

/**
 * gmem_insert() - Add a region
 *
 * Return: 0; -EINVAL for size 0, wrap-around, or a NULL hva; -EEXIST when it
 * overlaps another in gpa or uva; -ENOSPC beyond GMEM_MAX_REGIONS; -ENOMEM.
 */
int gmem_insert(struct gmem *gmem, const struct gmem_region *region) must_use;

/**
 * gmem_remove() - Remove the region that has exactly this gpa, uva and size
 * @removed: output: the region as it was inserted
 *
 * Return: 0 or -ENOENT
 */
int gmem_remove(struct gmem *gmem, uint64_t gpa, uint64_t uva, uint64_t size,
		struct gmem_region *removed) must_use;

/** Forget all regions and free the table; nothing is unmapped. */
void gmem_fini(struct gmem *gmem);

/**
 * gmem_iov() - Translate a guest-physical range
 * @hint: in/out: index of the region found last; any value is legal
 * @out:  output pieces, more than one where the range crosses adjacent regions
 * @max:  room in @out
 *
 * @out is scratch space on failure.
 *
 * Return: number of pieces (0 for length 0); -EFAULT if any byte is not
 * mapped or the range wraps; -ENOBUFS if @max is too small
 */
int gmem_iov(const struct gmem *gmem, uint32_t *hint, uint64_t gpa, uint64_t len, struct iovec *out,
	     size_t max) must_use;

/**
 * gmem_iov_within() - Translate a range that lies within the region @hint
 *
 * The common case of gmem_iov(), which also takes the rest, in a few
 * instructions; meant for ring code.
 *
 * Return: false, and @out untouched, if the range is not wholly in there
 */
static inline must_use bool gmem_iov_within(const struct gmem *gmem, uint32_t hint, uint64_t gpa,
					    uint64_t len, struct iovec *out)
{
	const struct gmem_region *region;
	uint64_t offset;

	if (unlikely(hint >= gmem->count))
		return false;
	region = &gmem->regions[hint];
	/* Below the region this wraps to more than any region's size. */
	offset = gpa - region->gpa;
	if (unlikely(!range_within(offset, len, region->size)))
		return false;
	out->iov_base = region->hva + offset;
	out->iov_len = (size_t)len;
	return true;
}

/** Translate a front-end range within one region (ring addresses are given so).
 *  Return: pointer, or NULL; NULL also for length 0. */
void *gmem_from_uva(const struct gmem *gmem, uint64_t uva, uint64_t len) must_use;

/**
 * gmem_uva_piece() - Translate the beginning of a front-end range
 * @len: not 0
 * @out: output: as much of it as lies in the first region
 *
 * Return: false if its first byte is in none
 */
bool gmem_uva_piece(const struct gmem *gmem, uint64_t uva, uint64_t len, struct iovec *out)
	must_use;

/** Translate a guest-physical range within one region.
 *  Return: pointer, or NULL; NULL also for length 0. */
void *gmem_from_gpa(const struct gmem *gmem, uint64_t gpa, uint64_t len) must_use;

#endif
