// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_checks.h - part of fuzz_device.c: what holds of a device whenever none
 * of its functions is running.
 */
#ifndef FUZZ_DEVICE_CHECKS_H
#define FUZZ_DEVICE_CHECKS_H

#include "device_host.h"
#include "device_world.h"

/** What is counted over all connections of a device. */
struct totals {
	struct side *side;
	uint64_t spilt;
	uint32_t conns;
	uint32_t half_open[2];
	uint32_t owing;
	uint32_t reading;
	long timers;
};

static inline bool is_to_be_read(const struct conn *conn)
{
	return conn->state == CONN_ESTABLISHED && conn->readable && !conn->starved &&
	       (conn->guest_shutdown & VSOCK_SHUTDOWN_RCV) == 0 &&
	       (conn->host_shutdown & VSOCK_SHUTDOWN_SEND) == 0;
}

/* Whether nothing but the clock may end what this connection waits for. */
static inline bool needs_timer(const struct conn *conn)
{
	return conn->state == CONN_HANDSHAKE || conn->state == CONN_REQUESTED ||
	       conn->state == CONN_CONNECTING || conn->state == CONN_CLOSING ||
	       conn->state == CONN_ORPHAN || (conn->state == CONN_ESTABLISHED && conn->starved);
}

/* Return: bytes of a message that is on its way to the guest. */
static inline uint32_t check_messages(const struct conn *conn, bool closed)
{
	const struct conn_messages *m = conn->messages;

	if (!m)
		return 0;
	check(m->spilt.complete > 0 || m->spilt.open == buf_length(&conn->spill));
	check(m->spilt.complete == 0 || m->spilt.first.bytes > 0);
	check(buf_length(&m->spilt.ends) <= buf_length(&conn->spill));
	check(!closed || buf_length(&m->rest) == 0);
	return buf_length(&m->rest);
}

static inline void check_conn(void *ctx, struct conn *conn)
{
	struct totals *t = ctx;
	const struct sock *k = sock_of(conn);
	uint32_t held = buf_length(&conn->spill);
	bool closed = conn->state == CONN_CLOSING || conn->state == CONN_RESET;
	bool hidden = conn->state == CONN_HANDSHAKE || conn->state == CONN_ORPHAN;
	bool waits = conn->state == CONN_HANDSHAKE || conn->state == CONN_REQUESTED;

	check(held <= t->side->device.window);
	check(credit_in_held(&conn->in) <= t->side->device.window);
	check(k->open == !closed && conn->in_table == !hidden);
	check((conn->owes != 0) == !list_empty(&conn->ctl));
	check(conn->state != CONN_RESET || conn->owes == CONN_OWES_RST);
	check(!list_empty(&conn->data) == (waits || is_to_be_read(conn)));
	check(!needs_timer(conn) || k->timer);
	check(held == 0 || !closed);
	check(!conn_waits(conn) || (k->wants_room && !k->fatal));
	check(conn->state != CONN_ORPHAN || conn_waits(conn));
	check(conn->seqpacket == (conn->messages != NULL));
	t->spilt += held + check_messages(conn, closed);
	t->conns++;
	check(conn->half_open == (waits || conn->state == CONN_CONNECTING));
	t->half_open[conn->by_guest] += conn->half_open;
	t->owing += conn->owes != 0;
	t->reading += is_to_be_read(conn);
	t->timers += k->timer;
}

static inline uint32_t length(const struct list *head)
{
	uint32_t n = 0;

	for (const struct list *at = head->next; at != head; at = at->next) {
		check(at->next->prev == at);
		n++;
	}
	return n;
}

/* Return: bytes kept for the other guest. */
static inline uint64_t check_inbox(struct side *s)
{
	struct inbox *inbox = &s->device.inbox;
	struct list *pos;
	struct list *tmp;
	uint64_t kept = 0;
	uint32_t own = 0;
	uint32_t waiting = 0;

	list_for_each_safe (pos, tmp, &inbox->all) {
		struct inbox_flow *f = container_of(pos, struct inbox_flow, all);
		uint32_t held = buf_length(&f->bytes);
		bool waits = inbox_flow_waits(f) || f->owes != 0 || f->replaced ||
			     inbox_flow_is_used_up(f);

		check(inbox_find(inbox, f->src_cid, f->src_port, f->dst_port) == f);
		check(held <= f->window && f->src_cid == s->other->cid);
		check(!waits || !list_empty(&f->ready));
		waiting += !list_empty(&f->ready);
		own += f->own;
		kept += held;
	}
	check(own == inbox->own_count);
	check(length(&inbox->ready) + length(&inbox->blocked) == waiting);
	return kept;
}

static inline long check_device(struct side *s)
{
	struct device *d = &s->device;
	struct totals t = { .side = s };

	conntab_each(&d->conns, check_conn, &t);
	check(t.conns == d->conns.used && t.conns == quota_used(&d->open));
	check(t.half_open[0] == d->half_open[0] && t.half_open[0] == length(&d->waiting));
	check(t.half_open[1] == d->half_open[1]);
	check(t.owing == length(&d->ctl) && t.reading == length(&d->data));
	check(d->rst_count <= DEVICE_MAX_RSTS);
	check(!d->batch.conn && !d->sibling.peer && !s->locked);
	/* the other guest's bytes, here and at its own host side */
	s->kept = check_inbox(s);
	s->spilt = t.spilt;
	return t.timers;
}

static inline void check_world(struct world *w)
{
	check(w->held == 0);
	check(check_device(&w->side[0]) + check_device(&w->side[1]) == w->timers);
	for (int i = 0; i < 2; i++)
		check(quota_used(&w->side[i].device.buffered) ==
		      w->side[i].spilt + w->side[1 - i].kept);
}

/* --- the end --- */

static inline void check_host_flow(struct side *s, uint32_t own, uint32_t other)
{
	const struct flow *f = flow_at(s, 0, own, other);
	struct conn *conn = conntab_find(&s->device.conns, own, other, VSOCK_CID_HOST);
	const struct sock *k = conn ? sock_of(conn) : NULL;

	if (f->state == NONE || f->tainted)
		return;
	check(conn);
	if (conn->state != CONN_ESTABLISHED || f->state != OPEN)
		return;
	if (!conn->discard && !k->fatal)
		check(k->got == f->sent_whole);
	/* a message that was begun could be brought to its end */
	if (f->shut == 0 && !conn->discard && !k->fatal && f->peer_shut == 0)
		check(f->sent == f->sent_whole);
	if (((f->shut | k->rd_shut) & VSOCK_SHUTDOWN_RCV) == 0 && conn->host_shutdown == 0)
		check(k->written == f->received);
}

static inline void check_sibling_flow(struct side *s, uint32_t own, uint32_t other)
{
	const struct flow *f = flow_at(s, 1, own, other);
	const struct flow *twin = flow_at(s->other, 1, other, own);
	const struct inbox_flow *record = inbox_find(&s->device.inbox, s->other->cid, other, own);

	if (f->tainted || twin->tainted)
		return;
	if (f->state == OPEN && twin->state == OPEN && f->shut + twin->shut == 0)
		check(f->sent == twin->received);
	if (f->state == OPEN && twin->state == OPEN)
		check(record);
}

/* Nothing is owed to anybody. */
static inline void check_end(struct side *s)
{
	struct device *d = &s->device;
	const struct driver_ring *tx = &s->ring[VSOCK_RING_TX];

	check(d->rst_count == 0 && list_empty(&d->ctl) && list_empty(&d->data));
	check(list_empty(&d->inbox.ready) && list_empty(&d->inbox.blocked));
	check(tx->free_count == tx->size);
}

/* Every byte has arrived. */
static inline void check_flows(struct side *s)
{
	for (uint32_t a = 0; a < PORTS; a++) {
		for (uint32_t b = 0; b < PORTS; b++) {
			if (!is_honest(a, b))
				continue;
			check_host_flow(s, a, b);
			check_sibling_flow(s, a, b);
		}
	}
}

#endif
