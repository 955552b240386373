// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * backend_kernel.c - the VMM's end of /dev/vhost-vsock. See backend.h.
 *
 * The kernel's worker reads and writes our memory by our own addresses: the
 * memory table is all the sharing there is. Guests are found by CID, programs of
 * the host reach them by AF_VSOCK sockets.
 */
#include "bench/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "bench/util.h"

static void request(const struct backend *b, unsigned long number, const void *argument,
		    const char *name)
{
	if (ioctl(b->fd, number, argument) < 0)
		die("%s: %s", name, strerror(errno));
}

static void open_device(struct backend *b, const char *path, uint64_t wanted, uint64_t deadline_ns)
{
	uint64_t offered = 0;

	(void)deadline_ns; /* it is there or it is not */
	b->fd = open(path, O_RDWR | O_CLOEXEC);
	if (b->fd < 0)
		die("%s: %s", path, strerror(errno));
	request(b, VHOST_SET_OWNER, NULL, "VHOST_SET_OWNER");
	request(b, VHOST_GET_FEATURES, &offered, "VHOST_GET_FEATURES");
	b->features = offered & wanted;
	request(b, VHOST_SET_FEATURES, &b->features, "VHOST_SET_FEATURES");
}

static void share_memory(struct backend *b, int memfd, const void *base, uint64_t gpa,
			 uint64_t bytes)
{
	struct vhost_memory *table =
		must_calloc(1, sizeof(*table) + sizeof(struct vhost_memory_region));

	(void)memfd;
	table->nregions = 1;
	table->regions[0].guest_phys_addr = gpa;
	table->regions[0].memory_size = bytes;
	table->regions[0].userspace_addr = (uintptr_t)base;
	request(b, VHOST_SET_MEM_TABLE, table, "VHOST_SET_MEM_TABLE");
	free(table);
}

static void start_ring(struct backend *b, const struct ring_setup *ring)
{
	struct vhost_vring_state state = { .index = ring->index, .num = ring->size };
	struct vhost_vring_file file = { .index = ring->index, .fd = ring->call_fd };
	struct vhost_vring_addr addr = {
		.index = ring->index,
		.desc_user_addr = ring->desc,
		.avail_user_addr = ring->avail,
		.used_user_addr = ring->used,
	};

	request(b, VHOST_SET_VRING_NUM, &state, "VHOST_SET_VRING_NUM");
	state.num = 0;
	request(b, VHOST_SET_VRING_BASE, &state, "VHOST_SET_VRING_BASE");
	request(b, VHOST_SET_VRING_ADDR, &addr, "VHOST_SET_VRING_ADDR");
	request(b, VHOST_SET_VRING_CALL, &file, "VHOST_SET_VRING_CALL");
	file.fd = ring->kick_fd;
	request(b, VHOST_SET_VRING_KICK, &file, "VHOST_SET_VRING_KICK");
}

static void finish(struct backend *b, uint32_t cid)
{
	uint64_t guest_cid = cid;
	int running = 1;

	request(b, VHOST_VSOCK_SET_GUEST_CID, &guest_cid, "VHOST_VSOCK_SET_GUEST_CID");
	request(b, VHOST_VSOCK_SET_RUNNING, &running, "VHOST_VSOCK_SET_RUNNING");
}

const struct backend_ops backend_kernel = {
	.open = open_device,
	.share_memory = share_memory,
	.start_ring = start_ring,
	.finish = finish,
};
