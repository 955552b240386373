// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * loop.c - one thread's event loop over epoll.
 *
 * The only file that sleeps. It knows nothing of what it dispatches to; it may
 * not log, and it calls nothing it was not given.
 *
 * Theory of operation
 * A turn is: sleep in epoll_wait() (not at all while tasks are queued; where
 * loop_poll() was asked for, after looking for events a while), read the clock,
 * dispatch the batch, deliver the mailbox, expire timers, run the
 * tasks queued so far. Each phase works on what there was when it began, so
 * whatever re-queues itself waits for the next turn and starves nobody.
 *
 * Lookouts. While the loop looks rather than sleeps, nobody has to wake it: whoever
 * would be told by an event of what it can see in memory need not ask for that. Each
 * turn looks there beside epoll, however busy it is; before it sleeps, all of them leave,
 * which asks for events and sees what came in between.
 *
 * Stale events. epoll hands over pointers to sources. loop_del() wipes the
 * source from the part of the batch that is not dispatched yet; epoll itself
 * reports nothing of it afterwards. So a source may be freed after loop_del().
 *
 * Mailbox. Senders push on a stack by compare-and-swap, the receiver takes the
 * whole stack by one exchange and reverses it: no node is ever popped singly,
 * so there is no ABA, and each sender's messages stay in order. Whoever pushes
 * on the empty stack writes the eventfd; the others know that one did, or is
 * about to. A sender does not touch its message after the push.
 *
 * The eventfd is edge-triggered and never read: each write is a new edge, and
 * its counter would need 2^64 of them to overflow.
 */
#include "loop/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/bell.h"
#include "base/fd.h"
#include "loop/busy_poll.h"

#define LOOP_BATCH 128u
#define LOOP_CACHE_LINE 64u

_Static_assert(LOOP_MAX_SIGNALS <= BELL_MAX_FDS, "one ringing does it");

struct loop {
	int epoll_fd;
	int wake_fd;
	struct bell bell;
	uint64_t now_ms;
	struct busy_poll poll;
	struct list tasks;
	struct list lookouts; /* oldest first */
	unsigned int lookout_count;
	struct timer_heap timers;
	struct loop_source wake;
	unsigned int batch_next;  /* first event not dispatched yet */
	unsigned int batch_count; /* events of the current turn */
	struct epoll_event batch[LOOP_BATCH];
	/* Below: written by other threads. */
	_Alignas(LOOP_CACHE_LINE) struct loop_msg *mailbox; /* newest first */
	bool stop;
};

static uint64_t loop_read_clock_ns(void)
{
	struct timespec ts;

	/* Cannot fail with this clock and a valid pointer. */
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t loop_read_clock(void)
{
	return loop_read_clock_ns() / 1000000;
}

static void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;
	int saved_errno = errno;
	ssize_t written;

	do {
		written = write(loop->wake_fd, &one, sizeof(one));
	} while (written < 0 && errno == EINTR);
	errno = saved_errno;
}

/* Having woken up is all it is for. */
static void loop_on_wake(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
}

struct loop *loop_new(void)
{
	struct loop *loop = aligned_alloc(LOOP_CACHE_LINE, sizeof(*loop));
	int ret;

	if (loop == NULL)
		return NULL;
	memset(loop, 0, sizeof(*loop));
	list_init(&loop->tasks);
	list_init(&loop->lookouts);
	loop->wake_fd = -1;
	/* without it signals are as safe as O_NONBLOCK is: see loop_signals_safely() */
	(void)!bell_open(&loop->bell);
	loop->wake.fd = -1;
	loop->wake.on_event = loop_on_wake;
	loop->now_ms = loop_read_clock();
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		goto fail;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake_fd < 0)
		goto fail;
	ret = loop_add(loop, &loop->wake, loop->wake_fd, EPOLLIN | EPOLLET);
	if (ret < 0) {
		errno = -ret;
		goto fail;
	}
	return loop;

fail:
	loop_free(loop);
	return NULL;
}

void loop_free(struct loop *loop)
{
	int saved_errno = errno;

	if (loop == NULL)
		return;
	timer_heap_fini(&loop->timers);
	bell_close(&loop->bell);
	fd_close(&loop->wake_fd);
	fd_close(&loop->epoll_fd);
	free(loop);
	errno = saved_errno;
}

static int loop_control(struct loop *loop, int op, struct loop_source *source, int fd,
			uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (epoll_ctl(loop->epoll_fd, op, fd, &event) < 0)
		return -errno;
	return 0;
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events)
{
	int ret = loop_control(loop, EPOLL_CTL_ADD, source, fd, events);

	if (ret < 0)
		return ret;
	source->fd = fd;
	return 0;
}

int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_MOD, source, source->fd, events);
}

void loop_del(struct loop *loop, struct loop_source *source)
{
	if (source->fd < 0)
		return;
	/* Fails only for a descriptor that is closed, and gone with that. */
	(void)loop_control(loop, EPOLL_CTL_DEL, source, source->fd, 0);
	source->fd = -1;
	for (unsigned int i = loop->batch_next; i < loop->batch_count; i++) {
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
	}
}

void loop_task_init(struct loop_task *task, void (*run)(struct loop_task *task))
{
	list_init(&task->node);
	task->run = run;
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
	if (list_empty(&task->node))
		list_append(&loop->tasks, &task->node);
}

void loop_cancel(struct loop_task *task)
{
	list_remove(&task->node);
}

void loop_poll(struct loop *loop, uint32_t limit_us)
{
	loop->poll = (struct busy_poll){ .limit_ns = limit_us * UINT64_C(1000) };
}

uint64_t loop_now_ms(const struct loop *loop)
{
	return loop->now_ms;
}

int loop_arm(struct loop *loop, struct timer *timer, uint32_t delay_ms)
{
	return timer_arm(&loop->timers, timer, loop->now_ms + (delay_ms != 0 ? delay_ms : 1));
}

void loop_disarm(struct loop *loop, struct timer *timer)
{
	timer_disarm(&loop->timers, timer);
}

void loop_signal(const struct loop *loop, int fd)
{
	bell_ring(&loop->bell, &fd, 1);
}

void loop_signal_all(const struct loop *loop, const int *fds, size_t count)
{
	bell_ring(&loop->bell, fds, count);
}

bool loop_is_eventfd(const struct loop *loop, int fd)
{
	return bell_fits(&loop->bell, fd);
}

bool loop_signals_safely(const struct loop *loop)
{
	return loop->bell.context != 0;
}

void loop_post(struct loop *loop, struct loop_msg *msg)
{
	struct loop_msg *newest = __atomic_load_n(&loop->mailbox, __ATOMIC_RELAXED);

	do {
		msg->next = newest;
		/* Release: pairs with the exchange in loop_deliver_mailbox(). */
	} while (!__atomic_compare_exchange_n(&loop->mailbox, &newest, msg, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (newest == NULL)
		loop_wake(loop);
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
	loop_wake(loop);
}

/* How long epoll_wait() may sleep, in milliseconds; -1 is for ever. */
static int loop_timeout_ms(const struct loop *loop)
{
	uint64_t next_ms = timer_next_ms(&loop->timers);

	if (!list_empty(&loop->tasks) || next_ms <= loop->now_ms)
		return 0;
	if (next_ms == UINT64_MAX)
		return -1;
	return next_ms - loop->now_ms < INT_MAX ? (int)(next_ms - loop->now_ms) : INT_MAX;
}

static void loop_dispatch_batch(struct loop *loop)
{
	while (loop->batch_next < loop->batch_count) {
		const struct epoll_event *event = &loop->batch[loop->batch_next++];
		struct loop_source *source = event->data.ptr;

		if (source != NULL)
			source->on_event(source, event->events);
	}
}

static void loop_deliver_mailbox(struct loop *loop)
{
	struct loop_msg *msg = NULL;
	struct loop_msg *newest;

	if (__atomic_load_n(&loop->mailbox, __ATOMIC_RELAXED) == NULL)
		return;
	/* Acquire: pairs with the compare-and-swap in loop_post(). */
	newest = __atomic_exchange_n(&loop->mailbox, NULL, __ATOMIC_ACQUIRE);
	while (newest != NULL) {
		struct loop_msg *older = newest->next;

		newest->next = msg;
		msg = newest;
		newest = older;
	}
	while (msg != NULL) {
		struct loop_msg *next = msg->next;

		msg->deliver(msg);
		msg = next;
	}
}

static void loop_expire_timers(struct loop *loop)
{
	struct timer *timer = timer_pop_expired(&loop->timers, loop->now_ms);

	while (timer != NULL) {
		timer->on_expire(timer);
		timer = timer_pop_expired(&loop->timers, loop->now_ms);
	}
}

static void loop_run_tasks(struct loop *loop)
{
	struct list current;

	list_init(&current);
	list_append_all(&current, &loop->tasks);
	while (!list_empty(&current)) {
		struct loop_task *task = list_first(&current, struct loop_task, node);

		list_remove(&task->node);
		task->run(task);
	}
}

bool loop_looks(const struct loop *loop)
{
	return loop->poll.score > 0;
}

void loop_lookout_init(struct loop_lookout *lookout, bool (*look)(struct loop_lookout *),
		       void (*leave)(struct loop_lookout *))
{
	*lookout = (struct loop_lookout){ .look = look, .leave = leave };
	list_init(&lookout->node);
}

void loop_look_away(struct loop *loop, struct loop_lookout *lookout)
{
	if (list_empty(&lookout->node))
		return;
	list_remove(&lookout->node);
	loop->lookout_count--;
}

static void loop_leave_oldest(struct loop *loop)
{
	struct loop_lookout *oldest = list_first(&loop->lookouts, struct loop_lookout, node);

	loop_look_away(loop, oldest);
	oldest->leave(oldest);
}

void loop_look_out(struct loop *loop, struct loop_lookout *lookout)
{
	loop_look_away(loop, lookout);
	if (loop->lookout_count == LOOP_MAX_LOOKOUTS)
		loop_leave_oldest(loop);
	list_append(&loop->lookouts, &lookout->node);
	loop->lookout_count++;
}

static void loop_ask_lookouts(struct loop *loop)
{
	struct list *pos;
	struct list *tmp;

	list_for_each_safe (pos, tmp, &loop->lookouts) {
		struct loop_lookout *lookout = container_of(pos, struct loop_lookout, node);

		if (lookout->look(lookout))
			loop_look_away(loop, lookout);
	}
}

/* What is there now. Return: as epoll_wait() */
static int loop_glance(struct loop *loop)
{
	int n = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, 0);

	loop_ask_lookouts(loop);
	return n;
}

/* Look without sleeping, as long as that is thought to pay. Return: as epoll_wait() */
static int loop_look(struct loop *loop, uint64_t begun_ns)
{
	int n;

	do
		n = loop_glance(loop);
	while (n == 0 && list_empty(&loop->tasks) &&
	       busy_poll_lasts(&loop->poll, begun_ns, loop_read_clock_ns()));
	return n;
}

/* Nothing is looked at any more: what it tells of comes as an event. Return: as epoll_wait() */
static int loop_sleep(struct loop *loop, int timeout_ms)
{
	while (loop->lookout_count > 0)
		loop_leave_oldest(loop);
	if (!list_empty(&loop->tasks))
		timeout_ms = 0;
	return epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, timeout_ms);
}

/* Return: as epoll_wait() */
static int loop_wait(struct loop *loop)
{
	int timeout_ms = loop_timeout_ms(loop);
	uint64_t begun_ns;
	bool looks;
	int n = 0;

	if (likely(loop->poll.limit_ns == 0))
		return epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, timeout_ms);
	if (timeout_ms == 0)
		return loop_glance(loop);
	begun_ns = loop_read_clock_ns();
	looks = busy_poll_begins(&loop->poll, begun_ns);
	if (looks)
		n = loop_look(loop, begun_ns);
	if (n == 0 && list_empty(&loop->tasks))
		n = loop_sleep(loop, timeout_ms);
	busy_poll_woken(&loop->poll, looks, begun_ns, loop_read_clock_ns());
	return n;
}

static int loop_turn(struct loop *loop)
{
	int n = loop_wait(loop);

	/* A signal makes an empty turn: time has passed, the next sleeps for the rest. */
	if (n < 0 && errno != EINTR)
		return -errno;
	loop->batch_next = 0;
	loop->batch_count = n > 0 ? (unsigned int)n : 0;
	loop->now_ms = loop_read_clock();
	loop_dispatch_batch(loop);
	loop_deliver_mailbox(loop);
	loop_expire_timers(loop);
	loop_run_tasks(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int ret;

	loop->now_ms = loop_read_clock();
	do {
		ret = loop_turn(loop);
		if (ret < 0)
			return ret;
	} while (!__atomic_exchange_n(&loop->stop, false, __ATOMIC_ACQUIRE));
	return 0;
}
