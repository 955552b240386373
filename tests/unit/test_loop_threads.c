// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_loop_threads.c - loop/loop.c between threads: order of messages, waking
 * and stopping a loop that sleeps. Nothing here sleeps to wait for a thread.
 */
#include <pthread.h>
#include <stdlib.h>

#include "unit.h"

#include "loop/loop.h"

static int make_loop(void **state)
{
	*state = loop_new();
	return *state != NULL ? 0 : -1;
}

static int free_loop(void **state)
{
	loop_free(*state);
	return 0;
}

enum { SENDERS = 4, PER_SENDER = 20000 };

struct letter {
	struct loop_msg msg;
	struct post_office *office;
	unsigned int sender;
	unsigned int number;
};

struct post_office {
	struct loop *loop;
	unsigned int next[SENDERS];
	unsigned int total;
	struct letter letters[SENDERS][PER_SENDER];
};

struct sender {
	pthread_t thread;
	struct post_office *office;
	unsigned int index;
};

static void letter_deliver(struct loop_msg *msg)
{
	struct letter *letter = container_of(msg, struct letter, msg);
	struct post_office *office = letter->office;

	assert_int_equal(letter->number, office->next[letter->sender]);
	office->next[letter->sender]++;
	msg->next = (void *)(uintptr_t)1; /* ours from now on: must not be followed */
	if (++office->total == SENDERS * PER_SENDER)
		loop_stop(office->loop);
}

static void *sender_run(void *arg)
{
	const struct sender *s = arg;

	for (unsigned int i = 0; i < PER_SENDER; i++) {
		struct letter *letter = &s->office->letters[s->index][i];

		letter->msg.deliver = letter_deliver;
		letter->office = s->office;
		letter->sender = s->index;
		letter->number = i;
		loop_post(s->office->loop, &letter->msg);
	}
	return NULL;
}

static void test_posts_of_several_threads(void **state)
{
	struct post_office *office = calloc(1, sizeof(*office));
	struct sender senders[SENDERS];

	assert_non_null(office);
	office->loop = *state;
	for (unsigned int i = 0; i < SENDERS; i++) {
		senders[i].office = office;
		senders[i].index = i;
		assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_run, &senders[i]),
				 0);
	}
	assert_int_equal(loop_run(*state), 0);
	for (unsigned int i = 0; i < SENDERS; i++) {
		assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
		assert_int_equal(office->next[i], PER_SENDER);
	}
	free(office);
}

/* Two loops pass one message to and fro: each hop must wake a sleeping loop. */
struct ball {
	struct loop_msg msg;
	struct loop *loops[2];
	unsigned int hops;
};

static void ball_deliver(struct loop_msg *msg)
{
	struct ball *ball = container_of(msg, struct ball, msg);

	if (++ball->hops < 2000) {
		loop_post(ball->loops[ball->hops % 2], msg);
		return;
	}
	loop_stop(ball->loops[0]);
	loop_stop(ball->loops[1]);
}

static void *loop_thread(void *loop)
{
	assert_int_equal(loop_run(loop), 0);
	return NULL;
}

static void test_two_loops_wake_each_other(void **state)
{
	struct ball ball = { .msg.deliver = ball_deliver, .loops = { *state, loop_new() } };
	pthread_t thread;

	assert_non_null(ball.loops[1]);
	assert_int_equal(pthread_create(&thread, NULL, loop_thread, ball.loops[1]), 0);
	loop_post(ball.loops[0], &ball.msg);
	assert_int_equal(loop_run(ball.loops[0]), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(ball.hops, 2000);
	loop_free(ball.loops[1]);
}

static void *stopper_run(void *loop)
{
	loop_stop(loop);
	return NULL;
}

static void test_stop_from_another_thread(void **state)
{
	for (int i = 0; i < 200; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, stopper_run, *state), 0);
		assert_int_equal(loop_run(*state), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
}

#define with_loop(test) cmocka_unit_test_setup_teardown(test, make_loop, free_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_loop(test_posts_of_several_threads),
		with_loop(test_two_loops_wake_each_other),
		with_loop(test_stop_from_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
