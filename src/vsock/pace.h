// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * pace.h - how many bytes one turn of a thread may move. Pure, inline.
 *
 * Theory of operation
 *
 * Long turns make few system calls and few interrupts, but a request that comes
 * in meanwhile waits for their end: half a megabyte is 200 us of copying. So a
 * bulk flow has long turns while it is alone, and short ones as long as small
 * messages of other flows pass through the same thread, whichever guest they
 * belong to.
 */
#ifndef VSOCK_PACE_H
#define VSOCK_PACE_H

#include <stdint.h>

#define PACE_ALONE_BYTES (512u * 1024u)
#define PACE_SHARED_BYTES (64u * 1024u) /* about 25 us */
#define PACE_SMALL_BYTES 4096u          /* a message, or the tail of a transfer */
#define PACE_MESSAGES 4u                /* small steps in a row that make a flow one of messages */
#define PACE_MEMORY 64u                 /* bulk steps until a quiet neighbour is forgotten */

/** What has passed through a thread lately. */
struct pace {
	uint32_t shared; /* bulk steps left for which turns stay short */
};

/**
 * pace_step() - A flow moved bytes, in either direction
 * @smalls: the flow's count of small steps since its last large one
 * @bytes:  of this step
 */
static inline void pace_step(struct pace *pace, uint8_t *smalls, uint32_t bytes)
{
	if (bytes > PACE_SMALL_BYTES) {
		*smalls = 0;
		if (pace->shared > 0)
			pace->shared--;
	} else if (*smalls < PACE_MESSAGES) {
		(*smalls)++;
	} else {
		pace->shared = PACE_MEMORY;
	}
}

/** Bytes that a turn may move in one direction. */
static inline uint32_t pace_bytes(const struct pace *pace)
{
	return pace->shared > 0 ? PACE_SHARED_BYTES : PACE_ALONE_BYTES;
}

#endif
