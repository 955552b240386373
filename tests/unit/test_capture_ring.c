// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_capture_ring.c - records of captured packets: layout, snap length, the
 * ring's end and bound, a writer and a reader on two threads.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "base/le.h"
#include "daemon/capture_ring.h"

#define MANY 20000u

static void header_of(uint8_t header[VSOCK_HDR_BYTES], uint16_t op, uint32_t len)
{
	const struct pkt pkt = {
		.src_cid = 3,
		.dst_cid = 2,
		.src_port = 1024,
		.dst_port = 80,
		.len = len,
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = 4096,
		.fwd_cnt = 7,
	};

	pkt_encode(header, &pkt);
}

static bool put(struct capture_ring *ring, uint16_t op, const uint8_t *bytes, uint32_t count,
		uint32_t snaplen)
{
	const struct capture_note note = { .time_ns = 5, .lost = 9, .snaplen = snaplen };
	const struct iovec pieces[] = {
		{ (void *)(uintptr_t)bytes, count / 2 },
		{ (void *)(uintptr_t)(bytes + count / 2), count - count / 2 },
	};
	uint8_t header[VSOCK_HDR_BYTES];

	header_of(header, op, count);
	return capture_ring_packet(ring, &note, header, iov_begin(pieces, 2));
}

/* Take @count bytes, as much as there is at most. */
static size_t take(struct capture_ring *ring, uint8_t *out, size_t count)
{
	struct iovec spans[2];
	size_t n = capture_ring_spans(ring, spans);
	struct iov_cursor from = iov_begin(spans, n);
	size_t got = iov_copy_out(&from, out, count);

	capture_ring_consume(ring, got);
	return got;
}

static void test_layout(void **state)
{
	static const struct {
		uint16_t op;
		uint16_t mon;
	} ops[] = { { VSOCK_OP_REQUEST, 1 },
		    { VSOCK_OP_RESPONSE, 1 },
		    { VSOCK_OP_RST, 2 },
		    { VSOCK_OP_SHUTDOWN, 2 },
		    { VSOCK_OP_CREDIT_UPDATE, 3 },
		    { VSOCK_OP_CREDIT_REQUEST, 3 },
		    { VSOCK_OP_RW, 4 },
		    { 99, 0 } };
	struct capture_ring ring;
	uint8_t header[VSOCK_HDR_BYTES];
	uint8_t got[256];

	(void)state;
	assert_int_equal(capture_ring_init(&ring), 0);
	assert_true(capture_ring_is_empty(&ring));
	for (size_t i = 0; i < array_size(ops); i++) {
		assert_true(put(&ring, ops[i].op, (const uint8_t *)"hello", 5, 200));
		assert_int_equal(take(&ring, got, sizeof(got)), 24 + 32 + 44 + 5);
		assert_int_equal(le32_load(got), 81);
		assert_int_equal(le32_load(got + 4), 81);
		assert_int_equal(le64_load(got + 8), 5);
		assert_int_equal(le64_load(got + 16), 9);
		assert_int_equal(le64_load(got + 24), 3);
		assert_int_equal(le64_load(got + 32), 2);
		assert_int_equal(le32_load(got + 40), 1024);
		assert_int_equal(le32_load(got + 44), 80);
		assert_int_equal(le16_load(got + 48), ops[i].mon);
		assert_int_equal(le16_load(got + 50), 2);
		assert_int_equal(le16_load(got + 52), 44);
		assert_int_equal(le16_load(got + 54), 0);
		header_of(header, ops[i].op, 5);
		assert_memory_equal(got + 56, header, sizeof(header));
		assert_memory_equal(got + 100, "hello", 5);
		assert_true(capture_ring_is_empty(&ring));
	}
	capture_ring_fini(&ring);
}

static void test_snaplen(void **state)
{
	const uint8_t bytes[1000] = { 1, 2, 3, 4 };
	struct capture_ring ring;
	uint8_t got[256];

	(void)state;
	assert_int_equal(capture_ring_init(&ring), 0);
	assert_true(put(&ring, VSOCK_OP_RW, bytes, sizeof(bytes), CAPTURE_HEADER_BYTES + 3));
	assert_int_equal(take(&ring, got, sizeof(got)), 24 + 76 + 3);
	assert_int_equal(le32_load(got), 79);
	assert_int_equal(le32_load(got + 4), 76 + 1000);
	assert_memory_equal(got + 100, bytes, 3);
	assert_true(put(&ring, VSOCK_OP_RW, bytes, sizeof(bytes), CAPTURE_HEADER_BYTES));
	assert_int_equal(take(&ring, got, sizeof(got)), 24 + 76);
	capture_ring_fini(&ring);
}

static void test_full(void **state)
{
	const struct capture_note note = { .lost = 3 };
	uint8_t *bytes = calloc(1, VSOCK_MAX_PAYLOAD);
	uint8_t *got = malloc(CAPTURE_RING_BYTES);
	struct capture_ring ring;
	size_t count = 0;

	(void)state;
	assert_non_null(bytes);
	assert_non_null(got);
	assert_int_equal(capture_ring_init(&ring), 0);
	while (put(&ring, VSOCK_OP_RW, bytes, VSOCK_MAX_PAYLOAD, UINT32_MAX))
		count++;
	assert_int_equal(count, CAPTURE_RING_BYTES / (24 + CAPTURE_MAX_PACKET));
	while (capture_ring_end(&ring, &note))
		;
	assert_false(put(&ring, VSOCK_OP_RST, bytes, 0, UINT32_MAX));
	/* what did not fit left nothing behind, and there is room again */
	assert_in_range(take(&ring, got, CAPTURE_RING_BYTES), CAPTURE_RING_BYTES - 23,
			CAPTURE_RING_BYTES);
	assert_true(capture_ring_is_empty(&ring));
	assert_true(capture_ring_end(&ring, &note));
	assert_int_equal(take(&ring, got, CAPTURE_RING_BYTES), 24);
	assert_int_equal(le32_load(got), 0);
	assert_int_equal(le64_load(got + 16), 3);
	free(bytes);
	free(got);
	capture_ring_fini(&ring);
}

/* Payload of packet @number: its length and every byte follow from the number. */
static uint32_t length_of(uint32_t number)
{
	return number * 7919u % 1500u + 1;
}

static void *write_many(void *arg)
{
	struct capture_ring *ring = arg;
	uint8_t bytes[1500];

	for (uint32_t i = 0; i < MANY; i++) {
		memset(bytes, (int)(i & 0xff), length_of(i));
		while (!put(ring, VSOCK_OP_RW, bytes, length_of(i), UINT32_MAX))
			;
	}
	return NULL;
}

static void take_exactly(struct capture_ring *ring, uint8_t *out, size_t count)
{
	size_t done = 0;

	while (done < count)
		done += take(ring, out + done, count - done);
}

/* More than ten times round the ring. */
static void test_two_threads(void **state)
{
	uint8_t record[24 + CAPTURE_HEADER_BYTES + 1500];
	struct capture_ring ring;
	pthread_t writer;

	(void)state;
	assert_int_equal(capture_ring_init(&ring), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_many, &ring), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t length = length_of(i);

		take_exactly(&ring, record, 24);
		assert_int_equal(le32_load(record), CAPTURE_HEADER_BYTES + length);
		take_exactly(&ring, record + 24, CAPTURE_HEADER_BYTES + length);
		assert_int_equal(le32_load(record + 56 + VSOCK_HDR_LEN), length);
		for (uint32_t j = 0; j < length; j++) {
			if (record[100 + j] != (i & 0xff))
				fail_msg("packet %u, byte %u", i, j);
		}
	}
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_true(capture_ring_is_empty(&ring));
	capture_ring_fini(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_snaplen),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
