// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * iotlb.c - see iotlb.h. Makes no system call and asks nobody; a miss is told to
 * the caller.
 *
 * Theory of operation: entries are sorted and disjoint, so those of a range are
 * neighbours and found by bisection. The table grows by doubling up to its bound;
 * from then on a hand goes round and the entry it points at gives way. Dropping
 * an entry is always right: whoever needs it asks again. So an update drops all
 * that it touches, and an invalidation may take more than it names.
 */
#include "virtio/iotlb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define FIRST_ROOM 64u

/* The first entry that ends at or behind @iova. */
static size_t find(const struct iotlb *tlb, uint64_t iova)
{
	size_t low = 0;
	size_t high = tlb->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (tlb->entries[mid].last < iova)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void drop(struct iotlb *tlb, size_t first, size_t n)
{
	if (n == 0) /* there may be no table at all */
		return;
	tlb->count -= n;
	memmove(&tlb->entries[first], &tlb->entries[first + n],
		(tlb->count - first) * sizeof(*tlb->entries));
}

static int reserve(struct iotlb *tlb)
{
	size_t room = tlb->room == 0 ? FIRST_ROOM : 2 * tlb->room;
	struct iotlb_entry *grown;

	if (tlb->count < tlb->room || tlb->room == IOTLB_MAX_ENTRIES)
		return 0;
	grown = reallocarray(tlb->entries, room, sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	tlb->entries = grown;
	tlb->room = room;
	return 0;
}

/* Whether all of it lies in regions, be they several. */
static bool is_memory(const struct gmem *memory, uint64_t uva, uint64_t size)
{
	struct iovec piece;

	while (size > 0) {
		if (!gmem_uva_piece(memory, uva, size, &piece))
			return false;
		uva += piece.iov_len;
		size -= piece.iov_len;
	}
	return true;
}

void iotlb_invalidate(struct iotlb *tlb, uint64_t iova, uint64_t last)
{
	size_t first = find(tlb, iova);
	size_t end = first;

	while (end < tlb->count && tlb->entries[end].iova <= last)
		end++;
	drop(tlb, first, end - first);
}

int iotlb_update(struct iotlb *tlb, const struct iotlb_entry *entry)
{
	uint64_t size = entry->last - entry->iova + 1;
	uint64_t end;
	size_t at;
	int err;

	if (entry->last < entry->iova || entry->last - entry->iova == UINT64_MAX ||
	    !checked_add_u64(entry->uva, size, &end) ||
	    (entry->access & ~(IOTLB_READ | IOTLB_WRITE)) != 0)
		return -EINVAL;
	if (!is_memory(tlb->memory, entry->uva, size))
		return -EFAULT;
	err = reserve(tlb);
	if (err < 0)
		return err;
	iotlb_invalidate(tlb, entry->iova, entry->last);
	if (tlb->count == tlb->room) {
		tlb->hand = tlb->hand < tlb->count - 1 ? tlb->hand + 1 : 0;
		drop(tlb, tlb->hand, 1);
	}
	at = find(tlb, entry->iova);
	memmove(&tlb->entries[at + 1], &tlb->entries[at],
		(tlb->count - at) * sizeof(*tlb->entries));
	tlb->entries[at] = *entry;
	tlb->count++;
	return 0;
}

void iotlb_forget(struct iotlb *tlb, uint64_t uva, uint64_t size)
{
	size_t kept = 0;

	for (size_t i = 0; i < tlb->count; i++) {
		const struct iotlb_entry *entry = &tlb->entries[i];

		if (entry->uva > uva + size - 1 || entry->uva + (entry->last - entry->iova) < uva)
			tlb->entries[kept++] = *entry;
	}
	tlb->count = kept;
}

void iotlb_fini(struct iotlb *tlb)
{
	free(tlb->entries);
	*tlb = (struct iotlb){ .memory = tlb->memory };
}

/* Append @len bytes at a front-end address. Return: pieces so far, or -errno. */
static int add_memory(const struct gmem *memory, uint64_t uva, uint64_t len, struct iovec *out,
		      size_t max, int n)
{
	while (len > 0) {
		struct iovec piece;

		if (!gmem_uva_piece(memory, uva, len, &piece))
			return -EFAULT;
		uva += piece.iov_len;
		len -= piece.iov_len;
		if (n > 0 &&
		    (char *)out[n - 1].iov_base + out[n - 1].iov_len == (char *)piece.iov_base) {
			out[n - 1].iov_len += piece.iov_len;
			continue;
		}
		if ((size_t)n == max)
			return -ENOBUFS;
		out[n++] = piece;
	}
	return n;
}

int iotlb_iov(const struct iotlb *tlb, uint64_t iova, uint64_t len, uint8_t access,
	      struct iovec *out, size_t max, struct iotlb_miss *miss)
{
	uint64_t end;
	int n = 0;

	if (!checked_add_u64(iova, len, &end))
		return -EFAULT;
	for (size_t at = find(tlb, iova); iova < end && n >= 0; at++) {
		const struct iotlb_entry *entry = at < tlb->count ? &tlb->entries[at] : NULL;
		uint64_t here;

		*miss = (struct iotlb_miss){ .iova = iova, .access = access };
		if (entry == NULL || entry->iova > iova)
			return -EAGAIN;
		if ((entry->access & access) != access)
			return -EACCES;
		here = entry->last - iova + 1;
		if (here > end - iova)
			here = end - iova;
		n = add_memory(tlb->memory, entry->uva + (iova - entry->iova), here, out, max, n);
		iova += here;
	}
	return n;
}
