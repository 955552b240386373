// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vq.h - the driver side of a split virtqueue, as Linux's virtio_ring does it:
 * same order of stores, kicks and interrupts suppressed by event index.
 *
 * It trusts the device, but for lengths and indices: a device that breaks the
 * ring ends the benchmark. Spec: virtio 1.3, "Split Virtqueues"
 */
#ifndef BENCH_VQ_H
#define BENCH_VQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VQ_MAX_SIZE 1024u
#define VQ_MAX_PIECES 20u /* of one chain: a header and 64 KiB in pages */

/** A buffer for the device. */
struct vq_piece {
	uint64_t gpa;
	uint32_t bytes;
};

struct vq {
	uint8_t *desc;
	uint8_t *avail;
	uint8_t *used;
	uint8_t *tables; /* indirect tables, VQ_MAX_PIECES entries for each head; or NULL */
	uint64_t tables_gpa;
	uint16_t size;
	uint16_t free_head;
	uint16_t free_count;
	uint16_t avail_idx;  /* published */
	uint16_t kicked_idx; /* avail_idx at the last decision to kick */
	uint16_t last_used;
	bool event_idx;
	bool writable;  /* the device writes (RX) */
	bool callbacks; /* we want to be told of used buffers */
	int kick_fd;
	uint64_t kicks;
	uint16_t next[VQ_MAX_SIZE];   /* free list, and chains in use */
	uint16_t length[VQ_MAX_SIZE]; /* descriptors of the chain that begins here */
	uint32_t token[VQ_MAX_SIZE];  /* what the caller called it */
};

/** Bytes of memory a queue of @size needs, indirect tables included. */
size_t vq_bytes(uint16_t size, bool indirect);

/** Lay the queue out at @memory (zeroed, 4096-aligned), which is at @gpa. */
void vq_init(struct vq *vq, uint16_t size, uint8_t *memory, uint64_t gpa, bool event_idx,
	     bool indirect);

/** Make @count pieces available. Return: false when the ring is full. */
bool vq_add(struct vq *vq, const struct vq_piece *pieces, size_t count, uint32_t token);

/** Kick if the device wants one for what was added since the last call. */
void vq_kick(struct vq *vq);

/** The next used chain. Return: false when there is none. */
bool vq_take(struct vq *vq, uint32_t *token, uint32_t *bytes);

/** Used chains may come without an interrupt. */
void vq_disable_callbacks(struct vq *vq);

/** The next used chain is to raise one. Return: false if one is there already. */
bool vq_enable_callbacks(struct vq *vq);

/** Print the state both sides see, for whoever asks why nothing moves. */
void vq_explain(const struct vq *vq, const char *name);

#endif
