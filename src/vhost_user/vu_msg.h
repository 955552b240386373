// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_msg.h - pure codec of vhost-user messages: bytes and a count of
 * descriptors to a validated message, and replies to bytes.
 *
 * A table has one row per request: payload sizes, descriptor counts, layout,
 * whether a reply is due. Everything in the table is checked before a handler
 * runs. Makes no system call and owns nothing.
 */
#ifndef VHOST_USER_VU_MSG_H
#define VHOST_USER_VU_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vhost_user/vu_spec.h"

/** No request of the specification comes near it; checked before any payload
 *  is read. */
#define VU_MAX_PAYLOAD 4096u

/** Room that every reply fits in. */
#define VU_MAX_REPLY (VU_HEADER_BYTES + VU_CONFIG_HEADER_BYTES + VU_CONFIG_MAX_BYTES)

/** What is wrong with a message; VU_MSG_OK when nothing is. */
enum vu_verdict {
	VU_MSG_OK,
	VU_MSG_BAD_VERSION,
	VU_MSG_IS_REPLY,
	VU_MSG_TOO_LARGE,
	VU_MSG_NOT_OFFERED, /* unknown, or belongs to a feature we do not offer */
	VU_MSG_BAD_SIZE,
	VU_MSG_BAD_FDS,
	VU_MSG_BAD_RING,
	VU_MSG_BAD_COUNT,
	VU_VERDICT_COUNT
};

/** The fixed part of a message. */
struct vu_header {
	uint32_t request;
	uint32_t size;   /* payload bytes, at most VU_MAX_PAYLOAD */
	bool need_reply; /* binding, whether or not REPLY_ACK was negotiated */
};

/** Front-end addresses of a ring's parts. */
struct vu_ring_addr {
	uint64_t desc;
	uint64_t used;
	uint64_t avail;
	uint64_t log;   /* guest address of used, for the log; if asked for in flags */
	uint32_t flags; /* VU_RING_ADDR_F_* */
};

/** A memory region as it was sent: nothing about it is checked. SET_LOG_BASE fills
 *  size and mmap_offset of one. */
struct vu_region {
	uint64_t gpa;
	uint64_t size; /* bytes */
	uint64_t uva;
	uint64_t mmap_offset; /* of its first byte, in the file passed along */
};

/** An IOTLB message: nothing about it is checked. */
struct vu_iotlb {
	uint64_t iova;
	uint64_t size; /* bytes */
	uint64_t uva;
	uint8_t access; /* bits of virtio/iotlb.h */
	uint8_t type;   /* VU_IOTLB_* */
};

/** A message whose form is right; which members count depends on the request. */
struct vu_msg {
	uint32_t request;
	bool need_reply;
	uint32_t ring;   /* less than the number of rings */
	bool no_fd;      /* SET_VRING_KICK, CALL, ERR: comes without a descriptor */
	uint32_t num;    /* second word of a vring state */
	uint64_t value;  /* the u64 of a request that is nothing else */
	uint32_t offset; /* GET_CONFIG, SET_CONFIG */
	uint32_t length; /* GET_CONFIG, SET_CONFIG: not checked against any bound */
	uint32_t flags;  /* GET_CONFIG, SET_CONFIG */
	struct vu_ring_addr addr;
	uint32_t n_regions; /* as many as descriptors, except REM_MEM_REG */
	struct vu_region regions[VU_TABLE_MAX_REGIONS];
	struct vu_iotlb iotlb;
};

/**
 * vu_msg_header() - Check the first VU_HEADER_BYTES of a message
 * @bytes:  those bytes
 * @header: output; untouched on failure
 *
 * Return: VU_MSG_OK; VU_MSG_BAD_VERSION, VU_MSG_IS_REPLY or VU_MSG_TOO_LARGE,
 *         after which the stream cannot be followed any further
 * Spec: "Header"
 */
enum vu_verdict vu_msg_header(const uint8_t *bytes, struct vu_header *header) must_use;

/**
 * vu_msg_parse() - Check a message against its row of the table
 * @header:  from vu_msg_header()
 * @payload: header->size bytes
 * @n_fds:   descriptors that came with it
 * @n_rings: rings of the device
 * @msg:     output; untouched on failure
 *
 * Return: VU_MSG_OK, or what is wrong
 */
enum vu_verdict vu_msg_parse(const struct vu_header *header, const uint8_t *payload, size_t n_fds,
			     uint32_t n_rings, struct vu_msg *msg) must_use;

/** Name of a request, as in the specification without its prefix; NULL for a
 *  number the table has no row for. Static. */
const char *vu_request_name(uint32_t request) must_use;

/** A few static words for a log line: what the verdict means. */
const char *vu_verdict_text(enum vu_verdict verdict) must_use;

/**
 * vu_msg_wants_ack() - Whether a u64 reply of success or failure is due
 *
 * True when the front-end asked for one and the request has no reply of its
 * own. Spec: "VHOST_USER_PROTOCOL_F_REPLY_ACK"
 */
bool vu_msg_wants_ack(const struct vu_header *header) must_use;

/**
 * vu_reply_u64() - Build a reply that holds one number
 * @out: VU_MAX_REPLY bytes
 *
 * Return: bytes to send
 */
size_t vu_reply_u64(uint8_t *out, uint32_t request, uint64_t value) must_use;

/** Build the vring state that answers GET_VRING_BASE. As vu_reply_u64(). */
size_t vu_reply_state(uint8_t *out, uint32_t request, uint32_t ring, uint32_t num) must_use;

/** Build a request of ours about an IOVA; @iotlb->uva is not sent. As vu_reply_u64(). */
size_t vu_build_iotlb(uint8_t *out, const struct vu_iotlb *iotlb) must_use;

/**
 * vu_reply_config() - Build the answer to GET_CONFIG
 * @out: VU_MAX_REPLY bytes
 * @msg: the request; a length beyond VU_CONFIG_MAX_BYTES is answered by an
 *       empty payload, which is how the specification says "error"
 * @data: output: where the config bytes go inside @out (msg->length of them,
 *       already zero), NULL when there are none
 *
 * Return: bytes to send
 */
size_t vu_reply_config(uint8_t *out, const struct vu_msg *msg, uint8_t **data) must_use;

#endif
