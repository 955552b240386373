// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_log.c - the log of written guest memory that the front-end shares: mapped,
 * given to the rings, taken away.
 *
 * May not mark anything: the rings do (virtio/dirty.c).
 *
 * Theory of operation: pages are logged while VHOST_F_LOG_ALL is acknowledged
 * and a log is there. Front-ends say the two in any order, and change either
 * while rings run; vu_log_settle() puts what holds into all rings, under the
 * lock, so a packet is logged wholly in the old log or wholly in the new one.
 * The front-end may use the old log's last bits once it has the answer.
 *
 * All of used and written memory is logged while logging is on, also where
 * VHOST_VRING_F_LOG is not set for a ring: a bit too many costs the front-end a
 * page, a bit too few costs the guest its memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vhost_user/vu_internal.h"

static bool is_logging(const struct vu_session *session)
{
	return session->log_memory.base != NULL &&
	       (session->features & bit64(VU_F_LOG_ALL_BIT)) != 0;
}

void vu_log_attach(struct vu_ring *ring)
{
	struct vu_session *session = ring->session;
	/* behind an IOMMU the address is an IOVA, like the others, and the log knows none */
	bool wanted = (ring->addr.flags & VU_RING_ADDR_F_LOG) != 0 && !vu_translates(session);

	vring_set_log(&ring->vring, is_logging(session) ? &session->log : NULL,
		      wanted ? ring->addr.log : VRING_NO_LOG_ADDR);
}

void vu_log_settle(struct vu_session *session)
{
	session->ops->lock(session->ctx);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_log_attach(&session->rings[i]);
	session->ops->unlock(session->ctx);
}

/* Another log from now on; the old one is unmapped when no ring uses it. */
static void replace(struct vu_session *session, const struct vu_mapping *mapping)
{
	struct vu_mapping old = session->log_memory;

	session->ops->lock(session->ctx);
	session->log_memory = *mapping;
	session->log = dirty_log_at(mapping->region.hva, mapping->region.size);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_log_attach(&session->rings[i]);
	session->ops->unlock(session->ctx);
	if (old.base != NULL)
		vu_mem_unmap(&old);
}

void vu_log_fini(struct vu_session *session)
{
	static const struct vu_mapping nothing;

	int fd = session->log_fd;

	replace(session, &nothing);
	session->ops->lock(session->ctx);
	session->log_fd = -1;
	session->ops->unlock(session->ctx);
	fd_close(&fd);
}

/* A log that is too small loses pages, and only the front-end can mend that. */
static void warn_if_small(const struct vu_session *session)
{
	const struct gmem *gmem = &session->mem.gmem;
	const struct gmem_region *top;
	uint64_t pages;

	if (gmem->count == 0 || session->ops->refusals == NULL)
		return;
	top = &gmem->regions[gmem->count - 1];
	pages = ((top->gpa + top->size - 1) >> DIRTY_PAGE_BITS) + 1;
	if (session->log.pages < pages)
		log_limited(session->ops->refusals, loop_now_ms(session->loop), LOG_WARNING,
			    session->tag,
			    "SET_LOG_BASE: the log is for %" PRIu64 " pages, the guest has %" PRIu64
			    ": what lies above is not logged",
			    session->log.pages, pages);
}

static const char *why(int err)
{
	switch (err) {
	case -EINVAL:
		return "is empty or wraps around";
	case -ENODEV:
		return "is no regular file";
	case -ENOTBLK:
		return "lies in no memfd, tmpfs, hugetlbfs or local disk";
	case -EFBIG:
		return "reaches beyond the end of its file";
	default:
		return strerror(-err);
	}
}

enum vu_outcome vu_set_log_base(struct vu_session *session, const struct vu_msg *msg)
{
	uint8_t reply[VU_MAX_REPLY];
	struct vu_mapping mapping;
	int ret = vu_mem_map(&msg->regions[0], session->fds[0], &mapping);

	if (ret < 0)
		return vu_refuse(session, "the log of 0x%" PRIx64 " bytes at 0x%" PRIx64 " %s",
				 msg->regions[0].size, msg->regions[0].mmap_offset, why(ret));
	replace(session, &mapping);
	warn_if_small(session);
	/* The one request that is answered whether or not that was asked for. */
	if (msg->need_reply)
		return VU_DONE;
	return vu_send(session, reply, vu_reply_u64(reply, msg->request, 0));
}

enum vu_outcome vu_set_log_fd(struct vu_session *session, const struct vu_msg *msg)
{
	int fd = fd_take(&session->fds[0]);
	int old = session->log_fd;
	int ret = loop_is_eventfd(session->loop, fd) ? fd_set_nonblocking(fd) : -EPERM;

	(void)msg;
	if (ret < 0) {
		fd_close(&fd);
		return vu_refuse(session, "cannot be signalled: %s", strerror(-ret));
	}
	session->ops->lock(session->ctx);
	session->log_fd = fd;
	session->ops->unlock(session->ctx);
	fd_close(&old);
	return VU_DONE;
}

void vu_session_signal_log(struct vu_session *session)
{
	if (session->log_fd >= 0 && dirty_take_touched(&session->log))
		loop_signal(session->loop, session->log_fd);
}
