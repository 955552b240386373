// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device.c - life of a device: rings given and taken, reset, RSTs without a
 * connection. Pure but for the heap behind tables.
 */
#include "vsock/device.h"

#include <string.h>

#include "vsock/device_internal.h"

void device_init(struct device *device, const struct device_params *params)
{
	memset(device, 0, sizeof(*device));
	device->env = params->env;
	device->ctx = params->ctx;
	device->endpoint = params->endpoint;
	device->host = params->host;
	device->scratch = params->scratch;
	device->guest_cid = params->guest_cid;
	device->window = params->window;
	device->any_cid = params->any_cid;
	device->types = 1u << VSOCK_TYPE_STREAM;
	device->next_port = (uint32_t)params->random;
	device->max_half_open = params->max_half_open;
	device->open = params->open;
	device->buffered = params->buffered;
	device_init_rates(device, &params->rates);
	conntab_init(&device->conns, params->conn_bytes, DEVICE_MAX_CONNS, params->random);
	list_init(&device->ctl);
	list_init(&device->data);
	list_init(&device->waiting);
	inbox_init(&device->inbox, params->guest_cid, params->random);
}

struct conn *device_new_conn(struct device *device)
{
	/* a total below one window must not refuse everybody */
	uint64_t room = min_u32(device->window, (uint32_t)(device->buffered.reserved));
	const struct quota *full = quota_would_refuse(&device->buffered, room);
	struct conn *conn;

	if (full == NULL)
		full = quota_take(&device->open, 1);
	if (full != NULL) {
		device->env->limit_reached(device->ctx, full->name, "new connections are refused");
		return NULL;
	}
	conn = conntab_alloc(&device->conns);
	if (conn == NULL)
		quota_give(&device->open, 1);
	return conn;
}

static void free_conn(void *ctx, struct conn *conn)
{
	conn_free(ctx, conn);
}

void device_add_tap(struct device *device, struct tap *tap)
{
	device->env->lock(device->ctx);
	taps_add(&device->taps, tap);
	device->env->unlock(device->ctx);
}

void device_remove_tap(struct device *device, struct tap *tap)
{
	device->env->lock(device->ctx);
	taps_remove(&device->taps, tap);
	device->env->unlock(device->ctx);
}

static void end_taps(struct device *device)
{
	struct tap *tap = device->taps.first;

	while (tap != NULL) {
		struct tap *next = tap->next;

		device_remove_tap(device, tap);
		tap->gone(tap); /* which may free it */
		tap = next;
	}
}

void device_fini(struct device *device)
{
	conntab_each(&device->conns, free_conn, device);
	conntab_fini(&device->conns);
	device->env->lock(device->ctx);
	inbox_clear(&device->inbox);
	device->env->unlock(device->ctx);
	end_taps(device);
}

void device_set_features(struct device *device, uint64_t features)
{
	bool implied = (features & bit64(VSOCK_F_NO_IMPLIED_STREAM_BIT)) == 0;
	bool stream = implied || (features & bit64(VSOCK_F_STREAM_BIT)) != 0;
	bool seqpacket = (features & bit64(VSOCK_F_SEQPACKET_BIT)) != 0;

	device->env->lock(device->ctx);
	device->types = (uint8_t)((uint32_t)stream << VSOCK_TYPE_STREAM |
				  (uint32_t)seqpacket << VSOCK_TYPE_SEQPACKET);
	device->env->unlock(device->ctx);
}

void device_set_rx(struct device *device, struct vring *ring)
{
	device->env->lock(device->ctx);
	device->rx = ring;
	if (ring != NULL)
		device->running = true;
	device->inbox.yield = device->rst_count > 0;
	device->env->unlock(device->ctx);
	if (ring != NULL)
		device->env->schedule(device->ctx);
}

void device_set_tx(struct device *device, struct vring *ring)
{
	device->tx = ring;
	device->tx_unasked = false;
	if (ring != NULL)
		device->env->schedule(device->ctx);
}

static void end_conn(void *ctx, struct conn *conn)
{
	conn_note_end(ctx, conn, CONN_END_DEVICE_RESET);
	if (conn->state == CONN_HANDSHAKE)
		conn_abandon(ctx, conn);
	else if (conn->state != CONN_ORPHAN)
		conn_detach_guest(ctx, conn, CONN_END_DEVICE_RESET);
}

void device_note_parting(struct device *device, uint64_t cid)
{
	sibling_note_end(device, cid, CONN_END_DEVICE_RESET);
}

void device_reset(struct device *device)
{
	conntab_each(&device->conns, end_conn, device);
	sibling_note_end(device, 0, CONN_END_DEVICE_RESET);
	device->rst_count = 0;
	device->env->lock(device->ctx);
	device->running = false;
	inbox_clear(&device->inbox);
	device->env->unlock(device->ctx);
}

void device_drain(struct device *device, bool on)
{
	device->env->lock(device->ctx);
	device->draining = on;
	device->env->unlock(device->ctx);
}

struct rx_fill device_begin_fill(struct device *device, struct vring *ring, struct scratch *scratch,
				 uint32_t budget)
{
	struct rx_fill fill = rx_fill_begin(ring, scratch, budget);

	fill.taps = device->taps.first != NULL ? &device->taps : NULL;
	return fill;
}

void device_publish_rx(struct device *device, struct rx_fill *fill)
{
	rx_fill_publish(fill);
	if (fill->signal != 0)
		device->env->notify(device->ctx, fill->signal);
	fill->signal = 0;
}

void device_end_sibling_fill(struct device *device, struct rx_fill *fill)
{
	bool left;

	inbox_drain(&device->inbox, fill);
	device_publish_rx(device, fill);
	/* without buffers the driver's kick wakes the owner, otherwise nobody would */
	left = !list_empty(&device->inbox.ready) && (!fill->starved || device->inbox.yield);
	if (inbox_needs_probe(&device->inbox) && !device->inbox.watched)
		left = true;
	if (left || (fill->ring != NULL && fill->ring->broken))
		device->env->wake(device->ctx);
}

void device_drop_sibling(struct device *device, uint64_t cid, struct scratch *scratch)
{
	struct rx_fill fill;

	device->env->lock(device->ctx);
	inbox_drop_source(&device->inbox, cid);
	fill = device_begin_fill(device, device_sibling_ring(device), scratch, RX_BUDGET_SIBLING);
	device_end_sibling_fill(device, &fill);
	device->env->unlock(device->ctx);
}

void device_probe_siblings(struct device *device)
{
	uint32_t elapsed_ms = CONN_PROBE_FIRST_MS << device->probe_shift;

	if (device->probe_shift < CONN_PROBE_MAX_SHIFT)
		device->probe_shift++;
	device->env->lock(device->ctx);
	device->inbox.watched = false;
	inbox_probe(&device->inbox, elapsed_ms);
	device->env->unlock(device->ctx);
	device->env->schedule(device->ctx);
}

void device_owe_rst(struct device *device, const struct pkt *pkt)
{
	struct device_rst *rst;

	if (pkt->op == VSOCK_OP_RST || device_is_congested(device))
		return;
	rst = &device->rsts[(device->rst_first + device->rst_count++) % DEVICE_MAX_RSTS];
	rst->src_cid = pkt->dst_cid;
	rst->src_port = pkt->dst_port;
	rst->dst_port = pkt->src_port;
	rst->type = pkt->type;
	device->env->schedule(device->ctx);
}
