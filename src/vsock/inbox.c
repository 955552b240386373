// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * inbox.c - flows from sibling guests into one guest. Pure but for the heap.
 *
 * Order within a flow: RST of a replaced predecessor, REQUEST or RESPONSE,
 * bytes, credit, SHUTDOWN, RST. Bits and bytes reach the guest in that order
 * even when its ring was full for a while.
 */
#include "vsock/inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/iov.h"
#include "vsock/conn.h"
#include "vsock/rx_fill.h"

void inbox_init(struct inbox *inbox, uint64_t guest_cid, uint64_t key)
{
	memset(inbox, 0, sizeof(*inbox));
	list_init(&inbox->all);
	list_init(&inbox->ready);
	list_init(&inbox->blocked);
	inbox->guest_cid = guest_cid;
	inbox->key = key;
}

static struct inbox_flow **bucket(struct inbox *inbox, uint64_t cid, uint32_t src_port,
				  uint32_t dst_port)
{
	uint64_t h = inbox->key ^ ((uint64_t)src_port << 32 | dst_port);

	h = (h ^ (h >> 32)) * UINT64_C(0xd6e8feb86659fd93);
	h = (h ^ (h >> 32) ^ cid) * UINT64_C(0xd6e8feb86659fd93);
	return &inbox->buckets[(h >> 32) % INBOX_BUCKETS];
}

struct inbox_flow *inbox_find(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
			      uint32_t dst_port)
{
	struct inbox_flow *flow = *bucket(inbox, src_cid, src_port, dst_port);

	while (flow != NULL && (flow->src_cid != src_cid || flow->src_port != src_port ||
				flow->dst_port != dst_port))
		flow = flow->hash_next;
	return flow;
}

/* Bytes of @flow leave its buffer, to the guest or to nowhere. Without any the
 * sender may be gone, and its count with it. */
static void discharge(struct inbox_flow *flow, uint32_t bytes)
{
	if (bytes > 0)
		quota_give(flow->charge, bytes);
}

static void drop_bytes(struct inbox_flow *flow)
{
	discharge(flow, buf_length(&flow->bytes));
	buf_fini(&flow->bytes);
}

void inbox_close(struct inbox *inbox, struct inbox_flow *flow)
{
	struct inbox_flow **link;

	if (flow == NULL)
		return;
	link = bucket(inbox, flow->src_cid, flow->src_port, flow->dst_port);
	while (*link != flow)
		link = &(*link)->hash_next;
	*link = flow->hash_next;
	list_remove(&flow->all);
	list_remove(&flow->ready);
	drop_bytes(flow);
	if (flow->own)
		inbox->own_count--;
	free(flow);
}

void inbox_clear(struct inbox *inbox)
{
	while (!list_empty(&inbox->all))
		inbox_close(inbox, list_first(&inbox->all, struct inbox_flow, all));
}

static struct inbox_flow *flow_new(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
				   uint32_t dst_port)
{
	struct inbox_flow **link = bucket(inbox, src_cid, src_port, dst_port);
	struct inbox_flow *flow = calloc(1, sizeof(*flow));

	if (flow == NULL)
		return NULL;
	flow->src_cid = src_cid;
	flow->src_port = src_port;
	flow->dst_port = dst_port;
	flow->hash_next = *link;
	*link = flow;
	list_append(&inbox->all, &flow->all);
	list_init(&flow->ready);
	return flow;
}

/* Forget what the flow's predecessor left behind. */
static void renew(struct inbox *inbox, struct inbox_flow *flow)
{
	drop_bytes(flow);
	list_remove(&flow->ready);
	if (flow->own)
		inbox->own_count--;
	/* an RST that was still owed to the guest becomes the one that goes first */
	if ((flow->owes & CONN_OWES_REQUEST) == 0)
		flow->replaced = true;
	flow->owes = 0;
	flow->shutdown = 0;
	flow->own = false;
	flow->unanswered = false;
	flow->open = false;
	flow->asked = false;
}

struct inbox_flow *inbox_open(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
			      uint32_t dst_port, uint32_t window, struct quota *charge)
{
	struct inbox_flow *flow = inbox_find(inbox, src_cid, src_port, dst_port);

	if (flow != NULL)
		renew(inbox, flow);
	else
		flow = flow_new(inbox, src_cid, src_port, dst_port);
	if (flow == NULL)
		return NULL;
	memset(&flow->out, 0, sizeof(flow->out));
	flow->window = window;
	flow->charge = charge;
	return flow;
}

struct inbox_flow *inbox_open_own(struct inbox *inbox, uint64_t src_cid, uint32_t src_port,
				  uint32_t dst_port, uint32_t window, struct quota *charge)
{
	struct inbox_flow *flow;

	if (inbox->own_count >= INBOX_MAX_FLOWS)
		return NULL;
	flow = inbox_open(inbox, src_cid, src_port, dst_port, window, charge);
	if (flow == NULL)
		return NULL;
	inbox->own_count++;
	flow->own = true;
	flow->unanswered = true;
	flow->replaced = false; /* the guest asked anew: it knows */
	return flow;
}

static void make_ready(struct inbox *inbox, struct inbox_flow *flow)
{
	list_remove(&flow->ready);
	list_append(&inbox->ready, &flow->ready);
}

static struct pkt flow_pkt(const struct inbox *inbox, const struct inbox_flow *flow, uint16_t op)
{
	return (struct pkt){
		.src_cid = flow->src_cid,
		.dst_cid = inbox->guest_cid,
		.src_port = flow->src_port,
		.dst_port = flow->dst_port,
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.flags = op == VSOCK_OP_SHUTDOWN ? flow->shutdown : 0,
		.buf_alloc = flow->buf_alloc,
		.fwd_cnt = flow->fwd_cnt,
	};
}

/* Send one owed packet and clear its bit. Return: false when there was no room. */
static bool emit_owed(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill,
		      uint8_t bit, uint16_t op)
{
	struct pkt pkt = flow_pkt(inbox, flow, op);

	if ((flow->owes & bit) == 0)
		return true;
	if (!rx_emit(fill, &pkt))
		return false;
	flow->owes &= (uint8_t)~bit;
	return true;
}

static void emit_held_bytes(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	struct pkt pkt = flow_pkt(inbox, flow, VSOCK_OP_RW);
	struct iovec spans[2];
	struct iov_cursor held = iov_begin(spans, buf_spans(&flow->bytes, spans));
	uint32_t max = min_u32(credit_out_allowed(&flow->out), buf_length(&flow->bytes));

	uint32_t sent = rx_emit_bytes(fill, &pkt, &held, max, &flow->out);

	buf_consume(&flow->bytes, sent);
	discharge(flow, sent);
}

/* With room in the ring it is the receiver's credit that lacks: ask for it. */
static void block(struct inbox *inbox, struct inbox_flow *flow)
{
	list_remove(&flow->ready);
	list_append(&inbox->blocked, &flow->ready);
}

/* Everything that waits, in order. Return: false when the ring had no room. */
static bool emit_flow(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	if (flow->replaced) {
		struct pkt rst = flow_pkt(inbox, flow, VSOCK_OP_RST);

		if (!rx_emit(fill, &rst))
			return false;
		flow->replaced = false;
	}
	if (!emit_owed(inbox, flow, fill, CONN_OWES_REQUEST, VSOCK_OP_REQUEST) ||
	    !emit_owed(inbox, flow, fill, CONN_OWES_RESPONSE, VSOCK_OP_RESPONSE))
		return false;
	if (buf_length(&flow->bytes) > 0)
		emit_held_bytes(inbox, flow, fill);
	if (buf_length(&flow->bytes) > 0 && rx_fill_room(fill) && !flow->asked) {
		flow->asked = true;
		flow->owes |= CONN_OWES_CREDIT_REQUEST;
	}
	if (!emit_owed(inbox, flow, fill, CONN_OWES_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE) ||
	    !emit_owed(inbox, flow, fill, CONN_OWES_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST))
		return false;
	if (buf_length(&flow->bytes) > 0)
		return rx_fill_room(fill);
	return emit_owed(inbox, flow, fill, CONN_OWES_SHUTDOWN, VSOCK_OP_SHUTDOWN) &&
	       emit_owed(inbox, flow, fill, CONN_OWES_RST, VSOCK_OP_RST);
}

/* Emit one flow and put it where it belongs then. Return: false without room. */
static bool drain_flow(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	bool last = (flow->owes & CONN_OWES_RST) != 0;

	if (!emit_flow(inbox, flow, fill))
		return false;
	if (last && (flow->owes & CONN_OWES_RST) == 0)
		inbox_close(inbox, flow);
	else if (buf_length(&flow->bytes) > 0)
		block(inbox, flow);
	else
		list_remove(&flow->ready);
	return true;
}

void inbox_drain(struct inbox *inbox, struct rx_fill *fill)
{
	while (!list_empty(&inbox->ready) && rx_fill_room(fill)) {
		if (!drain_flow(inbox, list_first(&inbox->ready, struct inbox_flow, ready), fill))
			return;
	}
}

static bool has_ended(const struct inbox_flow *flow)
{
	return (flow->owes & CONN_OWES_RST) != 0 && buf_length(&flow->bytes) > 0;
}

static void age_ended_flow(struct inbox *inbox, struct inbox_flow *flow, uint32_t elapsed_ms)
{
	flow->stalled_ms += elapsed_ms;
	if (flow->stalled_at != buf_length(&flow->bytes))
		flow->stalled_ms = 0;
	flow->stalled_at = buf_length(&flow->bytes);
	if (flow->stalled_ms >= INBOX_STALL_MS)
		inbox_reset_flow(inbox, flow);
}

static void age_ended_flows(struct inbox *inbox, uint32_t elapsed_ms)
{
	struct list *pos;
	struct list *tmp;

	if (!inbox->ending)
		return;
	inbox->ending = false;
	list_for_each_safe (pos, tmp, &inbox->all) {
		struct inbox_flow *flow = container_of(pos, struct inbox_flow, all);

		if (has_ended(flow))
			age_ended_flow(inbox, flow, elapsed_ms);
		if (has_ended(flow))
			inbox->ending = true;
	}
}

void inbox_probe(struct inbox *inbox, uint32_t elapsed_ms)
{
	age_ended_flows(inbox, elapsed_ms);
	while (!list_empty(&inbox->blocked)) {
		struct inbox_flow *flow = list_first(&inbox->blocked, struct inbox_flow, ready);

		flow->asked = false;
		make_ready(inbox, flow);
	}
}

static int keep_bytes(struct inbox_flow *flow, struct iov_cursor *payload, uint32_t len)
{
	while (len > 0) {
		struct iovec piece;
		int err;

		if (iov_slice(payload, len, &piece, 1) == 0)
			return -EINVAL;
		if (quota_take(flow->charge, piece.iov_len) != NULL)
			return -EDQUOT;
		err = buf_append(&flow->bytes, piece.iov_base, piece.iov_len, flow->window);
		if (err < 0) {
			quota_give(flow->charge, piece.iov_len);
			return err;
		}
		len -= (uint32_t)piece.iov_len;
	}
	return 0;
}

static int deliver_bytes(struct inbox *inbox, struct inbox_flow *flow, const struct pkt *pkt,
			 struct iov_cursor *payload, struct rx_fill *fill)
{
	uint32_t sent = 0;

	if (pkt->len > flow->window || buf_length(&flow->bytes) > flow->window - pkt->len)
		return -ENOBUFS;
	if (flow->owes != 0 && buf_length(&flow->bytes) == 0)
		(void)emit_flow(inbox, flow, fill);
	if (flow->owes == 0 && !flow->replaced && buf_length(&flow->bytes) == 0)
		sent = rx_emit_bytes(fill, pkt, payload,
				     min_u32(pkt->len, credit_out_allowed(&flow->out)), &flow->out);
	if (sent == pkt->len)
		return 0;
	make_ready(inbox, flow);
	return keep_bytes(flow, payload, pkt->len - sent);
}

static uint8_t owed_for(uint16_t op)
{
	switch (op) {
	case VSOCK_OP_REQUEST:
		return CONN_OWES_REQUEST;
	case VSOCK_OP_RESPONSE:
		return CONN_OWES_RESPONSE;
	case VSOCK_OP_RST:
		return CONN_OWES_RST;
	case VSOCK_OP_SHUTDOWN:
		return CONN_OWES_SHUTDOWN;
	case VSOCK_OP_CREDIT_UPDATE:
		return CONN_OWES_CREDIT_UPDATE;
	case VSOCK_OP_CREDIT_REQUEST:
		return CONN_OWES_CREDIT_REQUEST;
	default:
		return 0;
	}
}

int inbox_deliver(struct inbox *inbox, struct inbox_flow *flow, const struct pkt *pkt,
		  struct iov_cursor *payload, struct rx_fill *fill)
{
	uint8_t owed = owed_for(pkt->op);

	if (pkt->op != VSOCK_OP_RST) { /* which may carry none, and waiting bytes go first */
		flow->buf_alloc = pkt->buf_alloc;
		flow->fwd_cnt = pkt->fwd_cnt;
	}
	if (pkt->op == VSOCK_OP_RW)
		return deliver_bytes(inbox, flow, pkt, payload, fill);
	if (owed == 0)
		return 0;
	if (owed == CONN_OWES_RST && (flow->owes & CONN_OWES_REQUEST) != 0) {
		inbox_withdraw(inbox, flow); /* the guest has not even seen it */
		return 0;
	}
	if (owed == CONN_OWES_RESPONSE)
		flow->unanswered = false;
	if (owed == CONN_OWES_SHUTDOWN)
		flow->shutdown |= (uint8_t)(pkt->flags & VSOCK_SHUTDOWN_BOTH);
	flow->owes |= owed;
	if (has_ended(flow)) {
		inbox->ending = true;
		flow->stalled_at = 0;
	}
	make_ready(inbox, flow);
	return 0;
}

void inbox_begin_credit(struct inbox_flow *flow, uint32_t buf_alloc)
{
	flow->open = true; /* what it said before was about a predecessor */
	flow->out.buf_alloc = buf_alloc;
}

bool inbox_credit(struct inbox *inbox, struct inbox_flow *flow, uint32_t buf_alloc,
		  uint32_t fwd_cnt)
{
	uint32_t before = flow->out.fwd_cnt;

	if (!credit_out_update(&flow->out, buf_alloc, fwd_cnt))
		return false;
	if (flow->out.fwd_cnt != before)
		flow->asked = false;
	if (buf_length(&flow->bytes) > 0 && credit_out_allowed(&flow->out) > 0)
		make_ready(inbox, flow);
	return true;
}

void inbox_reset_flow(struct inbox *inbox, struct inbox_flow *flow)
{
	drop_bytes(flow);
	flow->owes = CONN_OWES_RST;
	make_ready(inbox, flow);
}

void inbox_withdraw(struct inbox *inbox, struct inbox_flow *flow)
{
	if ((flow->owes & CONN_OWES_REQUEST) != 0 && !flow->replaced)
		inbox_close(inbox, flow);
	else
		inbox_reset_flow(inbox, flow);
}

struct inbox_flow *inbox_oldest_unanswered(struct inbox *inbox)
{
	struct list *pos;
	struct list *tmp;

	list_for_each_safe (pos, tmp, &inbox->all) {
		struct inbox_flow *flow = container_of(pos, struct inbox_flow, all);

		if (flow->unanswered)
			return flow;
	}
	return NULL;
}

void inbox_drop_source(struct inbox *inbox, uint64_t src_cid)
{
	struct list *pos;
	struct list *tmp;

	list_for_each_safe (pos, tmp, &inbox->all) {
		struct inbox_flow *flow = container_of(pos, struct inbox_flow, all);

		if (flow->src_cid == src_cid)
			inbox_withdraw(inbox, flow);
	}
}
