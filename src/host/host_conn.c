// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * host_conn.c - the socket behind a connection: CONNECT handshake, dialling,
 * vectored I/O, time-outs. Decides nothing about the connection's state: that
 * is vsock/'s.
 *
 * Theory of operation
 *
 * Sockets are registered once, edge-triggered, for input and hang-up. Output is
 * watched only from the first send that did not take everything until the
 * first writable event with nothing left, so that a request/response exchange
 * is not woken when the host program reads.
 *
 * A client's CONNECT line is peeked at and consumed only when it is complete:
 * nothing is buffered here, and bytes behind the newline stay in the socket as
 * the first data.
 *
 * connect() to a Unix socket either completes, fails, or answers EAGAIN when
 * the listener's backlog is full. No event tells when there is room, so it is
 * tried again after 1, 2, 4 ... ms until the guest's own time-out is near. A
 * confined daemon has no path to connect to: the broker does, see door.h.
 */
#include "host/host_internal.h"

#include <sys/socket.h> /* first: older kernels' vm_sockets.h needs it */

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "host/handshake.h"

#define DIAL_TIMEOUT_MS 1500u /* the guest gives up after 2000 */
#define DIAL_RETRY_MAX_MS 64u
#define SEND_BUFFER_BYTES (1024 * 1024) /* cut by net.core.wmem_max */

#define WATCH_INPUT (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET)
#define WATCH_BOTH (WATCH_INPUT | EPOLLOUT)

size_t host_conn_bytes(void)
{
	return sizeof(struct host_conn);
}

static void on_event(struct loop_source *source, uint32_t events);
static void on_expire(struct timer *timer);

static void set_up(struct host *host, struct host_conn *hc)
{
	hc->host = host;
	hc->source.fd = -1;
	hc->source.on_event = on_event;
	hc->timer.on_expire = on_expire;
}

static void set_timer(void *ctx, struct conn *conn, uint32_t delay_ms)
{
	struct host *host = ctx;

	if (delay_ms == 0)
		loop_disarm(host->loop, &host_conn_of(conn)->timer);
	else if (loop_arm(host->loop, &host_conn_of(conn)->timer, delay_ms) < 0)
		host->device->env->guest_error(host->device->ctx, "no memory left for a time-out");
}

static void close_socket(void *ctx, struct conn *conn)
{
	struct host *host = ctx;
	int fd = host_conn_of(conn)->source.fd;

	host_conn_of(conn)->dialling = false;
	/* a connection that was never opened is all zero: it has no host yet */
	if (host_conn_of(conn)->host == NULL)
		return;
	door_cancel(&host->door, &host_conn_of(conn)->caller);
	if (fd < 0)
		return;
	loop_del(host->loop, &host_conn_of(conn)->source);
	host_conn_of(conn)->source.fd = -1;
	fd_close(&fd);
}

/* --- clients --- */

void host_conn_accepted(struct host *host, int fd, const struct host_listener *from,
			uint32_t peer_port)
{
	struct conn *conn = device_accept(host->device, from->seqpacket);
	struct host_conn *hc;

	if (conn == NULL) {
		fd_close(&fd);
		return;
	}
	hc = host_conn_of(conn);
	set_up(host, hc);
	if (loop_add(host->loop, &hc->source, fd, WATCH_INPUT) < 0) {
		hc->source.fd = -1;
		fd_close(&fd);
		conn_abandon(host->device, conn);
		return;
	}
	set_timer(host, conn, CONN_HANDSHAKE_TIMEOUT_MS);
	if (host->forward_cid != 0 &&
	    conn_request(host->device, conn, from->guest_port, peer_port) < 0)
		conn_abandon(host->device, conn);
}

static void handshake(struct host_conn *hc)
{
	struct device *device = hc->host->device;
	char text[HANDSHAKE_MAX_BYTES];
	size_t line = 0;
	uint32_t port = 0;
	ssize_t got = recv(hc->source.fd, text, sizeof(text), MSG_PEEK | MSG_DONTWAIT);
	enum handshake_result result = HANDSHAKE_BAD;
	bool whole = hc->conn.seqpacket; /* the line is a record */

	if (got < 0 && errno == EAGAIN)
		return;
	if (got > 0)
		result = handshake_parse(text, (size_t)got, &port, &line);
	if (result == HANDSHAKE_MORE && !hc->ended && !whole)
		return;
	if (result == HANDSHAKE_DONE && whole && line != (size_t)got)
		result = HANDSHAKE_BAD;
	/* the edge that told of bytes behind the line has passed */
	hc->conn.readable =
		whole || (size_t)got > line || got == (ssize_t)sizeof(text) || hc->ended;
	if (result != HANDSHAKE_DONE ||
	    recv(hc->source.fd, text, line, MSG_DONTWAIT) != (ssize_t)line ||
	    conn_request(device, &hc->conn, port, 0) < 0)
		conn_abandon(device, &hc->conn);
}

static int accepted(void *ctx, struct conn *conn)
{
	struct host *host = ctx;
	char reply[HANDSHAKE_REPLY_BYTES];
	size_t len = handshake_reply(reply, conn->host_port);

	if (host->forward_cid != 0 || host->silent)
		return 0;
	if (send(host_conn_of(conn)->source.fd, reply, len, MSG_DONTWAIT | MSG_NOSIGNAL) !=
	    (ssize_t)len)
		return -EPIPE; /* an empty send buffer has room for it, so it is gone */
	return 0;
}

/* --- dialling --- */

static int socket_type(const struct host_conn *hc)
{
	return hc->conn.seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
}

/* Return: 0: connected, -EINPROGRESS: host_conn_dialled() will tell, other -errno. */
static int try_dial(struct host_conn *hc)
{
	struct host *host = hc->host;
	int err;

	if (host->door.used) {
		err = door_call(&host->door, &hc->caller, hc->conn.host_port, socket_type(hc));
		return err == 0 ? -EINPROGRESS : err;
	}
	snprintf(host->dial.sun_path + host->dial_prefix,
		 sizeof(host->dial.sun_path) - host->dial_prefix, "%u", hc->conn.host_port);
	if (connect(hc->source.fd, (struct sockaddr *)&host->dial, sizeof(host->dial)) < 0)
		return -errno;
	return 0;
}

/* The socket is connected: watch it. Its descriptor is in the source already. */
static int watch(struct host_conn *hc, uint32_t events)
{
	int fd = hc->source.fd;
	int err = loop_add(hc->host->loop, &hc->source, fd, events);

	if (err < 0) {
		hc->source.fd = -1;
		fd_close(&fd);
	}
	return err;
}

/* After 1, 2, 4 ... ms. Return: whether there is time for it. */
static bool retry_dial(struct host_conn *hc)
{
	uint32_t now_ms = (uint32_t)loop_now_ms(hc->host->loop);

	if (now_ms - hc->dial_deadline_ms <= INT32_MAX)
		return false;
	if (hc->dial_delay_ms == 0)
		hc->dial_delay_ms = 1;
	else if (hc->dial_delay_ms < DIAL_RETRY_MAX_MS)
		hc->dial_delay_ms = (uint16_t)(hc->dial_delay_ms * 2u);
	hc->dialling = true;
	set_timer(hc->host, &hc->conn, hc->dial_delay_ms);
	return true;
}

static int dial_unix(struct host_conn *hc)
{
	int err;

	if (!hc->host->door.used) {
		hc->source.fd = socket(AF_UNIX, socket_type(hc) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (hc->source.fd < 0)
			return -errno;
		fd_refuse_rights(hc->source.fd);
	}
	hc->dial_deadline_ms = (uint32_t)loop_now_ms(hc->host->loop) + DIAL_TIMEOUT_MS;
	hc->dial_delay_ms = 0;
	err = try_dial(hc);
	if (err == 0)
		return watch(hc, WATCH_INPUT);
	if (err == -EINPROGRESS)
		set_timer(hc->host, &hc->conn, DIAL_TIMEOUT_MS);
	else if (err == -EAGAIN && retry_dial(hc))
		err = -EINPROGRESS;
	return err;
}

static int dial_vsock(struct host_conn *hc)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = hc->host->forward_cid,
		.svm_port = hc->conn.host_port,
	};
	int err;

	hc->source.fd = socket(AF_VSOCK, socket_type(hc) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (hc->source.fd < 0)
		return -errno;
	if (connect(hc->source.fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return watch(hc, WATCH_INPUT);
	if (errno != EINPROGRESS)
		return -errno;
	err = watch(hc, WATCH_BOTH);
	if (err < 0)
		return err;
	hc->watches_output = true;
	set_timer(hc->host, &hc->conn, DIAL_TIMEOUT_MS);
	return -EINPROGRESS;
}

static int open_socket(void *ctx, struct conn *conn)
{
	struct host *host = ctx;

	set_up(host, host_conn_of(conn));
	return host->forward_cid != 0 ? dial_vsock(host_conn_of(conn))
				      : dial_unix(host_conn_of(conn));
}

/* What a later attempt came to. */
static void conclude(struct host_conn *hc, int err)
{
	struct device *device = hc->host->device;

	hc->dialling = false;
	if (err == -EINPROGRESS)
		set_timer(hc->host, &hc->conn, DIAL_TIMEOUT_MS);
	if (err == -EINPROGRESS || (err == -EAGAIN && retry_dial(hc)))
		return;
	if (err == 0)
		err = watch(hc, WATCH_INPUT);
	if (err == 0)
		conn_host_connected(device, &hc->conn);
	else
		conn_host_refused(device, &hc->conn);
}

static void dial_again(struct host_conn *hc)
{
	conclude(hc, try_dial(hc));
}

void host_conn_dialled(struct door_caller *caller, int err, int fd)
{
	struct host_conn *hc = container_of(caller, struct host_conn, caller);

	hc->source.fd = fd;
	conclude(hc, err);
}

/* A vsock connect() came to an end. */
static void dialled(struct host_conn *hc)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(hc->source.fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err != 0)
		conn_host_refused(hc->host->device, &hc->conn);
	else
		conn_host_connected(hc->host->device, &hc->conn);
}

/* --- bytes --- */

void host_watch_output(struct host_conn *hc, bool on)
{
	if (hc->watches_output == on)
		return;
	if (loop_modify(hc->host->loop, &hc->source, on ? WATCH_BOTH : WATCH_INPUT) == 0)
		hc->watches_output = on;
}

bool host_grow_send_buffer(struct host_conn *hc)
{
	int bytes = SEND_BUFFER_BYTES;

	if (hc->grown)
		return false;
	hc->grown = true;
	return setsockopt(hc->source.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0;
}

ssize_t host_send_some(const struct host_conn *hc, const struct iovec *iov, size_t count, int flags)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count };
	ssize_t sent;

	do
		sent = sendmsg(hc->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

static ssize_t send_bytes(void *ctx, struct conn *conn, const struct iovec *iov, size_t count)
{
	struct host_conn *hc = host_conn_of(conn);
	size_t total = iov_total(iov, count);
	ssize_t sent = host_send_some(hc, iov, count, 0);

	(void)ctx;
	if (sent == -EAGAIN && host_grow_send_buffer(hc))
		sent = host_send_some(hc, iov, count, 0);
	if (sent == -EAGAIN || (sent >= 0 && (size_t)sent < total)) {
		host_grow_send_buffer(hc);
		host_watch_output(hc, true);
	}
	return sent;
}

static ssize_t recv_bytes(void *ctx, struct conn *conn, struct iovec *iov, size_t count,
			  bool *drained)
{
	struct host *host = ctx;
	struct host_conn *hc = host_conn_of(conn);
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t got;

	do
		got = recvmsg(hc->source.fd, &msg, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	/*
	 * A short read of a Unix socket means it is empty, and the next byte
	 * raises an edge; but not when it stopped at descriptors a client sent
	 * along, nor when the end is queued behind and its edge has passed.
	 */
	*drained = (size_t)got < iov_total(iov, count) && (msg.msg_flags & MSG_CTRUNC) == 0 &&
		   !hc->ended && !hc->urgent && host->forward_cid == 0;
	return got;
}

static void shut_down(void *ctx, struct conn *conn, uint32_t flags)
{
	(void)ctx;
	if ((flags & VSOCK_SHUTDOWN_SEND) != 0)
		shutdown(host_conn_of(conn)->source.fd, SHUT_WR);
	if ((flags & VSOCK_SHUTDOWN_RCV) != 0)
		shutdown(host_conn_of(conn)->source.fd, SHUT_RD);
}

const struct endpoint_ops host_endpoint = {
	.open = open_socket,
	.accepted = accepted,
	.send = send_bytes,
	.recv = recv_bytes,
	.send_message = host_send_message,
	.next_message = host_next_message,
	.recv_message = host_recv_message,
	.shutdown = shut_down,
	.close = close_socket,
	.timer = set_timer,
};

/* --- events --- */

static void transfer_events(struct host_conn *hc, uint32_t events)
{
	struct device *device = hc->host->device;
	bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;

	if ((events & EPOLLOUT) != 0) {
		if (!conn_waits(&hc->conn))
			host_watch_output(hc, false);
		else
			conn_host_writable(device, &hc->conn);
	}
	/* the write may have ended it: then its descriptor is gone */
	if (hc->source.fd >= 0 && (events & ~(uint32_t)EPOLLOUT) != 0)
		conn_host_readable(device, &hc->conn, hung_up);
}

static void on_event(struct loop_source *source, uint32_t events)
{
	struct host_conn *hc = container_of(source, struct host_conn, source);

	/* edges come once: what they say is noted whatever the state */
	if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
		hc->ended = true;
	if ((events & (EPOLLHUP | EPOLLERR)) != 0)
		hc->conn.hung_up = true;
	if ((events & EPOLLPRI) != 0)
		hc->urgent = true;
	switch ((enum conn_state)hc->conn.state) {
	case CONN_HANDSHAKE:
		handshake(hc);
		return;
	case CONN_CONNECTING:
		hc->conn.readable = true; /* this edge may also have told of bytes */
		if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
			dialled(hc);
		return;
	case CONN_REQUESTED:
	case CONN_ESTABLISHED:
	case CONN_ORPHAN:
		transfer_events(hc, events);
		return;
	case CONN_CLOSING:
	case CONN_RESET:
	case CONN_FREE:
	case CONN_STATE_COUNT:
		return;
	}
}

static void on_expire(struct timer *timer)
{
	struct host_conn *hc = container_of(timer, struct host_conn, timer);

	if (hc->conn.state == CONN_CONNECTING && hc->dialling)
		dial_again(hc);
	else
		conn_timeout(hc->host->device, &hc->conn);
}
