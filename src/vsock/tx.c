// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * tx.c - drains the TX ring: where does a packet of the guest go? Pure.
 *
 * Theory of operation
 *
 * Every chain is given back in the same burst, whatever it held: a packet that
 * cannot go anywhere at once is copied, answered or dropped, so the ring never
 * waits for one connection. The exception is the specification's: when too many
 * RSTs are owed (device_is_congested) nothing is taken until the guest gives
 * RX buffers.
 *
 * Payload is not copied on the fast path: consecutive packets of a connection
 * gather in scratch->tx_batch and leave by one send, before any other packet
 * is handled and before the used index is published.
 */
#include <errno.h>
#include <string.h>

#include "vsock/device_internal.h"

/* One step, remembered for the thread and for the guest's TX. */
static void note_pace(struct device *device, struct conn *conn, uint32_t bytes)
{
	uint8_t smalls = conn->smalls;

	if (pace_step(&device->tx_pace, &smalls, bytes))
		device->tx_talker = conn;
	pace_step(&device->scratch->pace, &conn->smalls, bytes);
}

static void flush_batch(struct device *device)
{
	struct tx_batch batch = device->batch;

	if (batch.conn == NULL)
		return;
	memset(&device->batch, 0, sizeof(device->batch));
	note_pace(device, batch.conn, batch.bytes);
	if (unlikely(batch.conn->seqpacket))
		conn_hand_on_message(device, batch.conn, device->scratch->tx_batch, batch.pieces,
				     batch.bytes, batch.flags);
	else
		conn_hand_on(device, batch.conn, device->scratch->tx_batch, batch.pieces,
			     batch.bytes);
}

/* Gather @len bytes of payload; a full batch leaves on the way. */
static void gather(struct device *device, struct conn *conn, struct iov_cursor *payload,
		   uint32_t len)
{
	struct tx_batch *batch = &device->batch;

	while (len > 0) {
		size_t before = payload->left;
		uint32_t taken;

		if (batch->pieces == ENDPOINT_MAX_PIECES)
			flush_batch(device);
		if (conn->state != CONN_ESTABLISHED) /* the flush ended it */
			return;
		batch->conn = conn;
		batch->pieces +=
			(uint32_t)iov_slice(payload, len, device->scratch->tx_batch + batch->pieces,
					    ENDPOINT_MAX_PIECES - batch->pieces);
		taken = (uint32_t)(before - payload->left);
		batch->bytes += taken;
		len -= taken;
	}
}

/* A message leaves at its end; what the batch cannot hold of it is kept. */
static void end_message(struct device *device, struct conn *conn, uint32_t flags)
{
	if ((flags & VSOCK_SEQ_EOM) == 0)
		return;
	device->batch.conn = conn;
	device->batch.flags = flags;
	flush_batch(device);
}

static bool has_type(const struct conn *conn, const struct pkt *pkt)
{
	return conn->seqpacket == (pkt->type == VSOCK_TYPE_SEQPACKET);
}

static bool same_conn(const struct device *device, const struct pkt *pkt)
{
	const struct conn *conn = device->batch.conn;

	return conn != NULL && pkt->src_port == conn->guest_port &&
	       pkt->dst_port == conn->host_port && pkt->dst_cid == conn->host_cid &&
	       has_type(conn, pkt);
}

static void host_packet(struct device *device, const struct pkt *pkt, struct iov_cursor *payload)
{
	struct conn *conn;

	if (pkt->op == VSOCK_OP_RW && same_conn(device, pkt)) {
		conn = device->batch.conn;
	} else {
		flush_batch(device);
		conn = conntab_find(&device->conns, pkt->src_port, pkt->dst_port,
				    (uint32_t)pkt->dst_cid);
	}
	if (pkt->op == VSOCK_OP_REQUEST) {
		conn_guest_request(device, pkt, conn);
	} else if (conn == NULL || !has_type(conn, pkt)) { /* as Linux */
		device_owe_rst(device, pkt);
	} else if (pkt->op != VSOCK_OP_RW) {
		conn_guest_packet(device, conn, pkt);
	} else if (conn_guest_bytes(device, conn, pkt)) {
		gather(device, conn, payload, pkt->len);
		if (unlikely(conn->seqpacket))
			end_message(device, conn, pkt->flags);
	}
}

static bool is_host(const struct device *device, const struct pkt *pkt)
{
	return pkt->dst_cid == VSOCK_CID_HOST || (device->any_cid && pkt->dst_cid <= UINT32_MAX);
}

/* A packet that cannot be what it says ends its connection, visibly. */
static void malformed_packet(struct device *device, struct pkt *pkt)
{
	struct iov_cursor nothing = { 0 };

	device->env->guest_error(device->ctx, "packet length or type makes no sense");
	device_owe_rst(device, pkt);
	pkt->op = VSOCK_OP_RST;
	pkt->len = 0;
	if (!device_has_type(device, pkt->type))
		return;
	if (is_host(device, pkt))
		host_packet(device, pkt, &nothing);
	else
		sibling_forward(device, pkt, &nothing);
}

static void packet(struct device *device, struct iov_cursor *chain)
{
	uint8_t header[VSOCK_HDR_BYTES];
	struct pkt pkt;

	if (iov_copy_out(chain, header, sizeof(header)) != sizeof(header)) {
		device->env->guest_error(device->ctx, "packet shorter than its header");
		return;
	}
	pkt_decode(&pkt, header);
	if (unlikely(device->taps.first != NULL))
		taps_show(&device->taps, header, *chain, pkt.len);
	if (pkt.src_cid != device->guest_cid) {
		device->env->guest_error(device->ctx, "source CID is not the guest's");
		return;
	}
	if (!is_host(device, &pkt) || device->sibling.peer != NULL)
		flush_batch(device);
	if (is_host(device, &pkt) && device->sibling.peer != NULL)
		sibling_flush(device);
	if (!device_has_type(device, pkt.type) || pkt.len > VSOCK_MAX_PAYLOAD ||
	    pkt.len > chain->left)
		malformed_packet(device, &pkt);
	else if (is_host(device, &pkt))
		host_packet(device, &pkt, chain);
	else
		sibling_forward(device, &pkt, chain);
}

/* Take and handle up to the budget; *@bytes: how many. Return: 1, or of vring_pop() <= 0. */
static int drain(struct device *device, uint32_t budget, uint32_t *bytes)
{
	for (uint32_t n = 0; n < TX_BUDGET_CHAINS && *bytes < budget; n++) {
		struct vring_chain chain;
		struct iov_cursor cursor;
		int got;

		if (device_is_congested(device))
			return -EAGAIN;
		got = vring_pop(device->tx, &chain, device->scratch->tx_chain, VRING_MAX_PIECES);
		if (got != 1)
			return got;
		cursor = iov_begin(device->scratch->tx_chain, chain.readable);
		packet(device, &cursor);
		device->stats.tx_packets++;
		vring_push(device->tx, chain.head, 0);
		*bytes += (uint32_t)min_size(chain.readable_bytes, VSOCK_MAX_PAYLOAD);
	}
	return 1;
}

bool device_run_tx(struct device *device)
{
	uint32_t budget = pace_bytes(&device->scratch->pace);
	uint32_t bytes = 0;
	bool limited = device->tx_rate.per_second != 0;
	int result;

	device->tx_unasked = false;
	if (device->tx == NULL)
		return false;
	vring_disable_kick(device->tx);
	if (unlikely(limited)) {
		budget = device_pace(device, &device->tx_rate, budget, &device->stats.tx_paced);
		if (budget == 0)
			return false;
	}
	result = drain(device, budget, &bytes);
	if (unlikely(limited))
		rate_charge(&device->tx_rate, bytes);
	flush_batch(device);
	sibling_flush(device);
	if (vring_publish(device->tx))
		device->tx_signal = true;
	if (result < 0 && result != -EAGAIN) {
		device->tx = NULL;
		device->env->ring_broken(device->ctx, VSOCK_RING_TX);
	}
	if (result != 0)
		return result > 0; /* congested: device_run_rx() makes room first */
	device->tx_unasked = device->tx_looks;
	return !device->tx_unasked && vring_enable_kick(device->tx);
}

bool device_tx_waits(struct device *device)
{
	return device->tx_unasked && vring_available(device->tx) > 0;
}

bool device_ask_kick(struct device *device)
{
	bool unasked = device->tx_unasked;

	device->tx_unasked = false;
	return unasked && vring_enable_kick(device->tx);
}
