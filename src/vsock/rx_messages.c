// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rx_messages.c - messages of a SOCK_SEQPACKET host program to the guest. Pure.
 *
 * Theory of operation
 *
 * A guest reads whole messages, so one is not begun before the guest has room
 * for all of it; longer than the guest's buffer, it never will, and costs the
 * connection. If the ring has buffers for the whole message it is read straight
 * into them. Otherwise it is read into memory of ours (counted against the VM's
 * bound) and goes out as buffers come, before the next one is looked at.
 * Only the last packet carries VSOCK_SEQ_EOM.
 */
#include <errno.h>

#include "vsock/device_internal.h"

#define ASK_AGAIN_BYTES 4096u /* what a look costs a turn that found nothing */

static void refuse(struct device *device, struct conn *conn, const char *why)
{
	device->env->guest_error(device->ctx, why);
	conn_reset(device, conn, CONN_END_LIMIT);
}

static const char too_long[] = "message of the host longer than its buffer";

static void ended(struct device *device, struct conn *conn, ssize_t result)
{
	if (result == -EMSGSIZE)
		refuse(device, conn, too_long);
	else if (result == -ENOBUFS) /* it was told why */
		conn_reset(device, conn, CONN_END_LIMIT);
	else if (result == -ENOMEM)
		refuse(device, conn, "no memory left for a message of the host");
	else
		rx_read_ended(device, conn, result);
}

static uint32_t end_flags(bool eor)
{
	return eor ? VSOCK_SEQ_EOM | VSOCK_SEQ_EOR : VSOCK_SEQ_EOM;
}

static void count_moved(struct device *device, struct conn *conn, uint32_t bytes, uint32_t *left)
{
	*left -= min_u32(*left, bytes);
	pace_step(&device->scratch->pace, &conn->smalls, bytes);
	conn->in.reported = conn->in.fwd_cnt;
	conn->rx_bytes += bytes;
	device->stats.rx_bytes += bytes;
}

/* Go on with the message that lies in our memory. Return: false without room. */
static bool emit_rest(struct device *device, struct conn *conn, struct rx_fill *fill,
		      uint32_t *left)
{
	struct conn_messages *m = conn->messages;
	struct iovec spans[2];
	struct iov_cursor payload = iov_begin(spans, buf_spans(&m->rest, spans));
	struct pkt pkt = rx_conn_pkt(device, conn, VSOCK_OP_RW);
	uint32_t max = min_u32(buf_length(&m->rest), credit_out_bytes(&conn->out));
	uint32_t sent;

	if (max == 0) { /* the guest made its buffer smaller */
		m->needed = 0;
		rx_starve(device, conn);
		return true;
	}
	pkt.flags = max == buf_length(&m->rest) ? m->flags : 0;
	sent = rx_emit_bytes(fill, &pkt, &payload, max, UINT32_MAX, &conn->out);
	if (sent == 0)
		return false;
	count_moved(device, conn, sent, left);
	buf_consume(&m->rest, sent);
	conn_discharge(device, sent);
	return true;
}

/* Read a message into our memory. Return: its bytes, or as recv_message(). */
static ssize_t read_aside(struct device *device, struct conn *conn, uint32_t bytes)
{
	struct conn_messages *m = conn->messages;
	struct iovec room;
	bool eor = false;
	ssize_t got;

	if (!conn_charge(device, bytes))
		return -ENOBUFS;
	got = buf_room(&m->rest, bytes, UINT32_MAX, &room);
	if (got == 0)
		got = device->endpoint->recv_message(device->host, conn, &room, 1, &eor);
	if (got <= 0) {
		conn_discharge(device, bytes);
		buf_fini(&m->rest);
		return got;
	}
	conn_discharge(device, bytes - (uint32_t)got);
	buf_commit(&m->rest, (size_t)got);
	m->flags = end_flags(eor);
	return got;
}

static uint32_t slots_room(const struct rx_slots *slots)
{
	uint32_t room = 0;

	for (uint32_t i = 0; i < slots->count; i++)
		room += slots->slot[i].room;
	return room;
}

/* Begin with a message of (at most) @bytes. Return: false without room. */
static bool begin(struct device *device, struct conn *conn, struct rx_fill *fill, uint32_t bytes,
		  uint32_t *left)
{
	struct pkt pkt = rx_conn_pkt(device, conn, VSOCK_OP_RW);
	struct rx_slots *slots = &fill->scratch->slots;
	bool eor = false;
	ssize_t got;

	if (!rx_take_slots(fill, &pkt, bytes, RX_MAX_SLOTS, slots))
		return false;
	if (slots_room(slots) < bytes) {
		rx_commit_slots(fill, &pkt, slots, 0, &conn->out);
		fill->starved = false; /* those are there again */
		got = read_aside(device, conn, bytes);
		if (got > 0)
			return emit_rest(device, conn, fill, left);
		ended(device, conn, got);
		return true;
	}
	got = device->endpoint->recv_message(device->host, conn, fill->scratch->rx_pieces,
					     slots->pieces, &eor);
	pkt.flags = end_flags(eor);
	rx_commit_slots(fill, &pkt, slots, got > 0 ? (uint32_t)got : 0, &conn->out);
	if (got > 0)
		count_moved(device, conn, (uint32_t)got, left);
	else
		ended(device, conn, got);
	return true;
}

bool rx_read_message(struct device *device, struct conn *conn, struct rx_fill *fill, uint32_t *left)
{
	ssize_t bytes;

	if (buf_length(&conn->messages->rest) > 0)
		return emit_rest(device, conn, fill, left);
	bytes = device->endpoint->next_message(device->host, conn);
	if (bytes == -EINTR) {
		*left -= min_u32(*left, ASK_AGAIN_BYTES);
		return true;
	}
	if (bytes <= 0) {
		ended(device, conn, bytes);
		return true;
	}
	if (bytes > conn->out.buf_alloc) {
		refuse(device, conn, too_long);
		return true;
	}
	if (!credit_out_takes(&conn->out, (uint32_t)bytes)) {
		conn->messages->needed = (uint32_t)bytes;
		rx_starve(device, conn);
		return true;
	}
	return begin(device, conn, fill, (uint32_t)bytes, left);
}
