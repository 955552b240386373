// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rx.c - fills the RX ring: what is owed to the guest, then the bytes of host
 * programs, read straight into guest memory. Pure.
 *
 * Theory of operation
 *
 * What unblocks somebody comes first: RSTs and control packets. Then siblings'
 * packets and host programs' bytes share the ring, the latter in turns of
 * RX_QUANTUM_BYTES when several connections wait. A connection leaves the data
 * list only for a reason that a later event ends: drained (the socket becomes
 * readable again), no credit (a packet of the guest, or the probe timer), end of
 * file. When buffers run out everything stays where it is and the driver's kick
 * brings us back.
 */
#include <errno.h>

#include "vsock/device_internal.h"

struct pkt rx_conn_pkt(const struct device *device, const struct conn *conn, uint16_t op)
{
	return (struct pkt){
		.src_cid = conn->host_cid,
		.dst_cid = device->guest_cid,
		.src_port = conn->host_port,
		.dst_port = conn->guest_port,
		.type = conn->seqpacket ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM,
		.op = op,
		.flags = op == VSOCK_OP_SHUTDOWN ? conn->host_shutdown : 0,
		.buf_alloc = device->window,
		.fwd_cnt = credit_in_told(&conn->in, device_withheld(device, conn)),
	};
}

/* Send one owed packet and clear its bit. Return: false when there was no room. */
static bool emit_owed(struct device *device, struct conn *conn, struct rx_fill *fill, uint8_t bit,
		      uint16_t op)
{
	struct pkt pkt = rx_conn_pkt(device, conn, op);

	if ((conn->owes & bit) == 0)
		return true;
	if (!rx_emit(fill, &pkt))
		return false;
	conn->owes &= (uint8_t)~bit;
	conn->in.reported = pkt.fwd_cnt;
	conn->asked = false;
	return true;
}

/* All that a connection owes, in order. Return: false when there was no room. */
static bool emit_all_owed(struct device *device, struct conn *conn, struct rx_fill *fill)
{
	if ((conn->owes & CONN_OWES_REQUEST) != 0) {
		if (!emit_owed(device, conn, fill, CONN_OWES_REQUEST, VSOCK_OP_REQUEST))
			return false;
		conn->request_sent = true;
	}
	if (!emit_owed(device, conn, fill, CONN_OWES_RESPONSE, VSOCK_OP_RESPONSE) ||
	    !emit_owed(device, conn, fill, CONN_OWES_CREDIT_UPDATE, VSOCK_OP_CREDIT_UPDATE) ||
	    !emit_owed(device, conn, fill, CONN_OWES_CREDIT_REQUEST, VSOCK_OP_CREDIT_REQUEST) ||
	    !emit_owed(device, conn, fill, CONN_OWES_SHUTDOWN, VSOCK_OP_SHUTDOWN))
		return false;
	if ((conn->owes & CONN_OWES_RST) == 0)
		return true;
	if (!emit_owed(device, conn, fill, CONN_OWES_RST, VSOCK_OP_RST))
		return false;
	conn_free(device, conn);
	return true;
}

static void run_control(struct device *device, struct rx_fill *fill)
{
	while (!list_empty(&device->ctl) && rx_fill_room(fill)) {
		struct conn *conn = list_first(&device->ctl, struct conn, ctl);

		/* off the list first: emitting the RST frees the connection */
		list_remove(&conn->ctl);
		if (!emit_all_owed(device, conn, fill)) {
			list_append(&device->ctl, &conn->ctl);
			return;
		}
	}
}

static void run_rsts(struct device *device, struct rx_fill *fill)
{
	while (device->rst_count > 0 && rx_fill_room(fill)) {
		const struct device_rst *rst = &device->rsts[device->rst_first];
		struct pkt pkt = {
			.src_cid = rst->src_cid,
			.dst_cid = device->guest_cid,
			.src_port = rst->src_port,
			.dst_port = rst->dst_port,
			.type = rst->type,
			.op = VSOCK_OP_RST,
		};

		if (!rx_emit(fill, &pkt))
			return;
		device->rst_first = (device->rst_first + 1) % DEVICE_MAX_RSTS;
		device->rst_count--;
	}
}

void rx_starve(struct device *device, struct conn *conn)
{
	list_remove(&conn->data);
	conn->starved = true;
	device->stats.credit_stalls++;
	device->endpoint->timer(device->host, conn, CONN_PROBE_FIRST_MS << conn->probe_shift);
}

void rx_read_ended(struct device *device, struct conn *conn, ssize_t result)
{
	if (result == -EAGAIN) {
		conn->readable = false;
		list_remove(&conn->data);
	} else if (result == -EFAULT) {
		conn_reset(device, conn, CONN_END_BROKEN_RULE);
	} else {
		bool gone = result < 0 || conn->hung_up;

		conn_declare_shutdown(device, conn,
				      gone ? VSOCK_SHUTDOWN_BOTH : VSOCK_SHUTDOWN_SEND);
	}
}

static uint32_t usable_credit(const struct conn *conn)
{
	if (conn->probe_shift == 0)
		return credit_out_usable(&conn->out);
	return credit_out_allowed(&conn->out);
}

/* Offer twice the buffers the last read filled: small messages do not pay for big ones. */
static uint32_t packets_to_offer(const struct conn *conn)
{
	uint32_t guess = conn->read_guess < 2 ? 4 : 2u * conn->read_guess;

	return min_u32(guess, credit_out_packets(&conn->out));
}

/* One read of at most @quantum bytes; *@left loses what was read. Return: false
 * when the ring is empty. */
static bool read_once(struct device *device, struct conn *conn, struct rx_fill *fill,
		      uint32_t quantum, uint32_t *left)
{
	struct pkt pkt = rx_conn_pkt(device, conn, VSOCK_OP_RW);
	uint32_t credit = usable_credit(conn);
	struct rx_slots *slots = &fill->scratch->slots;
	bool drained = false;
	ssize_t got;

	if (credit == 0) {
		rx_starve(device, conn);
		return true;
	}
	if (!rx_take_slots(fill, &pkt, min_u32(credit, quantum), packets_to_offer(conn), slots))
		return false;
	got = device->endpoint->recv(device->host, conn, fill->scratch->rx_pieces, slots->pieces,
				     &drained);
	if (got <= 0) {
		rx_commit_slots(fill, &pkt, slots, 0, &conn->out);
		rx_read_ended(device, conn, got);
		return true;
	}
	*left -= min_u32(*left, (uint32_t)got);
	pace_step(&device->scratch->pace, &conn->smalls, (uint32_t)got);
	conn->in.reported = pkt.fwd_cnt;
	conn->rx_bytes += (uint64_t)got;
	device->stats.rx_bytes += (uint64_t)got;
	conn->read_guess = (uint8_t)rx_commit_slots(fill, &pkt, slots, (uint32_t)got, &conn->out);
	if (drained) {
		conn->readable = false;
		list_remove(&conn->data);
	}
	return true;
}

/* Messages of several connections share a signal. Bulk is shown as it comes, so that the guest
 * is busy with it meanwhile, and what came before it first. */
static void move_data(struct device *device, struct rx_fill *fill, uint32_t left)
{
	while (!list_empty(&device->data) && rx_fill_room(fill) && left > 0) {
		struct conn *conn = list_first(&device->data, struct conn, data);
		bool alone = conn->data.next == &device->data;
		uint32_t before = left;
		uint32_t quantum = alone ? left : min_u32(left, RX_QUANTUM_BYTES);

		if (conn->read_guess >= RX_BULK_PACKETS)
			device_publish_rx(device, fill);
		list_remove(&conn->data);
		list_append(&device->data, &conn->data);
		if (unlikely(conn->seqpacket) ? !rx_read_message(device, conn, fill, &left)
					      : !read_once(device, conn, fill, quantum, &left))
			return;
		if (before - left >= RX_BULK_BYTES)
			device_publish_rx(device, fill);
	}
}

static void run_data(struct device *device, struct rx_fill *fill)
{
	uint32_t left = pace_bytes(&device->scratch->pace);
	uint64_t before = device->stats.rx_bytes;

	if (likely(device->rx_rate.per_second == 0)) {
		move_data(device, fill, left);
	} else if (!list_empty(&device->data)) {
		left = device_pace(device, &device->rx_rate, left, &device->stats.rx_paced);
		move_data(device, fill, left);
		rate_charge(&device->rx_rate, device->stats.rx_bytes - before);
	}
}

/* Siblings and host programs; when both wait each gets half of the buffers. */
static void run_bulk(struct device *device, struct rx_fill *fill)
{
	bool both = !list_empty(&device->inbox.ready) && !list_empty(&device->data);
	uint32_t whole = fill->packets_left;
	uint32_t share = whole;

	if (both)
		share = min_u32(whole, vring_available(fill->ring) / 2u + 1u);
	fill->packets_left = share;
	if (device->siblings_first)
		inbox_drain(&device->inbox, fill);
	else
		run_data(device, fill);
	fill->packets_left += whole - share;
	if (device->siblings_first)
		run_data(device, fill);
	else
		inbox_drain(&device->inbox, fill);
	device->siblings_first = !device->siblings_first;
}

/* What a rate does not hold back. */
static bool has_control(const struct device *device)
{
	return !list_empty(&device->ctl) || device->rst_count > 0;
}

static bool has_host_work(const struct device *device)
{
	return has_control(device) || !list_empty(&device->data);
}

/* Whether anything could be emitted if the ring had room. */
static bool has_work(const struct device *device)
{
	return has_host_work(device) || !list_empty(&device->inbox.ready);
}

/* The same, and nothing but room is missing. */
static bool has_more(const struct device *device)
{
	if (!device->rx_rate.waits)
		return has_work(device);
	return has_control(device) || !list_empty(&device->inbox.ready);
}

/* The guest has read something since, or will be asked again. */
static void watch_blocked(struct device *device)
{
	if (!inbox_needs_probe(&device->inbox)) {
		device->probe_shift = 0;
		return;
	}
	device->inbox.watched = true;
	device->env->probe_later(device->ctx, CONN_PROBE_FIRST_MS << device->probe_shift);
}

static void give_up_ring(struct device *device)
{
	device->rx = NULL;
	device->env->ring_broken(device->ctx, VSOCK_RING_RX);
}

/* What device_run_tx() left to be told of: one signal does for both rings. */
static uint32_t take_tx_signal(struct device *device)
{
	bool signal = device->tx_signal;

	device->tx_signal = false;
	return signal ? 1u << VSOCK_RING_TX : 0;
}

/* Nothing is to be done; the driver is told of its TX buffers. Return: false. */
static bool end_run(struct device *device)
{
	uint32_t signal = take_tx_signal(device);

	watch_blocked(device);
	device->env->unlock(device->ctx);
	if (signal != 0)
		device->env->notify(device->ctx, signal);
	return false;
}

bool device_run_rx(struct device *device)
{
	bool congested = device_is_congested(device);
	struct rx_fill fill;
	bool more;

	device->env->lock(device->ctx);
	if (device->rx != NULL && device->rx->broken) /* a sibling's owner saw it */
		give_up_ring(device);
	if (device->rx == NULL || !has_work(device))
		return end_run(device);
	vring_disable_kick(device->rx);
	fill = device_begin_fill(device, device->rx, device->scratch, RX_BUDGET_PACKETS);
	fill.signal = take_tx_signal(device);
	run_rsts(device, &fill); /* first: a port pair refused before may be open now */
	run_control(device, &fill);
	run_bulk(device, &fill);
	run_control(device, &fill); /* reading may have found an end */
	device_publish_rx(device, &fill);
	device->stats.rx_packets += RX_BUDGET_PACKETS - fill.packets_left;
	device->stats.rx_starved += fill.starved;
	watch_blocked(device); /* flows that this run found blocked, too */
	device->inbox.yield = fill.starved && has_host_work(device);
	more = !fill.starved && has_more(device);
	if (device->rx->broken)
		give_up_ring(device);
	device->env->unlock(device->ctx);
	return more || (congested && !device_is_congested(device));
}
