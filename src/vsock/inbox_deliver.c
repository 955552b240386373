// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * inbox_deliver.c - packets of sibling guests into one guest's RX ring, or into
 * the flow's record until there is room. Pure.
 *
 * Order within a flow: RST of a replaced predecessor, REQUEST or RESPONSE,
 * bytes, credit, SHUTDOWN, RST. Bits and bytes reach the guest in that order
 * even when its ring was full for a while.
 */
#include <errno.h>

#include "virtio/iov.h"
#include "vsock/inbox_internal.h"
#include "vsock/rx_fill.h"

static struct pkt flow_pkt(const struct inbox *inbox, const struct inbox_flow *flow, uint16_t op)
{
	return (struct pkt){
		.src_cid = flow->src_cid,
		.dst_cid = inbox->guest_cid,
		.src_port = flow->src_port,
		.dst_port = flow->dst_port,
		.type = flow->type,
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

static uint32_t end_flags(struct message message)
{
	if (!message.complete)
		return 0;
	return message.eor ? VSOCK_SEQ_EOM | VSOCK_SEQ_EOR : VSOCK_SEQ_EOM;
}

/* Emit of the first message what goes. Return: whether that was all of it. */
static bool emit_message(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	struct message first = messages_first(&flow->ends);
	struct pkt pkt = flow_pkt(inbox, flow, VSOCK_OP_RW);
	uint32_t max = min_u32(first.bytes, credit_out_bytes(&flow->out));
	uint32_t packets = first.complete ? UINT32_MAX : credit_out_packets(&flow->out);
	struct iovec spans[2];
	struct iov_cursor held = iov_begin(spans, buf_spans(&flow->bytes, spans));
	uint32_t sent;

	if (first.complete && !flow->partly && !credit_out_takes(&flow->out, first.bytes))
		return false;
	pkt.flags = max == first.bytes ? end_flags(first) : 0;
	if (first.complete && first.bytes == 0)
		return rx_emit(fill, &pkt);
	sent = rx_emit_bytes(fill, &pkt, &held, max, packets, &flow->out);
	buf_consume(&flow->bytes, sent);
	inbox_discharge(flow, sent);
	messages_take(&flow->ends, sent);
	if (sent > 0)
		flow->partly = flow->type == VSOCK_TYPE_SEQPACKET;
	return sent == first.bytes;
}

/* A stream's bytes are one open message. */
static void emit_held(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	while (flow->ends.complete > 0 && emit_message(inbox, flow, fill)) {
		messages_drop_first(&flow->ends);
		flow->partly = false;
	}
	if (flow->ends.complete == 0 && flow->ends.open > 0)
		(void)!emit_message(inbox, flow, fill);
}

/* Everything that waits, in order. Return: false when the ring had no room. */
static bool emit_flow(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	if (flow->replaced) {
		struct pkt rst = flow_pkt(inbox, flow, VSOCK_OP_RST);

		rst.type = flow->replaced;
		if (!rx_emit(fill, &rst))
			return false;
		flow->replaced = 0;
	}
	if (!emit_owed(inbox, flow, fill, CONN_OWES_REQUEST, VSOCK_OP_REQUEST) ||
	    !emit_owed(inbox, flow, fill, CONN_OWES_RESPONSE, VSOCK_OP_RESPONSE))
		return false;
	if (inbox_flow_waits(flow))
		emit_held(inbox, flow, fill);
	if (inbox_flow_waits(flow) && rx_fill_room(fill) && !flow->asked) {
		flow->asked = true;
		flow->owes |= CONN_OWES_CREDIT_REQUEST;
	}
	if (!emit_owed(inbox, flow, fill, CONN_OWES_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE) ||
	    !emit_owed(inbox, flow, fill, CONN_OWES_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST))
		return false;
	if (inbox_flow_waits(flow))
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
	else if (inbox_flow_waits(flow) || inbox_flow_is_used_up(flow))
		inbox_block(inbox, flow);
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

/* Whether the flow's next packet in the ring may be its sender's next one. */
static bool goes_first(struct inbox *inbox, struct inbox_flow *flow, struct rx_fill *fill)
{
	if (inbox_flow_waits(flow))
		return false;
	if (flow->owes != 0)
		(void)emit_flow(inbox, flow, fill);
	return flow->owes == 0 && flow->replaced == 0;
}

/* Whether the receiver, or the buffer, has a part of a message without its end. */
static bool has_begun(const struct inbox_flow *flow)
{
	return flow->ends.open > 0 || (flow->ends.complete == 0 && flow->partly);
}

/* Keep the last @len bytes of a packet, and the end that comes with them. */
static int keep_rest(struct inbox *inbox, struct inbox_flow *flow, struct iov_cursor *payload,
		     uint32_t len, uint32_t flags)
{
	int err = keep_bytes(flow, payload, len);

	inbox_make_ready(inbox, flow);
	if (err < 0)
		return err;
	messages_add(&flow->ends, len);
	return (flags & VSOCK_SEQ_EOM) != 0 ? messages_end(&flow->ends, flags & VSOCK_SEQ_EOR) : 0;
}

static int deliver_bytes(struct inbox *inbox, struct inbox_flow *flow, struct pkt *pkt,
			 struct iov_cursor *payload, struct rx_fill *fill)
{
	bool seqpacket = flow->type == VSOCK_TYPE_SEQPACKET;
	uint32_t flags = seqpacket ? pkt->flags & (VSOCK_SEQ_EOM | VSOCK_SEQ_EOR) : 0;
	uint32_t sent = 0;
	bool all = false;

	if (pkt->len > flow->window || buf_length(&flow->bytes) > flow->window - pkt->len)
		return -ENOBUFS;
	flow->passed += pkt->len;
	if (pkt->len == 0 && ((flags & VSOCK_SEQ_EOM) == 0 || !has_begun(flow)))
		return 0;
	if (goes_first(inbox, flow, fill)) {
		uint32_t max = min_u32(pkt->len, credit_out_allowed(&flow->out));

		pkt->flags = max == pkt->len ? flags : 0;
		if (max > 0)
			sent = rx_emit_bytes(fill, pkt, payload, max,
					     credit_out_packets(&flow->out), &flow->out);
		all = pkt->len > 0 ? sent == pkt->len : rx_emit(fill, pkt);
	}
	if (all || sent > 0)
		flow->partly = seqpacket && (!all || (flags & VSOCK_SEQ_EOM) == 0);
	if (all && inbox_flow_is_used_up(flow))
		inbox_block(inbox, flow);
	return all ? 0 : keep_rest(inbox, flow, payload, pkt->len - sent, flags);
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

int inbox_deliver(struct inbox *inbox, struct inbox_flow *flow, struct pkt *pkt,
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
	if (inbox_flow_has_ended(flow)) {
		inbox->ending = true;
		flow->stalled_at = 0;
	}
	inbox_make_ready(inbox, flow);
	return 0;
}
