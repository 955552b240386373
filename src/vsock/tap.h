// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * tap.h - somebody looks at the packets of one device, both directions. Pure.
 *
 * Theory of operation
 *
 * Packets of the guest are seen as they leave the TX ring, before anything is
 * judged; packets to the guest as they enter the RX ring, whoever fills it. So
 * each packet is seen once, siblings' ones in both guests' devices. While nobody
 * looks, the cost is one test of a pointer for each packet.
 *
 * The list is changed by the owner under the device's lock. It is read by the
 * owner, and by siblings' owners that hold the lock.
 */
#ifndef VSOCK_TAP_H
#define VSOCK_TAP_H

#include <stdint.h>

#include "base/compiler.h"
#include "virtio/iov.h"
#include "vsock/vsock_spec.h"

enum tap_result { TAP_SKIPPED, TAP_KEPT, TAP_LOST };

/** One who looks; embedded in what keeps the packets. */
struct tap {
	struct tap *next;
	/**
	 * packet() - A packet passes
	 * @payload: in guest memory, which may change while it is copied
	 *
	 * Must not wait. Context: two threads may be in it at a time, the owner and
	 * a sibling's owner
	 */
	enum tap_result (*packet)(struct tap *tap, const uint8_t header[VSOCK_HDR_BYTES],
				  struct iov_cursor payload);
	/** The device ends: it is not on the list any more. Owner. */
	void (*gone)(struct tap *tap);
};

/** Zero-initialised nobody looks. */
struct taps {
	struct tap *first;
	uint64_t kept; /* atomic: packets that taps took */
	uint64_t lost; /* atomic: that they had no room for */
};

/** Begin to look. Owner, under the device's lock. */
void taps_add(struct taps *taps, struct tap *tap);

/** No longer; legal when @tap is not on the list. Owner, under the device's lock. */
void taps_remove(struct taps *taps, struct tap *tap);

/** Show a packet of @len bytes of payload to all, or as much as @payload has of them. */
void taps_show(struct taps *taps, const uint8_t header[VSOCK_HDR_BYTES], struct iov_cursor payload,
	       uint32_t len);

#endif
