// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conn_messages.c - messages of the guest on their way to a SOCK_SEQPACKET
 * socket of the host. Pure.
 *
 * Theory of operation
 *
 * A message whose packets all lie in one burst leaves by one send, straight from
 * guest memory. Otherwise its parts are kept in conn->spill until the end comes,
 * behind messages the socket has no room for. A message must fit the window: one
 * that fills it without coming to an end never will, and costs the connection.
 *
 * What is kept of a message without an end does not wait for the host: when the
 * guest sends no more it is dropped with the connection.
 *
 * Messages without a byte are dropped. Linux sends none, their reader could not
 * tell them from the end, and credit does not bound their number.
 */
#include <errno.h>

#include "vsock/device_internal.h"

int conn_set_type(struct conn *conn, uint16_t type)
{
	return type == VSOCK_TYPE_SEQPACKET ? conntab_add_messages(conn) : 0;
}

void conn_drop_rest(struct device *device, struct conn *conn)
{
	struct conn_messages *m = conn->messages;

	if (m == NULL)
		return;
	conn_discharge(device, buf_length(&m->rest));
	buf_fini(&m->rest);
}

bool conn_message_fits(const struct conn *conn)
{
	uint32_t needed = conn->messages->needed;

	if (needed == 0)
		return credit_out_bytes(&conn->out) > 0;
	/* one that does not fit any more is refused by whoever finds it */
	return needed > conn->out.buf_alloc || credit_out_takes(&conn->out, needed);
}

static void refuse(struct device *device, struct conn *conn, const char *why)
{
	device->env->guest_error(device->ctx, why);
	conn_reset(device, conn, CONN_END_LIMIT);
}

/* The socket did not take a message, nor will it. */
static void send_failed(struct device *device, struct conn *conn, int err, uint32_t bytes)
{
	if (err == -EMSGSIZE)
		refuse(device, conn, "message longer than the host's socket takes");
	else if (err == -EFAULT)
		conn_reset(device, conn, CONN_END_BROKEN_RULE);
	else
		conn_host_refuses(device, conn, bytes);
}

/* Add to what is kept. Return: false if that ended the connection. */
static bool keep_part(struct device *device, struct conn *conn, const struct iovec *iov,
		      size_t count, uint32_t bytes, uint32_t flags)
{
	struct messages *spilt = &conn->messages->spilt;

	if (conn_keep(device, conn, iov, count, 0) < 0) {
		conn_reset(device, conn, CONN_END_LIMIT); /* it was told why */
		return false;
	}
	messages_add(spilt, bytes);
	if ((flags & VSOCK_SEQ_EOM) == 0 && spilt->open >= device->window) {
		refuse(device, conn, "message longer than the window");
		return false;
	}
	if ((flags & VSOCK_SEQ_EOM) != 0 && messages_end(spilt, flags & VSOCK_SEQ_EOR) < 0) {
		refuse(device, conn, "no memory for its messages");
		return false;
	}
	return true;
}

void conn_hand_on_message(struct device *device, struct conn *conn, const struct iovec *iov,
			  size_t count, uint32_t bytes, uint32_t flags)
{
	struct messages *spilt;
	bool end = (flags & VSOCK_SEQ_EOM) != 0;
	int err = -EAGAIN;
	bool whole;

	if (conn->state != CONN_ESTABLISHED)
		return;
	spilt = &conn->messages->spilt;
	whole = end && spilt->complete == 0 && spilt->open == 0;
	if (bytes == 0 && (!end || spilt->open == 0))
		return;
	if (conn->discard)
		err = 0;
	else if (whole)
		err = device->endpoint->send_message(device->host, conn, iov, count,
						     flags & VSOCK_SEQ_EOR);
	if (err == 0) {
		conn->in.fwd_cnt += bytes;
	} else if (err != -EAGAIN) {
		send_failed(device, conn, err, bytes);
		return;
	} else if (!keep_part(device, conn, iov, count, bytes, flags)) {
		return;
	}
	if (!whole && end && spilt->complete == 1)
		conn_flush_messages(device, conn);
	else
		conn_progress(device, conn);
}

/* Send the first message that is kept. Return: as endpoint.send_message(). */
static int send_first(struct device *device, struct conn *conn)
{
	struct message first = messages_first(&conn->messages->spilt);
	struct iovec spans[2];
	struct iovec pieces[2];
	struct iov_cursor kept = iov_begin(spans, buf_spans(&conn->spill, spans));
	size_t count = iov_slice(&kept, first.bytes, pieces, 2);
	int err = device->endpoint->send_message(device->host, conn, pieces, count, first.eor);

	if (err < 0)
		return err;
	buf_consume(&conn->spill, first.bytes);
	conn_discharge(device, first.bytes);
	conn->in.fwd_cnt += first.bytes;
	messages_take(&conn->messages->spilt, first.bytes);
	messages_drop_first(&conn->messages->spilt);
	return 0;
}

void conn_flush_messages(struct device *device, struct conn *conn)
{
	while (conn_waits(conn)) {
		int err = send_first(device, conn);

		if (err == -EAGAIN)
			return;
		if (err < 0) {
			send_failed(device, conn, err, 0);
			return;
		}
		conn_progress(device, conn);
	}
	conn_drained(device, conn);
}
