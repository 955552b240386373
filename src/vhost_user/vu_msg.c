// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_msg.c - pure codec of vhost-user messages.
 *
 * May not make a system call, log, or look at a descriptor; descriptors are
 * only counted here.
 *
 * Theory of operation: the header is judged by itself, before its payload is
 * read, so a liar cannot make us wait for or store more than VU_MAX_PAYLOAD.
 * The rest is the table below: a request without a row, or whose row says
 * VU_ANSWER_NEVER, is none we ever offered. Sizes and descriptor counts that
 * depend on the payload itself (memory table, "no descriptor" flag) are checked
 * by the decoder of that layout.
 */
#include "vhost_user/vu_msg.h"

#include <string.h>

/** How a payload is laid out. The VU_SHAPE_RING_* ones carry a ring index. */
enum vu_shape {
	VU_SHAPE_EMPTY,
	VU_SHAPE_U64,
	VU_SHAPE_RING_STATE,
	VU_SHAPE_RING_ADDR,
	VU_SHAPE_RING_FD,
	VU_SHAPE_TABLE,
	VU_SHAPE_REGION,
	VU_SHAPE_CONFIG,
	VU_SHAPE_LOG,
	VU_SHAPE_IOTLB,
};

/** Whether a reply is due. */
enum vu_answer {
	VU_ANSWER_NEVER, /* never offered */
	VU_ANSWER_ACK,   /* only when asked for by need_reply */
	VU_ANSWER_OWN,   /* always, by a payload of its own */
};

struct vu_row {
	const char *name;
	uint16_t min_bytes;
	uint16_t max_bytes;
	uint8_t min_fds;
	uint8_t max_fds;
	enum vu_shape shape;
	enum vu_answer answer;
};

#define VU_TABLE_BYTES(n) (VU_TABLE_HEADER_BYTES + (n)*VU_REGION_BYTES)

#define VU_ROW(what, min, max, fds_min, fds_max, how, reply)                                 \
	[VU_##what] = {                                                                      \
		#what, (min), (max), (fds_min), (fds_max), VU_SHAPE_##how, VU_ANSWER_##reply \
	}
#define VU_UNUSED(what) VU_ROW(what, 0, 0, 0, 0, EMPTY, NEVER)

static const struct vu_row vu_rows[VU_REQUEST_COUNT] = {
	/*     request               min, max bytes  fds   layout      reply */
	VU_ROW(GET_FEATURES, 0, 0, 0, 0, EMPTY, OWN),
	VU_ROW(SET_FEATURES, 8, 8, 0, 0, U64, ACK),
	VU_ROW(SET_OWNER, 0, 0, 0, 0, EMPTY, ACK),
	VU_ROW(RESET_OWNER, 0, 0, 0, 0, EMPTY, ACK),
	VU_ROW(SET_MEM_TABLE, VU_TABLE_BYTES(1), VU_TABLE_BYTES(VU_TABLE_MAX_REGIONS), 1,
	       VU_TABLE_MAX_REGIONS, TABLE, ACK),
	/* Answered in any case; need_reply says by what (vu_log.c). */
	VU_ROW(SET_LOG_BASE, VU_LOG_BYTES, VU_LOG_BYTES, 1, 1, LOG, ACK),
	VU_ROW(SET_LOG_FD, 0, 0, 1, 1, EMPTY, ACK),
	VU_ROW(SET_VRING_NUM, VU_STATE_BYTES, VU_STATE_BYTES, 0, 0, RING_STATE, ACK),
	VU_ROW(SET_VRING_ADDR, VU_ADDR_BYTES, VU_ADDR_BYTES, 0, 0, RING_ADDR, ACK),
	VU_ROW(SET_VRING_BASE, VU_STATE_BYTES, VU_STATE_BYTES, 0, 0, RING_STATE, ACK),
	VU_ROW(GET_VRING_BASE, VU_STATE_BYTES, VU_STATE_BYTES, 0, 0, RING_STATE, OWN),
	VU_ROW(SET_VRING_KICK, 8, 8, 0, 1, RING_FD, ACK),
	VU_ROW(SET_VRING_CALL, 8, 8, 0, 1, RING_FD, ACK),
	VU_ROW(SET_VRING_ERR, 8, 8, 0, 1, RING_FD, ACK),
	VU_ROW(GET_PROTOCOL_FEATURES, 0, 0, 0, 0, EMPTY, OWN),
	VU_ROW(SET_PROTOCOL_FEATURES, 8, 8, 0, 0, U64, ACK),
	VU_ROW(GET_QUEUE_NUM, 0, 0, 0, 0, EMPTY, OWN),
	VU_ROW(SET_VRING_ENABLE, VU_STATE_BYTES, VU_STATE_BYTES, 0, 0, RING_STATE, ACK),
	VU_UNUSED(SEND_RARP),
	VU_UNUSED(NET_SET_MTU),
	VU_ROW(SET_BACKEND_REQ_FD, 0, 0, 1, 1, EMPTY, ACK),
	VU_ROW(IOTLB_MSG, VU_IOTLB_BYTES, VU_IOTLB_BYTES, 0, 0, IOTLB, ACK),
	VU_UNUSED(SET_VRING_ENDIAN),
	/* The request may or may not bring room for the bytes it asks for. */
	VU_ROW(GET_CONFIG, VU_CONFIG_HEADER_BYTES, VU_MAX_PAYLOAD, 0, 0, CONFIG, OWN),
	VU_ROW(SET_CONFIG, VU_CONFIG_HEADER_BYTES, VU_MAX_PAYLOAD, 0, 0, CONFIG, ACK),
	VU_UNUSED(CREATE_CRYPTO_SESSION),
	VU_UNUSED(CLOSE_CRYPTO_SESSION),
	VU_UNUSED(POSTCOPY_ADVISE),
	VU_UNUSED(POSTCOPY_LISTEN),
	VU_UNUSED(POSTCOPY_END),
	VU_UNUSED(GET_INFLIGHT_FD),
	VU_UNUSED(SET_INFLIGHT_FD),
	VU_UNUSED(GPU_SET_SOCKET),
	VU_ROW(RESET_DEVICE, 0, 0, 0, 0, EMPTY, ACK),
	VU_UNUSED(VRING_KICK),
	VU_ROW(GET_MAX_MEM_SLOTS, 0, 0, 0, 0, EMPTY, OWN),
	VU_ROW(ADD_MEM_REG, VU_SINGLE_REGION_BYTES, VU_SINGLE_REGION_BYTES, 1, 1, REGION, ACK),
	/* A descriptor is discouraged but legal here: QEMU sends one. */
	VU_ROW(REM_MEM_REG, VU_SINGLE_REGION_BYTES, VU_SINGLE_REGION_BYTES, 0, 1, REGION, ACK),
	VU_ROW(SET_STATUS, 8, 8, 0, 0, U64, ACK),
	VU_ROW(GET_STATUS, 0, 0, 0, 0, EMPTY, OWN),
	VU_UNUSED(GET_SHARED_OBJECT),
	VU_ROW(SET_DEVICE_STATE_FD, 8, 8, 1, 1, U64, OWN),
	VU_ROW(CHECK_DEVICE_STATE, 0, 0, 0, 0, EMPTY, OWN),
};

static const char *const vu_verdict_texts[VU_VERDICT_COUNT] = {
	[VU_MSG_OK] = "right",
	[VU_MSG_BAD_VERSION] = "not of protocol version 1",
	[VU_MSG_IS_REPLY] = "marked as a reply",
	[VU_MSG_TOO_LARGE] = "larger than any message",
	[VU_MSG_NOT_OFFERED] = "belongs to nothing that was offered",
	[VU_MSG_BAD_SIZE] = "wrong payload size",
	[VU_MSG_BAD_FDS] = "wrong number of descriptors",
	[VU_MSG_BAD_RING] = "no such ring",
	[VU_MSG_BAD_COUNT] = "wrong number of memory regions",
};

/* The wire is in the machine's own byte order, so le.h is not for it. */
static uint32_t vu_load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t vu_load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void vu_store32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

/* The row of a request that we offered, or NULL. */
static const struct vu_row *vu_row_of(uint32_t request)
{
	if (request >= VU_REQUEST_COUNT || vu_rows[request].answer == VU_ANSWER_NEVER)
		return NULL;
	return &vu_rows[request];
}

enum vu_verdict vu_msg_header(const uint8_t *bytes, struct vu_header *header)
{
	uint32_t flags = vu_load32(bytes + 4);
	uint32_t size = vu_load32(bytes + 8);

	if ((flags & VU_FLAG_VERSION_MASK) != VU_FLAG_VERSION)
		return VU_MSG_BAD_VERSION;
	if ((flags & VU_FLAG_REPLY) != 0)
		return VU_MSG_IS_REPLY;
	if (size > VU_MAX_PAYLOAD)
		return VU_MSG_TOO_LARGE;
	header->request = vu_load32(bytes);
	header->size = size;
	header->need_reply = (flags & VU_FLAG_NEED_REPLY) != 0;
	return VU_MSG_OK;
}

static enum vu_verdict vu_parse_state(const uint8_t *payload, uint32_t n_rings, struct vu_msg *msg)
{
	msg->ring = vu_load32(payload);
	msg->num = vu_load32(payload + 4);
	return msg->ring < n_rings ? VU_MSG_OK : VU_MSG_BAD_RING;
}

static enum vu_verdict vu_parse_addr(const uint8_t *payload, uint32_t n_rings, struct vu_msg *msg)
{
	msg->ring = vu_load32(payload);
	msg->addr.flags = vu_load32(payload + 4);
	msg->addr.desc = vu_load64(payload + 8);
	msg->addr.used = vu_load64(payload + 16);
	msg->addr.avail = vu_load64(payload + 24);
	msg->addr.log = vu_load64(payload + 32);
	return msg->ring < n_rings ? VU_MSG_OK : VU_MSG_BAD_RING;
}

static enum vu_verdict vu_parse_ring_fd(const uint8_t *payload, size_t n_fds, uint32_t n_rings,
					struct vu_msg *msg)
{
	uint64_t value = vu_load64(payload);

	msg->ring = (uint32_t)(value & VU_RING_FD_INDEX_MASK);
	msg->no_fd = (value & bit64(VU_RING_FD_NONE_BIT)) != 0;
	if (msg->ring >= n_rings)
		return VU_MSG_BAD_RING;
	return n_fds == (msg->no_fd ? 0 : 1) ? VU_MSG_OK : VU_MSG_BAD_FDS;
}

static void vu_parse_region(const uint8_t *payload, struct vu_region *region)
{
	region->gpa = vu_load64(payload);
	region->size = vu_load64(payload + 8);
	region->uva = vu_load64(payload + 16);
	region->mmap_offset = vu_load64(payload + 24);
}

static enum vu_verdict vu_parse_table(const uint8_t *payload, uint32_t bytes, size_t n_fds,
				      struct vu_msg *msg)
{
	uint32_t count = vu_load32(payload);

	if (count < 1 || count > VU_TABLE_MAX_REGIONS)
		return VU_MSG_BAD_COUNT;
	if (bytes != VU_TABLE_BYTES(count))
		return VU_MSG_BAD_SIZE;
	if (n_fds != count)
		return VU_MSG_BAD_FDS;
	msg->n_regions = count;
	for (uint32_t i = 0; i < count; i++)
		vu_parse_region(payload + VU_TABLE_BYTES(i), &msg->regions[i]);
	return VU_MSG_OK;
}

static void vu_parse_iotlb(const uint8_t *payload, struct vu_iotlb *iotlb)
{
	iotlb->iova = vu_load64(payload);
	iotlb->size = vu_load64(payload + 8);
	iotlb->uva = vu_load64(payload + 16);
	iotlb->access = payload[VU_IOTLB_ACCESS_AT];
	iotlb->type = payload[VU_IOTLB_TYPE_AT];
}

static enum vu_verdict vu_parse_config(const uint8_t *payload, uint32_t bytes, struct vu_msg *msg)
{
	msg->offset = vu_load32(payload);
	msg->length = vu_load32(payload + 4);
	msg->flags = vu_load32(payload + 8);
	if (bytes == VU_CONFIG_HEADER_BYTES || bytes - VU_CONFIG_HEADER_BYTES == msg->length)
		return VU_MSG_OK;
	return VU_MSG_BAD_SIZE;
}

static enum vu_verdict vu_parse_payload(enum vu_shape shape, const uint8_t *payload, uint32_t bytes,
					size_t n_fds, uint32_t n_rings, struct vu_msg *msg)
{
	switch (shape) {
	case VU_SHAPE_EMPTY:
		return VU_MSG_OK;
	case VU_SHAPE_U64:
		msg->value = vu_load64(payload);
		return VU_MSG_OK;
	case VU_SHAPE_RING_STATE:
		return vu_parse_state(payload, n_rings, msg);
	case VU_SHAPE_RING_ADDR:
		return vu_parse_addr(payload, n_rings, msg);
	case VU_SHAPE_RING_FD:
		return vu_parse_ring_fd(payload, n_fds, n_rings, msg);
	case VU_SHAPE_TABLE:
		return vu_parse_table(payload, bytes, n_fds, msg);
	case VU_SHAPE_REGION:
		msg->n_regions = 1;
		vu_parse_region(payload + 8, &msg->regions[0]);
		return VU_MSG_OK;
	case VU_SHAPE_IOTLB:
		vu_parse_iotlb(payload, &msg->iotlb);
		return VU_MSG_OK;
	case VU_SHAPE_CONFIG:
		return vu_parse_config(payload, bytes, msg);
	case VU_SHAPE_LOG:
		msg->regions[0].size = vu_load64(payload);
		msg->regions[0].mmap_offset = vu_load64(payload + 8);
		return VU_MSG_OK;
	}
	return VU_MSG_NOT_OFFERED;
}

enum vu_verdict vu_msg_parse(const struct vu_header *header, const uint8_t *payload, size_t n_fds,
			     uint32_t n_rings, struct vu_msg *msg)
{
	const struct vu_row *row = vu_row_of(header->request);
	struct vu_msg parsed = { 0 };
	enum vu_verdict verdict;

	if (row == NULL)
		return VU_MSG_NOT_OFFERED;
	if (header->size < row->min_bytes || header->size > row->max_bytes)
		return VU_MSG_BAD_SIZE;
	if (n_fds < row->min_fds || n_fds > row->max_fds)
		return VU_MSG_BAD_FDS;
	parsed.request = header->request;
	parsed.need_reply = header->need_reply;
	verdict = vu_parse_payload(row->shape, payload, header->size, n_fds, n_rings, &parsed);
	if (verdict == VU_MSG_OK)
		*msg = parsed;
	return verdict;
}

const char *vu_request_name(uint32_t request)
{
	return request < VU_REQUEST_COUNT ? vu_rows[request].name : NULL;
}

const char *vu_verdict_text(enum vu_verdict verdict)
{
	return vu_verdict_texts[verdict < VU_VERDICT_COUNT ? verdict : VU_MSG_OK];
}

bool vu_msg_wants_ack(const struct vu_header *header)
{
	const struct vu_row *row = vu_row_of(header->request);

	return header->need_reply && (row == NULL || row->answer == VU_ANSWER_ACK);
}

static void vu_reply_header(uint8_t *out, uint32_t request, uint32_t bytes)
{
	vu_store32(out, request);
	vu_store32(out + 4, VU_FLAG_VERSION | VU_FLAG_REPLY);
	vu_store32(out + 8, bytes);
}

size_t vu_reply_u64(uint8_t *out, uint32_t request, uint64_t value)
{
	vu_reply_header(out, request, sizeof(value));
	memcpy(out + VU_HEADER_BYTES, &value, sizeof(value));
	return VU_HEADER_BYTES + sizeof(value);
}

size_t vu_reply_state(uint8_t *out, uint32_t request, uint32_t ring, uint32_t num)
{
	vu_reply_header(out, request, VU_STATE_BYTES);
	vu_store32(out + VU_HEADER_BYTES, ring);
	vu_store32(out + VU_HEADER_BYTES + 4, num);
	return VU_HEADER_BYTES + VU_STATE_BYTES;
}

size_t vu_reply_config(uint8_t *out, const struct vu_msg *msg, uint8_t **data)
{
	uint8_t *payload = out + VU_HEADER_BYTES;

	*data = NULL;
	if (msg->length > VU_CONFIG_MAX_BYTES) {
		vu_reply_header(out, msg->request, 0);
		return VU_HEADER_BYTES;
	}
	vu_reply_header(out, msg->request, VU_CONFIG_HEADER_BYTES + msg->length);
	vu_store32(payload, msg->offset);
	vu_store32(payload + 4, msg->length);
	vu_store32(payload + 8, msg->flags);
	memset(payload + VU_CONFIG_HEADER_BYTES, 0, msg->length);
	if (msg->length > 0)
		*data = payload + VU_CONFIG_HEADER_BYTES;
	return VU_HEADER_BYTES + VU_CONFIG_HEADER_BYTES + msg->length;
}

size_t vu_build_iotlb(uint8_t *out, const struct vu_iotlb *iotlb)
{
	uint8_t *payload = out + VU_HEADER_BYTES;

	vu_store32(out, VU_BACKEND_IOTLB_MSG);
	vu_store32(out + 4, VU_FLAG_VERSION);
	vu_store32(out + 8, VU_IOTLB_BYTES);
	memset(payload, 0, VU_IOTLB_BYTES);
	memcpy(payload, &iotlb->iova, sizeof(iotlb->iova));
	memcpy(payload + 8, &iotlb->size, sizeof(iotlb->size));
	payload[VU_IOTLB_ACCESS_AT] = iotlb->access;
	payload[VU_IOTLB_TYPE_AT] = iotlb->type;
	return VU_HEADER_BYTES + VU_IOTLB_BYTES;
}
