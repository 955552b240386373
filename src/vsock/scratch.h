// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * scratch.h - memory one thread needs while it handles packets, shared by all
 * its guests. Nothing in it outlives a call but the pace.
 */
#ifndef VSOCK_SCRATCH_H
#define VSOCK_SCRATCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/iov.h"
#include "virtio/vring.h"
#include "vsock/endpoint.h"
#include "vsock/pace.h"

#define RX_MAX_SLOTS 128u /* buffers offered to one read: 466 KiB of Linux's */

/** One RX buffer taken from the ring and not given back yet. */
struct rx_slot {
	const struct iovec *iov; /* its pieces; the header goes to the front */
	uint32_t pieces;         /* at least 1 */
	uint32_t room;           /* payload bytes behind the header */
	uint16_t head;
};

/** RX buffers taken for a read straight into guest memory. */
struct rx_slots {
	struct rx_slot slot[RX_MAX_SLOTS];
	uint32_t count;
	size_t pieces; /* of scratch->rx_pieces: the payload areas in order */
};

/*
 * The arrays are as long as the longest legal chain (half a megabyte each);
 * only the pages that ordinary chains touch become resident.
 */
struct scratch {
	struct iovec tx_chain[VRING_MAX_PIECES];     /* the chain being parsed */
	struct iovec tx_batch[ENDPOINT_MAX_PIECES];  /* payload gathered for one send */
	struct iovec rx_chains[VRING_MAX_PIECES];    /* RX buffers of one burst step */
	struct iovec rx_pieces[ENDPOINT_MAX_PIECES]; /* payload areas for one read */
	struct rx_slots slots;
	struct pace pace;
};

#endif
