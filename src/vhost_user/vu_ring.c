// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_ring.c - the life of one ring: kick, call and error descriptors, start,
 * pause, stop.
 *
 * May not know requests. Everything another thread may look at changes between
 * ops->lock() and ops->unlock(); the device is told outside of them.
 *
 * Theory of operation: a ring is *ready* while all of this holds: features were
 * set, it has a size and addresses, it was started by a kick descriptor, it is
 * enabled, and its three parts lie in mapped memory, aligned. Front-ends set
 * these in any order, so nobody starts a ring directly: each message changes a
 * condition, and vu_ring_settle() is called after every message. Whatever may
 * not change under a running ring is changed after vu_ring_pause().
 *
 * The kick eventfd is watched edge-triggered and never read: each signal of
 * the driver is one event, and one that came before we watched is reported once.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vhost_user/vu_internal.h"
#include "virtio/ring_spec.h"

static void vu_ring_on_kick(struct loop_source *source, uint32_t events)
{
	struct vu_ring *ring = container_of(source, struct vu_ring, kick);
	struct vu_session *session = ring->session;

	/* EPOLLERR, too, is a kick: an eventfd reports a full counter so. */
	(void)events;
	if (ring->ready)
		session->ops->ring_kicked(session->ctx, ring->index);
}

void vu_ring_init(struct vu_ring *ring, struct vu_session *session, unsigned int index)
{
	memset(ring, 0, sizeof(*ring));
	ring->call_fd = -1;
	ring->err_fd = -1;
	ring->kick_fd = -1;
	ring->index = index;
	ring->session = session;
	ring->kick.on_event = vu_ring_on_kick;
	ring->kick.fd = -1;
}

static bool vu_ring_is_enabled(const struct vu_ring *ring)
{
	uint64_t acked = ring->session->features;

	if (ring->enable == VU_ENABLE_UNSAID)
		return (acked & bit64(VU_F_PROTOCOL_FEATURES_BIT)) == 0;
	return ring->enable == VU_ENABLE_ON;
}

/* Whether the front-end has said all that a running ring needs. */
static bool vu_ring_is_wanted(const struct vu_ring *ring)
{
	return ring->session->features_set && ring->size != 0 && ring->addressed && ring->started &&
	       vu_ring_is_enabled(ring);
}

static uint8_t *vu_ring_part(struct vu_ring *ring, uint64_t addr, uint64_t len, uint8_t access)
{
	if (vu_translates(ring->session))
		return vu_iotlb_locate(ring, addr, len, access);
	return gmem_from_uva(&ring->session->mem.gmem, addr, len);
}

bool vu_ring_locate(struct vu_ring *ring, struct vring_layout *layout)
{
	uint64_t features = ring->session->features;
	struct vring_extent extent = vring_extent(ring->size, features);
	/* a packed ring's descriptors are written to */
	bool packed = features & bit64(VIRTIO_F_RING_PACKED_BIT);
	uint8_t desc_access = packed ? IOTLB_READ | IOTLB_WRITE : IOTLB_READ;

	ring->miss.wanted = false;
	layout->desc = vu_ring_part(ring, ring->addr.desc, extent.desc, desc_access);
	layout->avail = vu_ring_part(ring, ring->addr.avail, extent.avail, IOTLB_READ);
	layout->used = vu_ring_part(ring, ring->addr.used, extent.used, IOTLB_READ | IOTLB_WRITE);
	return vring_check_layout(ring->size, layout, features) == 0;
}

/* Whether no driver has ever used it. The upper half of a packed ring's position may
 * be left out. */
static bool vu_ring_is_at_start(const struct vu_ring *ring)
{
	if ((ring->session->features & bit64(VIRTIO_F_RING_PACKED_BIT)) == 0)
		return ring->base == 0;
	return (ring->base & UINT16_MAX) == VRING_PACKED_WRAP;
}

void vu_ring_settle(struct vu_ring *ring)
{
	struct vu_session *session = ring->session;
	struct vring_layout layout;
	int ret;

	if (ring->ready || !vu_ring_is_wanted(ring))
		return;
	if (!vu_ring_locate(ring, &layout)) {
		log_debug(session->tag, "ring %u waits for the memory it lies in", ring->index);
		return;
	}
	session->ops->lock(session->ctx);
	ret = vring_start(&ring->vring, ring->size, &layout, &session->mem.gmem, ring->base,
			  session->features);
	ring->ready = ret == 0;
	if (ring->ready && vu_translates(session))
		vring_use_iotlb(&ring->vring, &session->iotlb);
	vu_log_attach(ring);
	session->ops->unlock(session->ctx);
	if (ret < 0 && session->ops->refusals != NULL)
		log_limited(session->ops->refusals, loop_now_ms(session->loop), LOG_WARNING,
			    session->tag, "ring %u cannot start at 0x%" PRIx32 ": %s", ring->index,
			    ring->base, strerror(-ret));
	if (ret < 0)
		return;
	if (!ring->ran && ring->index < VU_EVENT_RING && !vu_ring_is_at_start(ring))
		session->continued = true;
	ring->ran = true;
	session->ops->ring_ready(session->ctx, ring->index);
}

void vu_ring_pause(struct vu_ring *ring)
{
	struct vu_session *session = ring->session;

	if (!ring->ready)
		return;
	session->ops->ring_stopping(session->ctx, ring->index);
	session->ops->lock(session->ctx);
	vring_stop(&ring->vring);
	ring->base = vring_base(&ring->vring);
	ring->ready = false;
	session->ops->unlock(session->ctx);
	ring->miss.wanted = false;
}

void vu_rings_pause(struct vu_session *session)
{
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_ring_pause(&session->rings[i]);
}

static void vu_ring_drop_kick(struct vu_ring *ring)
{
	loop_del(ring->session->loop, &ring->kick);
	fd_close(&ring->kick_fd);
	ring->started = false;
}

void vu_ring_stop(struct vu_ring *ring)
{
	vu_ring_pause(ring);
	vu_ring_drop_kick(ring);
}

int vu_ring_set_kick(struct vu_ring *ring, int fd)
{
	struct vu_session *session = ring->session;
	int ret;

	vu_ring_drop_kick(ring);
	if (fd >= 0 && !loop_is_eventfd(session->loop, fd)) {
		fd_close(&fd);
		return -EPERM;
	}
	if (fd >= 0) {
		ret = loop_add(session->loop, &ring->kick, fd, EPOLLIN | EPOLLET);
		if (ret < 0) {
			fd_close(&fd);
			return ret;
		}
	}
	ring->kick_fd = fd;
	ring->started = true;
	/* A running ring may have been kicked through the old descriptor. */
	if (ring->ready)
		session->ops->ring_kicked(session->ctx, ring->index);
	return 0;
}

/* Put @fd in a slot that other threads read under the lock. */
static void vu_ring_swap_fd(struct vu_ring *ring, int *slot, int fd)
{
	struct vu_session *session = ring->session;
	int old;

	session->ops->lock(session->ctx);
	old = *slot;
	*slot = fd;
	session->ops->unlock(session->ctx);
	fd_close(&old);
}

/* The same for one that a peer gave us: it may not block us with an eventfd
 * whose counter is full. */
static int vu_ring_adopt_fd(struct vu_ring *ring, int *slot, int fd)
{
	int ret = fd < 0 ? 0 : fd_set_nonblocking(fd);

	if (ret < 0) {
		fd_close(&fd);
		return ret;
	}
	vu_ring_swap_fd(ring, slot, fd);
	return 0;
}

int vu_ring_set_call(struct vu_ring *ring, int fd)
{
	bool was_mute = ring->call_fd < 0;
	int ret = vu_ring_adopt_fd(ring, &ring->call_fd, fd);

	/* What was used while nobody could be told would wait for ever. */
	if (ret == 0 && was_mute && ring->ready)
		vu_session_notify(ring->session, 1u << ring->index);
	return ret;
}

int vu_ring_set_err(struct vu_ring *ring, int fd)
{
	return vu_ring_adopt_fd(ring, &ring->err_fd, fd);
}

static bool vu_ring_lies_in(const uint8_t *part, const struct gmem_region *region)
{
	uintptr_t start = (uintptr_t)region->hva;

	return (uintptr_t)part >= start && (uintptr_t)part - start < region->size;
}

bool vu_ring_uses(const struct vu_ring *ring, const struct vu_mapping *mapping)
{
	/* Each part lies within one region, so its first byte decides. */
	return ring->ready && (vu_ring_lies_in(ring->vring.desc, &mapping->region) ||
			       vu_ring_lies_in(ring->vring.avail, &mapping->region) ||
			       vu_ring_lies_in(ring->vring.used, &mapping->region));
}

void vu_ring_reset(struct vu_ring *ring)
{
	vu_ring_stop(ring);
	ring->addressed = false;
	ring->ran = false;
	ring->enable = VU_ENABLE_UNSAID;
	ring->size = 0;
	ring->base = 0;
}

void vu_ring_fini(struct vu_ring *ring)
{
	/* Descriptors are never taken from under a thread that holds the lock. */
	vu_ring_stop(ring);
	vu_ring_swap_fd(ring, &ring->call_fd, -1);
	vu_ring_swap_fd(ring, &ring->err_fd, -1);
}
