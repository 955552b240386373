// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * sibling.c - from one guest's TX ring into another guest's RX ring. Pure; the
 * locks are env's.
 *
 * Theory of operation
 *
 * Runs on the sender's owner thread. The lock of the receiver is held while
 * consecutive packets of one flow are copied (device->sibling), and given up
 * before anything else happens, so a thread never holds two. See inbox.h for
 * the records and their bounds.
 */
#include <errno.h>
#include <string.h>

#include "vsock/device_internal.h"

#define SIBLING_SHOW_BYTES 65536u /* a quarter of Linux's window */

static bool same_flow(const struct tx_sibling *s, const struct pkt *pkt)
{
	return s->peer != NULL && !s->closed && pkt->op == VSOCK_OP_RW &&
	       pkt->dst_cid == s->last.dst_cid && pkt->src_port == s->last.src_port &&
	       pkt->dst_port == s->last.dst_port && pkt->type == s->last.type;
}

/* The record of the opposite direction is in our own inbox: it learns of the
 * credit our guest gives... */
static void note_own_credit(struct device *device, const struct pkt *pkt)
{
	struct inbox_flow *own;

	device->env->lock(device->ctx);
	own = inbox_find(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port);
	if (own != NULL && own->open && own->type == pkt->type) {
		uint32_t before = own->out.fwd_cnt;

		if (!inbox_credit(&device->inbox, own, pkt->buf_alloc, pkt->fwd_cnt)) {
			device->env->guest_error(device->ctx, "fwd_cnt covers bytes never sent");
			inbox_reset_flow(&device->inbox, own);
		} else if (own->out.fwd_cnt != before) {
			device->probe_shift = 0; /* it reads, and may have to be asked each time */
		}
	}
	if (!list_empty(&device->inbox.ready) ||
	    (inbox_needs_probe(&device->inbox) && !device->inbox.watched))
		device->env->schedule(device->ctx);
	device->env->unlock(device->ctx);
}

/* Tell of a flow of our guest's. */
static void tell(struct device *device, const struct inbox_flow *own, enum conn_event what,
		 enum conn_end why)
{
	const struct conn_notice notice = {
		.what = what,
		.why = why,
		.guest_port = own->dst_port,
		.host_port = own->src_port,
		.sibling = (uint32_t)own->src_cid,
		.by_guest = own->own,
	};

	device->env->conn_event(device->ctx, &notice);
}

/* The flow of this record ends, or does not come about; those that owe the end to our
 * guest were told by whoever ended them. @why: CONN_END_COUNT: our guest sent an RST */
static void tell_end(struct device *device, const struct inbox_flow *own, enum conn_end why)
{
	bool opened = own->open && !own->unanswered;

	if ((own->owes & CONN_OWES_RST) != 0)
		return;
	if (why == CONN_END_COUNT && !opened)
		why = own->own ? CONN_END_GUEST_RESET : CONN_END_GUEST_REFUSED;
	else if (why == CONN_END_COUNT)
		why = own->shutdown == VSOCK_SHUTDOWN_BOTH ? CONN_END_GUEST_CLOSED
							   : CONN_END_GUEST_RESET;
	tell(device, own, opened ? CONN_CLOSED : CONN_REFUSED, why);
}

void sibling_note_end(struct device *device, uint64_t cid, enum conn_end why)
{
	struct list *pos;
	struct list *tmp;

	device->env->lock(device->ctx);
	list_for_each_safe (pos, tmp, &device->inbox.all) {
		const struct inbox_flow *own = container_of(pos, struct inbox_flow, all);

		if (cid == 0 || own->src_cid == cid)
			tell_end(device, own, why);
	}
	device->env->unlock(device->ctx);
}

/* ...and ends when our guest ends the flow. Always before the sibling hears of
 * the end: it may ask anew at once, and that makes another record.
 * Return: false if it did so already and our guest has not seen it: then what
 * our guest ends is the predecessor, which the sibling has forgotten */
static bool close_own_flow(struct device *device, const struct pkt *pkt, enum conn_end why)
{
	struct inbox_flow *own;
	bool stale;

	device->env->lock(device->ctx);
	own = inbox_find(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port);
	stale = own != NULL && (own->owes & CONN_OWES_REQUEST) != 0;
	if (!stale && own != NULL && own->type == pkt->type) {
		tell_end(device, own, why);
		inbox_close(&device->inbox, own);
	}
	device->env->unlock(device->ctx);
	return !stale;
}

void sibling_flush(struct device *device)
{
	struct tx_sibling s = device->sibling;

	if (s.peer == NULL)
		return;
	memset(&device->sibling, 0, sizeof(device->sibling));
	device_end_sibling_fill(s.peer, &s.fill);
	s.peer->env->unlock(s.peer->ctx);
	if (s.credit_moved)
		note_own_credit(device, &s.last);
}

/* The sibling refuses, or is not there: our guest is told, its record ends. */
static void refuse(struct device *device, const struct pkt *pkt, enum conn_end why)
{
	const struct inbox_flow unknown = {
		.src_cid = pkt->dst_cid,
		.src_port = pkt->dst_port,
		.dst_port = pkt->src_port,
		.own = true,
	};

	device_owe_rst(device, pkt);
	device->env->lock(device->ctx);
	/* no sibling's packet may overtake the RST, nor a new REQUEST once the
	 * record is gone */
	if (device->rst_count > 0)
		device->inbox.yield = true;
	if (pkt->op == VSOCK_OP_REQUEST &&
	    inbox_find(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port) == NULL)
		tell(device, &unknown, CONN_REFUSED, why);
	device->env->unlock(device->ctx);
	(void)close_own_flow(device, pkt, why);
}

/* End our guest's flow at @cid; a request that its guest has not seen never was. */
static void withdraw(struct device *device, uint64_t cid, uint32_t own_port, uint32_t port)
{
	struct device *peer = device->env->sibling(device->ctx, cid);
	struct inbox_flow *flow;

	if (peer == NULL)
		return;
	peer->env->lock(peer->ctx);
	flow = inbox_find(&peer->inbox, device->guest_cid, own_port, port);
	if (flow != NULL) {
		inbox_withdraw(&peer->inbox, flow);
		peer->env->wake(peer->ctx);
	}
	peer->env->unlock(peer->ctx);
}

/* Our own record of a request. At the limit the oldest unanswered one gives way:
 * guests send nothing when they give up waiting. */
static bool open_own_flow(struct device *device, struct device *peer, const struct pkt *pkt)
{
	struct inbox_flow given_up = { .src_cid = 0 };
	struct inbox_flow *oldest = NULL;
	struct inbox_flow *own;

	device->env->lock(device->ctx);
	if (device->inbox.own_count >= INBOX_MAX_FLOWS)
		oldest = inbox_oldest_unanswered(&device->inbox);
	if (oldest != NULL) {
		given_up = *oldest;
		tell_end(device, oldest, CONN_END_TIMEOUT);
		inbox_close(&device->inbox, oldest);
	}
	own = inbox_find(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port);
	if (own != NULL) /* our guest has forgotten it */
		tell_end(device, own, CONN_END_GUEST_RESET);
	own = inbox_open_own(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port,
			     peer->window, &peer->buffered);
	if (own != NULL) {
		own->type = (uint8_t)pkt->type;
		inbox_begin_credit(own, pkt->buf_alloc);
	}
	device->env->unlock(device->ctx);
	if (given_up.src_cid != 0)
		withdraw(device, given_up.src_cid, given_up.dst_port, given_up.src_port);
	return own != NULL;
}

/* Our guest answers: before the peer can send, our record knows its buffer.
 * Return: false if it answers a predecessor, not having seen the request yet */
static bool answer_own_flow(struct device *device, const struct pkt *pkt)
{
	struct inbox_flow *own;
	bool stale;

	device->env->lock(device->ctx);
	own = inbox_find(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port);
	stale = own != NULL && (own->owes & CONN_OWES_REQUEST) != 0;
	if (own != NULL && !stale && !own->own && !own->open && own->type == pkt->type)
		inbox_begin_credit(own, pkt->buf_alloc);
	device->env->unlock(device->ctx);
	return !stale;
}

/* Lock the peer and find (REQUEST: make) the flow's record there. Return: NULL and *@why. */
static struct inbox_flow *enter(struct device *device, struct device *peer, const struct pkt *pkt,
				enum conn_end *why)
{
	struct inbox_flow *flow = NULL;

	if (pkt->op == VSOCK_OP_REQUEST && (device->draining || !device_may_connect(device) ||
					    !open_own_flow(device, peer, pkt))) {
		*why = device->draining ? CONN_END_DRAINING : CONN_END_LIMIT;
		return NULL;
	}
	peer->env->lock(peer->ctx);
	if (pkt->op != VSOCK_OP_REQUEST)
		flow = inbox_find(&peer->inbox, pkt->src_cid, pkt->src_port, pkt->dst_port);
	else if (peer->running && !peer->draining && device_has_type(peer, pkt->type))
		flow = inbox_open(&peer->inbox, pkt->src_cid, pkt->src_port, pkt->dst_port,
				  device->window, &device->buffered);
	if (flow != NULL && pkt->op == VSOCK_OP_REQUEST)
		flow->type = (uint8_t)pkt->type;
	if (flow != NULL && flow->type != pkt->type)
		flow = NULL; /* as Linux: the packet is refused, the flow lives */
	if (flow != NULL && (flow->owes & CONN_OWES_RST) != 0)
		flow = NULL; /* it is over, only its end is not delivered yet */
	if (flow == NULL && pkt->op == VSOCK_OP_REQUEST && peer->draining)
		*why = CONN_END_DRAINING;
	if (flow == NULL)
		peer->env->unlock(peer->ctx);
	return flow;
}

static void begin(struct device *device, struct device *peer, struct inbox_flow *flow,
		  const struct pkt *pkt)
{
	device->sibling = (struct tx_sibling){
		.peer = peer,
		.flow = flow,
		.last = *pkt,
		.fill = device_begin_fill(peer, device_sibling_ring(peer), device->scratch,
					  RX_BUDGET_SIBLING),
	};
}

/* A bulk receiver reads the first part while the next is being copied. */
static void show_early(struct tx_sibling *s, uint32_t bytes)
{
	s->unseen_bytes += bytes;
	if (s->unseen_bytes < SIBLING_SHOW_BYTES)
		return;
	s->unseen_bytes = 0;
	device_publish_rx(s->peer, &s->fill);
}

/* Flags have a meaning in SHUTDOWN and in messages only, and there only the known
 * ones; a SHUTDOWN without any tells nothing but credit. */
static void clean_flags(struct pkt *pkt)
{
	uint32_t known = 0;

	if (pkt->op == VSOCK_OP_SHUTDOWN)
		known = VSOCK_SHUTDOWN_BOTH;
	else if (pkt->op == VSOCK_OP_RW && (pkt->flags & VSOCK_SEQ_EOM) != 0)
		known = VSOCK_SEQ_EOM | VSOCK_SEQ_EOR;
	pkt->flags &= known;
	if (pkt->op == VSOCK_OP_SHUTDOWN && pkt->flags == 0)
		pkt->op = VSOCK_OP_CREDIT_UPDATE;
}

/* Our guest has answered. */
static void tell_open(struct device *device, const struct pkt *pkt)
{
	const struct inbox_flow own = {
		.src_cid = pkt->dst_cid,
		.src_port = pkt->dst_port,
		.dst_port = pkt->src_port,
	};

	tell(device, &own, CONN_OPENED, CONN_END_COUNT);
}

static void deliver(struct device *device, struct pkt *pkt, struct iov_cursor *payload)
{
	struct tx_sibling *s = &device->sibling;
	int err;

	if (pkt->buf_alloc != s->last.buf_alloc || pkt->fwd_cnt != s->last.fwd_cnt)
		s->credit_moved = true;
	s->last = *pkt;
	clean_flags(pkt);
	/* what the receiver may have waiting for our guest is bounded by its window */
	pkt->buf_alloc = min_u32(pkt->buf_alloc, s->peer->window);
	if (pkt->op == VSOCK_OP_RST)
		s->closed = true;
	/* the peer asked anew; what our guest still says is about the old connection */
	if (s->flow->unanswered && pkt->op != VSOCK_OP_RESPONSE && pkt->op != VSOCK_OP_RST)
		return;
	err = inbox_deliver(&s->peer->inbox, s->flow, pkt, payload, &s->fill);
	if (err == 0) {
		show_early(s, pkt->len);
		return;
	}
	if (err == -ENOBUFS)
		device->env->guest_error(device->ctx, "more bytes for a sibling than its credit");
	else
		device->env->limit_reached(device->ctx, device->buffered.name,
					   "a connection to a sibling was reset");
	sibling_flush(device);
	(void)close_own_flow(device, pkt, err == -ENOBUFS ? CONN_END_BROKEN_RULE : CONN_END_LIMIT);
	withdraw(device, pkt->dst_cid, pkt->src_port, pkt->dst_port);
	device_owe_rst(device, pkt);
}

void sibling_forward(struct device *device, const struct pkt *header, struct iov_cursor *payload)
{
	struct pkt pkt = *header;
	struct inbox_flow *flow = NULL;

	if (!same_flow(&device->sibling, &pkt)) {
		enum conn_end why = CONN_END_NO_GUEST;
		struct device *peer;

		sibling_flush(device);
		if (pkt.op == VSOCK_OP_RESPONSE && !answer_own_flow(device, &pkt))
			return;
		if (pkt.op == VSOCK_OP_RST && !close_own_flow(device, &pkt, CONN_END_COUNT))
			return;
		/* first: as soon as the sibling hears of credit it may send */
		if (pkt.op != VSOCK_OP_REQUEST && pkt.op != VSOCK_OP_RST)
			note_own_credit(device, &pkt);
		peer = device->env->sibling(device->ctx, pkt.dst_cid);
		if (peer != NULL)
			flow = enter(device, peer, &pkt, &why);
		if (flow == NULL) {
			refuse(device, &pkt, why);
			return;
		}
		begin(device, peer, flow, &pkt);
		if (pkt.op == VSOCK_OP_RESPONSE && flow->unanswered)
			tell_open(device, &pkt);
	}
	deliver(device, &pkt, payload);
}
