// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conn_host.c - what the host side and the clock do to a connection: the column
 * of host events in the state table. Pure.
 */
#include <errno.h>

#include "vsock/device_internal.h"

#define FIRST_HOST_PORT (UINT32_C(1) << 30) /* as Firecracker: 2^30 to 2^31 */

struct conn *device_accept(struct device *device, bool seqpacket)
{
	uint16_t type = seqpacket ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM;
	struct conn *conn;

	if (device->rx == NULL || device->tx == NULL || device->draining ||
	    !device_has_type(device, type)) {
		device_note_refusal(device, NULL,
				    device->draining ? CONN_END_DRAINING : CONN_END_NO_GUEST);
		return NULL;
	}
	if (!device_may_connect(device)) {
		device_note_refusal(device, NULL, CONN_END_LIMIT);
		return NULL;
	}
	if (device->half_open[false] >= device->max_half_open) {
		device->env->limit_reached(device->ctx, "max-half-open", "the oldest is closed");
		conn = list_first(&device->waiting, struct conn, data);
		conn_note_end(device, conn, CONN_END_LIMIT);
		conn_timeout(device, conn);
	}
	conn = device_new_conn(device);
	if (conn == NULL) {
		device_note_refusal(device, NULL, CONN_END_LIMIT);
		return NULL;
	}
	if (conn_set_type(conn, type) < 0) {
		conn_note_end(device, conn, CONN_END_LIMIT);
		conn_free(device, conn);
		return NULL;
	}
	conn->state = CONN_HANDSHAKE;
	conn->host_cid = VSOCK_CID_HOST;
	conn_begin_wait(device, conn);
	return conn;
}

void conn_abandon(struct device *device, struct conn *conn)
{
	conn_note_end(device, conn, CONN_END_BAD_REQUEST);
	conn_free(device, conn);
}

/* A port nobody uses towards this guest port; 0 if there is none nearby. */
static uint32_t choose_port(struct device *device, uint32_t guest_port)
{
	for (uint32_t tries = 0; tries <= DEVICE_MAX_CONNS; tries++) {
		uint32_t port = FIRST_HOST_PORT + (device->next_port++ & (FIRST_HOST_PORT - 1));

		if (conntab_find(&device->conns, guest_port, port, VSOCK_CID_HOST) == NULL)
			return port;
	}
	return 0;
}

int conn_request(struct device *device, struct conn *conn, uint32_t guest_port, uint32_t host_port)
{
	int err;

	if (host_port == 0 ||
	    conntab_find(&device->conns, guest_port, host_port, VSOCK_CID_HOST) != NULL)
		host_port = choose_port(device, guest_port);
	if (host_port == 0)
		return -EADDRINUSE;
	conn->guest_port = guest_port;
	conn->host_port = host_port;
	err = conntab_insert(&device->conns, conn);
	if (err < 0)
		return err;
	conn->state = CONN_REQUESTED;
	device->endpoint->timer(device->host, conn, CONN_REQUEST_TIMEOUT_MS);
	conn_owe(device, conn, CONN_OWES_REQUEST);
	return 0;
}

void conn_host_refused(struct device *device, struct conn *conn)
{
	conn_reset(device, conn, CONN_END_NO_LISTENER);
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
	if ((conn->state == CONN_ESTABLISHED || conn->state == CONN_ORPHAN) && conn_waits(conn))
		conn_flush(device, conn);
}

/* A starved sender asks again: the guest may have forgotten to tell, or the
 * held-back sliver at the window's end is all its reader waits for. */
static void probe(struct device *device, struct conn *conn)
{
	if (conn->probe_shift < CONN_PROBE_MAX_SHIFT)
		conn->probe_shift++;
	if (conn->seqpacket ? conn_message_fits(conn) : credit_out_allowed(&conn->out) > 0) {
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
		conn_note_end(device, conn, CONN_END_TIMEOUT);
		conn_abandon(device, conn);
		return;
	case CONN_REQUESTED:
		conn_note_end(device, conn, CONN_END_TIMEOUT);
		if (conn->request_sent)
			conn_reset(device, conn, CONN_END_TIMEOUT);
		else
			conn_free(device, conn);
		return;
	case CONN_CONNECTING:
	case CONN_CLOSING:
		conn_reset(device, conn, CONN_END_TIMEOUT);
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
