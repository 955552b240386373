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

static bool same_flow(const struct tx_sibling *s, const struct pkt *pkt)
{
	return s->peer != NULL && !s->closed && pkt->op == VSOCK_OP_RW &&
	       pkt->dst_cid == s->peer->guest_cid && pkt->src_port == s->src_port &&
	       pkt->dst_port == s->dst_port;
}

/* The record of the opposite direction is in our own inbox: it learns of the
 * credit our guest gives, and ends when our guest ends the flow. */
static void settle_own_flow(struct device *device, const struct tx_sibling *s)
{
	struct inbox_flow *own;

	device->env->lock(device->ctx);
	own = inbox_find(&device->inbox, s->peer->guest_cid, s->dst_port, s->src_port);
	if (own != NULL && s->closed) {
		inbox_close(&device->inbox, own);
	} else if (own != NULL && !inbox_credit(&device->inbox, own, s->buf_alloc, s->fwd_cnt)) {
		device->env->guest_error(device->ctx, "fwd_cnt covers bytes never sent");
		inbox_reset_flow(&device->inbox, own);
	}
	if (!list_empty(&device->inbox.ready))
		device->env->schedule(device->ctx);
	device->env->unlock(device->ctx);
}

void sibling_flush(struct device *device)
{
	struct tx_sibling s = device->sibling;

	if (s.peer == NULL)
		return;
	memset(&device->sibling, 0, sizeof(device->sibling));
	device_drain_inbox(s.peer, &s.fill);
	s.peer->env->unlock(s.peer->ctx);
	settle_own_flow(device, &s);
}

/* The sibling refuses, or is not there: our guest is told, its record ends. */
static void refuse(struct device *device, const struct pkt *pkt)
{
	device_owe_rst(device, pkt);
	device->env->lock(device->ctx);
	inbox_close(&device->inbox,
		    inbox_find(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port));
	device->env->unlock(device->ctx);
}

static bool open_own_flow(struct device *device, const struct device *peer, const struct pkt *pkt)
{
	struct inbox_flow *own;

	device->env->lock(device->ctx);
	own = inbox_open(&device->inbox, pkt->dst_cid, pkt->dst_port, pkt->src_port, peer->window);
	if (own != NULL)
		own->replaced = false; /* our guest asked anew: it knows */
	device->env->unlock(device->ctx);
	return own != NULL;
}

/* Lock the peer and find (REQUEST: make) the flow's record there. */
static struct inbox_flow *enter(struct device *device, struct device *peer, const struct pkt *pkt)
{
	struct inbox_flow *flow = NULL;

	if (pkt->op == VSOCK_OP_REQUEST && !open_own_flow(device, peer, pkt))
		return NULL;
	peer->env->lock(peer->ctx);
	if (pkt->op != VSOCK_OP_REQUEST)
		flow = inbox_find(&peer->inbox, pkt->src_cid, pkt->src_port, pkt->dst_port);
	else if (peer->rx != NULL)
		flow = inbox_open(&peer->inbox, pkt->src_cid, pkt->src_port, pkt->dst_port,
				  device->window);
	if (flow != NULL && (flow->owes & CONN_OWES_RST) != 0)
		flow = NULL; /* it is over, only its end is not delivered yet */
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
		.src_port = pkt->src_port,
		.dst_port = pkt->dst_port,
		.fill = rx_fill_begin(peer->rx, device->scratch, RX_BUDGET_SIBLING),
	};
}

static void deliver(struct device *device, struct pkt *pkt, struct iov_cursor *payload)
{
	struct tx_sibling *s = &device->sibling;

	s->buf_alloc = pkt->buf_alloc;
	s->fwd_cnt = pkt->fwd_cnt;
	/* what the receiver may have waiting for our guest is bounded by its window */
	pkt->buf_alloc = min_u32(pkt->buf_alloc, s->peer->window);
	if (pkt->op == VSOCK_OP_RST)
		s->closed = true;
	if (inbox_deliver(&s->peer->inbox, s->flow, pkt, payload, &s->fill) == 0)
		return;
	device->env->guest_error(device->ctx, "more bytes for a sibling than its credit");
	inbox_reset_flow(&s->peer->inbox, s->flow);
	device_owe_rst(device, pkt);
	s->closed = true;
	sibling_flush(device);
}

void sibling_forward(struct device *device, const struct pkt *header, struct iov_cursor *payload)
{
	struct pkt pkt = *header;
	struct inbox_flow *flow = NULL;

	if (!same_flow(&device->sibling, &pkt)) {
		struct device *peer;

		sibling_flush(device);
		peer = device->env->sibling(device->ctx, pkt.dst_cid);
		if (peer != NULL)
			flow = enter(device, peer, &pkt);
		if (flow == NULL) {
			refuse(device, &pkt);
			return;
		}
		begin(device, peer, flow, &pkt);
	}
	deliver(device, &pkt, payload);
}
