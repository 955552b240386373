// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conn_guest.c - what a packet of the guest does to a connection: the column of
 * guest events in the state table. Pure.
 *
 * Follows Linux (net/vmw_vsock): what has no meaning in a state is answered by
 * RST, unknown operations are ignored, an RST is never answered.
 */
#include <errno.h>

#include "vsock/device_internal.h"

/* The guest may take more again: go on reading for it. */
static void end_starvation(struct device *device, struct conn *conn)
{
	if (!conn->starved)
		return;
	if (conn->seqpacket ? !conn_message_fits(conn) : credit_out_usable(&conn->out) == 0)
		return;
	conn->starved = false;
	conn->probe_shift = 0;
	device->endpoint->timer(device->host, conn, 0);
	conn_wake_reader(device, conn);
}

/* Every header carries credit. Return: false if it lied and was reset for it. */
static bool note_credit(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	if (!credit_out_update(&conn->out, pkt->buf_alloc, pkt->fwd_cnt)) {
		device->env->guest_error(device->ctx, "fwd_cnt covers bytes never sent");
		conn_reset(device, conn, CONN_END_BROKEN_RULE);
		return false;
	}
	end_starvation(device, conn);
	return true;
}

static void established(struct device *device, struct conn *conn)
{
	conn_settled(device, conn);
	conn->state = CONN_ESTABLISHED;
	conn_note_open(device, conn);
	device->endpoint->timer(device->host, conn, 0);
	conn_wake_reader(device, conn);
}

/* The guest's own newcomers are refused: it may wait for the older ones. */
static bool half_open_room(struct device *device)
{
	if (device->half_open[true] < device->max_half_open)
		return true;
	device->env->limit_reached(device->ctx, "max-half-open", "the guest is refused");
	return false;
}

static bool is_shortage(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOBUFS;
}

/* The guest is told, and @conn is freed if there is one. */
static void refuse(struct device *device, const struct pkt *pkt, struct conn *conn,
		   enum conn_end why)
{
	device_owe_rst(device, pkt);
	if (conn == NULL) {
		device_note_refusal(device, pkt, why);
		return;
	}
	conn_note_end(device, conn, why);
	conn_free(device, conn);
}

void conn_guest_request(struct device *device, const struct pkt *pkt, struct conn *old)
{
	struct conn *conn;
	int err = -ENOMEM;

	if (old != NULL) /* its guest forgot it, or it would not ask again */
		conn_detach_guest(device, old, CONN_END_GUEST_RESET);
	if (device->draining) {
		refuse(device, pkt, NULL, CONN_END_DRAINING);
		return;
	}
	conn = device_may_connect(device) && half_open_room(device) ? device_new_conn(device)
								    : NULL;
	if (conn != NULL) {
		conn->guest_port = pkt->src_port;
		conn->host_port = pkt->dst_port;
		conn->host_cid = (uint32_t)pkt->dst_cid;
		conn->out.buf_alloc = pkt->buf_alloc;
		conn->state = CONN_CONNECTING;
		conn->by_guest = true;
		conn_begin_wait(device, conn);
		err = conn_set_type(conn, pkt->type);
	}
	if (err == 0)
		err = conntab_insert(&device->conns, conn);
	if (err == 0)
		err = device->endpoint->open(device->host, conn);
	if (err == 0)
		conn_host_connected(device, conn);
	else if (err != -EINPROGRESS)
		refuse(device, pkt, conn, is_shortage(err) ? CONN_END_LIMIT : CONN_END_NO_LISTENER);
}

void conn_host_connected(struct device *device, struct conn *conn)
{
	conn_owe(device, conn, CONN_OWES_RESPONSE);
	established(device, conn);
}

static void on_response(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	int err;

	if (conn->state != CONN_REQUESTED || !conn->request_sent)
		return;
	conn->out.buf_alloc = pkt->buf_alloc;
	err = device->endpoint->accepted(device->host, conn);
	established(device, conn);
	if (err == 0)
		return;
	/* a client that left already may have left bytes: they are still delivered */
	conn->discard = true;
	conn_declare_shutdown(device, conn, VSOCK_SHUTDOWN_RCV);
}

static void on_shutdown(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	uint8_t flags = pkt->flags & VSOCK_SHUTDOWN_BOTH;
	uint8_t news = flags & (uint8_t)~conn->guest_shutdown;

	conn->guest_shutdown |= flags;
	if (conn->state == CONN_CLOSING) {
		if (conn->guest_shutdown == VSOCK_SHUTDOWN_BOTH)
			conn_reset(device, conn, CONN_END_GUEST_CLOSED);
		return;
	}
	if ((news & VSOCK_SHUTDOWN_RCV) != 0) {
		list_remove(&conn->data);
		if (conn->starved) { /* it waits for credit that nobody needs */
			conn->starved = false;
			device->endpoint->timer(device->host, conn, 0);
		}
		if (conn->hung_up) { /* nothing more can happen on the host side */
			conn_declare_shutdown(device, conn, VSOCK_SHUTDOWN_BOTH);
			return;
		}
		if (conn->guest_shutdown != VSOCK_SHUTDOWN_BOTH)
			device->endpoint->shutdown(device->host, conn, VSOCK_SHUTDOWN_RCV);
	}
	if (news != 0 && !conn_waits(conn))
		conn_drained(device, conn);
}

/* Packets on a connection whose bytes may flow, or flowed. */
static void open_packet(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	if (!note_credit(device, conn, pkt))
		return;
	if (pkt->op == VSOCK_OP_SHUTDOWN)
		on_shutdown(device, conn, pkt);
	else if (pkt->op == VSOCK_OP_CREDIT_REQUEST && conn->state == CONN_ESTABLISHED) {
		conn->asked = true;
		conn_owe(device, conn, CONN_OWES_CREDIT_UPDATE);
	}
}

/* Packets before both sides agreed; credit means nothing yet. */
static void early_packet(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	if (pkt->op == VSOCK_OP_RESPONSE)
		on_response(device, conn, pkt);
	else if (pkt->op == VSOCK_OP_RW || pkt->op == VSOCK_OP_SHUTDOWN)
		conn_reset(device, conn, CONN_END_BROKEN_RULE);
}

void conn_guest_packet(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	if (pkt->op == VSOCK_OP_RST) {
		conn_detach_guest(device, conn,
				  conn->state == CONN_REQUESTED ? CONN_END_GUEST_REFUSED
								: CONN_END_GUEST_RESET);
		return;
	}
	switch ((enum conn_state)conn->state) {
	case CONN_REQUESTED:
	case CONN_CONNECTING:
		early_packet(device, conn, pkt);
		return;
	case CONN_ESTABLISHED:
	case CONN_CLOSING:
		open_packet(device, conn, pkt);
		return;
	case CONN_RESET: /* our RST is on its way */
	case CONN_FREE:
	case CONN_HANDSHAKE:
	case CONN_ORPHAN:
	case CONN_STATE_COUNT:
		return;
	}
}

bool conn_guest_bytes(struct device *device, struct conn *conn, const struct pkt *pkt)
{
	const char *wrong = NULL;

	if (conn->state != CONN_ESTABLISHED) {
		conn_guest_packet(device, conn, pkt);
		return false;
	}
	if (!note_credit(device, conn, pkt))
		return false;
	if ((conn->guest_shutdown & VSOCK_SHUTDOWN_SEND) != 0)
		wrong = "bytes after SHUTDOWN";
	else if (!credit_in_fits(&conn->in, pkt->len, device->window))
		wrong = "more bytes than its credit";
	if (wrong != NULL) {
		device->env->guest_error(device->ctx, wrong);
		conn_reset(device, conn, CONN_END_BROKEN_RULE);
		return false;
	}
	conn->in.received += pkt->len;
	conn->tx_bytes += pkt->len;
	device->stats.tx_bytes += pkt->len;
	return true;
}
