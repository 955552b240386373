// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * dirty.h - the log of guest pages that the device has written: one bit for
 * each page of 4 KiB, counted from guest-physical address 0.
 *
 * Pure: it is told where the log is mapped. The VMM shares the log, reads and
 * clears it at any time, so a bit is only ever set, by an atomic OR, and after
 * the bytes were written (theory of operation in dirty.c).
 *
 * Context: any thread that may write the guest's memory.
 * Spec: vhost-user, "Migration"
 */
#ifndef VIRTIO_DIRTY_H
#define VIRTIO_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "virtio/gmem.h"

#define DIRTY_PAGE_BITS 12u /* VHOST_LOG_PAGE, whatever the size of real pages */

struct dirty_log {
	uint8_t *bits;  /* shared with the VMM */
	uint64_t pages; /* how many it has room for */
	bool touched;   /* something was logged since dirty_take_touched(); atomic */
};

/** A log of @bytes at @bits, which stay mapped as long as it is used. */
struct dirty_log dirty_log_at(uint8_t *bits, uint64_t bytes) must_use;

/** Mark the pages of @len bytes at @gpa. Those beyond the log are left out;
 *  any number is legal. */
void dirty_mark_gpa(struct dirty_log *log, uint64_t gpa, uint64_t len);

/**
 * dirty_mark() - Mark the pages of a piece of guest memory as we have it mapped
 * @hint: index of the region to look in first; any value is legal
 * @at:   @len bytes within one region of @gmem; anything else is left out
 */
void dirty_mark(struct dirty_log *log, const struct gmem *gmem, uint32_t hint, const void *at,
		uint64_t len);

/** Mark the first @len bytes of @count pieces. */
void dirty_mark_iov(struct dirty_log *log, const struct gmem *gmem, uint32_t hint,
		    const struct iovec *iov, size_t count, uint64_t len);

/** Whether anything was marked since the last call. */
bool dirty_take_touched(struct dirty_log *log) must_use;

#endif
