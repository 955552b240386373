// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * dirty.c - marks pages in the log of written guest memory.
 *
 * Makes no system call and never reads the log. Called only while a log is in
 * use: all callers ask for that by one branch per chain or per publication.
 *
 * Theory of operation: a VMM that migrates a guest takes and clears the bits,
 * then copies the pages that had one. A page must have its bit *after* the last
 * write to it: were it set before, the VMM could clear it and copy the page
 * between, and the bytes were lost. So every caller writes first, and the OR is
 * a release: who sees the bit sees the bytes. Nobody looks whether the bit is
 * set already, because that load could overtake the writes.
 *
 * Bounds: the log's size is the VMM's word, checked against its file when it
 * was mapped. A page without a bit there is left out, as nothing else can be
 * done for a VMM that made its log too small. The VMM may truncate the file;
 * base/fault.h then finds the log lost, and its owner ends the session.
 */
#include "virtio/dirty.h"

#include "base/checked.h"

#define PAGES_PER_BYTE 8u

struct dirty_log dirty_log_at(uint8_t *bits, uint64_t bytes)
{
	uint64_t most = UINT64_MAX / PAGES_PER_BYTE;

	return (struct dirty_log){
		.bits = bits,
		.pages = PAGES_PER_BYTE * (bytes < most ? bytes : most),
	};
}

/* Mark the pages @first to @last, all of which the log has. */
static void mark_pages(struct dirty_log *log, uint64_t first, uint64_t last)
{
	uint64_t last_byte = last / PAGES_PER_BYTE;

	/* What was written comes before its mark. The marks themselves are relaxed: one may
	 * fault, and ThreadSanitizer holds a lock of its own during a release. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	for (uint64_t i = first / PAGES_PER_BYTE; i <= last_byte; i++) {
		uint32_t mask = UINT8_MAX;

		if (i == first / PAGES_PER_BYTE)
			mask &= UINT32_C(0xff) << first % PAGES_PER_BYTE;
		if (i == last_byte)
			mask &= UINT32_C(0xff) >> (PAGES_PER_BYTE - 1 - last % PAGES_PER_BYTE);
		__atomic_fetch_or(&log->bits[i], (uint8_t)mask, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&log->touched, true, __ATOMIC_RELAXED);
}

void dirty_mark_gpa(struct dirty_log *log, uint64_t gpa, uint64_t len)
{
	uint64_t first = gpa >> DIRTY_PAGE_BITS;
	uint64_t end;
	uint64_t last;

	if (len == 0 || first >= log->pages)
		return;
	if (!checked_add_u64(gpa, len - 1, &end))
		end = UINT64_MAX;
	last = end >> DIRTY_PAGE_BITS;
	mark_pages(log, first, last < log->pages ? last : log->pages - 1);
}

static bool region_maps(const struct gmem_region *region, const uint8_t *at, uint64_t len)
{
	/* Below the region this wraps to more than any region's size. */
	return range_within((uint64_t)((uintptr_t)at - (uintptr_t)region->hva), len, region->size);
}

void dirty_mark(struct dirty_log *log, const struct gmem *gmem, uint32_t hint, const void *at,
		uint64_t len)
{
	const uint8_t *start = at;
	size_t i = hint;

	if (i >= gmem->count || !region_maps(&gmem->regions[i], start, len)) {
		for (i = 0; i < gmem->count; i++) {
			if (region_maps(&gmem->regions[i], start, len))
				break;
		}
	}
	if (i < gmem->count)
		dirty_mark_gpa(log, gmem->regions[i].gpa + (uint64_t)(start - gmem->regions[i].hva),
			       len);
}

void dirty_mark_iov(struct dirty_log *log, const struct gmem *gmem, uint32_t hint,
		    const struct iovec *iov, size_t count, uint64_t len)
{
	for (size_t i = 0; i < count && len > 0; i++) {
		uint64_t here = iov[i].iov_len < len ? iov[i].iov_len : len;

		dirty_mark(log, gmem, hint, iov[i].iov_base, here);
		len -= here;
	}
}

bool dirty_take_touched(struct dirty_log *log)
{
	return __atomic_exchange_n(&log->touched, false, __ATOMIC_RELAXED);
}
