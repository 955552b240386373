// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * timer.h - pure heap of deadlines with intrusive nodes; knows no clock.
 */
#ifndef LOOP_TIMER_H
#define LOOP_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/** One deadline, embedded in its owner. Zero-initialised is disarmed. */
struct timer {
	uint64_t deadline_ms;
	uint32_t slot; /* position in the heap + 1; 0 when disarmed */
	void (*on_expire)(struct timer *timer);
};

struct timer_heap {
	struct timer **nodes;
	uint32_t count;
	uint32_t capacity;
};

static inline bool timer_is_armed(const struct timer *t)
{
	return t->slot != 0;
}

/**
 * timer_arm() - Set or move a deadline
 * Return: 0, or -ENOMEM (only possible for a disarmed timer)
 */
int timer_arm(struct timer_heap *heap, struct timer *timer, uint64_t deadline_ms) must_use;

/** Forget a deadline; legal when disarmed. */
void timer_disarm(struct timer_heap *heap, struct timer *timer);

/** The earliest deadline, or UINT64_MAX when there is none. */
uint64_t timer_next_ms(const struct timer_heap *heap) must_use;

/** Disarm and return the earliest timer whose deadline is <= @now_ms, or NULL. */
struct timer *timer_pop_expired(struct timer_heap *heap, uint64_t now_ms) must_use;

/** Free the heap; timers still armed are left disarmed. */
void timer_heap_fini(struct timer_heap *heap);

#endif
