// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vu_session.c - a session as a connection: receiving in pieces, replies,
 * acknowledgements, descriptors, kicks and calls, and every way it can end.
 */
#include "vu_rig.h"

static void test_answers(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_get(rig, VU_GET_FEATURES),
			 F_OFFERED | F_PACKED | F_PROTOCOL | F_LOG_ALL);
	assert_int_equal(rig_get(rig, VU_GET_PROTOCOL_FEATURES),
			 bit64(0) | bit64(1) | bit64(3) | bit64(9) | bit64(13) | bit64(15) |
				 bit64(16) | bit64(19));
	assert_int_equal(rig_get(rig, VU_GET_QUEUE_NUM), 3);
	assert_int_equal(rig_get(rig, VU_GET_MAX_MEM_SLOTS), 509);
	assert_int_equal(rig_get(rig, VU_GET_STATUS), 0);
	rig_u64(rig, VU_SET_STATUS, 0xf);
	assert_int_equal(rig_get(rig, VU_GET_STATUS), 0x7); /* no features yet */
	rig_u64(rig, VU_SET_FEATURES, bit64(VIRTIO_F_VERSION_1_BIT) | F_PROTOCOL);
	rig_sync(rig);
	assert_int_equal(vu_session_features(rig->session),
			 bit64(VIRTIO_F_VERSION_1_BIT) | F_PROTOCOL);
	/* need_reply changes nothing for a request that has its own reply. */
	rig_send(rig, VU_GET_FEATURES, NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(rig_reply_u64(rig, VU_GET_FEATURES),
			 F_OFFERED | F_PACKED | F_PROTOCOL | F_LOG_ALL);
	rig_sync(rig);
}

/* Any offset, any length up to 256, with or without room in the request. */
static void test_config(void **state)
{
	static const uint32_t asks[][2] = {
		{ 0, 8 }, { 0, 4 },      { 4, 4 }, { 7, 1 },   { 0, 256 },  { 6, 60 },
		{ 8, 4 }, { 5000, 256 }, { 0, 0 }, { 255, 1 }, { ~0u, 16 }, { ~0u - 15, 16 },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < array_size(asks) * 2; i++) {
		const uint32_t *ask = asks[i / 2];
		uint8_t request[12 + 256] = { 0 };
		uint8_t reply[12 + 256];
		uint8_t expected[256] = { 0 };
		uint32_t words[3] = { ask[0], ask[1], 0 };

		memcpy(request, words, sizeof(words));
		rig_send(rig, VU_GET_CONFIG, 0, request, i % 2 ? 12 : 12 + ask[1], NULL, 0);
		assert_int_equal(rig_reply(rig, VU_GET_CONFIG, reply, sizeof(reply)), 12 + ask[1]);
		assert_memory_equal(reply, words, sizeof(words));
		if (ask[0] < 256)
			rig_config_read(NULL, expected, ask[0], ask[1]);
		if (ask[1] > 0)
			assert_memory_equal(reply + 12, expected, ask[1]);
	}
}

static void test_config_too_long(void **state)
{
	struct rig *rig = *state;
	uint32_t words[3] = { 0, 257, 0 };

	rig_send(rig, VU_GET_CONFIG, 0, words, sizeof(words), NULL, 0);
	assert_int_equal(rig_reply(rig, VU_GET_CONFIG, NULL, 0), 0);
	rig_sync(rig);
}

static void test_config_write(void **state)
{
	struct rig *rig = *state;
	uint32_t words[4] = { 0, 4, 0, 99 };

	rig_send(rig, VU_SET_CONFIG, 0, words, sizeof(words), NULL, 0);
	rig_sync(rig);
	rig_send(rig, VU_SET_CONFIG, NEED_REPLY, words, sizeof(words), NULL, 0);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_CONFIG), 0);
	rig_sync(rig);
}

/* need_reply binds also where REPLY_ACK was never negotiated. */
static void test_ack(void **state)
{
	struct rig *rig = *state;

	rig_send(rig, VU_SET_OWNER, NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(rig_reply_u64(rig, VU_SET_OWNER), 0);
	rig_send(rig, VU_SET_OWNER, 0, NULL, 0, NULL, 0);
	rig_send(rig, VU_RESET_OWNER, 0, NULL, 0, NULL, 0);
	rig_send(rig, 4711, NEED_REPLY, "junk", 4, NULL, 0);
	assert_int_not_equal(rig_reply_u64(rig, 4711), 0);
	rig_send(rig, VU_SET_LOG_BASE, NEED_REPLY, NULL, 0, &rig->memory, 1);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_LOG_BASE), 0);
	rig_sync(rig);
}

/* A message may come byte by byte; its descriptors come with the first. */
static void test_pieces(void **state)
{
	struct rig *rig = *state;
	uint64_t table[5] = { 1, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0 };
	uint32_t words[3] = { VU_SET_MEM_TABLE, 1 | NEED_REPLY, sizeof(table) };
	uint8_t bytes[sizeof(words) + sizeof(table)];

	memcpy(bytes, words, sizeof(words));
	memcpy(bytes + sizeof(words), table, sizeof(table));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		rig_send_raw(rig, bytes + i, 1, &rig->memory, i == 0 ? 1 : 0);
		if (i + 1 < sizeof(bytes)) {
			rig->done = rig_has_reply;
			loop_stop(rig->loop); /* one turn */
			assert_int_equal(loop_run(rig->loop), 0);
			assert_int_equal(rig->session->received, i + 1);
			assert_true(timer_is_armed(&rig->session->deadline));
		}
	}
	assert_int_equal(rig_reply_u64(rig, VU_SET_MEM_TABLE), 0);
	assert_int_equal(rig_count_mappings(), 2);
	assert_false(timer_is_armed(&rig->session->deadline));
}

static bool rig_has_half(struct rig *rig)
{
	return timer_is_armed(&rig->session->deadline);
}

static void test_half_message(void **state)
{
	static const uint8_t bytes[] = { 5, 0, 0, 0, 1, 0, 0, 0, 40, 0, 0, 0, 1 };
	struct rig *rig = *state;
	uint64_t deadline_ms;

	rig_send_raw(rig, bytes, 5, &rig->memory, 1);
	rig_run_until(rig, rig_has_half);
	deadline_ms = rig->session->deadline.deadline_ms;
	assert_true(deadline_ms <= loop_now_ms(rig->loop) + VU_MESSAGE_DEADLINE_MS);
	/* More bytes do not move the deadline. */
	rig_send_raw(rig, bytes + 5, 8, NULL, 0);
	loop_stop(rig->loop);
	assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(rig->session->received, 13);
	assert_int_equal(rig->session->deadline.deadline_ms, deadline_ms);
	/* Let it be now. */
	assert_int_equal(loop_arm(rig->loop, &rig->session->deadline, 0), 0);
	rig_expect_closed(rig, "SET_MEM_TABLE: only 13 bytes of the message came in 5000 ms");
}

static void test_many_at_once(void **state)
{
	struct rig *rig = *state;

	/* More than one turn's worth, all of them there before the loop runs. */
	for (unsigned int i = 0; i < 5 * VU_MESSAGES_PER_TURN; i++)
		rig_send(rig, VU_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
	for (unsigned int i = 0; i < 5 * VU_MESSAGES_PER_TURN; i++)
		assert_int_equal(rig_reply_u64(rig, VU_GET_QUEUE_NUM), 3);
}

static void test_turn_is_bounded(void **state)
{
	struct rig *rig = *state;
	uint8_t replies[20 * 2 * VU_MESSAGES_PER_TURN];

	for (unsigned int i = 0; i < 2 * VU_MESSAGES_PER_TURN; i++)
		rig_send(rig, VU_GET_QUEUE_NUM, 0, NULL, 0, NULL, 0);
	loop_stop(rig->loop); /* one turn */
	assert_int_equal(loop_run(rig->loop), 0);
	assert_int_equal(recv(rig->sock, replies, sizeof(replies), MSG_DONTWAIT),
			 20 * VU_MESSAGES_PER_TURN);
}

static void test_hang_up(void **state)
{
	struct rig *rig = *state;

	rig->free_when_closed = true;
	rig_start(rig);
	assert_false(vu_session_hung_up(rig->session));
	shutdown(rig->sock, SHUT_RDWR);
	assert_true(vu_session_hung_up(rig->session));
	rig_expect_closed(rig, "front-end hung up");
	assert_null(rig->session);
	assert_int_equal(rig->stopping[0], 1);
}

static void test_hang_up_midway(void **state)
{
	struct rig *rig = *state;

	rig_send_raw(rig, "\5\0\0\0", 4, &rig->memory, 1);
	shutdown(rig->sock, SHUT_WR);
	rig_expect_closed(rig, "in the middle of a message");
	assert_true(vu_session_hung_up(rig->session));
}

static void test_messages_before_hang_up(void **state)
{
	struct rig *rig = *state;

	rig_u64(rig, VU_SET_FEATURES, F_OFFERED);
	shutdown(rig->sock, SHUT_WR);
	rig_expect_closed(rig, "front-end hung up");
	assert_int_equal(vu_session_features(rig->session), F_OFFERED);
}

static void test_bad_headers(void **state)
{
	static const struct {
		uint32_t words[3];
		const char *reason;
	} cases[] = {
		{ { 1, 0, 0 }, "GET_FEATURES: not of protocol version 1" },
		{ { 1, 2 | 8, 0 }, "GET_FEATURES: not of protocol version 1" },
		{ { 1, 1 | 4, 0 }, "GET_FEATURES: marked as a reply" },
		{ { 5, 1, 4097 }, "SET_MEM_TABLE: larger than any message" },
		{ { 5, 1 | 8, UINT32_MAX }, "SET_MEM_TABLE: larger than any message" },
		{ { 99, 1, 0 }, "request 99: belongs to nothing that was offered" },
		{ { 0, 1, 0 }, "request 0: belongs to nothing" },
		{ { 19, 1, 0 }, "SEND_RARP: belongs to nothing that was offered" },
		{ { 2, 1, 0 }, "SET_FEATURES: wrong payload size (0 bytes, 0 descriptors)" },
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct rig rig;

		rig_init(&rig);
		rig_send_raw(&rig, cases[i].words, sizeof(cases[i].words), NULL, 0);
		rig_expect_closed(&rig, cases[i].reason);
		rig_fini(&rig);
	}
}

static void test_too_many_descriptors(void **state)
{
	struct rig *rig = *state;
	int fds[17];

	for (size_t i = 0; i < array_size(fds); i++)
		fds[i] = rig->memory;
	rig_send(rig, VU_SET_MEM_TABLE, 0, "", 0, fds, array_size(fds));
	rig_expect_closed(rig, "more descriptors than any message has");
}

/* Descriptors where none belong are closed, with a NACK and with the end. */
static void test_unwanted_descriptors(void **state)
{
	struct rig *rig = *state;
	int fds[16];

	for (size_t i = 0; i < array_size(fds); i++)
		fds[i] = rig->memory;
	rig_send(rig, VU_SET_OWNER, NEED_REPLY, "", 0, fds, 16);
	assert_int_not_equal(rig_reply_u64(rig, VU_SET_OWNER), 0);
	rig_send(rig, VU_SET_OWNER, 0, "", 0, fds, 3);
	rig_expect_closed(rig, "SET_OWNER: wrong number of descriptors (0 bytes, 3 descriptors)");
}

/* Who does not read replies is not waited for. */
static void test_unread_replies(void **state)
{
	struct rig *rig = *state;

	for (unsigned int i = 0; i < 20000 && !rig->closed; i++) {
		rig_send(rig, VU_GET_FEATURES, 0, NULL, 0, NULL, 0);
		if (i % VU_MESSAGES_PER_TURN == 0) {
			loop_stop(rig->loop);
			assert_int_equal(loop_run(rig->loop), 0);
		}
	}
	rig_expect_closed(rig, "GET_FEATURES: reply: ");
}

static void test_free_while_running(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	vu_session_free(rig->session);
	rig->session = NULL;
	assert_int_equal(rig->closed, 0);
	assert_int_equal(rig->stopping[0], 1);
	assert_int_equal(rig->stopping[1], 1);
	vu_session_free(NULL);
}

static bool rig_was_kicked(struct rig *rig)
{
	return rig->kicked[1] > 0;
}

static void test_kick(void **state)
{
	struct rig *rig = *state;
	uint64_t count;

	rig_start(rig);
	for (unsigned int i = 0; i < 3; i++) {
		rig->kicked[1] = 0;
		assert_int_equal(eventfd_write(rig->kick[1], 1), 0);
		rig_run_until(rig, rig_was_kicked);
		rig_sync(rig); /* one kick is one event, though nobody reads it */
		assert_int_equal(rig->kicked[1], 1);
	}
	/* Never read: the counter holds them all, and the one that tried it out. */
	assert_int_equal(eventfd_read(rig->kick[1], &count), 0);
	assert_int_equal(count, 4);
	assert_int_equal(rig->kicked[0], 1);
	/* A disabled ring is not kicked. */
	rig_enable(rig, 1, 0);
	rig_sync(rig);
	assert_int_equal(eventfd_write(rig->kick[1], 1), 0);
	rig_sync(rig);
	assert_int_equal(rig->kicked[1], 1);
}

static void test_kick_replaced(void **state)
{
	struct rig *rig = *state;
	int other = eventfd(0, EFD_CLOEXEC);

	rig_start(rig);
	rig_ring_fd(rig, VU_SET_VRING_KICK, 1, other);
	rig_sync(rig);
	assert_int_equal(rig->kicked[1], 1); /* one may have been lost with the old one */
	rig->kicked[1] = 0;
	assert_int_equal(eventfd_write(other, 1), 0);
	rig_run_until(rig, rig_was_kicked);
	assert_int_equal(rig->stopping[1], 0);
	close(other);
}

/* A ring whose driver is polled runs without a descriptor. */
static void test_polled(void **state)
{
	struct rig *rig = *state;

	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_mem_table(rig, rig->memory);
	rig_state(rig, VU_SET_VRING_NUM, 0, RIG_QUEUE_SIZE);
	rig_addr(rig, 0);
	rig_ring_fd(rig, VU_SET_VRING_KICK, 0x100, -1);
	rig_ring_fd(rig, VU_SET_VRING_CALL, 0x100, -1);
	rig_ring_fd(rig, VU_SET_VRING_ERR, 0x100, -1);
	rig_enable(rig, 0, 1);
	rig_sync(rig);
	rig_expect_ready(rig, true, false, false);
	vu_session_notify(rig->session, 1u); /* nobody to tell: harmless */
	vu_session_ring_error(rig->session, 0);
}

static void test_kick_cannot_be_polled(void **state)
{
	struct rig *rig = *state;

	rig_start(rig);
	rig_ring_fd(rig, VU_SET_VRING_KICK, 1, rig->memory);
	rig_expect_closed(rig, "SET_VRING_KICK: ring 1: cannot be waited for");
	assert_int_equal(rig->stopping[1], 1);
}

static void test_call(void **state)
{
	struct rig *rig = *state;
	int err = eventfd(0, EFD_CLOEXEC);
	uint64_t count;

	rig_start(rig);
	rig_ring_fd(rig, VU_SET_VRING_ERR, 1, err);
	rig_sync(rig);
	assert_true(fcntl(rig->call[1], F_GETFL) & O_NONBLOCK);
	vu_session_notify(rig->session, 2u);
	assert_int_equal(eventfd_read(rig->call[1], &count), 0);
	assert_int_equal(count, 1);
	vu_session_ring_error(rig->session, 1);
	assert_int_equal(eventfd_read(err, &count), 0);
	assert_int_equal(count, 1);
	/* A full counter neither blocks nor ends anything. */
	assert_int_equal(eventfd_write(rig->call[1], UINT64_MAX - 1), 0);
	vu_session_notify(rig->session, 2u);
	rig_sync(rig);
	close(err);
}

/* What was used while there was no call descriptor is told when one comes. */
static void test_late_call(void **state)
{
	struct rig *rig = *state;
	uint64_t count;

	rig_start(rig);
	rig_ring_fd(rig, VU_SET_VRING_CALL, 0x101, -1);
	rig_sync(rig);
	vu_session_notify(rig->session, 2u);
	rig_call(rig, 1);
	rig_sync(rig);
	assert_int_equal(eventfd_read(rig->call[1], &count), 0);
	assert_int_equal(rig->stopping[1], 0);
}

/* Kicks, calls and memory given again and again leave nothing behind. */
static void test_repeats_leak_nothing(void **state)
{
	struct rig *rig = *state;
	size_t before;

	rig_start(rig);
	before = rig_count_fds();
	for (unsigned int i = 0; i < 50; i++) {
		rig_mem_table(rig, rig->memory);
		rig_ring_fd(rig, VU_SET_VRING_CALL, 0, rig->call[1]);
		rig_ring_fd(rig, VU_SET_VRING_KICK, 0, rig->kick[1]);
	}
	rig_sync(rig);
	assert_int_equal(rig_count_fds(), before);
	assert_int_equal(rig_count_mappings(), 2);
	rig_expect_ready(rig, true, true, false);
}

static void test_new_fails(void **state)
{
	struct rig *rig = *state;
	int file = rig_memfd();

	/* Cannot be watched; owned, thus closed, all the same. */
	assert_null(vu_session_new(rig->loop, file, &rig_ops, rig, "vm=4"));
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(file, F_GETFD), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_answers),
		rig_test(test_config),
		rig_test(test_config_too_long),
		rig_test(test_config_write),
		rig_test(test_ack),
		rig_test(test_pieces),
		rig_test(test_half_message),
		rig_test(test_many_at_once),
		rig_test(test_turn_is_bounded),
		rig_test(test_hang_up),
		rig_test(test_hang_up_midway),
		rig_test(test_messages_before_hang_up),
		cmocka_unit_test(test_bad_headers),
		rig_test(test_too_many_descriptors),
		rig_test(test_unwanted_descriptors),
		rig_test(test_unread_replies),
		rig_test(test_free_while_running),
		rig_test(test_kick),
		rig_test(test_kick_replaced),
		rig_test(test_polled),
		rig_test(test_kick_cannot_be_polled),
		rig_test(test_call),
		rig_test(test_late_call),
		rig_test(test_repeats_leak_nothing),
		rig_test(test_new_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
