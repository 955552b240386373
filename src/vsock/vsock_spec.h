// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vsock_spec.h - facts of the virtio specification about the socket device;
 * no behaviour.
 *
 * Spec: virtio 1.3, "Socket Device"
 */
#ifndef VSOCK_VSOCK_SPEC_H
#define VSOCK_VSOCK_SPEC_H

#define VSOCK_HDR_BYTES 44u             /* struct virtio_vsock_hdr */
#define VSOCK_MAX_PAYLOAD (64u * 1024u) /* Linux: VIRTIO_VSOCK_MAX_PKT_BUF_SIZE */

/* "Device Operation": header offsets, all little-endian */
#define VSOCK_HDR_SRC_CID 0u /* le64 */
#define VSOCK_HDR_DST_CID 8u /* le64 */
#define VSOCK_HDR_SRC_PORT 16u
#define VSOCK_HDR_DST_PORT 20u
#define VSOCK_HDR_LEN 24u
#define VSOCK_HDR_TYPE 28u /* le16 */
#define VSOCK_HDR_OP 30u   /* le16 */
#define VSOCK_HDR_FLAGS 32u
#define VSOCK_HDR_BUF_ALLOC 36u
#define VSOCK_HDR_FWD_CNT 40u

#define VSOCK_TYPE_STREAM 1u
#define VSOCK_TYPE_SEQPACKET 2u

enum vsock_op {
	VSOCK_OP_INVALID = 0,
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

/* Flags of VSOCK_OP_SHUTDOWN: what its sender will not do any more */
#define VSOCK_SHUTDOWN_RCV 1u
#define VSOCK_SHUTDOWN_SEND 2u
#define VSOCK_SHUTDOWN_BOTH 3u

/* Flags of VSOCK_OP_RW on seqpacket sockets: here ends a message, a record */
#define VSOCK_SEQ_EOM 1u
#define VSOCK_SEQ_EOR 2u

/* "Feature bits" */
#define VSOCK_F_STREAM_BIT 0u
#define VSOCK_F_SEQPACKET_BIT 1u
#define VSOCK_F_NO_IMPLIED_STREAM_BIT 2u

/* "Device configuration layout": le64 guest_cid */
#define VSOCK_CONFIG_BYTES 8u
#define VSOCK_CID_HOST 2u

/* "Virtqueues" */
#define VSOCK_RING_RX 0u
#define VSOCK_RING_TX 1u
#define VSOCK_RING_EVENT 2u

/* "Device Events": le32 id */
#define VSOCK_EVENT_BYTES 4u
#define VSOCK_EVENT_TRANSPORT_RESET 0u

#endif
