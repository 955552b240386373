// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * gmem.c - the table of a guest's memory regions and the only translation of
 * its addresses.
 *
 * Makes no system call of its own and maps nothing; the table itself is on
 * the heap and grows only in gmem_insert().
 *
 * Theory of operation: regions are kept sorted by guest-physical address and
 * never overlap, so the region of an address is found by bisection, and a
 * range that leaves one region can only go on in the following one. No region
 * reaches the end of the 64-bit space (insertion refuses it), hence the end of
 * any mapped range can be computed without wrap-around.
 */
#include "virtio/gmem.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static bool ranges_overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b ? b - a < a_len : a - b < b_len;
}

static bool region_is_valid(const struct gmem_region *region)
{
	uint64_t end;

	return region->size != 0 && region->hva != NULL &&
	       checked_add_u64(region->gpa, region->size, &end) &&
	       checked_add_u64(region->uva, region->size, &end) &&
	       checked_add_u64((uintptr_t)region->hva, region->size, &end) && end <= UINTPTR_MAX;
}

static bool region_overlaps(const struct gmem *gmem, const struct gmem_region *region)
{
	for (size_t i = 0; i < gmem->count; i++) {
		const struct gmem_region *r = &gmem->regions[i];

		if (ranges_overlap(r->gpa, r->size, region->gpa, region->size) ||
		    ranges_overlap(r->uva, r->size, region->uva, region->size))
			return true;
	}
	return false;
}

/* How many regions begin at or below @gpa: the last of them is the only
 * candidate to hold it. */
static size_t regions_up_to(const struct gmem *gmem, uint64_t gpa)
{
	size_t low = 0;
	size_t high = gmem->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (gmem->regions[mid].gpa <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool region_holds(const struct gmem_region *region, uint64_t gpa)
{
	return gpa >= region->gpa && gpa - region->gpa < region->size;
}

/* The index of the region that holds @gpa, or gmem->count. */
static size_t find_region(const struct gmem *gmem, size_t hint, uint64_t gpa)
{
	size_t below;

	if (likely(hint < gmem->count && region_holds(&gmem->regions[hint], gpa)))
		return hint;
	below = regions_up_to(gmem, gpa);
	if (below == 0 || !region_holds(&gmem->regions[below - 1], gpa))
		return gmem->count;
	return below - 1;
}

int gmem_insert(struct gmem *gmem, const struct gmem_region *region)
{
	struct gmem_region *grown;
	size_t at;

	if (!region_is_valid(region))
		return -EINVAL;
	if (region_overlaps(gmem, region))
		return -EEXIST;
	if (gmem->count >= GMEM_MAX_REGIONS)
		return -ENOSPC;
	grown = reallocarray(gmem->regions, gmem->count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	gmem->regions = grown;
	at = regions_up_to(gmem, region->gpa);
	memmove(&grown[at + 1], &grown[at], (gmem->count - at) * sizeof(*grown));
	grown[at] = *region;
	gmem->count++;
	return 0;
}

int gmem_remove(struct gmem *gmem, uint64_t gpa, uint64_t uva, uint64_t size,
		struct gmem_region *removed)
{
	size_t at = find_region(gmem, gmem->count, gpa);
	struct gmem_region *region;

	if (at == gmem->count)
		return -ENOENT;
	region = &gmem->regions[at];
	if (region->gpa != gpa || region->uva != uva || region->size != size)
		return -ENOENT;
	*removed = *region;
	gmem->count--;
	memmove(region, region + 1, (gmem->count - at) * sizeof(*region));
	if (gmem->count == 0)
		gmem_fini(gmem);
	return 0;
}

void gmem_fini(struct gmem *gmem)
{
	free(gmem->regions);
	gmem->regions = NULL;
	gmem->count = 0;
}

int gmem_iov(const struct gmem *gmem, uint32_t *hint, uint64_t gpa, uint64_t len, struct iovec *out,
	     size_t max)
{
	size_t at;
	size_t pieces = 0;
	uint64_t end;

	if (len == 0)
		return 0;
	if (!checked_add_u64(gpa, len, &end))
		return -EFAULT;
	for (at = find_region(gmem, *hint, gpa); gpa < end; at++) {
		const struct gmem_region *region;
		uint64_t offset;
		uint64_t here;

		if (at == gmem->count)
			return -EFAULT;
		region = &gmem->regions[at];
		if (!region_holds(region, gpa))
			return -EFAULT;
		if (pieces == max)
			return -ENOBUFS;
		offset = gpa - region->gpa;
		here = region->size - offset;
		if (here > end - gpa)
			here = end - gpa;
		out[pieces].iov_base = region->hva + offset;
		out[pieces].iov_len = (size_t)here;
		pieces++;
		gpa += here;
	}
	*hint = (uint32_t)(at - 1);
	return (int)pieces;
}

void *gmem_from_uva(const struct gmem *gmem, uint64_t uva, uint64_t len)
{
	for (size_t i = 0; i < gmem->count; i++) {
		const struct gmem_region *r = &gmem->regions[i];

		if (uva >= r->uva && len != 0 && range_within(uva - r->uva, len, r->size))
			return r->hva + (uva - r->uva);
	}
	return NULL;
}

bool gmem_uva_piece(const struct gmem *gmem, uint64_t uva, uint64_t len, struct iovec *out)
{
	for (size_t i = 0; i < gmem->count; i++) {
		const struct gmem_region *r = &gmem->regions[i];
		uint64_t offset = uva - r->uva;

		if (uva < r->uva || offset >= r->size)
			continue;
		out->iov_base = r->hva + offset;
		out->iov_len = (size_t)(len < r->size - offset ? len : r->size - offset);
		return true;
	}
	return false;
}

void *gmem_from_gpa(const struct gmem *gmem, uint64_t gpa, uint64_t len)
{
	size_t at = find_region(gmem, gmem->count, gpa);

	if (at == gmem->count || len == 0 ||
	    !range_within(gpa - gmem->regions[at].gpa, len, gmem->regions[at].size))
		return NULL;
	return gmem->regions[at].hva + (gpa - gmem->regions[at].gpa);
}
