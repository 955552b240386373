// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vu_msg.c - the vhost-user codec: every request short, exact and long,
 * with every number of descriptors, and the replies byte by byte.
 *
 * The table of what is right is written again here, from the specification.
 */
#include "unit.h"

#include <string.h>

#include "vhost_user/vu_msg.h"

#define N_RINGS 3u
#define MAX_FDS 10u

/* What a request looks like when it is right. */
struct rule {
	uint32_t request;
	const char *name;
	uint32_t bytes;
	size_t fds;
	bool own_reply;
	bool any_length; /* GET_CONFIG and the like */
	bool optional_fd;
};

static const struct rule rules[] = {
	{ 1, "GET_FEATURES", 0, 0, true, false, false },
	{ 2, "SET_FEATURES", 8, 0, false, false, false },
	{ 3, "SET_OWNER", 0, 0, false, false, false },
	{ 4, "RESET_OWNER", 0, 0, false, false, false },
	{ 5, "SET_MEM_TABLE", 8 + 2 * 32, 2, false, false, false },
	{ 6, "SET_LOG_BASE", 16, 1, false, false, false },
	{ 7, "SET_LOG_FD", 0, 1, false, false, false },
	{ 8, "SET_VRING_NUM", 8, 0, false, false, false },
	{ 9, "SET_VRING_ADDR", 40, 0, false, false, false },
	{ 10, "SET_VRING_BASE", 8, 0, false, false, false },
	{ 11, "GET_VRING_BASE", 8, 0, true, false, false },
	{ 12, "SET_VRING_KICK", 8, 1, false, false, false },
	{ 13, "SET_VRING_CALL", 8, 1, false, false, false },
	{ 14, "SET_VRING_ERR", 8, 1, false, false, false },
	{ 15, "GET_PROTOCOL_FEATURES", 0, 0, true, false, false },
	{ 16, "SET_PROTOCOL_FEATURES", 8, 0, false, false, false },
	{ 17, "GET_QUEUE_NUM", 0, 0, true, false, false },
	{ 18, "SET_VRING_ENABLE", 8, 0, false, false, false },
	{ 21, "SET_BACKEND_REQ_FD", 0, 1, false, false, false },
	{ 22, "IOTLB_MSG", 32, 0, false, false, false },
	{ 24, "GET_CONFIG", 12 + 8, 0, true, true, false },
	{ 25, "SET_CONFIG", 12 + 8, 0, false, true, false },
	{ 34, "RESET_DEVICE", 0, 0, false, false, false },
	{ 36, "GET_MAX_MEM_SLOTS", 0, 0, true, false, false },
	{ 37, "ADD_MEM_REG", 40, 1, false, false, false },
	{ 38, "REM_MEM_REG", 40, 0, false, false, true },
	{ 39, "SET_STATUS", 8, 0, false, false, false },
	{ 40, "GET_STATUS", 0, 0, true, false, false },
	{ 42, "SET_DEVICE_STATE_FD", 8, 1, true, false, false },
	{ 43, "CHECK_DEVICE_STATE", 0, 0, true, false, false },
};

static const struct rule *find_rule(uint32_t request)
{
	for (size_t i = 0; i < array_size(rules); i++) {
		if (rules[i].request == request)
			return &rules[i];
	}
	return NULL;
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static enum vu_verdict header(uint32_t request, uint32_t flags, uint32_t size,
			      struct vu_header *out)
{
	uint8_t bytes[VU_HEADER_BYTES];

	put32(bytes, request);
	put32(bytes + 4, flags);
	put32(bytes + 8, size);
	return vu_msg_header(bytes, out);
}

static enum vu_verdict parse(uint32_t request, const uint8_t *payload, uint32_t size, size_t n_fds,
			     struct vu_msg *msg)
{
	struct vu_header hdr;

	assert_int_equal(header(request, 1, size, &hdr), VU_MSG_OK);
	return vu_msg_parse(&hdr, payload, n_fds, N_RINGS, msg);
}

/* A payload that is right for every layout with this many bytes. */
static void fill_payload(const struct rule *rule, uint8_t *payload)
{
	memset(payload, 0, VU_MAX_PAYLOAD);
	if (rule->request == VU_SET_MEM_TABLE)
		put32(payload, 2);
	if (rule->any_length)
		put32(payload + 4, 8);
}

static void test_header(void **state)
{
	struct vu_header hdr = { .request = 99 };

	(void)state;
	assert_int_equal(header(1, 0, 0, &hdr), VU_MSG_BAD_VERSION);
	assert_int_equal(header(1, 2, 0, &hdr), VU_MSG_BAD_VERSION);
	assert_int_equal(header(1, 3, 0, &hdr), VU_MSG_BAD_VERSION);
	assert_int_equal(header(1, 1 | 4, 0, &hdr), VU_MSG_IS_REPLY);
	assert_int_equal(header(1, 1, VU_MAX_PAYLOAD + 1, &hdr), VU_MSG_TOO_LARGE);
	assert_int_equal(header(1, 1, UINT32_MAX, &hdr), VU_MSG_TOO_LARGE);
	assert_int_equal(hdr.request, 99);
	assert_int_equal(header(7000, 1 | 8 | 0xff00, VU_MAX_PAYLOAD, &hdr), VU_MSG_OK);
	assert_int_equal(hdr.request, 7000);
	assert_int_equal(hdr.size, VU_MAX_PAYLOAD);
	assert_true(hdr.need_reply);
	assert_int_equal(header(1, 1, 0, &hdr), VU_MSG_OK);
	assert_false(hdr.need_reply);
}

/* Every request, known or not, in every size around the right one. */
static void test_sizes(void **state)
{
	uint8_t payload[VU_MAX_PAYLOAD];
	struct vu_msg msg;
	uint64_t tried = 0;

	(void)state;
	for (size_t i = 0; i < array_size(rules); i++) {
		const struct rule *rule = &rules[i];

		fill_payload(rule, payload);
		for (uint32_t size = 0; size <= rule->bytes + 40; size++, tried++) {
			bool right = size == rule->bytes || (rule->any_length && size == 12);
			enum vu_verdict verdict =
				parse(rule->request, payload, size, rule->fds, &msg);

			if ((verdict == VU_MSG_OK) != right)
				fail_msg("%s with %u bytes: %s", rule->name, size,
					 vu_verdict_text(verdict));
			if (!right)
				assert_int_equal(verdict, VU_MSG_BAD_SIZE);
		}
		assert_int_equal(parse(rule->request, payload, VU_MAX_PAYLOAD, rule->fds, &msg),
				 VU_MSG_BAD_SIZE);
	}
	figure(tried, "sizes of messages");
}

static void test_descriptors(void **state)
{
	uint8_t payload[VU_MAX_PAYLOAD];
	struct vu_msg msg;

	(void)state;
	for (size_t i = 0; i < array_size(rules); i++) {
		const struct rule *rule = &rules[i];

		fill_payload(rule, payload);
		for (size_t n = 0; n <= MAX_FDS; n++) {
			bool right = n == rule->fds || (rule->optional_fd && n == 1);

			assert_int_equal(parse(rule->request, payload, rule->bytes, n, &msg),
					 right ? VU_MSG_OK : VU_MSG_BAD_FDS);
		}
	}
}

static void test_not_offered(void **state)
{
	static const uint8_t payload[VU_MAX_PAYLOAD];
	struct vu_msg msg;

	(void)state;
	for (uint32_t request = 0; request < 70; request++) {
		if (find_rule(request))
			continue;
		for (uint32_t size = 0; size < 64; size += 4)
			assert_int_equal(parse(request, payload, size, 0, &msg),
					 VU_MSG_NOT_OFFERED);
		assert_int_equal(parse(request, payload, 8, 1, &msg), VU_MSG_NOT_OFFERED);
	}
	assert_int_equal(parse(UINT32_MAX, payload, 0, 0, &msg), VU_MSG_NOT_OFFERED);
}

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(rules); i++)
		assert_string_equal(vu_request_name(rules[i].request), rules[i].name);
	assert_string_equal(vu_request_name(19), "SEND_RARP");
	assert_string_equal(vu_request_name(41), "GET_SHARED_OBJECT");
	assert_null(vu_request_name(0));
	assert_null(vu_request_name(44));
	assert_null(vu_request_name(UINT32_MAX));
	for (int v = 0; v < VU_VERDICT_COUNT; v++)
		assert_non_null(vu_verdict_text((enum vu_verdict)v));
}

static void test_wants_ack(void **state)
{
	(void)state;
	for (uint32_t request = 0; request < 70; request++) {
		const struct rule *rule = find_rule(request);
		struct vu_header hdr;

		assert_int_equal(header(request, 1, 0, &hdr), VU_MSG_OK);
		assert_false(vu_msg_wants_ack(&hdr));
		assert_int_equal(header(request, 1 | 8, 0, &hdr), VU_MSG_OK);
		/* An unknown request has no reply of its own that we know of. */
		assert_int_equal(vu_msg_wants_ack(&hdr), rule == NULL || !rule->own_reply);
	}
}

static void test_ring_index(void **state)
{
	static const uint32_t requests[] = { 8, 9, 10, 11, 18 };
	uint8_t payload[VU_ADDR_BYTES] = { 0 };
	struct vu_msg msg = { .num = 4711 };

	(void)state;
	for (size_t i = 0; i < array_size(requests); i++) {
		uint32_t bytes = find_rule(requests[i])->bytes;

		put32(payload, N_RINGS - 1);
		assert_int_equal(parse(requests[i], payload, bytes, 0, &msg), VU_MSG_OK);
		assert_int_equal(msg.ring, N_RINGS - 1);
		msg.num = 4711;
		put32(payload, N_RINGS);
		assert_int_equal(parse(requests[i], payload, bytes, 0, &msg), VU_MSG_BAD_RING);
		put32(payload, UINT32_MAX);
		assert_int_equal(parse(requests[i], payload, bytes, 0, &msg), VU_MSG_BAD_RING);
		assert_int_equal(msg.num, 4711);
	}
}

static void test_ring_fd(void **state)
{
	uint8_t payload[8];
	struct vu_msg msg;

	(void)state;
	for (uint32_t request = VU_SET_VRING_KICK; request <= VU_SET_VRING_ERR; request++) {
		put64(payload, 2);
		assert_int_equal(parse(request, payload, 8, 1, &msg), VU_MSG_OK);
		assert_int_equal(msg.ring, 2);
		assert_false(msg.no_fd);
		assert_int_equal(parse(request, payload, 8, 0, &msg), VU_MSG_BAD_FDS);
		put64(payload, 0x100 | 1);
		assert_int_equal(parse(request, payload, 8, 0, &msg), VU_MSG_OK);
		assert_int_equal(msg.ring, 1);
		assert_true(msg.no_fd);
		assert_int_equal(parse(request, payload, 8, 1, &msg), VU_MSG_BAD_FDS);
		put64(payload, 0x103);
		assert_int_equal(parse(request, payload, 8, 0, &msg), VU_MSG_BAD_RING);
		put64(payload, 0xff);
		assert_int_equal(parse(request, payload, 8, 1, &msg), VU_MSG_BAD_RING);
	}
}

static void test_mem_table(void **state)
{
	uint8_t payload[8 + 9 * 32] = { 0 };
	struct vu_msg msg;

	(void)state;
	for (uint32_t n = 1; n <= 8; n++) {
		uint8_t *last = payload + 8 + (n - 1) * 32;

		put32(payload, n);
		put64(last, 0x1000 * n);
		put64(last + 8, 0x2000 * n);
		put64(last + 16, 0x3000 * n);
		put64(last + 24, 0x4000 * n);
		assert_int_equal(parse(5, payload, 8 + n * 32, n, &msg), VU_MSG_OK);
		assert_int_equal(msg.n_regions, n);
		for (uint32_t i = 0; i < n; i++) {
			assert_int_equal(msg.regions[i].gpa, 0x1000 * (i + 1));
			assert_int_equal(msg.regions[i].size, 0x2000 * (i + 1));
			assert_int_equal(msg.regions[i].uva, 0x3000 * (i + 1));
			assert_int_equal(msg.regions[i].mmap_offset, 0x4000 * (i + 1));
		}
		/* The count says one thing, the size or the descriptors another. */
		if (n < 8)
			assert_int_equal(parse(5, payload, 8 + (n + 1) * 32, n + 1, &msg),
					 VU_MSG_BAD_SIZE);
		if (n > 1) {
			assert_int_equal(parse(5, payload, 8 + n * 32, n - 1, &msg),
					 VU_MSG_BAD_FDS);
			assert_int_equal(parse(5, payload, 8 + (n - 1) * 32, n, &msg),
					 VU_MSG_BAD_SIZE);
		}
	}
	put32(payload, 9);
	assert_int_equal(parse(5, payload, 8 + 9 * 32, 9, &msg), VU_MSG_BAD_SIZE);
	assert_int_equal(parse(5, payload, 8 + 8 * 32, 8, &msg), VU_MSG_BAD_COUNT);
	put32(payload, 0);
	assert_int_equal(parse(5, payload, 8 + 32, 1, &msg), VU_MSG_BAD_COUNT);
	put32(payload, UINT32_MAX);
	assert_int_equal(parse(5, payload, 8 + 32, 1, &msg), VU_MSG_BAD_COUNT);
}

static void test_values(void **state)
{
	uint8_t payload[64] = { 0 };
	struct vu_msg msg;

	(void)state;
	put64(payload, 0x123456789abcdef0);
	assert_int_equal(parse(2, payload, 8, 0, &msg), VU_MSG_OK);
	assert_int_equal(msg.request, 2);
	assert_int_equal(msg.value, 0x123456789abcdef0);
	put32(payload, 1);
	put32(payload + 4, 32768);
	assert_int_equal(parse(8, payload, 8, 0, &msg), VU_MSG_OK);
	assert_int_equal(msg.ring, 1);
	assert_int_equal(msg.num, 32768);
	put32(payload + 4, 1); /* logging flag: ignored */
	put64(payload + 8, 0x10);
	put64(payload + 16, 0x20);
	put64(payload + 24, 0x30);
	assert_int_equal(parse(9, payload, 40, 0, &msg), VU_MSG_OK);
	assert_int_equal(msg.addr.desc, 0x10);
	assert_int_equal(msg.addr.used, 0x20);
	assert_int_equal(msg.addr.avail, 0x30);
	for (uint32_t request = 37; request <= 38; request++) {
		put64(payload + 8, 7);
		put64(payload + 16, 8);
		put64(payload + 24, 9);
		put64(payload + 32, 10);
		assert_int_equal(parse(request, payload, 40, 1, &msg), VU_MSG_OK);
		assert_int_equal(msg.n_regions, 1);
		assert_int_equal(msg.regions[0].gpa, 7);
		assert_int_equal(msg.regions[0].size, 8);
		assert_int_equal(msg.regions[0].uva, 9);
		assert_int_equal(msg.regions[0].mmap_offset, 10);
	}
}

static void check_reply_header(const uint8_t *reply, uint32_t request, uint32_t bytes)
{
	assert_int_equal(get32(reply), request);
	assert_int_equal(get32(reply + 4), 1 | 4);
	assert_int_equal(get32(reply + 8), bytes);
}

static void test_replies(void **state)
{
	uint8_t reply[VU_MAX_REPLY];
	uint64_t value = 0xfedcba9876543210;

	(void)state;
	assert_int_equal(vu_reply_u64(reply, 1, value), 20);
	check_reply_header(reply, 1, 8);
	assert_memory_equal(reply + 12, &value, 8);
	assert_int_equal(vu_reply_state(reply, 11, 2, 65535), 20);
	check_reply_header(reply, 11, 8);
	assert_int_equal(get32(reply + 12), 2);
	assert_int_equal(get32(reply + 16), 65535);
}

static void test_config_reply(void **state)
{
	struct vu_msg msg = { .request = 24, .offset = 5, .length = 256, .flags = 1 };
	uint8_t reply[VU_MAX_REPLY];
	uint8_t *data;

	(void)state;
	memset(reply, 0xff, sizeof(reply));
	assert_int_equal(vu_reply_config(reply, &msg, &data), VU_MAX_REPLY);
	check_reply_header(reply, 24, 12 + 256);
	assert_int_equal(get32(reply + 12), 5);
	assert_int_equal(get32(reply + 16), 256);
	assert_int_equal(get32(reply + 20), 1);
	assert_ptr_equal(data, reply + 24);
	for (size_t i = 0; i < 256; i++)
		assert_int_equal(data[i], 0);
	msg.length = 0;
	assert_int_equal(vu_reply_config(reply, &msg, &data), 24);
	assert_null(data);
	check_reply_header(reply, 24, 12);
	/* Larger than the specification's largest: an empty payload is "error". */
	msg.length = 257;
	assert_int_equal(vu_reply_config(reply, &msg, &data), 12);
	assert_null(data);
	check_reply_header(reply, 24, 0);
	msg.length = UINT32_MAX;
	assert_int_equal(vu_reply_config(reply, &msg, &data), 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),      cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_descriptors), cmocka_unit_test(test_not_offered),
		cmocka_unit_test(test_names),       cmocka_unit_test(test_wants_ack),
		cmocka_unit_test(test_ring_index),  cmocka_unit_test(test_ring_fd),
		cmocka_unit_test(test_mem_table),   cmocka_unit_test(test_values),
		cmocka_unit_test(test_replies),     cmocka_unit_test(test_config_reply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
