// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * pkt.h - the packet header as numbers, and to and from its 44 bytes.
 *
 * pkt.c is the only file that knows header offsets. Pure.
 */
#ifndef VSOCK_PKT_H
#define VSOCK_PKT_H

#include <stdint.h>

#include "base/compiler.h"
#include "vsock/vsock_spec.h"

/** struct virtio_vsock_hdr, in host byte order. */
struct pkt {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len; /* bytes of payload */
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc; /* bytes of the sender's receive buffer */
	uint32_t fwd_cnt;   /* bytes the sender has taken out of it, running */
};

/** Read a header from a private copy of its bytes. Nothing is validated. */
void pkt_decode(struct pkt *pkt, const uint8_t bytes[VSOCK_HDR_BYTES]);

/** Write a header. */
void pkt_encode(uint8_t bytes[VSOCK_HDR_BYTES], const struct pkt *pkt);

/** Change only the payload length of an encoded header. */
void pkt_patch_len(uint8_t bytes[VSOCK_HDR_BYTES], uint32_t len);

/** Change only the flags of an encoded header. */
void pkt_patch_flags(uint8_t bytes[VSOCK_HDR_BYTES], uint32_t flags);

#endif
