// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_host.h - part of fuzz_device.c: sockets of the host that read and
 * write as little as they like, fail, hang up, and never tell anything twice.
 */
#ifndef FUZZ_DEVICE_HOST_H
#define FUZZ_DEVICE_HOST_H

#include <errno.h>

#include "device_guest.h"
#include "device_world.h"

static inline struct sock *sock_of(struct conn *conn)
{
	return container_of(conn, struct sock, conn);
}

static inline bool has_pattern(const struct conn *conn)
{
	return is_honest(conn->guest_port, conn->host_port) && conn->host_cid == VSOCK_CID_HOST;
}

/* For tests/sim: the call that fails, counted from 1. */
static uint64_t endpoint_calls;
static uint64_t failing_endpoint_call;

static inline bool is_the_one(void)
{
	return ++endpoint_calls == failing_endpoint_call;
}

static inline bool fails(struct world *w)
{
	if (is_the_one())
		return true;
	return w->faults && !w->calm && rnd(w, 64) == 0;
}

static inline int host_open(void *ctx, struct conn *conn)
{
	struct side *s = ctx;
	uint32_t how = rnd(s->world, 8);

	if (has_pattern(conn))
		check(conn->seqpacket == is_seqpacket(conn->guest_port, conn->host_port));
	if (is_the_one() || (how == 0 && !s->world->calm))
		return -ECONNREFUSED;
	sock_of(conn)->open = true;
	sock_of(conn)->room = 4096;
	if (how > 2 || s->world->calm)
		return 0;
	sock_of(conn)->dialling = true;
	s->device.endpoint->timer(ctx, conn, 1);
	return -EINPROGRESS;
}

static inline int host_accepted(void *ctx, struct conn *conn)
{
	struct side *s = ctx;

	check(sock_of(conn)->open);
	return fails(s->world) ? -EPIPE : 0;
}

static inline ssize_t host_send(void *ctx, struct conn *conn, const struct iovec *iov, size_t count)
{
	struct side *s = ctx;
	struct sock *k = sock_of(conn);
	uint32_t total = 0;

	check(!conn->seqpacket && k->open && !k->fatal && !k->wr_shut && count > 0 &&
	      count <= ENDPOINT_MAX_PIECES);
	guest_poll(s);
	if (k->hung_up || fails(s->world)) {
		k->fatal = true;
		return -EPIPE;
	}
	for (size_t i = 0; i < count; i++) {
		const uint8_t *bytes = iov[i].iov_base;
		uint32_t part = min_u32((uint32_t)iov[i].iov_len, k->room);

		check(iov[i].iov_len > 0);
		for (uint32_t at = 0; at < part && has_pattern(conn); at++)
			check(bytes[at] == pattern(conn->guest_port, conn->host_port, k->got + at));
		k->got += part;
		k->room -= part;
		total += part;
		if (part < iov[i].iov_len) {
			k->wants_room = true;
			return total > 0 ? (ssize_t)total : -EAGAIN;
		}
	}
	return (ssize_t)total;
}

static inline ssize_t host_recv(void *ctx, struct conn *conn, struct iovec *iov, size_t count,
				bool *drained)
{
	struct side *s = ctx;
	struct sock *k = sock_of(conn);
	uint32_t can = k->written - k->fetched;
	uint32_t total = 0;
	bool full = true;

	check(!conn->seqpacket && k->open && !k->rd_shut && count > 0 &&
	      count <= ENDPOINT_MAX_PIECES);
	guest_poll(s);
	if (fails(s->world))
		return -ECONNRESET;
	if (can == 0)
		return k->eof ? 0 : -EAGAIN;
	if (rnd(s->world, 4) == 0)
		can = 1 + rnd(s->world, can);
	for (size_t i = 0; i < count && full; i++) {
		uint32_t part = min_u32((uint32_t)iov[i].iov_len, can - total);
		uint8_t *out = iov[i].iov_base;

		check(iov[i].iov_len > 0);
		for (uint32_t at = 0; at < part; at++)
			out[at] = pattern(conn->host_port, conn->guest_port, k->fetched + at);
		k->fetched += part;
		total += part;
		full = part == iov[i].iov_len;
	}
	*drained = !full && k->fetched == k->written && !k->eof;
	return (ssize_t)total;
}

static inline int host_send_message(void *ctx, struct conn *conn, const struct iovec *iov,
				    size_t count, bool eor)
{
	struct side *s = ctx;
	struct sock *k = sock_of(conn);
	size_t total = iov_total(iov, count);
	uint32_t place = k->got;

	check(conn->seqpacket && k->open && !k->fatal && !k->wr_shut && count > 0);
	check(count <= ENDPOINT_MAX_PIECES && total > 0 && total <= s->device.window);
	guest_poll(s);
	if (k->hung_up || fails(s->world)) {
		k->fatal = true;
		return rnd(s->world, 2) ? -EPIPE : -EMSGSIZE;
	}
	if (total > k->room) {
		k->wants_room = true;
		return -EAGAIN;
	}
	if (has_pattern(conn))
		check(total == message_bytes(place) && eor == (total % 2 == 1));
	for (size_t i = 0; i < count && has_pattern(conn); i++) {
		const uint8_t *bytes = iov[i].iov_base;

		for (size_t at = 0; at < iov[i].iov_len; at++)
			check(bytes[at] == pattern(conn->guest_port, conn->host_port, place++));
	}
	k->got += (uint32_t)total;
	k->room -= (uint32_t)total;
	return 0;
}

static inline ssize_t host_next_message(void *ctx, struct conn *conn)
{
	struct side *s = ctx;
	const struct sock *k = sock_of(conn);

	check(conn->seqpacket && k->open && !k->rd_shut);
	guest_poll(s);
	if (fails(s->world))
		return -ECONNRESET;
	if (!s->world->calm && rnd(s->world, 32) == 0)
		return -EINTR;
	if (k->fetched == k->written)
		return k->eof ? 0 : -EAGAIN;
	if (s->world->blind) /* does not tell how long it is */
		return conn->out.buf_alloc > 0 ? conn->out.buf_alloc : 1;
	return message_bytes(k->fetched);
}

static inline ssize_t host_recv_message(void *ctx, struct conn *conn, struct iovec *iov,
					size_t count, bool *eor)
{
	struct side *s = ctx;
	struct sock *k = sock_of(conn);
	uint32_t bytes = message_bytes(k->fetched);
	uint32_t done = 0;

	check(conn->seqpacket && k->open && !k->rd_shut && count > 0);
	check(count <= ENDPOINT_MAX_PIECES && k->fetched != k->written);
	guest_poll(s);
	if (fails(s->world))
		return -ECONNRESET;
	for (size_t i = 0; i < count && done < bytes; i++) {
		uint8_t *out = iov[i].iov_base;

		for (size_t at = 0; at < iov[i].iov_len && done < bytes; at++)
			out[at] = pattern(conn->host_port, conn->guest_port, k->fetched + done++);
	}
	k->fetched += bytes;
	*eor = bytes % 2 == 1;
	return done == bytes ? (ssize_t)bytes : -EMSGSIZE;
}

static inline void host_shutdown(void *ctx, struct conn *conn, uint32_t flags)
{
	(void)ctx;
	check(sock_of(conn)->open);
	sock_of(conn)->rd_shut |= (flags & VSOCK_SHUTDOWN_RCV) != 0;
	sock_of(conn)->wr_shut |= (flags & VSOCK_SHUTDOWN_SEND) != 0;
}

static inline void host_close(void *ctx, struct conn *conn)
{
	(void)ctx;
	sock_of(conn)->open = false;
	sock_of(conn)->dialling = false;
}

static inline void host_timer(void *ctx, struct conn *conn, uint32_t delay_ms)
{
	struct side *s = ctx;

	s->world->timers += (delay_ms > 0) - sock_of(conn)->timer;
	sock_of(conn)->timer = delay_ms > 0;
}

static const struct endpoint_ops host_ops = {
	.open = host_open,
	.accepted = host_accepted,
	.send = host_send,
	.recv = host_recv,
	.send_message = host_send_message,
	.next_message = host_next_message,
	.recv_message = host_recv_message,
	.shutdown = host_shutdown,
	.close = host_close,
	.timer = host_timer,
};

/* --- events --- */

/** Every connection there is, to choose from. */
struct some_conns {
	struct sock *sock[64];
	uint32_t count;
};

static inline void collect(void *ctx, struct conn *conn)
{
	struct some_conns *all = ctx;

	if (all->count < array_size(all->sock))
		all->sock[all->count++] = sock_of(conn);
}

static inline struct some_conns all_conns(struct side *s)
{
	struct some_conns all = { .count = 0 };

	conntab_each(&s->device.conns, collect, &all);
	return all;
}

/* What is to be read has changed: the edge comes once, in any state. */
static inline void edge(struct side *s, struct sock *k, bool hung_up)
{
	if (hung_up) {
		k->hung_up = true;
		k->eof = true;
		k->conn.hung_up = true;
	}
	if (k->conn.state == CONN_HANDSHAKE || k->conn.state == CONN_CONNECTING)
		k->conn.readable = true;
	else
		conn_host_readable(&s->device, &k->conn, hung_up);
}

static inline void make_room(struct side *s, struct sock *k, uint32_t bytes)
{
	k->room = min_u32(k->room + bytes, 1u << 20);
	if (!k->wants_room)
		return;
	if (!conn_waits(&k->conn))
		k->wants_room = false;
	else
		conn_host_writable(&s->device, &k->conn);
}

static inline void end_dialling(struct side *s, struct sock *k, bool good)
{
	k->dialling = false;
	if (good)
		conn_host_connected(&s->device, &k->conn);
	else
		conn_host_refused(&s->device, &k->conn);
}

static inline void fire(struct side *s, struct sock *k)
{
	if (!k->timer)
		return;
	k->timer = false;
	s->world->timers--;
	if (k->conn.state == CONN_CONNECTING && k->dialling && rnd(s->world, 4) > 0)
		end_dialling(s, k, rnd(s->world, 4) > 0);
	else
		conn_timeout(&s->device, &k->conn);
}

/* Something happens to one host socket. */
static inline void host_event(struct side *s, uint8_t which, uint8_t what)
{
	struct some_conns all = all_conns(s);
	struct sock *k = all.count > 0 ? all.sock[which % all.count] : NULL;
	uint32_t amount = 1u << (what >> 3) % 17;

	if (!k)
		return;
	if ((what & 7) == 0) {
		fire(s, k);
		return;
	}
	if (!k->open)
		return;
	if (k->dialling) {
		end_dialling(s, k, (what & 7) != 1);
	} else if ((what & 7) <= 3) {
		if (k->eof)
			return;
		if (k->conn.seqpacket) { /* whole messages, few where each waits for credit */
			amount = min_u32(amount, s->world->blind ? 1000 : UINT32_MAX);
			for (uint32_t end = k->written + amount; (int32_t)(end - k->written) > 0;)
				k->written += message_bytes(k->written);
		} else {
			k->written += amount;
		}
		edge(s, k, false);
	} else if ((what & 7) <= 5) {
		make_room(s, k, amount);
	} else if ((what & 7) == 6 && !k->eof) {
		k->eof = true;
		edge(s, k, k->wr_shut);
	} else if (!k->hung_up) {
		edge(s, k, true);
	}
}

/* A host program connects and names a port. */
static inline void host_client(struct side *s, uint8_t ports)
{
	uint32_t guest_port = ports % PORTS;
	uint32_t host_port = ports / PORTS % PORTS;
	struct conn *conn;

	if (is_honest(guest_port, host_port) && host_port < guest_port)
		return;
	conn = device_accept(&s->device, is_honest(guest_port, host_port)
						 ? is_seqpacket(guest_port, host_port)
						 : ports & 64);
	if (!conn)
		return;
	sock_of(conn)->open = true;
	sock_of(conn)->room = 4096;
	host_timer(s, conn, CONN_HANDSHAKE_TIMEOUT_MS);
	if (ports >= 192 && rnd(s->world, 2) == 0)
		return; /* it takes its time */
	if (conn_request(&s->device, conn, guest_port, host_port) < 0)
		conn_abandon(&s->device, conn);
}

#endif
