// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * events.h - what happened to VMs and connections, from a worker's thread to the
 * main thread that tells subscribers.
 *
 * A queue has one writer, its worker, and one reader, the main thread. It is
 * bounded: what does not fit is counted and lost. While nobody listens nothing
 * is written.
 */
#ifndef DAEMON_EVENTS_H
#define DAEMON_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "loop/loop.h"

#define EVENT_QUEUE_LENGTH 1024u /* a power of two */
#define EVENT_REASON_BYTES 96u

enum event_kind {
	EVENT_VM_UP,
	EVENT_VM_DOWN,
	EVENT_CONNECTION_OPENED,
	EVENT_CONNECTION_CLOSED,
	EVENT_CONNECTION_REFUSED,
	EVENT_KIND_COUNT
};

struct event {
	enum event_kind kind;
	uint32_t cid;
	uint32_t guest_port; /* of connections; 0: none yet */
	uint32_t host_port;
	uint32_t sibling; /* 0: it is with the host */
	bool by_guest;    /* who asked for it */
	char reason[EVENT_REASON_BYTES];
};

/** Zero-initialised it exists and can be neither switched on nor written to. */
struct event_queue {
	struct event *ring; /* NULL: nobody may ever listen */
	struct loop *reader;
	struct loop_msg ready; /* to the reader */
	void *ctx;             /* for it */
	bool on;               /* atomic: somebody listens */
	bool posted;           /* atomic: ready is on its way */
	uint32_t written;      /* atomic; the writer's */
	uint32_t read;         /* atomic; the reader's */
	uint32_t end;          /* of the reading that has begun; the reader's */
	uint32_t lost;         /* atomic */
};

/** Make room; @deliver runs on @reader's loop when there is something to read.
 *  Return: 0 or -ENOMEM. */
int event_queue_init(struct event_queue *queue, struct loop *reader,
		     void (*deliver)(struct loop_msg *msg), void *ctx) must_use;

/** Free; neither writer nor reader runs. Legal on a zero-initialised one. */
void event_queue_fini(struct event_queue *queue);

/** Whether events are wanted; the writer asks before it makes one. */
static inline bool event_queue_is_on(const struct event_queue *queue)
{
	return __atomic_load_n(&queue->on, __ATOMIC_RELAXED);
}

/** Begin or end to want events. Reader only. */
void event_queue_switch(struct event_queue *queue, bool on);

/** Add one; lost when the queue is full. Writer only. */
void event_queue_write(struct event_queue *queue, const struct event *event);

/** To be called by deliver() before it reads: what was written so far. Reader only. */
void event_queue_begin(struct event_queue *queue);

/** Take one. Return: false when there is none of those written before
 *  event_queue_begin(); for later ones deliver() is called again. Reader only. */
bool event_queue_read(struct event_queue *queue, struct event *event) must_use;

/** How many were lost since the last call. Reader only. */
uint32_t event_queue_take_lost(struct event_queue *queue);

#endif
