// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * backend.h - the VMM's part: hands a guest's memory and rings to whoever is its
 * vsock device. Just what starting the device takes, in QEMU's order; knows
 * nothing of what the rings carry.
 *
 * backend_user.c speaks vhost-user to a daemon, backend_kernel.c uses the
 * ioctls of /dev/vhost-vsock. Both are handed the very same memory and rings.
 */
#ifndef BENCH_BACKEND_H
#define BENCH_BACKEND_H

#include <stddef.h>
#include <stdint.h>

struct backend_ops;

/** One device. */
struct backend {
	const struct backend_ops *ops;
	int fd;
	uint64_t features; /* offered by the device and wanted by us */
};

/** Where a ring lies and what signals it. */
struct ring_setup {
	unsigned int index;
	uint32_t size;
	uint64_t desc; /* addresses in our address space */
	uint64_t avail;
	uint64_t used;
	int kick_fd;
	int call_fd;
};

/** How a kind of device is set up; in the order of the members. */
struct backend_ops {
	/** Open what @path names, waiting for it to come up, and agree on features. */
	void (*open)(struct backend *b, const char *path, uint64_t wanted, uint64_t deadline_ns);
	/** Share @bytes of @memfd, mapped at @base, as guest-physical @gpa. */
	void (*share_memory)(struct backend *b, int memfd, const void *base, uint64_t gpa,
			     uint64_t bytes);
	/** Hand over a ring. */
	void (*start_ring)(struct backend *b, const struct ring_setup *ring);
	/** All is handed over; return when the device is at work, for the guest @cid. */
	void (*finish)(struct backend *b, uint32_t cid);
};

/** A daemon behind a vhost-user socket. */
extern const struct backend_ops backend_user;

/** The kernel's device; @path is the name of its character device. */
extern const struct backend_ops backend_kernel;

#endif
