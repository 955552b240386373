// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * guest.h - a guest without a machine: its memory, its two rings and the
 * AF_VSOCK sockets in it, behaving as Linux's virtio transport does.
 *
 * Theory of operation
 *
 * One thread drives a guest: guest_poll() does all there is to do, guest_wait()
 * sleeps until the device raises an interrupt. As in Linux the RX ring is
 * drained with callbacks off, filled up again when half of it is used, and
 * every packet sent is one decision whether to kick.
 *
 * Sockets (struct gsock) keep credit as net/vmw_vsock does: what is sent and not
 * yet forwarded stays within the smaller of both buffers; a CREDIT_UPDATE goes
 * out when the queue has been read empty, or (older kernels) only when less
 * than 64 KiB of it would be free. What the application receives it takes at
 * once, after the ring has been drained.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "bench/backend.h"
#include "bench/vq.h"

#define GUEST_BUF_ALLOC (256u * 1024u) /* Linux: VIRTIO_VSOCK_DEFAULT_BUF_SIZE */
#define GUEST_MAX_PACKET (64u * 1024u)
#define GUEST_BUCKETS 16384u

/** RX buffers as Linux allocates them. */
enum rx_shape {
	RX_SPLIT, /* before 6.2: a descriptor of 44 and one of 4096 */
	RX_4140,  /* 6.2 to 6.16: one descriptor */
	RX_3776,  /* since 6.17 */
};

/** How a guest is made. */
struct guest_config {
	uint16_t ring; /* entries of RX and TX each */
	enum rx_shape shape;
	uint32_t tx_pieces;  /* descriptors of a 64 KiB packet: 1, 2, 3 or 18 */
	uint32_t max_packet; /* largest payload of a packet */
	bool lazy_credit;    /* CREDIT_UPDATE as before 6.8 */
	bool verify;         /* packets carry the pattern wherever they lie */
	bool kernel;         /* the device is the kernel's vhost-vsock, no daemon */
};

enum gsock_state {
	GSOCK_CONNECTING,
	GSOCK_OPEN,
	GSOCK_CLOSING, /* our application closed it, the RST is awaited */
	GSOCK_CLOSED,  /* over; the application may free it */
};

struct guest;
struct gsock;

/** What an application hears of its socket; any may be NULL. */
struct gsock_ops {
	/** It is open now. */
	void (*opened)(struct gsock *sock);
	/** Bytes arrived; they are taken by this call. */
	void (*received)(struct gsock *sock, const uint8_t *bytes, uint32_t len);
	/** There may be room to send. */
	void (*writable)(struct gsock *sock);
	/** The other side refused, reset or closed; may free it. */
	void (*closed)(struct gsock *sock);
};

/** A stream socket in the guest. */
struct gsock {
	struct guest *guest;
	const struct gsock_ops *ops;
	void *app;
	uint64_t peer_cid;
	uint32_t local_port;
	uint32_t peer_port;
	enum gsock_state state;
	uint8_t owes;  /* packets that found no room in the ring */
	uint32_t sent; /* counters of the protocol, modulo 2^32 */
	uint32_t peer_buf;
	uint32_t peer_fwd;
	uint32_t received;
	uint32_t fwd_cnt;
	uint32_t last_fwd;
	uint64_t total_sent; /* offset in the stream */
	uint64_t total_received;
	struct gsock *hash_next;
	struct list pending; /* on guest.pending while it owes */
	struct list unread;  /* on guest.unread while received bytes are not forwarded */
	struct list sending; /* on guest.sending: its application wants to send */
};

struct guest {
	struct guest_config config;
	struct backend device;
	uint32_t cid;
	int memfd;
	int call_fd; /* one interrupt for both rings */
	uint8_t *memory;
	size_t memory_bytes;
	struct vq rx;
	struct vq tx;
	size_t rx_place; /* offsets in memory */
	size_t tx_place;
	size_t pattern_place; /* pattern the packets carry */
	bool pattern_filled;
	uint16_t rx_posted;
	uint16_t rx_max;
	uint32_t rx_stride;
	uint32_t tx_stride;
	uint32_t *rx_spare; /* stacks of buffer numbers */
	uint32_t *tx_spare;
	uint32_t rx_spare_count;
	uint32_t tx_spare_count;
	struct gsock *buckets[GUEST_BUCKETS];
	struct list pending;
	struct list unread;
	struct list sending;
	uint32_t next_port;
	/** A connection is asked for: return the new socket's owner, or NULL to refuse. */
	struct gsock *(*accept)(struct guest *guest, uint32_t local_port);
	void *app;
	uint64_t interrupts;
	uint64_t packets_in;
	uint64_t packets_out;
	uint64_t surprises; /* packets for no socket */
};

/** Make a guest and start its device; @path is the vhost-user socket or the node. */
struct guest *guest_new(const struct guest_config *config, uint32_t cid, const char *path,
			uint64_t deadline_ns);
void guest_free(struct guest *guest);

/** Do everything there is to do. Return: whether there was anything. */
bool guest_poll(struct guest *guest);

/** Sleep until an interrupt or @limit_ms. */
void guest_wait(struct guest *guest, int limit_ms);

/** Wake a guest_wait() from another thread. */
void guest_wake(const struct guest *guest);

/** Drive the guest until *@condition or die. For set-up. */
void guest_until(struct guest *guest, const bool *condition, const char *what);

/* --- for gsock.c --- */

/** Queue one packet; the payload is the pattern from @offset on. Return: false
 *  when the ring is full. */
bool guest_send(struct guest *guest, const uint8_t header[], uint64_t offset, uint32_t len);

/** The pattern as it lies in guest memory. */
const uint8_t *guest_pattern(struct guest *guest);

#endif
