// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conn.h - one connection between a guest port and a host-side socket.
 *
 * Only data: conn_guest.c says what a guest's packet does to it, conn_host.c
 * what the host side does to it, rx.c sends what it owes. The socket behind it
 * belongs to an endpoint (endpoint.h), whose structure embeds this one.
 *
 * Life of a connection (rows are states, the rest is refused by RST):
 *
 *   HANDSHAKE    host client connected, CONNECT line not complete; no port pair
 *   REQUESTED    host asked, guest has not answered (2 s)
 *   CONNECTING   guest asked, host socket not connected yet (1.5 s)
 *   ESTABLISHED  bytes flow; each direction ends on its own by SHUTDOWN
 *   CLOSING      host socket is gone and the guest told so; waits for its RST (8 s)
 *   RESET        host socket is gone; only the RST to the guest is left to send
 *   ORPHAN       guest side is over; bytes it sent are still handed to the host
 */
#ifndef VSOCK_CONN_H
#define VSOCK_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "vsock/credit.h"
#include "vsock/messages.h"

enum conn_state {
	CONN_FREE,
	CONN_HANDSHAKE,
	CONN_REQUESTED,
	CONN_CONNECTING,
	CONN_ESTABLISHED,
	CONN_CLOSING,
	CONN_RESET,
	CONN_ORPHAN,
	CONN_STATE_COUNT
};

/* Packets owed to the guest; each is at most one, so no queue can grow. */
#define CONN_OWES_REQUEST 1u
#define CONN_OWES_RESPONSE 2u
#define CONN_OWES_CREDIT_UPDATE 4u
#define CONN_OWES_CREDIT_REQUEST 8u
#define CONN_OWES_SHUTDOWN 16u
#define CONN_OWES_RST 32u

/** What only a SOCK_SEQPACKET connection has. */
struct conn_messages {
	struct messages spilt; /* bounds of the bytes in conn.spill */

	/* a message of the host that is handed to the guest in pieces */
	struct buf rest; /* what is left of it */
	uint32_t flags;  /* VSOCK_SEQ_* of its end */
	uint32_t needed; /* starved: bytes of the next message; 0: of this one */
};

struct conn {
	/* identity: constant while in the table */
	uint32_t guest_port;
	uint32_t host_port;
	uint32_t host_cid; /* the CID the guest addresses; 2 unless forwarding */

	uint8_t state;          /* enum conn_state */
	uint8_t owes;           /* CONN_OWES_* */
	uint8_t guest_shutdown; /* VSOCK_SHUTDOWN_* the guest declared */
	uint8_t host_shutdown;  /* VSOCK_SHUTDOWN_* we declare, or declared */

	bool readable : 1;     /* the host socket may have bytes or an end */
	bool hung_up : 1;      /* the host closed both directions */
	bool starved : 1;      /* has bytes, waits for the guest's credit */
	bool discard : 1;      /* the host takes no more; drop what the guest sends */
	bool request_sent : 1; /* the guest has seen our REQUEST */
	bool in_table : 1;
	bool half_open : 1;      /* counted in device.half_open[by_guest] */
	bool by_guest : 1;       /* the guest asked for it */
	bool opened : 1;         /* it was established once */
	bool ended : 1;          /* its end was counted */
	bool seqpacket : 1;      /* type of socket; constant */
	bool asked : 1;          /* the guest wants to be told of all its credit */
	uint8_t probe_shift : 4; /* doubles the interval of credit requests */
	uint8_t read_guess;      /* RX buffers to offer to the next read */
	uint8_t smalls;          /* steps of a few bytes in a row, see pace.h */
	uint32_t stalled_at;     /* ORPHAN: bytes held when the timer was armed */

	uint64_t tx_bytes; /* from the guest */
	uint64_t rx_bytes; /* to the guest */

	struct conn *hash_next;
	struct list ctl;  /* on the device's list of those that owe */
	struct list data; /* on the device's list of those with bytes to read */

	struct credit_out out;          /* towards the guest */
	struct credit_in in;            /* from the guest */
	struct buf spill;               /* bytes of the guest the host has not taken */
	struct conn_messages *messages; /* NULL unless seqpacket */
};

/** Whether something of the guest waits for room in the host's socket. */
static inline bool conn_waits(const struct conn *conn)
{
	if (unlikely(conn->seqpacket))
		return conn->messages->spilt.complete > 0;
	return buf_length(&conn->spill) > 0;
}

#endif
