// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * inbox.c - flows from sibling guests into one guest. Pure but for the heap.
 * Makes, finds and ends them; inbox_deliver.c moves what they carry.
 */
#include <stdlib.h>
#include <string.h>

#include "vsock/conn.h"
#include "vsock/inbox_internal.h"

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

static void drop_bytes(struct inbox_flow *flow)
{
	inbox_discharge(flow, buf_length(&flow->bytes));
	buf_fini(&flow->bytes);
	messages_clear(&flow->ends);
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
	inbox->count--;
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
	inbox->count++;
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
		flow->replaced = flow->type;
	flow->owes = 0;
	flow->partly = false;
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
	flow->passed = 0;
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
	flow->replaced = 0; /* the guest asked anew: it knows */
	return flow;
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

		if (inbox_flow_has_ended(flow))
			age_ended_flow(inbox, flow, elapsed_ms);
		if (inbox_flow_has_ended(flow))
			inbox->ending = true;
	}
}

void inbox_probe(struct inbox *inbox, uint32_t elapsed_ms)
{
	age_ended_flows(inbox, elapsed_ms);
	while (!list_empty(&inbox->blocked)) {
		struct inbox_flow *flow = list_first(&inbox->blocked, struct inbox_flow, ready);

		flow->asked = false;
		if (!inbox_flow_waits(flow))
			flow->owes |= CONN_OWES_CREDIT_REQUEST;
		inbox_make_ready(inbox, flow);
	}
}

void inbox_begin_credit(struct inbox_flow *flow, uint32_t buf_alloc)
{
	flow->open = true; /* what it said before was about a predecessor */
	flow->out.buf_alloc = buf_alloc;
}

/* Nothing is to be emitted: it is blocked if its sender is, by credit that moved. */
static void settle(struct inbox *inbox, struct inbox_flow *flow)
{
	if (inbox_flow_is_used_up(flow))
		inbox_block(inbox, flow);
	else
		list_remove(&flow->ready);
}

bool inbox_credit(struct inbox *inbox, struct inbox_flow *flow, uint32_t buf_alloc,
		  uint32_t fwd_cnt)
{
	uint32_t before = flow->out.fwd_cnt;

	if (!credit_out_update(&flow->out, buf_alloc, fwd_cnt))
		return false;
	if (flow->out.fwd_cnt != before)
		flow->asked = false;
	if (inbox_flow_waits(flow) &&
	    (credit_out_allowed(&flow->out) > 0 || flow->ends.complete > 0))
		inbox_make_ready(inbox, flow);
	if (!inbox_flow_waits(flow) && flow->owes == 0 && flow->replaced == 0)
		settle(inbox, flow);
	return true;
}

void inbox_reset_flow(struct inbox *inbox, struct inbox_flow *flow)
{
	drop_bytes(flow);
	flow->owes = CONN_OWES_RST;
	inbox_make_ready(inbox, flow);
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
