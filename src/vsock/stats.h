// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * stats.h - what a device has counted, and why connections end.
 *
 * Plain counters that only the owner's thread writes and reads: others ask the
 * owner. They begin at 0 when the VM is made and outlive guests' reboots.
 */
#ifndef VSOCK_STATS_H
#define VSOCK_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/** Why a connection ended, or did not come about. */
enum conn_end {
	CONN_END_GUEST_CLOSED,
	CONN_END_GUEST_RESET, /* RST on an open connection, or the port was asked for anew */
	CONN_END_GUEST_REFUSED,
	CONN_END_HOST_CLOSED,
	CONN_END_NO_LISTENER, /* on the host */
	CONN_END_NO_GUEST,    /* nobody runs there */
	CONN_END_BAD_REQUEST, /* the CONNECT line */
	CONN_END_BROKEN_RULE,
	CONN_END_LIMIT, /* connections, descriptors, memory, kept bytes */
	CONN_END_TIMEOUT,
	CONN_END_DEVICE_RESET, /* the guest rebooted, or its VMM or VM went away */
	CONN_END_DRAINING,
	CONN_END_COUNT
};

struct device_stats {
	uint64_t tx_packets; /* taken from the guest, with those to siblings */
	uint64_t tx_bytes;   /* payload for the host side */
	uint64_t rx_packets; /* given to the guest by its owner's thread */
	uint64_t rx_bytes;   /* payload from the host side */
	uint64_t opened_by_guest;
	uint64_t opened_by_host;
	uint64_t refused[CONN_END_COUNT]; /* connections that did not come about */
	uint64_t closed[CONN_END_COUNT];  /* of those opened */
	uint64_t credit_stalls;           /* a host program's bytes had to wait for the guest */
	uint64_t rx_starved;              /* the guest gave too few RX buffers */
	uint64_t spilled_bytes;           /* which the host side did not take at once */
	uint64_t tx_paced;                /* times the guest's ring waited for tx-rate */
	uint64_t rx_paced;                /* times host programs waited for rx-rate */
};

enum conn_event { CONN_OPENED, CONN_CLOSED, CONN_REFUSED };

/** Something that happened to a connection. */
struct conn_notice {
	enum conn_event what;
	enum conn_end why; /* unless CONN_OPENED */
	uint32_t guest_port;
	uint32_t host_port;
	uint32_t sibling; /* 0: it is with the host; CID of the guest whose port host_port is */
	bool by_guest;    /* the guest asked for it */
};

/** Name of a reason, such as "guest-closed". */
const char *conn_end_name(enum conn_end why) must_use;

#endif
