// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_iotlb.c - a guest behind a virtual IOMMU: what the front-end says about its
 * I/O virtual addresses, and what it is asked.
 *
 * May not translate buffers; that is the rings' (virtio/vring_walk.c).
 *
 * Theory of operation
 *
 * With VIRTIO_F_ACCESS_PLATFORM every address of the driver is an IOVA: those in
 * descriptors, and those of the rings themselves. Translations are kept in the
 * session's iotlb, which changes under ops->lock() only. A translation is used
 * within one dispatch, or under that lock, and never kept; so an invalidation has
 * taken effect when its message has been handled, before it is acknowledged. What
 * is kept are the addresses of a running ring: after each IOTLB message they are
 * looked up again. A ring that moved goes on where it is; one that is not found
 * stalls until it is, and stays the driver's ring meanwhile: guests flush all of
 * their translations as they like, which shall end no connection.
 *
 * A ring lacks at most one translation at a time: of its own parts while it is not
 * ready, of the next chain while it runs. It is asked for once by a miss message,
 * on the channel that SET_BACKEND_REQ_FD gave. Each update makes every stalled
 * ring try again. Who has no answer after VU_MISS_TIMEOUT_MS breaks, if it runs.
 *
 * A front-end tells of what becomes invalid only while the device is started: QEMU stops
 * to listen to its IOMMU when it stops the rings, and a guest that boots again has the
 * same IOVAs elsewhere. So nothing is kept across a stop, and nothing that came meanwhile,
 * such as the late answer to a miss, across the SET_FEATURES that begins the next start.
 *
 * No reply is asked for, so nothing has to be read from that channel. A front-end
 * that does not read it is not waited for either: the miss is sent again later.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "base/checked.h"
#include "vhost_user/vu_internal.h"
#include "virtio/ring_spec.h"

#define MISS_RETRY_MS 100u

bool vu_translates(const struct vu_session *session)
{
	return session->features & bit64(VIRTIO_F_ACCESS_PLATFORM_BIT);
}

static enum vu_outcome vu_refuse_unoffered(struct vu_session *session)
{
	return vu_refuse(session, "%s", vu_verdict_text(VU_MSG_NOT_OFFERED));
}

/* What is none may have something behind it that makes us wait. */
static bool vu_is_unix_stream(int fd)
{
	socklen_t len = sizeof(int);
	int domain = 0;
	int type = 0;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && domain == AF_UNIX &&
	       type == SOCK_STREAM;
}

enum vu_outcome vu_set_backend_req_fd(struct vu_session *session, const struct vu_msg *msg)
{
	(void)msg;
	if (!session->ops->iommu)
		return vu_refuse_unoffered(session);
	if (!vu_is_unix_stream(session->fds[0]))
		return vu_refuse(session, "the descriptor is no Unix stream socket");
	fd_close(&session->backend_fd);
	session->backend_fd = fd_take(&session->fds[0]);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		session->rings[i].miss.asked = false; /* it was on the old one */
	return VU_DONE;
}

/* @at is what the ring lacks; the same as before, or a new one. */
static void vu_note_miss(struct vu_miss *miss, const struct iotlb_miss *at)
{
	bool same = miss->at.iova == at->iova && miss->at.access == at->access;

	miss->at = *at;
	miss->asked = miss->asked && same;
	miss->timed = miss->timed && same;
	miss->wanted = true;
}

uint8_t *vu_iotlb_locate(struct vu_ring *ring, uint64_t iova, uint64_t len, uint8_t access)
{
	struct iotlb_miss at = { 0 };
	struct iovec piece;
	int n = iotlb_iov(&ring->session->iotlb, iova, len, access, &piece, 1, &at);

	if (n == -EAGAIN && !ring->miss.wanted)
		vu_note_miss(&ring->miss, &at);
	if (n == -ENOBUFS && ring->session->ops->refusals != NULL)
		log_limited(ring->session->ops->refusals, loop_now_ms(ring->session->loop),
			    LOG_WARNING, ring->session->tag,
			    "ring %u is not in one piece of memory at 0x%" PRIx64, ring->index,
			    iova);
	return n == 1 ? piece.iov_base : NULL;
}

/* An IOTLB message changed something: every running ring is looked up again, and
 * tries what it could not do. */
static void vu_look_again(struct vu_session *session)
{
	session->ops->lock(session->ctx);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		struct vu_ring *ring = &session->rings[i];
		struct vring_layout layout;

		if (!ring->ready || !vu_translates(session))
			continue;
		if (vu_ring_locate(ring, &layout))
			vring_move(&ring->vring, &layout);
		else
			vring_lose(&ring->vring);
	}
	session->ops->unlock(session->ctx);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		if (session->rings[i].ready)
			session->ops->ring_kicked(session->ctx, i);
	}
}

static enum vu_outcome vu_iotlb_update(struct vu_session *session, const struct vu_iotlb *wire)
{
	const struct iotlb_entry entry = {
		.iova = wire->iova,
		.last = wire->iova + (wire->size - 1),
		.uva = wire->uva,
		.access = wire->access,
	};
	int err = wire->size == 0 ? -EINVAL : 0;

	session->ops->lock(session->ctx);
	if (err == 0)
		err = iotlb_update(&session->iotlb, &entry);
	session->ops->unlock(session->ctx);
	if (err < 0)
		return vu_refuse(session,
				 "0x%" PRIx64 " bytes at 0x%" PRIx64 " to 0x%" PRIx64 ": %s",
				 wire->size, wire->iova, wire->uva,
				 err == -EFAULT ? "not in memory" : strerror(-err));
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		struct vu_miss *miss = &session->rings[i].miss;

		/* answered: who misses it again has lost it again */
		if (miss->at.iova >= entry.iova && miss->at.iova <= entry.last)
			miss->asked = miss->timed = false;
	}
	return VU_DONE;
}

/* A range that is empty or wraps around is one that was too long for its number. */
static void vu_iotlb_invalidate(struct vu_session *session, const struct vu_iotlb *wire)
{
	uint64_t last = wire->iova + (wire->size - 1);

	if (wire->size == 0 || last < wire->iova)
		last = UINT64_MAX;
	session->ops->lock(session->ctx);
	iotlb_invalidate(&session->iotlb, wire->iova, last);
	session->ops->unlock(session->ctx);
}

enum vu_outcome vu_iotlb_msg(struct vu_session *session, const struct vu_msg *msg)
{
	enum vu_outcome outcome = VU_DONE;

	if (!session->ops->iommu)
		return vu_refuse_unoffered(session);
	if (msg->iotlb.type == VU_IOTLB_UPDATE)
		outcome = vu_iotlb_update(session, &msg->iotlb);
	else if (msg->iotlb.type == VU_IOTLB_INVALIDATE)
		vu_iotlb_invalidate(session, &msg->iotlb);
	else
		return vu_refuse(session, "type %u is none for a back-end", msg->iotlb.type);
	if (outcome == VU_DONE)
		vu_look_again(session);
	return outcome;
}

void vu_iotlb_renew(struct vu_session *session)
{
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		if (session->rings[i].started)
			return;
	}
	session->ops->lock(session->ctx);
	iotlb_invalidate(&session->iotlb, 0, UINT64_MAX);
	session->ops->unlock(session->ctx);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		memset(&session->rings[i].miss, 0, sizeof(session->rings[i].miss));
}

/* --- misses --- */

static int vu_tell(struct vu_session *session, const struct iotlb_miss *miss, uint8_t type)
{
	const struct vu_iotlb wire = {
		.iova = miss->iova,
		.size = 1,
		.access = miss->access,
		.type = type,
	};
	uint8_t message[VU_MAX_REPLY];
	size_t bytes = vu_build_iotlb(message, &wire);

	if (session->backend_fd < 0)
		return -ENOTCONN;
	return fd_send(session->backend_fd, message, bytes, -1);
}

/* What a running ring lacks becomes its miss. */
static void vu_take_miss(struct vu_ring *ring)
{
	struct vu_session *session = ring->session;
	struct vring *vring = &ring->vring;
	struct iotlb_miss at;
	bool asks;
	bool denied;

	session->ops->lock(session->ctx);
	asks = ring->ready && vring->asks;
	denied = vring->denied;
	at = vring->miss;
	vring->asks = false;
	session->ops->unlock(session->ctx);
	if (asks && denied)
		(void)!vu_tell(session, &at, VU_IOTLB_ACCESS_FAIL);
	else if (asks)
		vu_note_miss(&ring->miss, &at);
}

/* A ring that runs breaks; another is asked for after the next message. */
static void vu_give_up(struct vu_ring *ring)
{
	struct vu_session *session = ring->session;

	ring->miss.asked = ring->miss.timed = ring->miss.wanted = false;
	if (session->ops->refusals != NULL)
		log_limited(session->ops->refusals, loop_now_ms(session->loop), LOG_WARNING,
			    session->tag,
			    "ring %u: the front-end did not say in %u ms where 0x%" PRIx64 " is",
			    ring->index, VU_MISS_TIMEOUT_MS, ring->miss.at.iova);
	if (ring->vring.lost)
		vu_ring_pause(ring);
	if (!ring->ready)
		return;
	session->ops->lock(session->ctx);
	vring_forsake(&ring->vring);
	session->ops->unlock(session->ctx);
	session->ops->ring_kicked(session->ctx, ring->index);
}

/* Return: milliseconds until this ring is to be looked at again, 0: not by time. */
static uint32_t vu_ask_for(struct vu_ring *ring)
{
	struct vu_session *session = ring->session;
	uint64_t now = loop_now_ms(session->loop);
	struct vu_miss *miss = &ring->miss;

	vu_take_miss(ring);
	if (!miss->wanted)
		return 0;
	if (!miss->timed)
		miss->deadline = now + VU_MISS_TIMEOUT_MS;
	miss->timed = true;
	if (miss->deadline <= now) {
		vu_give_up(ring);
		return 0;
	}
	if (!miss->asked)
		miss->asked = vu_tell(session, &miss->at, VU_IOTLB_MISS) == 0;
	return miss->asked ? (uint32_t)(miss->deadline - now) : MISS_RETRY_MS;
}

void vu_session_ask(struct vu_session *session)
{
	uint32_t soonest = UINT32_MAX;

	if (!vu_translates(session))
		return;
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		uint32_t delay = vu_ask_for(&session->rings[i]);

		if (delay > 0)
			soonest = min_u32(soonest, delay);
	}
	if (soonest == UINT32_MAX)
		loop_disarm(session->loop, &session->misses);
	else
		(void)!loop_arm(session->loop, &session->misses, soonest);
}

static void vu_on_time(struct timer *timer)
{
	vu_session_ask(container_of(timer, struct vu_session, misses));
}

void vu_iotlb_init(struct vu_session *session)
{
	session->iotlb.memory = &session->mem.gmem;
	session->misses.on_expire = vu_on_time;
	session->backend_fd = -1;
}

void vu_iotlb_fini(struct vu_session *session)
{
	loop_disarm(session->loop, &session->misses);
	iotlb_fini(&session->iotlb);
	fd_close(&session->backend_fd);
}
