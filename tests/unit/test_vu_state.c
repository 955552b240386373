// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vu_state.c - the channel of the device's state: what comes in time, and what
 * does not. What front-ends do with it is in tests/vu/test_vu_state.py.
 */
#include "vu_rig.h"

#define DIRECTIONS 2u /* 0: the device saves, 1: it loads */

/* Return: the front-end's end. */
static int open_channel(struct rig *rig, uint32_t direction)
{
	const uint32_t words[2] = { direction, 0 };
	int channel[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
	rig_send(rig, VU_SET_DEVICE_STATE_FD, 0, words, sizeof(words), &channel[1], 1);
	assert_int_equal(rig_reply_u64(rig, VU_SET_DEVICE_STATE_FD), bit64(8));
	fd_close(&channel[1]);
	return channel[0];
}

/* What the device saves, it loads. */
static void test_saved_and_loaded(void **state)
{
	struct rig *rig = *state;
	uint8_t bytes[VU_SAVED_BYTES + 1];

	for (uint32_t direction = 0; direction < DIRECTIONS; direction++) {
		int channel = open_channel(rig, direction);

		if (direction == 0)
			assert_int_equal(recv(channel, bytes, sizeof(bytes), MSG_WAITALL),
					 VU_SAVED_BYTES);
		else
			assert_int_equal(send(channel, bytes, VU_SAVED_BYTES, MSG_NOSIGNAL),
					 VU_SAVED_BYTES);
		fd_close(&channel);
		assert_int_equal(rig_get(rig, VU_CHECK_DEVICE_STATE), 0);
	}
	assert_false(timer_is_armed(&rig->session->state.deadline));
}

static bool rig_has_no_channel(struct rig *rig)
{
	return rig->session->state.fd < 0;
}

/* The rest does not come: the channel is closed, and nothing else. */
static void test_half_and_silence(void **state)
{
	static const uint8_t half[VU_SAVED_BYTES / 2] = { 'V', 'D', 'V', 'S' };
	struct rig *rig = *state;
	struct vu_state *loaded = &rig->session->state;
	int channel = open_channel(rig, 1);
	uint64_t deadline_ms = loaded->deadline.deadline_ms;

	assert_true(timer_is_armed(&loaded->deadline));
	assert_true(deadline_ms <= loop_now_ms(rig->loop) + VU_STATE_TIMEOUT_MS);
	/* Bytes do not move the deadline. */
	assert_int_equal(send(channel, half, sizeof(half), MSG_NOSIGNAL), sizeof(half));
	rig_sync(rig);
	assert_int_equal(loaded->deadline.deadline_ms, deadline_ms);
	/* Let it be now. */
	assert_int_equal(loop_arm(rig->loop, &loaded->deadline, 0), 0);
	rig_run_until(rig, rig_has_no_channel);
	assert_int_equal(send(channel, half, sizeof(half), MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	fd_close(&channel);
	assert_int_equal(rig_get(rig, VU_CHECK_DEVICE_STATE), 1);
	assert_int_equal(rig->closed, 0);
	test_saved_and_loaded(state);
}

/* Another channel has the whole time again; the end of the session takes both away. */
static void test_another_channel(void **state)
{
	struct rig *rig = *state;
	int first = open_channel(rig, 1);
	int second = open_channel(rig, 1);
	uint8_t byte;

	assert_int_equal(recv(first, &byte, 1, 0), 0);
	assert_true(timer_is_armed(&rig->session->state.deadline));
	fd_close(&first);
	vu_session_free(rig->session);
	rig->session = NULL;
	assert_int_equal(recv(second, &byte, 1, 0), 0);
	fd_close(&second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_saved_and_loaded),
		rig_test(test_half_and_silence),
		rig_test(test_another_channel),
	};

	return cmocka_run_group_tests_name("vu_state", tests, NULL, NULL);
}
