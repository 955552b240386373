// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_loop.c - loop/loop.c on one thread: events, stale events, tasks, timers,
 * mailbox, signals. test_loop_threads.c has the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"
#include "loop/loop.h"

static uint64_t clock_ms(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int make_loop(void **state)
{
	*state = loop_new();
	return *state != NULL ? 0 : -1;
}

/* Looks for events before it sleeps, once it has been woken soon. */
static int make_polling_loop(void **state)
{
	if (make_loop(state) < 0)
		return -1;
	loop_poll(*state, 1000);
	return 0;
}

static int free_loop(void **state)
{
	loop_free(*state);
	return 0;
}

/* One watched eventfd that counts its events and may delete another. */
struct watch {
	struct loop_source source;
	struct loop *loop;
	int fd;
	unsigned int events;
	uint32_t last;
	struct watch *victim;    /* deleted and wiped by the first event */
	unsigned int stop_after; /* stop the loop at this event */
};

static void watch_on_event(struct loop_source *source, uint32_t events)
{
	struct watch *w = container_of(source, struct watch, source);

	assert_non_null(w->loop);
	w->events++;
	w->last = events;
	if (w->victim != NULL) {
		loop_del(w->loop, &w->victim->source);
		fd_close(&w->victim->fd);
		w->victim->loop = NULL; /* an event now fails the test */
		w->victim->victim = NULL;
		w->victim = NULL;
	}
	if (w->events == w->stop_after)
		loop_stop(w->loop);
}

static void watch_begin(struct watch *w, struct loop *loop, uint32_t events)
{
	*w = (struct watch){ .source.on_event = watch_on_event, .source.fd = -1, .loop = loop };
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(w->fd >= 0);
	assert_int_equal(loop_add(loop, &w->source, w->fd, events), 0);
	assert_int_equal(w->source.fd, w->fd);
}

static void watch_end(struct watch *w)
{
	if (w->loop != NULL)
		loop_del(w->loop, &w->source);
	fd_close(&w->fd);
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void run_one_turn(struct loop *loop)
{
	loop_stop(loop);
	assert_int_equal(loop_run(loop), 0);
}

static void test_edge_triggered(void **state)
{
	struct loop *loop = *state;
	struct watch w;

	watch_begin(&w, loop, EPOLLIN | EPOLLET);
	run_one_turn(loop);
	assert_int_equal(w.events, 0);
	signal_fd(w.fd);
	run_one_turn(loop);
	assert_int_equal(w.events, 1);
	assert_int_equal(w.last, EPOLLIN);
	/* Not read, and no new edge: no event. */
	run_one_turn(loop);
	assert_int_equal(w.events, 1);
	signal_fd(w.fd);
	run_one_turn(loop);
	assert_int_equal(w.events, 2);
	watch_end(&w);
}

static void test_modify_and_level(void **state)
{
	struct loop *loop = *state;
	struct watch w;

	watch_begin(&w, loop, 0);
	signal_fd(w.fd);
	run_one_turn(loop);
	assert_int_equal(w.events, 0);
	assert_int_equal(loop_modify(loop, &w.source, EPOLLIN), 0);
	run_one_turn(loop);
	run_one_turn(loop);
	assert_int_equal(w.events, 2);
	assert_int_equal(loop_modify(loop, &w.source, 0), 0);
	run_one_turn(loop);
	assert_int_equal(w.events, 2);
	watch_end(&w);
	assert_int_equal(w.source.fd, -1);
	loop_del(loop, &w.source);
}

static void test_add_failure(void **state)
{
	struct loop_source source = { .on_event = watch_on_event, .fd = -1 };
	int fd scoped_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(loop_add(*state, &source, fd, EPOLLIN), -EPERM);
	assert_int_equal(loop_add(*state, &source, -1, EPOLLIN), -EBADF);
	assert_int_equal(source.fd, -1);
	loop_del(*state, &source);
}

/* Whichever of two ready sources comes first deletes and closes the other. */
static void test_stale_event_is_dropped(void **state)
{
	struct loop *loop = *state;
	struct watch a, b;

	watch_begin(&a, loop, EPOLLIN);
	watch_begin(&b, loop, EPOLLIN);
	a.victim = &b;
	b.victim = &a;
	signal_fd(a.fd);
	signal_fd(b.fd);
	run_one_turn(loop);
	assert_int_equal(a.events + b.events, 1);
	watch_end(&a);
	watch_end(&b);
}

/* More sources than a batch holds: nothing is lost and nobody is served twice. */
static void test_more_than_a_batch(void **state)
{
	enum { COUNT = 300 };
	struct loop *loop = *state;
	struct watch *w = calloc(COUNT, sizeof(*w));

	assert_non_null(w);
	for (int i = 0; i < COUNT; i++) {
		watch_begin(&w[i], loop, EPOLLIN | EPOLLET);
		signal_fd(w[i].fd);
	}
	for (int i = 0; i < 4; i++)
		run_one_turn(loop);
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(w[i].events, 1);
		watch_end(&w[i]);
	}
	free(w);
}

struct job {
	struct loop_task task;
	struct loop *loop;
	unsigned int runs;
	unsigned int order; /* position in the sequence of all runs */
	unsigned int repeat;
	bool stops; /* the loop, at the last run */
	struct job *cancels;
	struct watch *watch; /* its events are noted at the first run */
	unsigned int watch_events;
};

static unsigned int job_sequence;

static void job_run(struct loop_task *task)
{
	struct job *job = container_of(task, struct job, task);

	if (job->runs == 0 && job->watch != NULL)
		job->watch_events = job->watch->events;
	job->runs++;
	job->order = ++job_sequence;
	if (job->runs < job->repeat)
		loop_defer(job->loop, task);
	else if (job->stops)
		loop_stop(job->loop);
	if (job->cancels != NULL)
		loop_cancel(&job->cancels->task);
}

static void job_init(struct job *job, struct loop *loop)
{
	*job = (struct job){ .loop = loop };
	loop_task_init(&job->task, job_run);
}

static void test_tasks_run_once_in_order(void **state)
{
	struct loop *loop = *state;
	struct job a, b, c;

	job_init(&a, loop);
	job_init(&b, loop);
	job_init(&c, loop);
	job_sequence = 0;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	loop_defer(loop, &a.task);
	loop_defer(loop, &c.task);
	loop_cancel(&c.task);
	loop_cancel(&c.task);
	run_one_turn(loop);
	assert_int_equal(a.order, 1);
	assert_int_equal(b.order, 2);
	assert_int_equal(a.runs + b.runs, 2);
	assert_int_equal(c.runs, 0);
	run_one_turn(loop);
	assert_int_equal(a.runs + b.runs + c.runs, 2);

	/* A task may cancel one that is due in the same phase. */
	a.cancels = &b;
	loop_defer(loop, &a.task);
	loop_defer(loop, &b.task);
	run_one_turn(loop);
	assert_int_equal(a.runs, 2);
	assert_int_equal(b.runs, 1);
}

/* Nothing but the queued task keeps the loop from sleeping for ever. */
static void test_task_repeats_without_sleeping(void **state)
{
	struct loop *loop = *state;
	struct job job;

	job_init(&job, loop);
	job.repeat = 50;
	job.stops = true;
	loop_defer(loop, &job.task);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(job.runs, 50);
}

/* A task that defers itself runs once per turn; descriptors are served between. */
static void test_task_repeats_without_starving(void **state)
{
	struct loop *loop = *state;
	struct watch w;
	struct job job;

	watch_begin(&w, loop, EPOLLIN);
	signal_fd(w.fd);
	job_init(&job, loop);
	job.repeat = 50;
	job.watch = &w;
	loop_defer(loop, &job.task);
	w.stop_after = 50;
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(w.events, 50);
	assert_int_equal(job.runs, 50);
	assert_int_equal(job.watch_events, 1); /* events come before tasks */
	watch_end(&w);
}

struct alarm {
	struct timer timer;
	struct loop *loop;
	uint64_t fired_ms;
	unsigned int runs;
	unsigned int repeat;
	bool stops;
};

static void alarm_on_expire(struct timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);

	alarm->fired_ms = loop_now_ms(alarm->loop);
	alarm->runs++;
	if (alarm->runs < alarm->repeat)
		assert_int_equal(loop_arm(alarm->loop, timer, 0), 0);
	else if (alarm->stops)
		loop_stop(alarm->loop);
}

static void test_timers(void **state)
{
	struct loop *loop = *state;
	struct alarm early = { .timer.on_expire = alarm_on_expire, .loop = loop };
	struct alarm late = early, never = early;
	uint64_t start;

	late.stops = true;
	run_one_turn(loop);
	start = loop_now_ms(loop);
	assert_true(start <= clock_ms());
	assert_int_equal(loop_arm(loop, &late.timer, 30), 0);
	assert_int_equal(loop_arm(loop, &early.timer, 10), 0);
	assert_int_equal(loop_arm(loop, &never.timer, 20), 0);
	loop_disarm(loop, &never.timer);
	loop_disarm(loop, &never.timer);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(early.runs, 1);
	assert_int_equal(late.runs, 1);
	assert_int_equal(never.runs, 0);
	assert_true(early.fired_ms >= start + 10);
	assert_true(late.fired_ms >= start + 30);
	assert_true(early.fired_ms <= late.fired_ms);
}

static void test_timer_rearming_itself_ends_the_turn(void **state)
{
	struct loop *loop = *state;
	struct alarm alarm = {
		.timer.on_expire = alarm_on_expire, .loop = loop, .repeat = 5, .stops = true
	};
	struct watch w;

	watch_begin(&w, loop, EPOLLIN);
	signal_fd(w.fd);
	assert_int_equal(loop_arm(loop, &alarm.timer, 0), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(alarm.runs, 5);
	assert_true(w.events >= 5);
	watch_end(&w);
}

/* A message posted by its own delivery arrives in a later turn. */
struct echo {
	struct loop_msg msg;
	struct loop *loop;
	struct watch *watch;
	unsigned int deliveries;
};

static void echo_deliver(struct loop_msg *msg)
{
	struct echo *echo = container_of(msg, struct echo, msg);

	echo->deliveries++;
	assert_int_equal(echo->deliveries, echo->watch->events);
	if (echo->deliveries < 10)
		loop_post(echo->loop, msg);
	else
		loop_stop(echo->loop);
}

static void test_repost_waits_for_the_next_turn(void **state)
{
	struct watch w;
	struct echo echo = { .msg.deliver = echo_deliver, .loop = *state, .watch = &w };

	watch_begin(&w, *state, EPOLLIN);
	signal_fd(w.fd);
	loop_post(*state, &echo.msg);
	assert_int_equal(loop_run(*state), 0);
	assert_int_equal(echo.deliveries, 10);
	watch_end(&w);
}

static void on_signal(int number)
{
	(void)number;
}

/* Signals interrupt the sleep again and again; the timer still comes. */
static void test_signals_do_not_end_the_loop(void **state)
{
	struct alarm alarm = { .timer.on_expire = alarm_on_expire, .loop = *state, .stops = true };
	struct sigevent every = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec spec = { .it_interval.tv_nsec = 2000000, .it_value.tv_nsec = 2000000 };
	struct sigaction act = { .sa_handler = on_signal };
	timer_t id;

	assert_int_equal(sigaction(SIGUSR1, &act, NULL), 0);
	assert_int_equal(timer_create(CLOCK_MONOTONIC, &every, &id), 0);
	assert_int_equal(timer_settime(id, 0, &spec, NULL), 0);
	assert_int_equal(loop_arm(*state, &alarm.timer, 40), 0);
	assert_int_equal(loop_run(*state), 0);
	assert_int_equal(timer_delete(id), 0);
	assert_int_equal(alarm.runs, 1);
}

static void test_free_null(void **state)
{
	(void)state;
	loop_free(NULL);
}

#define with_loop(test) cmocka_unit_test_setup_teardown(test, make_loop, free_loop)
#define with_polling_loop(test)                                              \
	{                                                                    \
#test " (polling)", test, make_polling_loop, free_loop, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_loop(test_edge_triggered),
		with_loop(test_modify_and_level),
		with_loop(test_add_failure),
		with_loop(test_stale_event_is_dropped),
		with_loop(test_more_than_a_batch),
		with_loop(test_tasks_run_once_in_order),
		with_loop(test_task_repeats_without_sleeping),
		with_loop(test_task_repeats_without_starving),
		with_loop(test_timers),
		with_loop(test_timer_rearming_itself_ends_the_turn),
		with_loop(test_repost_waits_for_the_next_turn),
		with_loop(test_signals_do_not_end_the_loop),
		with_polling_loop(test_edge_triggered),
		with_polling_loop(test_stale_event_is_dropped),
		with_polling_loop(test_task_repeats_without_sleeping),
		with_polling_loop(test_timers),
		with_polling_loop(test_timer_rearming_itself_ends_the_turn),
		with_polling_loop(test_repost_waits_for_the_next_turn),
		with_polling_loop(test_signals_do_not_end_the_loop),
		cmocka_unit_test(test_free_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
