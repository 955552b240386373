// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * capture_ring.c - ring of bytes, and the records in it. No lock, no system call
 * but for the heap at begin and end.
 */
#include "daemon/capture_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"

/* linux/vsockmon.h: enum af_vsockmon_op and the transport */
enum vsockmon_op {
	VSOCKMON_UNKNOWN = 0,
	VSOCKMON_CONNECT = 1,
	VSOCKMON_DISCONNECT = 2,
	VSOCKMON_CONTROL = 3,
	VSOCKMON_PAYLOAD = 4,
};
#define VSOCKMON_VIRTIO 2u

int capture_ring_init(struct capture_ring *ring)
{
	*ring = (struct capture_ring){ .bytes = calloc(1, CAPTURE_RING_BYTES) };
	return ring->bytes == NULL ? -ENOMEM : 0;
}

void capture_ring_fini(struct capture_ring *ring)
{
	free(ring->bytes);
	ring->bytes = NULL;
}

/** A record being written; nobody sees it before commit(). */
struct writing {
	struct capture_ring *ring;
	uint64_t at;
};

static bool begin(struct writing *writing, struct capture_ring *ring, size_t bytes)
{
	uint64_t used = ring->written - __atomic_load_n(&ring->read, __ATOMIC_ACQUIRE);

	*writing = (struct writing){ .ring = ring, .at = ring->written };
	return bytes <= CAPTURE_RING_BYTES - used;
}

static void commit(const struct writing *writing)
{
	__atomic_store_n(&writing->ring->written, writing->at, __ATOMIC_RELEASE);
}

static void put_cursor(struct writing *writing, struct iov_cursor *from, size_t bytes)
{
	while (bytes > 0) {
		size_t offset = writing->at % CAPTURE_RING_BYTES;
		size_t part = min_size(bytes, CAPTURE_RING_BYTES - offset);

		(void)iov_copy_out(from, writing->ring->bytes + offset, part);
		writing->at += part;
		bytes -= part;
	}
}

static void put(struct writing *writing, const void *bytes, size_t count)
{
	const struct iovec piece = { (void *)(uintptr_t)bytes, count };
	struct iov_cursor from = iov_begin(&piece, 1);

	put_cursor(writing, &from, count);
}

static void put_note(struct writing *writing, const struct capture_note *note, uint32_t kept,
		     uint32_t length)
{
	uint8_t record[CAPTURE_RECORD_BYTES];

	le32_store(record, kept);
	le32_store(record + 4, length);
	le64_store(record + 8, note->time_ns);
	le64_store(record + 16, note->lost);
	put(writing, record, sizeof(record));
}

/* As virtio_transport_build_skb() in Linux. */
static enum vsockmon_op vsockmon_op(uint16_t op)
{
	switch (op) {
	case VSOCK_OP_REQUEST:
	case VSOCK_OP_RESPONSE:
		return VSOCKMON_CONNECT;
	case VSOCK_OP_RST:
	case VSOCK_OP_SHUTDOWN:
		return VSOCKMON_DISCONNECT;
	case VSOCK_OP_RW:
		return VSOCKMON_PAYLOAD;
	case VSOCK_OP_CREDIT_UPDATE:
	case VSOCK_OP_CREDIT_REQUEST:
		return VSOCKMON_CONTROL;
	default:
		return VSOCKMON_UNKNOWN;
	}
}

static void put_vsockmon(struct writing *writing, const uint8_t header[VSOCK_HDR_BYTES])
{
	uint8_t bytes[CAPTURE_VSOCKMON_BYTES] = { 0 };
	struct pkt pkt;

	pkt_decode(&pkt, header);
	le64_store(bytes, pkt.src_cid);
	le64_store(bytes + 8, pkt.dst_cid);
	le32_store(bytes + 16, pkt.src_port);
	le32_store(bytes + 20, pkt.dst_port);
	le16_store(bytes + 24, (uint16_t)vsockmon_op(pkt.op));
	le16_store(bytes + 26, VSOCKMON_VIRTIO);
	le16_store(bytes + 28, VSOCK_HDR_BYTES);
	put(writing, bytes, sizeof(bytes));
}

bool capture_ring_packet(struct capture_ring *ring, const struct capture_note *note,
			 const uint8_t header[VSOCK_HDR_BYTES], struct iov_cursor payload)
{
	uint32_t length = CAPTURE_HEADER_BYTES + (uint32_t)payload.left;
	uint32_t kept = min_u32(length, note->snaplen);
	struct writing writing;

	if (!begin(&writing, ring, CAPTURE_RECORD_BYTES + kept))
		return false;
	put_note(&writing, note, kept, length);
	put_vsockmon(&writing, header);
	put(&writing, header, VSOCK_HDR_BYTES);
	put_cursor(&writing, &payload, kept - CAPTURE_HEADER_BYTES);
	commit(&writing);
	return true;
}

bool capture_ring_end(struct capture_ring *ring, const struct capture_note *note)
{
	struct writing writing;

	if (!begin(&writing, ring, CAPTURE_RECORD_BYTES))
		return false;
	put_note(&writing, note, 0, 0);
	commit(&writing);
	return true;
}

size_t capture_ring_spans(struct capture_ring *ring, struct iovec spans[2])
{
	size_t length = __atomic_load_n(&ring->written, __ATOMIC_ACQUIRE) - ring->read;
	size_t offset = ring->read % CAPTURE_RING_BYTES;
	size_t first = min_size(length, CAPTURE_RING_BYTES - offset);

	spans[0] = (struct iovec){ ring->bytes + offset, first };
	spans[1] = (struct iovec){ ring->bytes, length - first };
	return (size_t)(first > 0) + (size_t)(length > first);
}

void capture_ring_consume(struct capture_ring *ring, size_t bytes)
{
	__atomic_store_n(&ring->read, ring->read + bytes, __ATOMIC_RELEASE);
}
