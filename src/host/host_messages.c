// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * host_messages.c - messages of a SOCK_SEQPACKET socket of the host: one is a
 * record. Decides nothing about the connection.
 *
 * Theory of operation
 *
 * A read of 0 bytes is the end or an empty record. Empty ones are dropped, for
 * AF_VSOCK has none; what is behind them tells them from the end.
 *
 * AF_UNIX takes a record whole or not at all, and never one longer than its send
 * buffer, which is enlarged first.
 */
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "host/host_internal.h"

#define EMPTY_RECORDS_PER_TURN 16

static int poll_now(const struct host_conn *hc, short events)
{
	struct pollfd entry = { .fd = hc->source.fd, .events = events };

	return poll(&entry, 1, 0) == 1 ? entry.revents : 0;
}

/*
 * AF_VSOCK sends a part of a message when the peer has no room for all of it,
 * and then says EAGAIN as if it had sent nothing. So it is asked before; if it
 * had room and took less, the message is torn.
 */
static int send_vsock_message(struct host_conn *hc, const struct iovec *iov, size_t count,
			      int flags)
{
	ssize_t sent = -EAGAIN;

	if ((poll_now(hc, POLLOUT) & (POLLOUT | POLLERR | POLLHUP)) != 0) {
		sent = host_send_some(hc, iov, count, flags);
		if (sent == -EAGAIN)
			return -EMSGSIZE;
	}
	if (sent == -EAGAIN)
		host_watch_output(hc, true);
	return sent < 0 ? (int)sent : 0;
}

int host_send_message(void *ctx, struct conn *conn, const struct iovec *iov, size_t count, bool eor)
{
	struct host *host = ctx;
	struct host_conn *hc = host_conn_of(conn);
	int flags = eor ? MSG_EOR : 0;
	ssize_t sent;

	if (host->forward_cid != 0)
		return send_vsock_message(hc, iov, count, flags);
	sent = host_send_some(hc, iov, count, flags);
	if ((sent == -EAGAIN || sent == -EMSGSIZE) && host_grow_send_buffer(hc))
		sent = host_send_some(hc, iov, count, flags);
	if (sent == -EAGAIN)
		host_watch_output(hc, true);
	return sent < 0 ? (int)sent : 0;
}

static ssize_t peek_length(const struct host_conn *hc)
{
	char first;
	ssize_t got;

	do
		got = recv(hc->source.fd, &first, 1, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

/* A read found 0 bytes: whether an empty record and no end is there. */
static bool is_empty_record(const struct host_conn *hc)
{
	int behind = 0;

	if ((poll_now(hc, POLLIN | POLLRDHUP) & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
		return true;
	/* with an end in sight, only if bytes are still to come */
	return ioctl(hc->source.fd, FIONREAD, &behind) == 0 && behind > 0;
}

/* The longest that the guest can take, if there is anything to be read. */
static ssize_t unknown_length(const struct host_conn *hc)
{
	uint32_t longest = hc->conn.out.buf_alloc;

	if (poll_now(hc, POLLIN) == 0)
		return -EAGAIN;
	return longest > 0 ? longest : 1;
}

ssize_t host_next_message(void *ctx, struct conn *conn)
{
	const struct host *host = ctx;
	const struct host_conn *hc = host_conn_of(conn);
	char none;

	for (int i = 0; i < EMPTY_RECORDS_PER_TURN; i++) {
		ssize_t bytes = peek_length(hc);

		/* AF_VSOCK before Linux 6.6 cannot peek, and calls it a lack of memory */
		if (bytes == -EOPNOTSUPP || (bytes == -ENOMEM && host->forward_cid != 0))
			return unknown_length(hc);
		if (bytes != 0 || !is_empty_record(hc))
			return bytes;
		if (recv(hc->source.fd, &none, 1, MSG_DONTWAIT) < 0)
			return -errno;
	}
	return -EINTR;
}

ssize_t host_recv_message(void *ctx, struct conn *conn, struct iovec *iov, size_t count, bool *eor)
{
	const struct host_conn *hc = host_conn_of(conn);
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t got;

	(void)ctx;
	/* descriptors sent along are closed by the kernel, there is no room for them */
	do
		got = recvmsg(hc->source.fd, &msg, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	*eor = (msg.msg_flags & MSG_EOR) != 0;
	return (msg.msg_flags & MSG_TRUNC) != 0 ? -EMSGSIZE : got;
}
