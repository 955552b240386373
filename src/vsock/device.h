// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device.h - the virtio socket device of one guest: its rings, connections and
 * what it owes the guest.
 *
 * Theory of operation
 *
 * The device is driven from outside: device_run_tx() drains the guest's TX ring
 * (tx.c decides where a packet goes, conn_guest.c what it does to a
 * connection), device_run_rx() fills its RX ring (rx.c). The host side enters
 * by conn_host_*(). Whenever one of these leaves something to do, env->schedule
 * is called and the owner runs both soon.
 *
 * What is owed to the guest cannot pile up: each connection owes at most one
 * packet of each kind (bits), and packets without a connection are only RSTs,
 * kept in a ring of DEVICE_MAX_RSTS. When that is full the TX ring waits until
 * the guest gives RX buffers.
 * Spec: virtio 1.3, "Virtqueue Flow Control"
 *
 * Context: everything on the owner's thread, but for the RX ring and the inbox,
 * which siblings' owners use too: see inbox.h.
 *
 * Pure: makes no system call and reads no clock.
 */
#ifndef VSOCK_DEVICE_H
#define VSOCK_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "base/quota.h"
#include "virtio/vring.h"
#include "vsock/conn.h"
#include "vsock/conntab.h"
#include "vsock/endpoint.h"
#include "vsock/inbox.h"
#include "vsock/pkt.h"
#include "vsock/rate.h"
#include "vsock/rx_fill.h"
#include "vsock/scratch.h"
#include "vsock/stats.h"
#include "vsock/tap.h"

struct device;

/** What a device needs from the one that owns it. */
struct device_env {
	/** Something is to be done: run the device soon. Owner only. */
	void (*schedule)(void *ctx);
	/** The same from any thread, under the lock. */
	void (*wake)(void *ctx);
	/** Tell the driver of rings with used buffers, bit N for ring N. RX: under the lock. */
	void (*notify)(void *ctx, uint32_t rings);
	/** The driver broke ring @index: it is not processed until it restarts. */
	void (*ring_broken)(void *ctx, unsigned int index);
	/** The guest broke a rule and lost something: worth a (limited) log line. */
	void (*guest_error)(void *ctx, const char *what);
	/** A bound was hit and @effect followed: worth a (limited) log line. */
	void (*limit_reached)(void *ctx, const char *option, const char *effect);
	/** A connection began, ended, or was refused. Owner only, whatever is locked. */
	void (*conn_event)(void *ctx, const struct conn_notice *notice);
	/** Call device_probe_siblings() once after @delay_ms, unless it is due already. */
	void (*probe_later)(void *ctx, uint32_t delay_ms);
	/** Milliseconds of a clock that never goes back. Owner only; VMs with rates. */
	uint64_t (*now_ms)(void *ctx);
	/** Schedule after @delay_ms, or sooner. Owner only; VMs with rates. */
	void (*pace_later)(void *ctx, uint32_t delay_ms);
	/** The device of a guest this one may talk to, or NULL. */
	struct device *(*sibling)(void *ctx, uint64_t cid);
	/** Protect RX ring and inbox of this device; any thread. */
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
};

#define DEVICE_MAX_RSTS 128u
#define DEVICE_MAX_CONNS 65536u /* whatever the quota says */

#define CONN_REQUEST_TIMEOUT_MS 2000u /* as Linux: VSOCK_DEFAULT_CONNECT_TIMEOUT */
#define CONN_CLOSE_TIMEOUT_MS 8000u   /* as Linux: VSOCK_CLOSE_TIMEOUT */
#define CONN_HANDSHAKE_TIMEOUT_MS 5000u
#define CONN_ORPHAN_TIMEOUT_MS 60000u /* without one byte taken by the host */
#define CONN_PROBE_FIRST_MS 5u        /* first CREDIT_REQUEST of a starved sender */
#define CONN_PROBE_MAX_SHIFT 8u       /* then doubling to 1.3 s */

#define TX_BUDGET_CHAINS 256u          /* as Linux vhost: VHOST_VSOCK_PKT_WEIGHT */
#define DEVICE_BURST_MS 100u           /* worth of a byte rate that may pass at once */
#define RX_QUANTUM_BYTES (64u * 1024u) /* per connection and round when several wait */
#define RX_BULK_BYTES (16u * 1024u)    /* shown to the guest at once, and not when all is read */
#define RX_BULK_PACKETS 4u /* of its last read: bulk is expected, others do not wait for it */

/** An RST that belongs to no connection. */
struct device_rst {
	uint64_t src_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint16_t type;
};

/** Consecutive bytes of one connection, to be sent in one call. */
struct tx_batch {
	struct conn *conn; /* NULL: empty */
	uint32_t pieces;
	uint32_t bytes;
	uint32_t flags; /* seqpacket: VSOCK_SEQ_*, when the message is complete */
};

/** Consecutive packets to one sibling flow, during which its lock is held. */
struct tx_sibling {
	struct device *peer; /* NULL: none, no lock is held */
	struct inbox_flow *flow;
	struct pkt last;       /* the packet before this one, as our guest wrote it */
	bool credit_moved;     /* last says more than the first packet did */
	bool closed;           /* by our guest: nothing more may join the batch */
	uint32_t unseen_bytes; /* copied, not published yet */
	struct rx_fill fill;   /* of the peer's RX ring */
};

struct device {
	const struct device_env *env;
	void *ctx; /* for env */
	const struct endpoint_ops *endpoint;
	void *host; /* for endpoint */
	struct scratch *scratch;

	struct vring *tx; /* NULL unless started and enabled */
	struct vring *rx; /* under the lock */

	uint32_t guest_cid;
	uint32_t window; /* buf_alloc we advertise, bytes */
	uint8_t types;   /* socket types as bits by number; under the lock */
	bool any_cid;    /* every destination CID is the host side (forwarding) */

	bool tx_looks;   /* whoever runs it looks for TX chains, and need not be told of them */
	bool tx_unasked; /* so the driver was not asked to kick: device_tx_waits() */
	bool tx_signal;  /* TX buffers were returned that the driver wants to be told of */
	struct tx_batch batch;
	struct tx_sibling sibling;

	struct conntab conns;
	struct list ctl;        /* connections that owe a packet */
	struct list data;       /* connections with bytes to read and credit */
	struct list waiting;    /* half-open ones of the host, oldest first, by conn.data */
	uint32_t half_open[2];  /* asked for by the host, by the guest */
	uint32_t max_half_open; /* of each */
	uint32_t next_port;     /* for connections from the host */

	struct quota open;     /* connections in @conns */
	struct quota buffered; /* bytes of our guest that the host or siblings have not taken */
	uint64_t spill_bytes;  /* of these, how many the host has not taken */
	struct rate tx_rate;   /* see paced.c */
	struct rate rx_rate;
	struct rate conn_rate;
	struct device_stats stats;
	struct taps taps;             /* see tap.h */
	struct pace tx_pace;          /* what passed through TX lately... */
	const struct conn *tx_talker; /* ...and whose the last message was; only compared */

	struct device_rst rsts[DEVICE_MAX_RSTS];
	uint32_t rst_first;
	uint32_t rst_count;

	bool running;        /* a driver has used RX since the reset; under the lock */
	bool draining;       /* no new connections; written under the lock */
	bool siblings_first; /* whose turn it is when the ring is short */
	struct inbox inbox;  /* under the lock */
	uint8_t probe_shift; /* doubles the interval of inbox_probe() */
};

/** What may pass a second; 0: no limit. */
struct device_rates {
	uint32_t tx;    /* bytes from the guest */
	uint32_t rx;    /* bytes to the guest */
	uint32_t conns; /* connections that begin */
};

/** What makes one device differ from another. */
struct device_params {
	const struct device_env *env;
	void *ctx;
	const struct endpoint_ops *endpoint;
	void *host;
	struct scratch *scratch; /* of the owner's thread */
	size_t conn_bytes;       /* of the endpoint's structure around struct conn */
	uint64_t random;         /* unpredictable: hash key and first host port */
	uint32_t guest_cid;
	uint32_t window;
	uint32_t max_half_open;
	struct quota open; /* unused so far; bounds, names and parents */
	struct quota buffered;
	struct device_rates rates;
	bool any_cid;
};

void device_init(struct device *device, const struct device_params *params);

/** End every connection and tap, and free everything. */
void device_fini(struct device *device);

/** The driver acknowledged @features (VSOCK_F_*_BIT): socket types it may use. */
void device_set_features(struct device *device, uint64_t features);

/** Give or take away (NULL) a running ring. Owner only; takes the lock for RX. */
void device_set_rx(struct device *device, struct vring *ring);
void device_set_tx(struct device *device, struct vring *ring);

/** The driver is gone or new: every connection ends, visibly for the host side. */
void device_reset(struct device *device);

/** Refuse new connections, or no longer; those there are live on. Owner only. */
void device_drain(struct device *device, bool on);

/** Other rates than none, or than before; buckets begin full. Owner only. */
void device_set_rates(struct device *device, const struct device_rates *rates);

/** Let @tap see every packet, or no longer (legal when it does not). Owner only. */
void device_add_tap(struct device *device, struct tap *tap);
void device_remove_tap(struct device *device, struct tap *tap);

/** Siblings: tell that connections with @cid end, as device_drop_sibling() is about to
 *  do on both sides. Owner only. */
void device_note_parting(struct device *device, uint64_t cid);

/** Siblings: everything from @cid ends, visibly for this guest. Any thread. */
void device_drop_sibling(struct device *device, uint64_t cid, struct scratch *scratch);

/** Ask the guest for credit that siblings' packets wait for. Owner only. */
void device_probe_siblings(struct device *device);

/**
 * device_run_tx() - Take packets from the guest, up to the budget
 * Return: true if it should be run again soon
 */
bool device_run_tx(struct device *device) must_use;

/** Whether there is more for device_run_tx(), where tx_unasked is set. */
bool device_tx_waits(struct device *device) must_use;

/** Ask the driver to kick after all, where tx_unasked is set.
 *  Return: true if chains came meanwhile: run device_run_tx(), no kick will come */
bool device_ask_kick(struct device *device) must_use;

/**
 * device_run_rx() - Give packets to the guest, up to the budget
 * Return: true if it should be run again soon
 */
bool device_run_rx(struct device *device) must_use;

/* --- the host side of connections: called by endpoints, owner only --- */

/**
 * device_accept() - A host program connected to us
 *
 * The oldest one that still waits for its guest is given up when there are too
 * many of them.
 *
 * @seqpacket: type of its socket
 *
 * Return: a connection in state HANDSHAKE with its time-out armed by the
 *         caller, or NULL: at the limit, or no guest is running, or the guest
 *         cannot have sockets of this type
 */
struct conn *device_accept(struct device *device, bool seqpacket) must_use;

/** The client named the guest port (@host_port 0: choose one): ask the guest.
 *  Return: 0 or -errno; on failure the caller calls conn_abandon(). */
int conn_request(struct device *device, struct conn *conn, uint32_t guest_port, uint32_t host_port)
	must_use;

/** Give up a connection in HANDSHAKE. */
void conn_abandon(struct device *device, struct conn *conn);

/** The host program accepted what open() began. */
void conn_host_connected(struct device *device, struct conn *conn);
/** Nobody there: the guest gets an RST. */
void conn_host_refused(struct device *device, struct conn *conn);
/** Bytes or an end can be read; @hung_up: both directions are closed. */
void conn_host_readable(struct device *device, struct conn *conn, bool hung_up);
/** There is room to write again. */
void conn_host_writable(struct device *device, struct conn *conn);
/** The time asked for by endpoint.timer() has passed. */
void conn_timeout(struct device *device, struct conn *conn);

#endif
