// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conn.c - the steps of a connection that events of the guest and of the host
 * have in common. Pure.
 *
 * Theory of operation
 *
 * Each direction ends on its own. guest_shutdown is what the guest declared,
 * host_shutdown what we declared to the guest. The connection is over
 *
 *   - when the guest declared both and the host has taken every byte: the host
 *     socket is closed and the guest gets the RST it waits for (conn_drained);
 *   - when the host socket is closed both ways and read to its end: the guest
 *     gets SHUTDOWN, and CLOSING waits for its RST, or for a time-out;
 *   - when either side breaks a rule or resets (conn_reset, conn_detach_guest).
 *
 * Bytes of the guest that the host does not take at once are kept in
 * conn->spill, at most the window we advertised, so that a slow host program
 * never blocks the TX ring. fwd_cnt moves only with bytes the host took.
 */
#include <errno.h>

#include "vsock/device_internal.h"

void conn_begin_wait(struct device *device, struct conn *conn)
{
	conn->half_open = true;
	device->half_open[conn->by_guest]++;
	if (!conn->by_guest)
		list_append(&device->waiting, &conn->data);
}

void conn_settled(struct device *device, struct conn *conn)
{
	if (!conn->half_open)
		return;
	conn->half_open = false;
	device->half_open[conn->by_guest]--;
	list_remove(&conn->data);
}

void conn_owe(struct device *device, struct conn *conn, uint8_t bits)
{
	conn->owes |= bits;
	if (list_empty(&conn->ctl))
		list_append(&device->ctl, &conn->ctl);
	device->env->schedule(device->ctx);
}

void conn_wake_reader(struct device *device, struct conn *conn)
{
	if (conn->state != CONN_ESTABLISHED || !conn->readable || conn->starved ||
	    (conn->guest_shutdown & VSOCK_SHUTDOWN_RCV) != 0 ||
	    (conn->host_shutdown & VSOCK_SHUTDOWN_SEND) != 0)
		return;
	if (list_empty(&conn->data))
		list_append(&device->data, &conn->data);
	device->env->schedule(device->ctx);
}

bool conn_charge(struct device *device, uint32_t bytes)
{
	const struct quota *full = quota_take(&device->buffered, bytes);

	if (full != NULL)
		device->env->limit_reached(device->ctx, full->name, "a connection was reset");
	else
		device->spill_bytes += bytes;
	return full == NULL;
}

void conn_discharge(struct device *device, uint32_t bytes)
{
	device->spill_bytes -= bytes;
	quota_give(&device->buffered, bytes);
}

static void drop_spill(struct device *device, struct conn *conn)
{
	conn_discharge(device, buf_length(&conn->spill));
	buf_fini(&conn->spill);
	if (conn->seqpacket)
		messages_clear(&conn->messages->spilt);
}

static void close_host(struct device *device, struct conn *conn)
{
	device->endpoint->close(device->host, conn);
	device->endpoint->timer(device->host, conn, 0);
	conn_settled(device, conn);
	list_remove(&conn->data);
	conn->readable = false;
	conn->starved = false;
	drop_spill(device, conn);
	conn_drop_rest(device, conn);
}

void conn_free(struct device *device, struct conn *conn)
{
	conn_note_end(device, conn, CONN_END_DEVICE_RESET);
	close_host(device, conn);
	conntab_release(&device->conns, conn);
	quota_give(&device->open, 1);
}

void conn_reset(struct device *device, struct conn *conn, enum conn_end why)
{
	conn_note_end(device, conn, why);
	close_host(device, conn);
	conn->state = CONN_RESET;
	conn->owes = 0;
	conn_owe(device, conn, CONN_OWES_RST);
}

void conn_detach_guest(struct device *device, struct conn *conn, enum conn_end why)
{
	conn_note_end(device, conn, why);
	conntab_remove(&device->conns, conn);
	list_remove(&conn->ctl);
	list_remove(&conn->data);
	if (conn->state != CONN_ESTABLISHED || !conn_waits(conn)) {
		conn_free(device, conn);
		return;
	}
	conn->state = CONN_ORPHAN;
	conn->owes = 0;
	conn->stalled_at = buf_length(&conn->spill);
	device->endpoint->timer(device->host, conn, CONN_ORPHAN_TIMEOUT_MS);
}

void conn_declare_shutdown(struct device *device, struct conn *conn, uint8_t flags)
{
	conn->host_shutdown |= flags;
	if ((conn->host_shutdown & VSOCK_SHUTDOWN_SEND) != 0)
		list_remove(&conn->data);
	if (conn->host_shutdown == VSOCK_SHUTDOWN_BOTH) {
		conn_note_end(device, conn, CONN_END_HOST_CLOSED);
		close_host(device, conn);
		conn->state = CONN_CLOSING;
		conn->owes &= (uint8_t)~CONN_OWES_CREDIT_REQUEST;
		device->endpoint->timer(device->host, conn, CONN_CLOSE_TIMEOUT_MS);
		if (conn->guest_shutdown == VSOCK_SHUTDOWN_BOTH) {
			conn_reset(device, conn, CONN_END_GUEST_CLOSED);
			return;
		}
	}
	conn_owe(device, conn, CONN_OWES_SHUTDOWN);
}

void conn_drained(struct device *device, struct conn *conn)
{
	if (conn->state == CONN_ORPHAN)
		conn_free(device, conn);
	else if (conn->guest_shutdown == VSOCK_SHUTDOWN_BOTH)
		conn_reset(device, conn, CONN_END_GUEST_CLOSED);
	else if ((conn->guest_shutdown & VSOCK_SHUTDOWN_SEND) != 0)
		device->endpoint->shutdown(device->host, conn, VSOCK_SHUTDOWN_SEND);
}

void conn_progress(struct device *device, struct conn *conn)
{
	/* whoever has sent a part of a message may lack the credit for the rest */
	bool needy = conn->seqpacket && conn->messages->spilt.open > 0 &&
		     conn->in.fwd_cnt != conn->in.reported;

	if (conn->state == CONN_ESTABLISHED &&
	    (needy || credit_in_update_due(&conn->in, device->window, conn->out.buf_alloc,
					   device_withheld(device, conn))))
		conn_owe(device, conn, CONN_OWES_CREDIT_UPDATE);
}

void conn_host_refuses(struct device *device, struct conn *conn, uint32_t bytes)
{
	conn->in.fwd_cnt += buf_length(&conn->spill) + bytes;
	drop_spill(device, conn);
	conn->discard = true;
	if (conn->state == CONN_ORPHAN || conn->guest_shutdown == VSOCK_SHUTDOWN_BOTH)
		conn_drained(device, conn);
	else
		conn_declare_shutdown(device, conn, VSOCK_SHUTDOWN_RCV);
}

/* Copy what @rest has left. Return: 0 or -errno. */
static int keep_copy(struct device *device, struct conn *conn, struct iov_cursor *rest)
{
	struct iovec piece;

	while (iov_slice(rest, rest->left, &piece, 1) == 1) {
		int err = buf_append(&conn->spill, piece.iov_base, piece.iov_len, device->window);

		if (err < 0)
			return err;
	}
	return 0;
}

int conn_keep(struct device *device, struct conn *conn, const struct iovec *iov, size_t count,
	      size_t skip)
{
	uint32_t before = buf_length(&conn->spill);
	struct iov_cursor rest = iov_begin(iov, count);
	size_t wanted;
	int err;

	iov_advance(&rest, skip);
	wanted = rest.left;
	if (!conn_charge(device, (uint32_t)wanted))
		return -ENOBUFS;
	device->stats.spilled_bytes += wanted;
	err = keep_copy(device, conn, &rest);
	if (err < 0) {
		conn_discharge(device, (uint32_t)wanted - (buf_length(&conn->spill) - before));
		device->env->guest_error(device->ctx, "too many bytes wait for the host");
	}
	return err;
}

void conn_hand_on(struct device *device, struct conn *conn, const struct iovec *iov, size_t count,
		  uint32_t bytes)
{
	ssize_t sent = -EAGAIN;

	if (conn->state != CONN_ESTABLISHED)
		return;
	if (conn->discard) {
		conn->in.fwd_cnt += bytes;
		conn_progress(device, conn);
		return;
	}
	if (buf_length(&conn->spill) == 0)
		sent = device->endpoint->send(device->host, conn, iov, count);
	if (sent < 0 && sent != -EAGAIN) {
		if (sent == -EFAULT) /* the guest's memory is gone, not the host */
			conn_reset(device, conn, CONN_END_BROKEN_RULE);
		else
			conn_host_refuses(device, conn, bytes);
		return;
	}
	if (sent < 0)
		sent = 0;
	conn->in.fwd_cnt += (uint32_t)sent;
	if ((uint32_t)sent < bytes && conn_keep(device, conn, iov, count, (size_t)sent) < 0) {
		conn_reset(device, conn, CONN_END_LIMIT);
		return;
	}
	conn_progress(device, conn);
}

void conn_flush(struct device *device, struct conn *conn)
{
	if (conn->seqpacket) {
		conn_flush_messages(device, conn);
		return;
	}
	while (buf_length(&conn->spill) > 0) {
		struct iovec spans[2];
		size_t n = buf_spans(&conn->spill, spans);
		ssize_t sent = device->endpoint->send(device->host, conn, spans, n);

		if (sent == -EAGAIN || sent == 0)
			return;
		if (sent < 0) {
			conn_host_refuses(device, conn, 0);
			return;
		}
		buf_consume(&conn->spill, (size_t)sent);
		conn_discharge(device, (uint32_t)sent);
		conn->in.fwd_cnt += (uint32_t)sent;
		conn_progress(device, conn);
	}
	conn_drained(device, conn);
}
