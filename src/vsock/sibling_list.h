// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * sibling_list.h - the connections of one guest with its siblings, for people. Pure.
 */
#ifndef VSOCK_SIBLING_LIST_H
#define VSOCK_SIBLING_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vsock/device.h"

/** One of them, as this guest's side has it. */
struct sibling_conn {
	uint64_t cid; /* of the sibling */
	uint32_t own_port;
	uint32_t port; /* of the sibling */
	enum conn_state state;
	bool by_guest;     /* this guest asked for it */
	uint64_t tx_bytes; /* from this guest */
	uint64_t rx_bytes; /* for it */
	uint32_t held_bytes;
};

/**
 * sibling_list() - Fill at most @max of @conns
 * Return: how many there are. Context: owner; takes locks, one at a time
 */
size_t sibling_list(struct device *device, struct sibling_conn *conns, size_t max) must_use;

/** How many there are. Owner. */
uint32_t sibling_count(struct device *device) must_use;

#endif
