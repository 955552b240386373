// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_session.h - one front-end (VMM) connection: negotiation, memory table,
 * ring life cycle, replies.
 *
 * Knows nothing of vsock: the device behind it is reached through
 * struct vu_device_ops. A session that breaks a rule ends; the caller then
 * frees it and goes on listening.
 *
 * Context: everything on the owning loop's thread. Rings, the memory table and
 * the call descriptors are also used by other threads that hold the device's
 * lock, so the session changes any of them only between ops->lock() and
 * ops->unlock().
 */
#ifndef VHOST_USER_VU_SESSION_H
#define VHOST_USER_VU_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/log.h"
#include "loop/loop.h"
#include "virtio/vring.h"

#define VU_MAX_RINGS 3u /* vsock: rx, tx, event */

/** What the device behind a session tells it and is told. */
struct vu_device_ops {
	uint64_t features;       /* virtio feature bits offered, without bit 30 */
	uint32_t max_queue_size; /* SET_VRING_NUM beyond it ends the session */
	bool no_mem_slots;       /* CONFIGURE_MEM_SLOTS is not offered */
	bool iommu;              /* ACCESS_PLATFORM is, and the IOTLB that goes with it */
	/* of lines about refusals; outlives sessions, so that a new one has no new share */
	struct log_limit *refusals; /* NULL: none are written */

	/** Fill @buf with @len bytes of config space from @offset; beyond its end: zeros. */
	void (*config_read)(void *ctx, uint8_t *buf, uint32_t offset, uint32_t len);

	/** Keep other threads off rings, memory and call descriptors. Never nested. */
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);

	/** Ring @index is started and enabled; it may be processed now. */
	void (*ring_ready)(void *ctx, unsigned int index);
	/** Ring @index is about to stop; nothing may be in flight after return. */
	void (*ring_stopping)(void *ctx, unsigned int index);
	/** The driver kicked ring @index. */
	void (*ring_kicked)(void *ctx, unsigned int index);

	/** A new driver instance: the guest rebooted, or the VMM reset the device.
	 *  Every connection of the old one must end. */
	void (*device_reset)(void *ctx);

	/** The session is over (@reason: one static or session-owned line, for the
	 *  log). All rings are stopped. The receiver may call vu_session_free(). */
	void (*closed)(void *ctx, const char *reason);
};

struct vu_session;

/**
 * vu_session_new() - Serve a connected front-end
 * @loop: owning loop
 * @fd:   connected Unix stream socket; owned by the session, also on failure
 * @ops:  the device; outlives the session
 * @ctx:  passed to every op
 * @tag:  log tag such as "vm=3"; outlives the session
 *
 * Return: the session, or NULL with errno set
 */
struct vu_session *vu_session_new(struct loop *loop, int fd, const struct vu_device_ops *ops,
				  void *ctx, const char *tag) must_use;

/**
 * vu_session_free() - End it: stop rings (ring_stopping() is called for those
 * that run), unmap memory, close every descriptor
 *
 * Legal from within closed(); NULL is legal. closed() is not called by it.
 */
void vu_session_free(struct vu_session *session);

/** Ring @index (< VU_MAX_RINGS); its address is stable for the session's life. */
struct vring *vu_session_ring(struct vu_session *session, unsigned int index) must_use;

/** Whether ring @index is started and enabled. */
bool vu_session_ring_ready(const struct vu_session *session, unsigned int index) must_use;

/** Virtio features the driver acknowledged. */
uint64_t vu_session_features(const struct vu_session *session) must_use;

/** The guest's memory as the front-end described it; valid until its next message. */
const struct gmem *vu_session_memory(const struct vu_session *session) must_use;

/**
 * vu_session_notify() - Signal the driver that rings have used buffers
 * @rings: bit N: ring N
 *
 * Context: owner, or any thread between ops->lock() and ops->unlock()
 */
void vu_session_notify(struct vu_session *session, uint32_t rings);

/**
 * vu_session_ask() - Ask the front-end for translations that rings lack
 *
 * To be called when vring_asks() of a ring says so; it takes that back. Rings are
 * kicked when there is something to try. Owner only.
 */
void vu_session_ask(struct vu_session *session);

/** Signal that ring @index is broken (its error descriptor, if one was set). */
void vu_session_ring_error(struct vu_session *session, unsigned int index);

/**
 * vu_session_take_continued() - Whether a driver came that was in use before
 *
 * That is: ring 0 or 1 was started for the first time since the session or a new
 * driver began, and not at its beginning. True once.
 */
bool vu_session_take_continued(struct vu_session *session) must_use;

/** Whether the front-end has sent at least one complete message. */
bool vu_session_has_spoken(const struct vu_session *session) must_use;

/**
 * vu_session_signal_log() - Tell the front-end if pages were logged since
 *
 * Nothing without a descriptor from SET_LOG_FD. Context: as vu_session_notify(),
 * which does it too.
 */
void vu_session_signal_log(struct vu_session *session);

/** Whether the front-end truncated guest memory, or the log, under us: the session
 *  must end. What was read from there since is zeros. */
bool vu_session_memory_lost(const struct vu_session *session) must_use;

/** Whether the front-end has hung up already (its event may not have been
 *  handled yet); lets a new front-end take over at once. */
bool vu_session_hung_up(const struct vu_session *session) must_use;

#endif
