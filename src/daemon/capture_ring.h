// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * capture_ring.h - captured packets as bytes of a stream, in a bounded ring of
 * memory from those who handle packets to the one who sends them away.
 *
 * One thread writes at a time and one reads; neither waits for the other. A
 * record is there as a whole or not at all. Its layout is in docs/control.md.
 */
#ifndef DAEMON_CAPTURE_RING_H
#define DAEMON_CAPTURE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "virtio/iov.h"
#include "vsock/pkt.h"

#define CAPTURE_RING_BYTES (4u * 1024u * 1024u) /* a power of two */

#define CAPTURE_LINKTYPE 271u      /* LINKTYPE_VSOCK */
#define CAPTURE_RECORD_BYTES 24u   /* before each packet */
#define CAPTURE_VSOCKMON_BYTES 32u /* struct af_vsockmon_hdr */
#define CAPTURE_HEADER_BYTES (CAPTURE_VSOCKMON_BYTES + VSOCK_HDR_BYTES)
#define CAPTURE_MAX_PACKET (CAPTURE_HEADER_BYTES + VSOCK_MAX_PAYLOAD)

struct capture_ring {
	uint8_t *bytes;
	uint64_t written; /* atomic; the writer's */
	uint64_t read;    /* atomic; the reader's */
};

/** Return: 0 or -ENOMEM. */
int capture_ring_init(struct capture_ring *ring) must_use;

/** Free; nobody uses it. Legal on a zero-initialised one. */
void capture_ring_fini(struct capture_ring *ring);

/** What stands beside a packet in its record. */
struct capture_note {
	uint64_t time_ns;
	uint64_t lost;    /* packets so far */
	uint32_t snaplen; /* bytes of a packet that are kept, at least CAPTURE_HEADER_BYTES */
};

/**
 * capture_ring_packet() - Add a packet
 * @header:  as it is on the virtqueue
 * @payload: all of it
 *
 * Return: false when there is no room. Writer only
 */
bool capture_ring_packet(struct capture_ring *ring, const struct capture_note *note,
			 const uint8_t header[VSOCK_HDR_BYTES], struct iov_cursor payload) must_use;

/** Add the record that ends a stream. Return: false when there is no room. Writer only. */
bool capture_ring_end(struct capture_ring *ring, const struct capture_note *note) must_use;

/** What is there to be read. Return: pieces, 0 to 2. Reader only. */
size_t capture_ring_spans(struct capture_ring *ring, struct iovec spans[2]) must_use;

/** So many bytes have been read. Reader only. */
void capture_ring_consume(struct capture_ring *ring, size_t bytes);

/** Whether there is nothing to be read. Reader only. */
static inline bool capture_ring_is_empty(const struct capture_ring *ring)
{
	return __atomic_load_n(&ring->written, __ATOMIC_ACQUIRE) == ring->read;
}

#endif
