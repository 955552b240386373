// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_events.c - the queue of events: order, bound, what is lost, two threads.
 */
#include <pthread.h>

#include "unit.h"

#include "daemon/events.h"

#define MANY 200000u

/* A reader's loop with a queue. */
struct rig {
	struct event_queue queue;
	struct loop *loop;
	uint32_t delivered;
	uint32_t seen;
	uint32_t lost;
	uint32_t last;
};

static void deliver(struct loop_msg *msg)
{
	struct event_queue *queue = container_of(msg, struct event_queue, ready);
	struct rig *rig = queue->ctx;
	struct event event;

	event_queue_begin(queue);
	rig->delivered++;
	while (event_queue_read(queue, &event)) {
		assert_true(event.cid > rig->last);
		rig->last = event.cid;
		rig->seen++;
	}
	rig->lost += event_queue_take_lost(queue);
	if (rig->seen + rig->lost >= MANY)
		loop_stop(rig->loop);
}

static void begin(struct rig *rig)
{
	*rig = (struct rig){ .loop = loop_new() };
	assert_non_null(rig->loop);
	assert_int_equal(event_queue_init(&rig->queue, rig->loop, deliver, rig), 0);
}

static void end(struct rig *rig)
{
	event_queue_fini(&rig->queue);
	loop_free(rig->loop);
}

static void one_turn(struct rig *rig)
{
	loop_stop(rig->loop);
	assert_int_equal(loop_run(rig->loop), 0);
}

static void write_events(struct rig *rig, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct event event = { .cid = first + i };

		event_queue_write(&rig->queue, &event);
	}
}

static void test_switch(void **state)
{
	struct event_queue none = { 0 };
	struct rig rig;

	(void)state;
	event_queue_switch(&none, true);
	assert_false(event_queue_is_on(&none));
	event_queue_fini(&none);
	begin(&rig);
	assert_false(event_queue_is_on(&rig.queue));
	event_queue_switch(&rig.queue, true);
	assert_true(event_queue_is_on(&rig.queue));
	event_queue_switch(&rig.queue, false);
	assert_false(event_queue_is_on(&rig.queue));
	end(&rig);
}

static void test_order_and_one_message(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig);
	write_events(&rig, 1, 5);
	one_turn(&rig);
	assert_int_equal(rig.delivered, 1);
	assert_int_equal(rig.seen, 5);
	write_events(&rig, 6, 3);
	one_turn(&rig);
	assert_int_equal(rig.delivered, 2);
	assert_int_equal(rig.seen, 8);
	assert_int_equal(rig.lost, 0);
	end(&rig);
}

static void test_what_does_not_fit_is_counted(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig);
	write_events(&rig, 1, EVENT_QUEUE_LENGTH + 7);
	one_turn(&rig);
	assert_int_equal(rig.seen, EVENT_QUEUE_LENGTH);
	assert_int_equal(rig.lost, 7);
	write_events(&rig, 5000, EVENT_QUEUE_LENGTH);
	one_turn(&rig);
	assert_int_equal(rig.seen, 2 * EVENT_QUEUE_LENGTH);
	assert_int_equal(rig.lost, 7);
	end(&rig);
}

/* A writer that keeps up with the reader. */
static void deliver_and_write(struct loop_msg *msg)
{
	struct event_queue *queue = container_of(msg, struct event_queue, ready);
	struct rig *rig = queue->ctx;
	struct event event;

	event_queue_begin(queue);
	rig->delivered++;
	while (event_queue_read(queue, &event) && rig->seen < MANY) {
		assert_int_equal(event.cid, ++rig->seen);
		write_events(rig, event.cid + 3, 1);
	}
}

static void test_reading_ends(void **state)
{
	struct rig rig;

	(void)state;
	begin(&rig);
	rig.queue.ready.deliver = deliver_and_write;
	write_events(&rig, 1, 3);
	one_turn(&rig);
	assert_int_equal(rig.seen, 3);
	one_turn(&rig);
	assert_int_equal(rig.seen, 6);
	assert_int_equal(rig.delivered, 2);
	end(&rig);
}

static void *writer(void *arg)
{
	write_events(arg, 1, MANY);
	return NULL;
}

static void test_two_threads(void **state)
{
	pthread_t thread;
	struct rig rig;

	(void)state;
	begin(&rig);
	assert_int_equal(pthread_create(&thread, NULL, writer, &rig), 0);
	assert_int_equal(loop_run(rig.loop), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(rig.seen + rig.lost, MANY);
	end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switch),
		cmocka_unit_test(test_order_and_one_message),
		cmocka_unit_test(test_what_does_not_fit_is_counted),
		cmocka_unit_test(test_reading_ends),
		cmocka_unit_test(test_two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
