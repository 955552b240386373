// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * sibling_list.c - tells about flows with siblings; changes nothing. Pure.
 *
 * A guest's inbox has a record of each flow towards it. The other direction is in
 * the sibling's inbox, under the sibling's lock: it is looked up afterwards, as
 * no two locks are held at a time, and may be gone by then.
 */
#include "vsock/sibling_list.h"

#include "vsock/device_internal.h"

static enum conn_state state_of(const struct inbox_flow *flow)
{
	if ((flow->owes & CONN_OWES_RST) != 0)
		return CONN_RESET;
	if (flow->own)
		return flow->unanswered ? CONN_CONNECTING : CONN_ESTABLISHED;
	return flow->open ? CONN_ESTABLISHED : CONN_REQUESTED;
}

static size_t list_own(struct device *device, struct sibling_conn *conns, size_t max)
{
	size_t count = 0;
	struct list *pos;
	struct list *tmp;

	list_for_each_safe (pos, tmp, &device->inbox.all) {
		const struct inbox_flow *flow = container_of(pos, struct inbox_flow, all);

		if (count == max)
			break;
		conns[count++] = (struct sibling_conn){
			.cid = flow->src_cid,
			.own_port = flow->dst_port,
			.port = flow->src_port,
			.state = state_of(flow),
			.by_guest = flow->own,
			.rx_bytes = flow->passed,
		};
	}
	return count;
}

static void look_up(struct device *device, struct sibling_conn *conn)
{
	struct device *peer = device->env->sibling(device->ctx, conn->cid);
	const struct inbox_flow *flow;

	if (peer == NULL)
		return;
	peer->env->lock(peer->ctx);
	flow = inbox_find(&peer->inbox, device->guest_cid, conn->own_port, conn->port);
	if (flow != NULL) {
		conn->tx_bytes = flow->passed;
		conn->held_bytes = buf_length(&flow->bytes);
	}
	peer->env->unlock(peer->ctx);
}

size_t sibling_list(struct device *device, struct sibling_conn *conns, size_t max)
{
	size_t total;
	size_t count;

	device->env->lock(device->ctx);
	total = device->inbox.count;
	count = list_own(device, conns, max);
	device->env->unlock(device->ctx);
	for (size_t i = 0; i < count; i++)
		look_up(device, &conns[i]);
	return total;
}

uint32_t sibling_count(struct device *device)
{
	uint32_t count;

	device->env->lock(device->ctx);
	count = device->inbox.count;
	device->env->unlock(device->ctx);
	return count;
}
