// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_internal.h - what the files of a session share: the session itself, its
 * rings, and how a request can turn out.
 *
 * Private to vhost_user/ and its tests; everybody else includes vu_session.h.
 *
 * vu_session.c receives, replies and ends; vu_request.c gives each request its
 * meaning; vu_ring.c starts and stops rings; vu_mem.c maps memory; vu_log.c
 * says where written pages are logged.
 */
#ifndef VHOST_USER_VU_INTERNAL_H
#define VHOST_USER_VU_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "base/log.h"
#include "loop/loop.h"
#include "vhost_user/vu_mem.h"
#include "vhost_user/vu_msg.h"
#include "vhost_user/vu_session.h"

/** A message begun must be complete after this long. */
#define VU_MESSAGE_DEADLINE_MS 5000u

/** A front-end asked for a translation must have answered after this long. */
#define VU_MISS_TIMEOUT_MS 5000u

/**
 * From SET_DEVICE_STATE_FD to the end of what is loaded. The bytes come with a
 * migration's stream, so this outlasts a network that is gone for a while.
 */
#define VU_STATE_TIMEOUT_MS 60000u

/** Messages handled before other sources of the loop have their turn. */
#define VU_MESSAGES_PER_TURN 16u

#define VU_REASON_BYTES 160u

/** Where a driver is told things; it says nothing about whether the driver is new. */
#define VU_EVENT_RING 2u

/** What SET_VRING_ENABLE said last. */
enum vu_enable {
	VU_ENABLE_UNSAID, /* then enabled unless bit 30 was acknowledged */
	VU_ENABLE_OFF,
	VU_ENABLE_ON,
};

/** All that a state of the device has. */
#define VU_SAVED_BYTES 32u

/** A state on its way. */
struct vu_state {
	int fd; /* the channel that is being read, or -1 */
	struct loop_source source;
	struct timer deadline;             /* armed while fd is there */
	uint8_t bytes[VU_SAVED_BYTES + 1]; /* one more tells that it is too long */
	size_t have;
	bool ended;   /* the front-end closed its end */
	bool late;    /* it did not in time */
	bool loading; /* and has not asked how it went */
	bool saved;
};

/** What a ring needs to know of the front-end before it can go on. */
struct vu_miss {
	struct iotlb_miss at;
	bool wanted;       /* otherwise it is one of the past */
	bool asked;        /* the front-end was told */
	bool timed;        /* the deadline is for this one */
	uint64_t deadline; /* by loop_now_ms() */
};

/** One ring as the front-end describes it, and the running one. */
struct vu_ring {
	struct vring vring; /* changed under ops->lock() only */
	bool ready;         /* likewise: vring runs, the device may use it */
	int call_fd;        /* likewise */
	int err_fd;         /* likewise */
	int kick_fd;        /* -1: none, or the driver is said to be polled */
	bool started;       /* SET_VRING_KICK came, no GET_VRING_BASE since */
	bool addressed;     /* SET_VRING_ADDR came */
	bool ran;           /* was ready since the last new driver instance */
	enum vu_enable enable;
	uint32_t size; /* entries, 0 before SET_VRING_NUM */
	uint32_t base; /* vring_base() while the ring is not ready */
	struct vu_ring_addr addr;
	struct vu_miss miss;
	unsigned int index;
	struct vu_session *session;
	struct loop_source kick;
};

struct vu_session {
	struct vu_ring rings[VU_MAX_RINGS];
	struct vu_mem mem;            /* changed under ops->lock() only */
	struct vu_mapping log_memory; /* likewise; base NULL: no log was given */
	struct dirty_log log;         /* likewise; in log_memory */
	int log_fd;                   /* likewise; signalled when pages were logged, or -1 */
	struct iotlb iotlb;           /* likewise */

	const struct vu_device_ops *ops;
	void *ctx;
	const char *tag;
	struct loop *loop;

	uint64_t features; /* acknowledged */
	uint64_t protocol_features;
	uint64_t status;
	bool features_set; /* SET_FEATURES came; no ring runs before it */
	struct vu_state state;
	bool spoken;    /* a complete message came */
	bool continued; /* vu_session_take_continued() */
	bool over;      /* closed() was called or is about to be */

	int fd;
	struct loop_source source;
	struct timer deadline; /* armed while half a message is there */
	struct timer misses;   /* armed while a translation is asked for */
	int backend_fd;        /* for requests of ours; -1: none */

	/* the message being received or handled */
	struct vu_header header; /* valid once received >= VU_HEADER_BYTES */
	uint32_t received;       /* bytes in buffer */
	size_t n_fds;
	int fds[FD_RECV_MAX]; /* those not taken by a handler are closed */
	uint8_t buffer[VU_HEADER_BYTES + VU_MAX_PAYLOAD];
	char reason[VU_REASON_BYTES]; /* of the last refusal or of the end */
};

/** How a request turned out. */
enum vu_outcome {
	VU_DONE,    /* acknowledge if asked for */
	VU_REPLIED, /* it had a reply of its own */
	VU_REFUSED, /* nothing changed; NACK if asked for, else the end */
	VU_FATAL,   /* the end in any case */
};

/* vu_session.c */

/**
 * vu_refuse() - Say why the request at hand is refused
 *
 * The reason becomes "NAME: " and the text.
 * Return: VU_REFUSED
 */
enum vu_outcome vu_refuse(struct vu_session *session, const char *fmt, ...) printf_like(2, 3);

/** Send @bytes of a reply. Return: VU_REPLIED, or VU_FATAL with the reason set. */
enum vu_outcome vu_send(struct vu_session *session, const uint8_t *reply, size_t bytes) must_use;

/* vu_request.c */

/** Carry out a parsed request; takes descriptors out of session->fds. */
enum vu_outcome vu_handle(struct vu_session *session, const struct vu_msg *msg) must_use;

/** Features that a driver may have acknowledged. */
uint64_t vu_acceptable(const struct vu_session *session) must_use;

/** Another driver than the one that used the rings so far. */
void vu_new_driver(struct vu_session *session);

/* vu_state.c */

void vu_state_init(struct vu_session *session);

/** Close the channel; legal without one. */
void vu_state_fini(struct vu_session *session);

/** The requests of this name, as in vu_handle(). */
enum vu_outcome vu_set_device_state_fd(struct vu_session *session, const struct vu_msg *msg)
	must_use;
enum vu_outcome vu_check_device_state(struct vu_session *session, const struct vu_msg *msg)
	must_use;

/* vu_iotlb.c */

/** SET_BACKEND_REQ_FD. */
enum vu_outcome vu_set_backend_req_fd(struct vu_session *session, const struct vu_msg *msg)
	must_use;

/** IOTLB_MSG. */
enum vu_outcome vu_iotlb_msg(struct vu_session *session, const struct vu_msg *msg) must_use;

/** Whether ring and buffer addresses are IOVAs. */
bool vu_translates(const struct vu_session *session) must_use;

/** Forget all translations, unless a ring is started: without one nobody tells of changes. */
void vu_iotlb_renew(struct vu_session *session);

/** Where @len bytes of a ring lie, in one stretch; NULL: not there, or not yet. */
uint8_t *vu_iotlb_locate(struct vu_ring *ring, uint64_t iova, uint64_t len, uint8_t access)
	must_use;

/** Prepare a new session's. */
void vu_iotlb_init(struct vu_session *session);

/** Close and free. */
void vu_iotlb_fini(struct vu_session *session);

/* vu_ring.c */

/** Where @ring lies now. Return: false if that is not known, or it cannot lie there */
bool vu_ring_locate(struct vu_ring *ring, struct vring_layout *layout) must_use;

/** Make @ring empty and stopped. */
void vu_ring_init(struct vu_ring *ring, struct vu_session *session, unsigned int index);

/** Start @ring if it is described, started, enabled and its memory is there. */
void vu_ring_settle(struct vu_ring *ring);

/** Stop processing; the position is kept and vu_ring_settle() may start it
 *  again. Legal when the ring is not ready. */
void vu_ring_pause(struct vu_ring *ring);

/** vu_ring_pause() for every ring. */
void vu_rings_pause(struct vu_session *session);

/** Pause and forget the kick: GET_VRING_BASE. */
void vu_ring_stop(struct vu_ring *ring);

/**
 * vu_ring_set_kick() - Start on @fd, which is taken; -1: the driver is polled
 *
 * Return: 0, or -errno when it cannot be watched: closed, the ring not started
 */
int vu_ring_set_kick(struct vu_ring *ring, int fd) must_use;

/** Signal used buffers through @fd, which is taken; -1: no more.
 *  Return: 0, or -errno with @fd closed and nothing changed. */
int vu_ring_set_call(struct vu_ring *ring, int fd) must_use;

/** As vu_ring_set_call(), for a broken ring. */
int vu_ring_set_err(struct vu_ring *ring, int fd) must_use;

/** Whether a ready ring lies in this mapping, be it in part. */
bool vu_ring_uses(const struct vu_ring *ring, const struct vu_mapping *mapping) must_use;

/** Back to the state after vu_ring_init(), but for call and error descriptors. */
void vu_ring_reset(struct vu_ring *ring);

/* vu_log.c */

/** Tell @ring, just started, what to log. Between ops->lock() and ops->unlock(). */
void vu_log_attach(struct vu_ring *ring);

/** The same for all rings after features or ring flags changed; takes the lock. */
void vu_log_settle(struct vu_session *session);

/** Forget the log; legal without one. */
void vu_log_fini(struct vu_session *session);

/** The requests of this name, as in vu_handle(). */
enum vu_outcome vu_set_log_base(struct vu_session *session, const struct vu_msg *msg) must_use;
enum vu_outcome vu_set_log_fd(struct vu_session *session, const struct vu_msg *msg) must_use;

/** Pause and close everything. */
void vu_ring_fini(struct vu_ring *ring);

#endif
