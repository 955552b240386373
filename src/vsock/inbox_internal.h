// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * inbox_internal.h - what the files of the inbox share with each other and nobody
 * else may include.
 */
#ifndef VSOCK_INBOX_INTERNAL_H
#define VSOCK_INBOX_INTERNAL_H

#include "vsock/conn.h"
#include "vsock/inbox.h"

/** Something of @flow may be emitted. */
static inline void inbox_make_ready(struct inbox *inbox, struct inbox_flow *flow)
{
	list_remove(&flow->ready);
	list_append(&inbox->ready, &flow->ready);
}

/** Put @flow where the timer looks. */
static inline void inbox_block(struct inbox *inbox, struct inbox_flow *flow)
{
	list_remove(&flow->ready);
	list_append(&inbox->blocked, &flow->ready);
}

/** Bytes of @flow leave its buffer, to the guest or to nowhere. Without any the sender
 *  may be gone, and its count with it. */
static inline void inbox_discharge(struct inbox_flow *flow, uint32_t bytes)
{
	if (bytes > 0)
		quota_give(flow->charge, bytes);
}

/** Whether its sender is done with @flow, and the receiver is not. */
static inline bool inbox_flow_has_ended(const struct inbox_flow *flow)
{
	return (flow->owes & CONN_OWES_RST) != 0 && inbox_flow_waits(flow);
}

#endif
