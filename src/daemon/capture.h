// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * capture.h - packets of a VM streamed to clients of the control socket.
 *
 * Context: the main thread, but for the writing of records, which happens where
 * the packets are.
 */
#ifndef DAEMON_CAPTURE_H
#define DAEMON_CAPTURE_H

#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "daemon/capture_ring.h"
#include "daemon/vm.h"
#include "loop/loop.h"

#define CAPTURE_MAX 8u /* at a time; each has a ring */
#define CAPTURE_MAX_PORTS 16u
#define CAPTURE_READER_MS 60000u /* packets wait, and not one byte is read: dropped */
#define CAPTURE_STALL_MS 10000u  /* the same at the end */

/** The captures of a daemon. Zero-initialised is closed. */
struct captures {
	struct loop *loop; /* of the main thread; NULL: closed */
	struct list all;
	uint32_t count; /* of those that have a ring */
};

struct capture;

/** What is wanted. */
struct capture_wish {
	uint32_t snaplen; /* CAPTURE_HEADER_BYTES or more */
	uint32_t port_count;
	uint32_t ports[CAPTURE_MAX_PORTS]; /* of either end; none: all packets */
};

void captures_open(struct captures *captures, struct loop *loop);

/** End all of them; workers may run, the main loop does not any more. Legal when closed. */
void captures_close(struct captures *captures);

/**
 * capture_begin() - Begin to keep the packets of a VM
 *
 * What is owed for it is capture_stream().
 *
 * Return: 0; -EBUSY: there are CAPTURE_MAX; -ENOMEM
 */
int capture_begin(struct captures *captures, struct vm *vm, const struct capture_wish *wish,
		  struct capture **made) must_use;

/**
 * capture_stream() - Send them to a client, until it or the VM goes
 * @ctx: the struct capture, which then takes care of itself
 * @fd:  a stream socket, taken; -1: the client is gone already
 */
void capture_stream(void *ctx, int fd);

#endif
