// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * door.h - asks the broker to dial a host program's socket, without waiting.
 *
 * Context: everything on the owning loop's thread.
 */
#ifndef HOST_DOOR_H
#define HOST_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "loop/loop.h"

/* Dials of a VM under way at a time; their small answers fit any socket buffer. */
#define DOOR_MAX_CALLS 64u

/** Who waits for an answer; embedded in its owner. */
struct door_caller {
	bool waits;
};

struct door_call {
	struct door_caller *caller; /* NULL: nobody waits any more */
	uint32_t port;
	int32_t type;
};

struct door {
	struct loop *loop;
	struct loop_source source;
	/* @fd: connected, non-blocking, to be taken; -1 with @err, a -errno */
	void (*on_answer)(struct door_caller *caller, int err, int fd);
	struct loop_task send;
	struct door_call calls[DOOR_MAX_CALLS]; /* in order */
	unsigned int first;
	unsigned int count;
	unsigned int unsent; /* the last of them, which go together at the end of the turn */
	int fd;              /* -1: closed */
	bool used;           /* there is a broker: callers do not dial themselves */
};

/** Prepare; @fd of broker_open_door() is taken, -1: not used. Return: 0 or -errno. */
int door_open(struct door *door, struct loop *loop, int fd,
	      void (*on_answer)(struct door_caller *caller, int err, int fd)) must_use;

/** Close; nobody may wait any more. Legal when not open. */
void door_close(struct door *door);

/**
 * door_call() - Ask for a connection to a port, by a socket of @type (SOCK_*)
 *
 * Return: 0: on_answer() will be called, not before this returns; -EAGAIN: too
 *         many wait, try later; -EPIPE: the broker is gone
 */
int door_call(struct door *door, struct door_caller *caller, uint32_t port, int type) must_use;

/** Drop a call; its answer will be closed. Legal when it does not wait. */
void door_cancel(struct door *door, struct door_caller *caller);

#endif
