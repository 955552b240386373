// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu.h - the VMM's end of vhost-user: just what starting a vsock device takes,
 * in QEMU's order. Knows nothing of what the rings carry.
 */
#ifndef BENCH_VU_H
#define BENCH_VU_H

#include <stddef.h>
#include <stdint.h>

/** One connection to a device. */
struct vu {
	int fd;
	uint64_t features; /* offered by the device and wanted by us */
};

/** Where a ring lies and what signals it. */
struct vu_ring_setup {
	unsigned int index;
	uint32_t size;
	uint64_t desc; /* addresses in our address space */
	uint64_t avail;
	uint64_t used;
	int kick_fd;
	int call_fd;
};

/** Connect, waiting for the listener to come up, and agree on features. */
void vu_open(struct vu *vu, const char *path, uint64_t wanted, uint64_t deadline_ns);

/** Share @bytes of @memfd, mapped at @base, as guest-physical @gpa. */
void vu_share_memory(struct vu *vu, int memfd, const void *base, uint64_t gpa, uint64_t bytes);

/** Hand over a ring and start it. */
void vu_start_ring(struct vu *vu, const struct vu_ring_setup *ring);

/** Return when the device has handled all that was sent. */
void vu_barrier(struct vu *vu);

void vu_close(struct vu *vu);

#endif
