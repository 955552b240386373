// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_spec.h - facts of the vhost-user specification: request numbers, header
 * and payload layout, protocol feature bits; no behaviour.
 *
 * Spec: QEMU docs/interop/vhost-user, "Message Specification",
 * "Front-end message types", "Protocol features". Numbers on the wire are in
 * the byte order of the machine, both ends being on it.
 */
#ifndef VHOST_USER_VU_SPEC_H
#define VHOST_USER_VU_SPEC_H

/** Requests of the front-end. */
enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SEND_RARP = 19,
	VU_NET_SET_MTU = 20,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_IOTLB_MSG = 22,
	VU_SET_VRING_ENDIAN = 23,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_CREATE_CRYPTO_SESSION = 26,
	VU_CLOSE_CRYPTO_SESSION = 27,
	VU_POSTCOPY_ADVISE = 28,
	VU_POSTCOPY_LISTEN = 29,
	VU_POSTCOPY_END = 30,
	VU_GET_INFLIGHT_FD = 31,
	VU_SET_INFLIGHT_FD = 32,
	VU_GPU_SET_SOCKET = 33,
	VU_RESET_DEVICE = 34,
	VU_VRING_KICK = 35,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
	VU_SET_STATUS = 39,
	VU_GET_STATUS = 40,
	VU_GET_SHARED_OBJECT = 41,
	VU_SET_DEVICE_STATE_FD = 42,
	VU_CHECK_DEVICE_STATE = 43,
	VU_REQUEST_COUNT
};

/* "Header": u32 request, u32 flags, u32 payload size */
#define VU_HEADER_BYTES 12u
#define VU_FLAG_VERSION_MASK 0x3u
#define VU_FLAG_VERSION 0x1u
#define VU_FLAG_REPLY 0x4u
#define VU_FLAG_NEED_REPLY 0x8u

/* "Payload": u32 index, u32 num */
#define VU_STATE_BYTES 8u
/* u32 index, u32 flags, u64 descriptor, u64 used, u64 available, u64 log */
#define VU_ADDR_BYTES 40u
/* the flag of the ring that asks for "log" */
#define VU_RING_ADDR_F_LOG 1u
/* "Log description": u64 size, u64 offset in the file passed along */
#define VU_LOG_BYTES 16u
/* u64 guest address, u64 size, u64 user address, u64 mmap offset */
#define VU_REGION_BYTES 32u
/* "Memory regions description": u32 count, u32 padding, regions */
#define VU_TABLE_HEADER_BYTES 8u
#define VU_TABLE_MAX_REGIONS 8u
/* "Single memory region description": u64 padding, region */
#define VU_SINGLE_REGION_BYTES 40u
/* "An IOTLB message": u64 iova, u64 size, u64 user address, u8 permissions, u8 type;
 * everybody sends the C structure, which is padded */
#define VU_IOTLB_BYTES 32u
#define VU_IOTLB_ACCESS_AT 24u
#define VU_IOTLB_TYPE_AT 25u
#define VU_IOTLB_MISS 1u
#define VU_IOTLB_UPDATE 2u
#define VU_IOTLB_INVALIDATE 3u
#define VU_IOTLB_ACCESS_FAIL 4u

/* "Back-end message types" */
#define VU_BACKEND_IOTLB_MSG 1u

/* "Virtio device config space": u32 offset, u32 size, u32 flags, bytes */
#define VU_CONFIG_HEADER_BYTES 12u
#define VU_CONFIG_MAX_BYTES 256u

/* VHOST_USER_SET_VRING_KICK and its like: the ring, and "no descriptor" */
#define VU_RING_FD_INDEX_MASK 0xffu
#define VU_RING_FD_NONE_BIT 8

/* Virtio feature bit that announces protocol features: "Communication" */
#define VU_F_PROTOCOL_FEATURES_BIT 30

/* And the one that asks for the log of written memory: "Migration" */
#define VU_F_LOG_ALL_BIT 26

/* "Protocol features" */
#define VU_PROTOCOL_F_MQ_BIT 0
#define VU_PROTOCOL_F_LOG_SHMFD_BIT 1
#define VU_PROTOCOL_F_REPLY_ACK_BIT 3
#define VU_PROTOCOL_F_BACKEND_REQ_BIT 5
#define VU_PROTOCOL_F_CONFIG_BIT 9
#define VU_PROTOCOL_F_RESET_DEVICE_BIT 13
#define VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS_BIT 15
#define VU_PROTOCOL_F_STATUS_BIT 16
#define VU_PROTOCOL_F_DEVICE_STATE_BIT 19

/* SET_STATUS, GET_STATUS: virtio 1.3, "Device Status Field" */
#define VU_STATUS_MASK 0xffu
#define VU_STATUS_FEATURES_OK 0x08u
#define VU_STATUS_NEEDS_RESET 0x40u

#endif
