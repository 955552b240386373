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
 *
 * A guest's requests wait for its own bulk a second time: TX is one queue, and
 * bulk fills it with as much as its window lets it. So while messages pass
 * through a guest's TX, its bulk flows are told of less credit.
 */
#ifndef VSOCK_PACE_H
#define VSOCK_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_ALONE_BYTES (512u * 1024u)
#define PACE_SHARED_BYTES (64u * 1024u)  /* about 25 us */
#define PACE_SMALL_BYTES 4096u           /* a message, or the tail of a transfer */
#define PACE_MESSAGES 4u                 /* small steps in a row that make a flow one of messages */
#define PACE_SHARED_WINDOW (64u * 1024u) /* of bulk: what may wait before a message in TX */
#define PACE_MEMORY 64u                  /* bulk steps until a quiet neighbour is forgotten */

/** What has passed through a thread, or a guest's TX, lately. */
struct pace {
	uint32_t shared; /* bulk steps left for which turns stay short */
};

/**
 * pace_step() - A flow moved bytes, in either direction
 * @smalls: the flow's count of small steps since its last large one
 * @bytes:  of this step
 *
 * Return: whether it was a message: the flow has moved nothing else lately
 */
static inline bool pace_step(struct pace *pace, uint8_t *smalls, uint32_t bytes)
{
	if (bytes > PACE_SMALL_BYTES) {
		*smalls = 0;
		if (pace->shared > 0)
			pace->shared--;
	} else if (*smalls < PACE_MESSAGES) {
		(*smalls)++;
	} else {
		pace->shared = PACE_MEMORY;
		return true;
	}
	return false;
}

/**
 * pace_withheld() - Bytes of its window that a flow is not to be told of now
 * @pace:   of the guest's TX
 * @smalls: the flow's, see pace_step()
 * @window: what it may have under way otherwise
 */
static inline uint32_t pace_withheld(const struct pace *pace, uint8_t smalls, uint32_t window)
{
	bool bulk = pace->shared > 0 && smalls < PACE_MESSAGES;

	return bulk && window > PACE_SHARED_WINDOW ? window - PACE_SHARED_WINDOW : 0;
}

/** Bytes that a turn may move in one direction. */
static inline uint32_t pace_bytes(const struct pace *pace)
{
	return pace->shared > 0 ? PACE_SHARED_BYTES : PACE_ALONE_BYTES;
}

#endif
