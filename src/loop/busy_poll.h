// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * busy_poll.h - whether a loop looks for events a while before it sleeps. Pure,
 * inline: it neither looks nor reads a clock.
 *
 * Theory of operation
 *
 * A thread that sleeps costs whoever wakes it, and is late by the time that
 * takes. Looking for events instead costs a CPU. It is worth that where an
 * answer comes at once, and nowhere else; so the last few waits decide:
 *  - a wait that was short enough for looking to see its end counts for it,
 *    any other against it. An idle loop looks a few times and then sleeps;
 *  - after a turn that worked for longer than the loop would look, it sleeps:
 *    that is bulk, whose batches grow meanwhile and whose wake-up is little
 *    beside its work.
 *
 * All times are nanoseconds of one monotonic clock.
 */
#ifndef LOOP_BUSY_POLL_H
#define LOOP_BUSY_POLL_H

#include <stdbool.h>
#include <stdint.h>

#define BUSY_POLL_SCORE_MAX 8u

/** What a loop knows of its last waits; all zero: it never looks. */
struct busy_poll {
	uint64_t limit_ns; /* longest look; 0: none */
	uint64_t woken_ns; /* when the last wait ended */
	uint32_t score;    /* short waits lately, less long ones; 0 to BUSY_POLL_SCORE_MAX */
};

/** Whether the wait that begins now begins with looking. */
static inline bool busy_poll_begins(const struct busy_poll *poll, uint64_t now_ns)
{
	return poll->score > 0 && now_ns - poll->woken_ns <= poll->limit_ns;
}

/** Whether looking since @begun_ns goes on. */
static inline bool busy_poll_lasts(const struct busy_poll *poll, uint64_t begun_ns, uint64_t now_ns)
{
	return now_ns - begun_ns < poll->limit_ns;
}

/**
 * busy_poll_woken() - A wait is over
 * @looked:   whether it began with looking
 * @begun_ns: when it began
 *
 * A wait spent asleep includes the time of waking up: it counts as short up to twice the limit.
 */
static inline void busy_poll_woken(struct busy_poll *poll, bool looked, uint64_t begun_ns,
				   uint64_t now_ns)
{
	uint64_t limit_ns = looked ? poll->limit_ns : 2 * poll->limit_ns;
	bool was_short = now_ns - begun_ns < limit_ns;

	if (was_short && poll->score < BUSY_POLL_SCORE_MAX)
		poll->score++;
	else if (!was_short && poll->score > 0)
		poll->score--;
	poll->woken_ns = now_ns;
}

#endif
