// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vu_log.c - vhost_user/vu_log.c: when rings log, and where.
 */
#include "vu_rig.h"

#include "base/fault.h"

#define PAGE 0x1000u
#define LOG_BYTES 0x1000u
#define F_ALL (F_OFFERED | F_PROTOCOL)

static int log_file(uint8_t **bits)
{
	int fd = memfd_create(RIG_MEM_NAME, MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, LOG_BYTES), 0);
	*bits = mmap(NULL, LOG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(*bits != MAP_FAILED);
	return fd;
}

static void drop_file(int fd, uint8_t *bits)
{
	munmap(bits, LOG_BYTES);
	close(fd);
}

static void send_base(struct rig *rig, uint64_t size, uint64_t offset, int fd, uint32_t flags)
{
	uint64_t words[2] = { size, offset };

	rig_send(rig, VU_SET_LOG_BASE, flags, words, sizeof(words), &fd, 1);
}

static bool is_marked(const uint8_t *bits, uint64_t gpa)
{
	return bits[gpa / PAGE / 8] >> gpa / PAGE % 8 & 1;
}

/* The guest page with the used part of ring 0. */
#define USED_GPA (RIG_GPA + 0x2000)

static void expect_logging(struct rig *rig, uint8_t *bits, bool on)
{
	memset(bits, 0, LOG_BYTES);
	rig_use_ring(rig, 0, 1);
	assert_int_equal(is_marked(bits, USED_GPA), on);
	assert_false(is_marked(bits, USED_GPA + PAGE));
}

/* Whatever is said first, pages are logged when the feature and a log are there. */
static void test_switch(void **state)
{
	struct rig *rig = *state;
	uint8_t *bits;
	int fd = log_file(&bits);

	rig_start(rig);
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	rig_sync(rig);
	expect_logging(rig, bits, false);
	send_base(rig, LOG_BYTES, 0, fd, 0);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	expect_logging(rig, bits, true);
	rig_u64(rig, VU_SET_FEATURES, F_ALL);
	rig_sync(rig);
	expect_logging(rig, bits, false);
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	rig_sync(rig);
	expect_logging(rig, bits, true);
	/* It lives on over a stop. */
	rig_get_base(rig, 0);
	rig_kick(rig, 0);
	rig_sync(rig);
	expect_logging(rig, bits, true);
	assert_int_equal(rig->stopping[1], 0); /* no ring was stopped for it */
	assert_int_equal(rig->stopping[0], 1);
	drop_file(fd, bits);
}

/* One answer, with need_reply or without. */
static void test_answer(void **state)
{
	struct rig *rig = *state;
	uint8_t *bits;
	int fd = log_file(&bits);

	for (uint32_t i = 0; i < 6; i++) {
		send_base(rig, LOG_BYTES, 0, fd, i % 2 ? NEED_REPLY : 0);
		assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
		rig_sync(rig);
	}
	/* Repeated, it is mapped once: guest memory, our own view, and the log. */
	assert_int_equal(rig_count_mappings(), 3);
	drop_file(fd, bits);
}

static void test_refused(void **state)
{
	struct rig *rig = *state;
	uint8_t *bits;
	int fd = log_file(&bits);
	int pipe_fds[2];

	rig_start(rig);
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	send_base(rig, LOG_BYTES / 2, LOG_BYTES / 2, fd, NEED_REPLY);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	send_base(rig, LOG_BYTES, 1, fd, NEED_REPLY);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	send_base(rig, 0, 0, fd, NEED_REPLY);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	send_base(rig, UINT64_MAX, 1, fd, NEED_REPLY);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	assert_int_equal(pipe(pipe_fds), 0);
	send_base(rig, 1, 0, pipe_fds[0], NEED_REPLY);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	/* The one before stays in use, at its offset. */
	memset(bits, 0, LOG_BYTES);
	rig_use_ring(rig, 0, 1);
	assert_true(is_marked(bits + LOG_BYTES / 2, USED_GPA));
	drop_file(fd, bits);
	/* A front-end that did not ask how it went must not believe in a log. */
	send_base(rig, 0, 0, rig->memory, 0);
	rig_expect_closed(rig, "SET_LOG_BASE: the log of 0x0 bytes at 0x0 is empty or wraps");
}

static void test_too_small(void **state)
{
	struct rig *rig = *state;
	uint8_t *bits;
	int fd = log_file(&bits);

	rig_start(rig);
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	send_base(rig, USED_GPA / PAGE / 8, 0, fd, 0);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	expect_logging(rig, bits, false);
	drop_file(fd, bits);
}

/* The flag of SET_VRING_ADDR adds the address it comes with, on a running ring too. */
static void test_ring_address(void **state)
{
	struct rig *rig = *state;
	uint64_t uva = rig_ring_uva(0);
	uint64_t words[5] = { (uint64_t)VU_RING_ADDR_F_LOG << 32, uva, uva + 0x2000, uva + 0x1000,
			      0x7000 };
	uint8_t *bits;
	int fd = log_file(&bits);

	rig_start(rig);
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	send_base(rig, LOG_BYTES, 0, fd, 0);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	expect_logging(rig, bits, true);
	assert_false(is_marked(bits, 0x7000));
	rig_send(rig, VU_SET_VRING_ADDR, 0, words, sizeof(words), NULL, 0);
	rig_sync(rig);
	expect_logging(rig, bits, true);
	assert_true(is_marked(bits, 0x7000));
	rig_addr(rig, 0);
	rig_sync(rig);
	expect_logging(rig, bits, true);
	assert_false(is_marked(bits, 0x7000));
	drop_file(fd, bits);
}

static void test_log_fd(void **state)
{
	struct rig *rig = *state;
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint8_t *bits;
	int fd = log_file(&bits);
	uint64_t count;

	rig_start(rig);
	rig_send(rig, VU_SET_LOG_FD, NEED_REPLY, NULL, 0, &rig->memory, 1);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_LOG_FD), 0);
	rig_send(rig, VU_SET_LOG_FD, NEED_REPLY, NULL, 0, &event, 1);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_FD), 0);
	(void)!read(event, &count, sizeof(count)); /* it was rung to see what it is */
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	send_base(rig, LOG_BYTES, 0, fd, 0);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	vu_session_signal_log(rig->session);
	assert_int_equal(read(event, &count, sizeof(count)), -1);
	rig_use_ring(rig, 0, 1);
	vu_session_signal_log(rig->session);
	assert_int_equal(read(event, &count, sizeof(count)), sizeof(count));
	drop_file(fd, bits);
	close(event);
}

/* A log that shrinks under us is found lost, and belongs to this session. */
static void test_truncated(void **state)
{
	struct rig *rig = *state;
	uint8_t *bits;
	int fd = log_file(&bits);

	assert_int_equal(fault_install(), 0);
	rig_start(rig);
	rig_u64(rig, VU_SET_FEATURES, F_ALL | F_LOG_ALL);
	send_base(rig, LOG_BYTES, 0, fd, 0);
	assert_int_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	assert_false(vu_session_memory_lost(rig->session));
	assert_int_equal(ftruncate(fd, 0), 0);
	rig_use_ring(rig, 0, 1);
	assert_true(vu_session_memory_lost(rig->session));
	drop_file(fd, bits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_switch),    rig_test(test_answer),       rig_test(test_refused),
		rig_test(test_too_small), rig_test(test_ring_address), rig_test(test_log_fd),
		rig_test(test_truncated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
