// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * stats.c - names of reasons, and noting begin and end of a connection once. Pure.
 */
#include "vsock/stats.h"

#include "vsock/device_internal.h"

const char *conn_end_name(enum conn_end why)
{
	static const char *const names[CONN_END_COUNT] = {
		[CONN_END_GUEST_CLOSED] = "guest-closed",
		[CONN_END_GUEST_RESET] = "guest-reset",
		[CONN_END_GUEST_REFUSED] = "guest-refused",
		[CONN_END_HOST_CLOSED] = "host-closed",
		[CONN_END_NO_LISTENER] = "no-listener",
		[CONN_END_NO_GUEST] = "no-guest",
		[CONN_END_BAD_REQUEST] = "bad-request",
		[CONN_END_BROKEN_RULE] = "broken-rule",
		[CONN_END_LIMIT] = "limit",
		[CONN_END_TIMEOUT] = "timeout",
		[CONN_END_DEVICE_RESET] = "device-reset",
		[CONN_END_DRAINING] = "draining",
	};

	return names[why];
}

static void tell(struct device *device, const struct conn *conn, enum conn_event what,
		 enum conn_end why)
{
	const struct conn_notice notice = {
		.what = what,
		.why = why,
		.guest_port = conn->guest_port,
		.host_port = conn->host_port,
		.by_guest = conn->by_guest,
	};

	device->env->conn_event(device->ctx, &notice);
}

void conn_note_open(struct device *device, struct conn *conn)
{
	conn->opened = true;
	if (conn->by_guest)
		device->stats.opened_by_guest++;
	else
		device->stats.opened_by_host++;
	tell(device, conn, CONN_OPENED, CONN_END_COUNT);
}

void conn_note_end(struct device *device, struct conn *conn, enum conn_end why)
{
	if (conn->ended)
		return;
	conn->ended = true;
	if (conn->opened)
		device->stats.closed[why]++;
	else
		device->stats.refused[why]++;
	tell(device, conn, conn->opened ? CONN_CLOSED : CONN_REFUSED, why);
}

void device_note_refusal(struct device *device, const struct pkt *pkt, enum conn_end why)
{
	struct conn_notice notice = { .what = CONN_REFUSED, .why = why };

	device->stats.refused[why]++;
	if (pkt != NULL) {
		notice.guest_port = pkt->src_port;
		notice.host_port = pkt->dst_port;
		notice.by_guest = true;
	}
	device->env->conn_event(device->ctx, &notice);
}
