// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_lookout.c - loop/loop.h: memory that a loop looks at while it looks for
 * events. No test waits: each loop here ends by what it is to see.
 */
#include <string.h>

#include "unit.h"

#include "loop/loop.h"

/* Work that may be there, and the task that does it and ends the loop. */
struct place {
	struct loop_lookout lookout;
	struct loop_task task;
	struct loop *loop;
	bool work;      /* look() sees it */
	bool came_late; /* leave() does */
	unsigned int looks;
	unsigned int leaves;
	unsigned int runs;
	unsigned int run_again; /* turns that do not sleep */
};

static void work(struct loop_task *task)
{
	struct place *place = container_of(task, struct place, task);

	place->runs++;
	if (place->run_again > 0) {
		place->run_again--;
		loop_defer(place->loop, task);
	} else {
		loop_stop(place->loop);
	}
}

static bool look(struct loop_lookout *lookout)
{
	struct place *place = container_of(lookout, struct place, lookout);

	place->looks++;
	if (place->work)
		loop_defer(place->loop, &place->task);
	return place->work;
}

static void leave(struct loop_lookout *lookout)
{
	struct place *place = container_of(lookout, struct place, lookout);

	place->leaves++;
	if (place->came_late)
		loop_defer(place->loop, &place->task);
}

static void place_init(struct place *place, struct loop *loop)
{
	memset(place, 0, sizeof(*place));
	place->loop = loop;
	loop_task_init(&place->task, work);
	loop_lookout_init(&place->lookout, look, leave);
}

static int make_loop(void **state)
{
	*state = loop_new();
	if (*state == NULL)
		return -1;
	loop_poll(*state, 60000000); /* the slowest machine is not too late */
	return 0;
}

static int free_loop(void **state)
{
	loop_free(*state);
	return 0;
}

static void run(struct loop *loop)
{
	assert_int_equal(loop_run(loop), 0);
}

/* A loop with tasks does not sleep: it looks each turn, and stops when there is work. */
static void test_looked_at_each_turn(void **state)
{
	struct place busy;
	struct place place;

	place_init(&busy, *state);
	place_init(&place, *state);
	busy.run_again = 4;
	loop_defer(*state, &busy.task);
	loop_look_out(*state, &place.lookout);
	run(*state);
	assert_int_equal(place.looks, 5);
	assert_int_equal(place.leaves, 0);
	assert_int_equal(place.runs, 0);

	place.work = true;
	busy.run_again = 4;
	loop_defer(*state, &busy.task);
	run(*state);
	assert_int_equal(place.looks, 6);
	assert_int_equal(place.runs, 1);
	assert_int_equal(place.leaves, 0);
	loop_cancel(&busy.task);
}

/* What came just before the sleep is done instead of sleeping. */
static void test_leaves_before_the_sleep(void **state)
{
	struct place place;

	place_init(&place, *state);
	place.came_late = true;
	loop_look_out(*state, &place.lookout);
	run(*state);
	assert_int_equal(place.leaves, 1);
	assert_int_equal(place.runs, 1);
}

/* The loop has been woken soon and looks: the work is seen without an event. */
static void test_seen_instead_of_sleeping(void **state)
{
	struct place place;

	place_init(&place, *state);
	loop_stop(*state);
	run(*state);
	assert_true(loop_looks(*state));
	place.work = true;
	loop_look_out(*state, &place.lookout);
	run(*state);
	assert_int_equal(place.runs, 1);
	assert_int_equal(place.leaves, 0);
}

static void test_not_looked_at_any_more(void **state)
{
	struct place place;

	place_init(&place, *state);
	place.work = place.came_late = true;
	loop_look_away(*state, &place.lookout);
	loop_look_out(*state, &place.lookout);
	loop_look_out(*state, &place.lookout);
	loop_look_away(*state, &place.lookout);
	loop_stop(*state);
	run(*state);
	assert_int_equal(place.looks + place.leaves + place.runs, 0);
}

static void test_oldest_leaves_for_a_new_one(void **state)
{
	struct place places[LOOP_MAX_LOOKOUTS + 2];

	for (size_t i = 0; i < array_size(places); i++) {
		place_init(&places[i], *state);
		loop_look_out(*state, &places[i].lookout);
	}
	for (size_t i = 0; i < array_size(places); i++)
		assert_int_equal(places[i].leaves, i < 2);
	/* one that is looked at becomes the newest */
	loop_look_out(*state, &places[2].lookout);
	loop_look_out(*state, &places[0].lookout);
	assert_int_equal(places[2].leaves, 0);
	assert_int_equal(places[3].leaves, 1);
	for (size_t i = 0; i < array_size(places); i++)
		loop_look_away(*state, &places[i].lookout);
}

static void test_never_looks_unless_told_to(void **state)
{
	loop_poll(*state, 0);
	for (int i = 0; i < 10; i++) {
		loop_stop(*state);
		run(*state);
		assert_false(loop_looks(*state));
	}
}

#define with_loop(test) cmocka_unit_test_setup_teardown(test, make_loop, free_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_loop(test_looked_at_each_turn),
		with_loop(test_leaves_before_the_sleep),
		with_loop(test_seen_instead_of_sleeping),
		with_loop(test_not_looked_at_any_more),
		with_loop(test_oldest_leaves_for_a_new_one),
		with_loop(test_never_looks_unless_told_to),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
