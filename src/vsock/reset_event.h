// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * reset_event.h - tells a guest on its event queue that its connections are
 * gone, and finds out when it knows.
 *
 * Pure. Context: the owner of the device.
 * Spec: virtio 1.3, "Device Operation: Device Events"
 */
#ifndef VSOCK_RESET_EVENT_H
#define VSOCK_RESET_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "virtio/vring.h"

enum reset_event_state {
	RESET_EVENT_NONE, /* nothing to tell, or the guest knows */
	RESET_EVENT_OWED, /* waits for a buffer */
	RESET_EVENT_SHOWN /* the guest has it */
};

/** Zero-initialised: nothing to tell, no queue. */
struct reset_event {
	struct vring *ring; /* NULL unless started and enabled */
	enum reset_event_state state;
	uint16_t left; /* buffers that were available when it was shown */
};

/**
 * reset_event_run() - Go on as far as the queue lets us
 * @notify: output: the driver is to be told of a used buffer
 * @scratch: room for VRING_MAX_PIECES pieces
 *
 * The driver has taken the event when it makes another buffer available after
 * it: Linux does that when it has handled the event.
 *
 * Return: 0, or -EPROTO: the driver broke the ring, which is not looked at again
 */
int reset_event_run(struct reset_event *event, struct iovec *scratch, bool *notify) must_use;

#endif
