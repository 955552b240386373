// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * paced.c - a VM's rates: how much a turn may move, and whether one more
 * connection may begin. Pure.
 *
 * Theory of operation
 *
 * A VM over its rate is not looked at: its TX ring is left alone with kicks
 * switched off, host programs' bytes stay in their sockets, and a timer of the
 * owner brings it back. So a paced VM costs nothing while it waits, and what it
 * waits for is counted against nobody else.
 *
 * From the guest, all bytes of its packets count, with headers and those for
 * siblings; control packets wait with the others, for a ring has one order. To
 * the guest, payload of host programs counts, and control packets do not wait.
 */
#include "vsock/device_internal.h"

/* A packet of any size may pass at once. */
static uint32_t byte_burst(uint32_t per_second)
{
	uint32_t burst = per_second / (1000u / DEVICE_BURST_MS);

	return burst > VSOCK_MAX_PAYLOAD ? burst : VSOCK_MAX_PAYLOAD;
}

void device_init_rates(struct device *device, const struct device_rates *rates)
{
	rate_set(&device->tx_rate, rates->tx, byte_burst(rates->tx));
	rate_set(&device->rx_rate, rates->rx, byte_burst(rates->rx));
	rate_set(&device->conn_rate, rates->conns, rates->conns > 0 ? rates->conns : 1);
}

void device_set_rates(struct device *device, const struct device_rates *rates)
{
	device_init_rates(device, rates);
	device->env->schedule(device->ctx);
}

uint32_t device_pace(struct device *device, struct rate *rate, uint32_t wanted, uint64_t *count)
{
	bool waited = rate->waits;
	uint32_t allowed = rate_allow(rate, device->env->now_ms(device->ctx));

	if (allowed > 0)
		return min_u32(allowed, wanted);
	*count += !waited;
	device->env->pace_later(device->ctx, rate_wait_ms(rate));
	return 0;
}

bool device_may_connect(struct device *device)
{
	if (likely(device->conn_rate.per_second == 0))
		return true;
	if (rate_allow(&device->conn_rate, device->env->now_ms(device->ctx)) > 0) {
		rate_charge(&device->conn_rate, 1);
		return true;
	}
	device->env->limit_reached(device->ctx, "conn-rate", "new connections are refused");
	return false;
}
