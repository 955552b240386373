// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * loop.h - one thread's event loop: epoll sources, deferred tasks, timers, and
 * a mailbox for other threads.
 *
 * Everything except loop_post() and loop_stop() is called on the loop's own
 * thread (or before it runs). Order of a turn: epoll events, mailbox, expired
 * timers, then every task that was deferred before the task phase began; tasks
 * deferred by tasks run in the next turn, which then does not sleep.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "loop/timer.h"

struct loop;

#define LOOP_MAX_SIGNALS 4u /* of one loop_signal_all() */

/** A watched descriptor, embedded in its owner; the owner keeps the fd. */
struct loop_source {
	void (*on_event)(struct loop_source *source, uint32_t events); /* EPOLL* bits */
	int fd;                                                        /* -1 when not watched */
};

/** Work for the end of the turn, embedded in its owner. */
struct loop_task {
	struct list node;
	void (*run)(struct loop_task *task);
};

/** Memory that tells of work as events do, embedded in its owner. */
struct loop_lookout {
	struct list node;
	/** Whether there is work; then it has been deferred, and is not looked for any more. */
	bool (*look)(struct loop_lookout *lookout);
	/** It will not be looked at again: ask for events, and defer what came meanwhile. */
	void (*leave)(struct loop_lookout *lookout);
};

#define LOOP_MAX_LOOKOUTS 16u /* of one loop, which looks at each of them each turn */

/** A message from another thread, embedded in its owner. */
struct loop_msg {
	struct loop_msg *next;
	void (*deliver)(struct loop_msg *msg); /* runs on the receiving loop */
};

/** Return: a new loop, or NULL (errno says why). */
struct loop *loop_new(void) must_use;

/** Free a loop that does not run; its sources and tasks must be gone. */
void loop_free(struct loop *loop);

/** Look for events for at most @limit_us microseconds before a sleep, where the last waits
 *  were that short (loop/busy_poll.h); 0, as at first: sleep at once. */
void loop_poll(struct loop *loop, uint32_t limit_us);

/** Whether the next wait is likely to begin with looking. */
bool loop_looks(const struct loop *loop) must_use;

/** Prepare a lookout; it is not looked at yet. */
void loop_lookout_init(struct loop_lookout *lookout, bool (*look)(struct loop_lookout *),
		       void (*leave)(struct loop_lookout *));

/** Look at it each turn, until it sees work or the loop is about to sleep. There are at most
 *  LOOP_MAX_LOOKOUTS: the oldest leaves for a new one. Legal when it is looked at. */
void loop_look_out(struct loop *loop, struct loop_lookout *lookout);

/** Look at it no more; leave() is not called. Legal when it is not looked at. */
void loop_look_away(struct loop *loop, struct loop_lookout *lookout);

/**
 * loop_add() - Watch a descriptor
 * @source: its on_event is set; its fd becomes @fd
 * @events: EPOLLIN and so on; EPOLLET if wanted
 *
 * Return: 0 or -errno (-EPERM: a descriptor that cannot be polled)
 */
int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events) must_use;

/** Change the events of a watched source. Return: 0 or -errno. */
int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events) must_use;

/**
 * loop_del() - Stop watching; call before the descriptor is closed
 *
 * Legal when not watched. Events of this source that the current turn already
 * fetched are dropped, so the owner may be freed at once.
 */
void loop_del(struct loop *loop, struct loop_source *source);

/** Prepare a task; it is not queued yet. */
void loop_task_init(struct loop_task *task, void (*run)(struct loop_task *task));

/** Queue a task once; a task that is queued already stays where it is. */
void loop_defer(struct loop *loop, struct loop_task *task);

/** Take a task off the queue; legal when it is not queued. */
void loop_cancel(struct loop_task *task);

/** Monotonic milliseconds, read once per turn. */
uint64_t loop_now_ms(const struct loop *loop) must_use;

/**
 * loop_arm() - Arm or move @timer to @delay_ms from loop_now_ms()
 *
 * A delay of 0 counts as 1, so a timer that re-arms itself lets others run.
 *
 * Return: 0 or -ENOMEM (only possible for a disarmed timer)
 */
int loop_arm(struct loop *loop, struct timer *timer, uint32_t delay_ms) must_use;

/** Disarm a timer; legal when disarmed. */
void loop_disarm(struct loop *loop, struct timer *timer);

/**
 * loop_signal() - Signal an eventfd that another process has too
 *
 * Never waits, whatever that process does to it; see base/bell.h.
 * Context: any thread
 */
void loop_signal(const struct loop *loop, int fd);

/** The same for @count eventfds, at most LOOP_MAX_SIGNALS, by one system call. */
void loop_signal_all(const struct loop *loop, const int *fds, size_t count);

/** Whether @fd is an eventfd (it is signalled to find out). What is none may have
 *  a driver behind it that answers poll when its owner likes. */
bool loop_is_eventfd(const struct loop *loop, int fd) must_use;

/** Whether loop_signal() keeps its promise on this kernel. */
bool loop_signals_safely(const struct loop *loop) must_use;

/**
 * loop_post() - Hand a message to another loop
 * Context: any thread; lock-free; wakes the loop. Messages of one sender
 * arrive in order. @msg must stay valid until it is delivered, and the loop
 * until this call returned. What arrives after loop_stop() may stay undelivered.
 */
void loop_post(struct loop *loop, struct loop_msg *msg);

/** Run until loop_stop(). Return: 0 or -errno of epoll_wait. */
int loop_run(struct loop *loop) must_use;

/**
 * loop_stop() - Make loop_run() return after its current turn
 *
 * Called before loop_run(), it makes that return after one turn.
 * Context: any thread or a signal handler; the loop must stay valid until this
 * call returned.
 */
void loop_stop(struct loop *loop);

#endif
