// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conn_host.c - what the host side and the clock do to a connection: the column
 * of host events in the state table. Pure.
 */
#include "vsock/device_internal.h"

void conn_host_refused(struct device *device, struct conn *conn)
{
	conn_reset(device, conn);
}

void conn_host_readable(struct device *device, struct conn *conn, bool hung_up)
{
	conn->readable = true;
	if (hung_up)
		conn->hung_up = true;
	if (conn->state == CONN_ORPHAN) {
		if (hung_up)
			conn_free(device, conn);
		return;
	}
	/* nothing is left to be read: the end of the other direction is the end */
	if (conn->state == CONN_ESTABLISHED && hung_up &&
	    ((conn->guest_shutdown & VSOCK_SHUTDOWN_RCV) != 0 ||
	     (conn->host_shutdown & VSOCK_SHUTDOWN_SEND) != 0)) {
		conn_declare_shutdown(device, conn, VSOCK_SHUTDOWN_BOTH);
		return;
	}
	conn_wake_reader(device, conn);
}

void conn_host_writable(struct device *device, struct conn *conn)
{
	if ((conn->state == CONN_ESTABLISHED || conn->state == CONN_ORPHAN) &&
	    buf_length(&conn->spill) > 0)
		conn_flush(device, conn);
}

/* A starved sender asks again: the guest may have forgotten to tell, or the
 * held-back sliver at the window's end is all its reader waits for. */
static void probe(struct device *device, struct conn *conn)
{
	if (conn->probe_shift < CONN_PROBE_MAX_SHIFT)
		conn->probe_shift++;
	if (credit_out_bytes(&conn->out) > 0 && credit_out_packets(&conn->out) > 0) {
		conn->starved = false;
		conn_wake_reader(device, conn);
		return;
	}
	conn_owe(device, conn, CONN_OWES_CREDIT_REQUEST);
	device->endpoint->timer(device->host, conn, CONN_PROBE_FIRST_MS << conn->probe_shift);
}

static void orphan_timeout(struct device *device, struct conn *conn)
{
	uint32_t held = buf_length(&conn->spill);

	if (held == conn->stalled_at) {
		conn_free(device, conn);
		return;
	}
	conn->stalled_at = held;
	device->endpoint->timer(device->host, conn, CONN_ORPHAN_TIMEOUT_MS);
}

void conn_timeout(struct device *device, struct conn *conn)
{
	switch ((enum conn_state)conn->state) {
	case CONN_HANDSHAKE:
		conn_abandon(device, conn);
		return;
	case CONN_REQUESTED:
		if (conn->request_sent)
			conn_reset(device, conn);
		else
			conn_free(device, conn);
		return;
	case CONN_CONNECTING:
	case CONN_CLOSING:
		conn_reset(device, conn);
		return;
	case CONN_ESTABLISHED:
		if (conn->starved)
			probe(device, conn);
		return;
	case CONN_ORPHAN:
		orphan_timeout(device, conn);
		return;
	case CONN_RESET:
	case CONN_FREE:
	case CONN_STATE_COUNT:
		return;
	}
}
