// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vu_request.c - what requests do to rings and memory, and every way in
 * which a request is refused.
 */
#include "vu_rig.h"

#define PAGE 0x1000u

/* Refused requests: with need_reply a NACK that changes nothing, without it
 * the end, and the reason says what was wrong. */
struct refusal {
	const char *reason;
	uint32_t request;
	uint32_t words[10]; /* the payload */
	uint32_t bytes;
	enum { NO_FD, MEMORY, PIPE } fd;
};

/* A u64 as words; the machine's order is little-endian wherever this runs. */
#define U64(v) (uint32_t)((v)&UINT32_MAX), (uint32_t)((uint64_t)(v) >> 32)
#define REGION(gpa, size, uva, offset)                             \
	{                                                          \
		U64(0), U64(gpa), U64(size), U64(uva), U64(offset) \
	}
#define TABLE(gpa, size, uva, offset)                            \
	{                                                        \
		1, 0, U64(gpa), U64(size), U64(uva), U64(offset) \
	}
#define ADDR(ring, desc, used, avail)                             \
	{                                                         \
		(ring), 0, U64(desc), U64(used), U64(avail), 0, 0 \
	}

static const struct refusal refusals[] = {
	{ "SET_FEATURES: bits 0x4 were not offered", VU_SET_FEATURES, { 4 }, 8, NO_FD },
	{ "SET_FEATURES: bits 0x8000000000000000", VU_SET_FEATURES, { 0, 1u << 31 }, 8, NO_FD },
	{ "SET_PROTOCOL_FEATURES: bits 0x4 were", VU_SET_PROTOCOL_FEATURES, { 5 }, 8, NO_FD },
	{ "SET_VRING_NUM: 12 entries is no size of a split ring",
	  VU_SET_VRING_NUM,
	  { 2, 12 },
	  8,
	  NO_FD },
	{ "SET_VRING_NUM: 0 entries", VU_SET_VRING_NUM, { 2, 0 }, 8, NO_FD },
	{ "SET_VRING_NUM: 2048 entries, more than the 1024",
	  VU_SET_VRING_NUM,
	  { 2, 2048 },
	  8,
	  NO_FD },
	{ "SET_VRING_NUM: 2147483648 entries", VU_SET_VRING_NUM, { 2, 1u << 31 }, 8, NO_FD },
	{ "SET_VRING_NUM: ring 0 is running", VU_SET_VRING_NUM, { 0, 64 }, 8, NO_FD },
	{ "SET_VRING_NUM: no such ring", VU_SET_VRING_NUM, { 3, 64 }, 8, NO_FD },
	{ "SET_VRING_BASE: 65536 is no index", VU_SET_VRING_BASE, { 2, 65536 }, 8, NO_FD },
	{ "SET_VRING_BASE: ring 1 is running", VU_SET_VRING_BASE, { 1, 0 }, 8, NO_FD },
	{ "SET_VRING_ADDR: ring 2 is not aligned", VU_SET_VRING_ADDR, ADDR(2, 8, 0, 0), 40, NO_FD },
	{ "SET_VRING_ADDR: ring 2 is not aligned", VU_SET_VRING_ADDR, ADDR(2, 0, 2, 0), 40, NO_FD },
	{ "SET_VRING_ADDR: ring 2 is not aligned", VU_SET_VRING_ADDR, ADDR(2, 0, 0, 1), 40, NO_FD },
	{ "SET_VRING_ADDR: ring 0 is running", VU_SET_VRING_ADDR, ADDR(0, 0, 0, 0), 40, NO_FD },
	{ "SET_VRING_ENABLE: 2 is neither 0 nor 1", VU_SET_VRING_ENABLE, { 0, 2 }, 8, NO_FD },
	{ "SET_VRING_KICK: wrong number of descriptors", VU_SET_VRING_KICK, { 0 }, 8, NO_FD },
	{ "SET_VRING_CALL: wrong number of descriptors", VU_SET_VRING_CALL, { 0x100 }, 8, MEMORY },
	{ "SET_VRING_ERR: no such ring", VU_SET_VRING_ERR, { 3 }, 8, MEMORY },
	{ "is empty or wraps around", VU_ADD_MEM_REG, REGION(0, 0, 0, 0), 40, MEMORY },
	{ "is empty or wraps around", VU_ADD_MEM_REG, REGION(~0ull, PAGE, 0, 0), 40, MEMORY },
	{ "is empty or wraps around", VU_ADD_MEM_REG, REGION(0, PAGE, ~0ull, 0), 40, MEMORY },
	{ "is empty or wraps around", VU_ADD_MEM_REG, REGION(0, PAGE, 0, ~0ull), 40, MEMORY },
	{ "is empty or wraps around", VU_ADD_MEM_REG, REGION(0, ~0ull, 0, PAGE), 40, MEMORY },
	{ "beyond the end of its", VU_ADD_MEM_REG, REGION(0, PAGE, 0, RIG_MEM_BYTES), 40, MEMORY },
	{ "beyond the end of its", VU_ADD_MEM_REG, REGION(0, PAGE, 0, 1ull << 62), 40, MEMORY },
	{ "beyond the end of its", VU_ADD_MEM_REG, REGION(0, 1ull << 62, 0, 0), 40, MEMORY },
	{ "ADD_MEM_REG: region at 0x0 of 0x1000 bytes: lies in no regular file", VU_ADD_MEM_REG,
	  REGION(0, PAGE, 0, 0), 40, PIPE },
	{ "overlaps another", VU_ADD_MEM_REG, REGION(RIG_GPA + PAGE, PAGE, 0, 0), 40, MEMORY },
	{ "overlaps another", VU_ADD_MEM_REG, REGION(0, PAGE, RIG_UVA, 0), 40, MEMORY },
	{ "overlaps another", VU_ADD_MEM_REG, REGION(RIG_GPA - PAGE, 2 * PAGE, 0, 0), 40, MEMORY },
	{ "is not in the table", VU_REM_MEM_REG, REGION(RIG_GPA, PAGE, RIG_UVA, 0), 40, NO_FD },
	{ "is not in the table", VU_REM_MEM_REG, REGION(0, RIG_MEM_BYTES, RIG_UVA, 0), 40, MEMORY },
	{ "SET_MEM_TABLE: region at 0x0 of 0x80000 bytes: reaches", VU_SET_MEM_TABLE,
	  TABLE(0, 2 * RIG_MEM_BYTES, 0, 0), 40, MEMORY },
	{ "wrong number of memory regions", VU_SET_MEM_TABLE, { 0 }, 40, MEMORY },
	{ "SET_MEM_TABLE: wrong number of descriptors", VU_SET_MEM_TABLE, TABLE(0, PAGE, 0, 0), 40,
	  NO_FD },
};

static int refusal_fd(const struct rig *rig, const struct refusal *refusal, const int *pipe_fds)
{
	switch (refusal->fd) {
	case MEMORY:
		return rig->memory;
	case PIPE:
		return pipe_fds[0];
	case NO_FD:
		break;
	}
	return -1;
}

static void send_refusal(struct rig *rig, const struct refusal *refusal, uint32_t flags)
{
	int pipe_fds[2];
	int fd;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	fd = refusal_fd(rig, refusal, pipe_fds);
	rig_send(rig, refusal->request, flags, refusal->words, refusal->bytes, &fd, fd >= 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

static void test_nack(void **state)
{
	struct rig *rig = *state;
	size_t before;

	rig_start(rig);
	before = rig_count_fds();
	for (size_t i = 0; i < array_size(refusals); i++) {
		send_refusal(rig, &refusals[i], NEED_REPLY);
		assert_int_not_equal(rig_reply_u64(rig, refusals[i].request), 0);
		if (!strstr(rig->session->reason, refusals[i].reason))
			fail_msg("\"%s\", not \"%s\"", rig->session->reason, refusals[i].reason);
	}
	/* Nothing changed, nothing leaked. */
	assert_int_equal(rig_count_fds(), before);
	assert_int_equal(rig_count_mappings(), 2);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->stopping[0] + rig->stopping[1] + rig->resets, 0);
	assert_int_equal(vu_session_features(rig->session), F_OFFERED | F_PROTOCOL);
}

static void test_refusals_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(refusals); i++) {
		struct rig rig;

		rig_init(&rig);
		rig.free_when_closed = i % 2;
		rig_start(&rig);
		send_refusal(&rig, &refusals[i], 0);
		rig_expect_closed(&rig, refusals[i].reason);
		rig_fini(&rig);
	}
}

/* One bad region among good ones: the table stays as it was. */
static void test_table_is_all_or_nothing(void **state)
{
	struct rig *rig = *state;
	/* Offsets such that the kernel cannot merge two mappings into one. */
	uint64_t words[1 + 3 * 4] = { 3,      0x0000, PAGE,   0x0000, 0x3000, 0x1000, PAGE,
				      0x1000, 0x1000, 0x1800, PAGE,   0x2000, 0x5000 };
	int fds[3] = { rig->memory, rig->memory, rig->memory };

	rig_start(rig);
	rig_send(rig, VU_SET_MEM_TABLE, NEED_REPLY, words, sizeof(words), fds, 3);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_MEM_TABLE), 0);
	assert_int_equal(rig_count_mappings(), 2);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->stopping[0], 0);
	words[9] = 0x2000;
	rig_send(rig, VU_SET_MEM_TABLE, NEED_REPLY, words, sizeof(words), fds, 3);
	assert_int_equal(rig_reply_u64(rig, VU_SET_MEM_TABLE), 0);
	assert_int_equal(rig_count_mappings(), 1 + 3);
	/* The rings lie nowhere now: they wait. */
	rig_expect_ready(rig, false, false, false);
	rig_mem_table(rig, rig->memory);
	rig_sync(rig);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->resets, 0);
}

/* New memory under running rings: same positions, new places. */
static void test_table_swap(void **state)
{
	struct rig *rig = *state;
	int other = rig_memfd();
	uint8_t *copy = mmap(NULL, RIG_MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);

	rig_start(rig);
	rig_use_ring(rig, 1, 5);
	memcpy(copy, rig->mem, RIG_MEM_BYTES);
	rig_mem_table(rig, other);
	rig_sync(rig);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->stopping[0], 1);
	assert_int_equal(rig->ready[1], 2);
	assert_int_equal(rig->resets, 0);
	assert_int_equal(vu_session_ring(rig->session, 1)->next_avail, 5);
	assert_int_equal(vu_session_ring(rig->session, 1)->published, 5);
	/* The ring is in the new memory. */
	le64_store(rig->mem + RIG_RING_BYTES, 0);
	le16_store(copy + RIG_RING_BYTES + 0x1000 + 2, 6);
	assert_int_equal(vring_available(vu_session_ring(rig->session, 1)), 1);
	munmap(copy, RIG_MEM_BYTES);
	close(other);
	assert_int_equal(rig_count_mappings(), 2);
}

/* Memory in slots, before and after the rings are described. */
static void test_slots(void **state)
{
	struct rig *rig = *state;

	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	for (unsigned int i = 0; i < 2; i++) {
		rig_describe(rig, i, 0);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
	rig_expect_ready(rig, false, false, false);
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t offset = i * RIG_RING_BYTES;

		assert_int_equal(rig_region(rig, VU_ADD_MEM_REG, RIG_GPA + offset, RIG_RING_BYTES,
					    RIG_UVA + offset, offset, rig->memory),
				 0);
		rig_expect_ready(rig, true, i == 1, false);
	}
	assert_int_equal(rig->stopping[0], 0);
	/* Removal pauses the ring that lies there and no other; a descriptor is legal. */
	assert_int_equal(
		rig_region(rig, VU_REM_MEM_REG, RIG_GPA, RIG_RING_BYTES, RIG_UVA, 99, rig->memory),
		0);
	rig_expect_ready(rig, false, true, false);
	assert_int_equal(rig->stopping[1], 0);
	assert_int_equal(
		rig_region(rig, VU_ADD_MEM_REG, RIG_GPA, RIG_RING_BYTES, RIG_UVA, 0, rig->memory),
		0);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig_region(rig, VU_REM_MEM_REG, RIG_GPA + RIG_RING_BYTES, RIG_RING_BYTES,
				    RIG_UVA + RIG_RING_BYTES, 0, -1),
			 0);
	rig_expect_ready(rig, true, false, false);
	assert_int_equal(rig_count_mappings(), 2);
	assert_int_equal(rig->resets, 0);
}

/* A region said again replaces itself, the ring in it goes on. */
static void test_slot_again(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	rig_use_ring(rig, 1, 3);
	assert_int_equal(
		rig_region(rig, VU_ADD_MEM_REG, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0, rig->memory),
		0);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->stopping[1], 1);
	assert_int_equal(vu_session_ring(rig->session, 1)->next_avail, 3);
	assert_int_equal(rig->resets, 0);
	assert_int_equal(rig_count_mappings(), 2);
}

/* As many slots as we say there are, and not one more. */
static void test_all_slots(void **state)
{
	struct rig *rig = *state;
	uint64_t n;

	for (n = 0; n < GMEM_MAX_REGIONS; n++)
		assert_int_equal(
			rig_region(rig, VU_ADD_MEM_REG, n * 16, 16, n * 16, n * 16, rig->memory),
			0);
	assert_int_not_equal(
		rig_region(rig, VU_ADD_MEM_REG, n * 16, 16, n * 16, n * 16, rig->memory), 0);
	assert_non_null(strstr(rig->session->reason, "is one too many"));
	for (n = 0; n < GMEM_MAX_REGIONS; n += 2)
		assert_int_equal(rig_region(rig, VU_REM_MEM_REG, n * 16, 16, n * 16, 0, -1), 0);
}

/* A region may begin anywhere in a file. */
static void test_unaligned_offset(void **state)
{
	struct rig *rig = *state;
	uint64_t offset = 0x5010;

	memset(rig->mem + offset, 0x5a, 0x20);
	assert_int_equal(rig_region(rig, VU_ADD_MEM_REG, 0, RIG_MEM_BYTES - offset, 0x9000, offset,
				    rig->memory),
			 0);
	assert_memory_equal(gmem_from_uva(&rig->session->mem.gmem, 0x9000, 0x20), rig->mem + offset,
			    0x20);
}

static void stop_both(struct rig *rig, uint32_t base0, uint32_t base1)
{
	rig_enable(rig, 0, 0);
	rig_enable(rig, 1, 0);
	assert_int_equal(rig_get_base(rig, 0), base0);
	assert_int_equal(rig_get_base(rig, 1), base1);
	rig_call(rig, 0);
	rig_call(rig, 1);
}

static void start_both(struct rig *rig, uint32_t base0, uint32_t base1)
{
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_mem_table(rig, rig->memory);
	rig_describe(rig, 0, base0);
	rig_describe(rig, 1, base1);
	rig_enable(rig, 0, 1);
	rig_enable(rig, 1, 1);
	rig_sync(rig);
	rig_expect_ready(rig, true, true, false);
}

/* Stop and continue keep everything; a reboot is told from them by its base. */
static void test_stop_and_reboot(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	rig_use_ring(rig, 0, 7);
	rig_use_ring(rig, 1, 9);
	for (unsigned int i = 0; i < 3; i++) {
		stop_both(rig, 7, 9);
		rig_expect_ready(rig, false, false, false);
		start_both(rig, 7, 9);
		assert_int_equal(rig->resets, 0);
		assert_int_equal(vu_session_ring(rig->session, 1)->next_avail, 9);
	}
	stop_both(rig, 7, 9);
	memset(rig->mem, 0, RIG_MEM_BYTES);
	start_both(rig, 0, 0);
	assert_int_equal(rig->resets, 1);
	assert_int_equal(vu_session_ring(rig->session, 0)->next_avail, 0);
	/* One ring alone tells as well. */
	rig_use_ring(rig, 1, 3);
	stop_both(rig, 0, 3);
	start_both(rig, 0, 0);
	assert_int_equal(rig->resets, 2);
}

/* The base of a ring that never ran is the one it was given. */
static void test_base_of_idle_ring(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_get_base(rig, 2), 0);
	rig_state(rig, VU_SET_VRING_BASE, 2, 65535);
	rig_state(rig, VU_SET_VRING_BASE, 2, 12345);
	assert_int_equal(rig_get_base(rig, 2), 12345);
	assert_int_equal(rig_get_base(rig, 2), 12345);
	assert_int_equal(rig->resets, 0);
}

static void test_disable_keeps_position(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	rig_use_ring(rig, 1, 4);
	rig_enable(rig, 1, 0);
	rig_sync(rig);
	rig_expect_ready(rig, true, false, false);
	rig_enable(rig, 1, 0);
	rig_enable(rig, 1, 1);
	rig_enable(rig, 1, 1);
	rig_sync(rig);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->ready[1], 2);
	assert_int_equal(vu_session_ring(rig->session, 1)->next_avail, 4);
	assert_int_equal(rig->resets, 0);
}

static void test_reset_device(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	rig_use_ring(rig, 1, 4);
	rig_send(rig, VU_RESET_DEVICE, NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(rig_reply_u64(rig, VU_RESET_DEVICE), 0);
	assert_int_equal(rig->resets, 1);
	rig_expect_ready(rig, false, false, false);
	assert_int_equal(rig_get_base(rig, 1), 0);
	/* Features and memory are still there; base 0 is no second reset. */
	for (unsigned int i = 0; i < 2; i++) {
		rig_describe(rig, i, 0);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->resets, 1);
}

/* Without bit 30 a ring is enabled from the start, until it is told otherwise. */
static void test_without_protocol_features(void **state)
{
	struct rig *rig = *state;

	rig_u64(rig, VU_SET_FEATURES, F_OFFERED);
	rig_mem_table(rig, rig->memory);
	rig_describe(rig, 0, 0);
	rig_sync(rig);
	rig_expect_ready(rig, true, false, false);
	rig_enable(rig, 0, 0);
	rig_sync(rig);
	rig_expect_ready(rig, false, false, false);
}

/* What is repeated on a running ring without a change is no offence, and other
 * features take effect at once. */
static void test_repeats(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	rig_state(rig, VU_SET_VRING_NUM, 0, RIG_QUEUE_SIZE);
	rig_addr(rig, 0);
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_sync(rig);
	assert_int_equal(rig->stopping[0], 0);
	assert_true(vu_session_ring(rig->session, 0)->event_idx);
	rig_u64(rig, VU_SET_FEATURES, bit64(VIRTIO_F_VERSION_1_BIT) | F_PROTOCOL);
	rig_sync(rig);
	assert_int_equal(rig->stopping[0], 1);
	assert_int_equal(rig->ready[0], 2);
	assert_false(vu_session_ring(rig->session, 0)->event_idx);
}

/* A ring must lie in memory to its last byte. */
static void test_ring_at_the_edge(void **state)
{
	struct rig *rig = *state;
	uint64_t used_bytes = 6 + 8 * RIG_QUEUE_SIZE;
	uint64_t last = (RIG_MEM_BYTES - used_bytes) & ~UINT64_C(3);
	uint64_t words[5] = { 0, RIG_UVA, 0, RIG_UVA + 0x1000, 0 };

	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_mem_table(rig, rig->memory);
	rig_state(rig, VU_SET_VRING_NUM, 0, RIG_QUEUE_SIZE);
	rig_kick(rig, 0);
	rig_enable(rig, 0, 1);
	words[2] = RIG_UVA + last + 4;
	rig_send(rig, VU_SET_VRING_ADDR, 0, words, sizeof(words), NULL, 0);
	rig_sync(rig);
	rig_expect_ready(rig, false, false, false);
	words[2] = RIG_UVA + last;
	rig_send(rig, VU_SET_VRING_ADDR, 0, words, sizeof(words), NULL, 0);
	rig_sync(rig);
	rig_expect_ready(rig, true, false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_nack),
		cmocka_unit_test(test_refusals_end),
		rig_test(test_table_is_all_or_nothing),
		rig_test(test_table_swap),
		rig_test(test_slots),
		rig_test(test_slot_again),
		rig_test(test_all_slots),
		rig_test(test_unaligned_offset),
		rig_test(test_stop_and_reboot),
		rig_test(test_base_of_idle_ring),
		rig_test(test_disable_keeps_position),
		rig_test(test_reset_device),
		rig_test(test_without_protocol_features),
		rig_test(test_repeats),
		rig_test(test_ring_at_the_edge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
