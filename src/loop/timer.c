// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * timer.c - binary heap of deadlines with intrusive nodes.
 *
 * Pure: no clock, no system call; allocates only the array of the heap, which
 * doubles and is never shrunk, so re-arming a timer cannot fail.
 *
 * Theory of operation
 * nodes[0 .. count) is a heap: no deadline is smaller than its parent's, the
 * parent of index i being (i - 1) / 2. Each timer knows its index (slot - 1),
 * so moving or removing any of them costs O(log count).
 */
#include "loop/timer.h"

#include <errno.h>
#include <stdlib.h>

#define TIMER_HEAP_MIN_CAPACITY 16u
#define TIMER_HEAP_MAX_CAPACITY (UINT32_C(1) << 28)

static void timer_place(struct timer_heap *heap, struct timer *timer, uint32_t index)
{
	heap->nodes[index] = timer;
	timer->slot = index + 1;
}

/* Find the place for @timer from the hole @index towards the root. */
static uint32_t timer_sift_up(struct timer_heap *heap, const struct timer *timer, uint32_t index)
{
	while (index > 0) {
		uint32_t parent = (index - 1) / 2;

		if (heap->nodes[parent]->deadline_ms <= timer->deadline_ms)
			break;
		timer_place(heap, heap->nodes[parent], index);
		index = parent;
	}
	return index;
}

/* The same from the hole @index towards the leaves. */
static uint32_t timer_sift_down(struct timer_heap *heap, const struct timer *timer, uint32_t index)
{
	for (;;) {
		uint32_t child = 2 * index + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
		    heap->nodes[child + 1]->deadline_ms < heap->nodes[child]->deadline_ms)
			child++;
		if (timer->deadline_ms <= heap->nodes[child]->deadline_ms)
			break;
		timer_place(heap, heap->nodes[child], index);
		index = child;
	}
	return index;
}

/* Put @timer where it belongs, beginning at the hole @index. */
static void timer_settle(struct timer_heap *heap, struct timer *timer, uint32_t index)
{
	index = timer_sift_up(heap, timer, index);
	index = timer_sift_down(heap, timer, index);
	timer_place(heap, timer, index);
}

static int timer_reserve(struct timer_heap *heap)
{
	uint32_t capacity = heap->capacity != 0 ? heap->capacity * 2 : TIMER_HEAP_MIN_CAPACITY;
	struct timer **nodes;

	if (heap->count < heap->capacity)
		return 0;
	if (capacity > TIMER_HEAP_MAX_CAPACITY)
		return -ENOMEM;
	nodes = reallocarray(heap->nodes, capacity, sizeof(struct timer *));
	if (nodes == NULL)
		return -ENOMEM;
	heap->nodes = nodes;
	heap->capacity = capacity;
	return 0;
}

int timer_arm(struct timer_heap *heap, struct timer *timer, uint64_t deadline_ms)
{
	int ret;

	if (!timer_is_armed(timer)) {
		ret = timer_reserve(heap);
		if (ret < 0)
			return ret;
		timer->slot = ++heap->count;
	}
	timer->deadline_ms = deadline_ms;
	timer_settle(heap, timer, timer->slot - 1);
	return 0;
}

void timer_disarm(struct timer_heap *heap, struct timer *timer)
{
	uint32_t index = timer->slot - 1;
	struct timer *last;

	if (!timer_is_armed(timer))
		return;
	last = heap->nodes[--heap->count];
	timer->slot = 0;
	if (last != timer)
		timer_settle(heap, last, index);
}

uint64_t timer_next_ms(const struct timer_heap *heap)
{
	return heap->count > 0 ? heap->nodes[0]->deadline_ms : UINT64_MAX;
}

struct timer *timer_pop_expired(struct timer_heap *heap, uint64_t now_ms)
{
	struct timer *timer;

	if (heap->count == 0 || heap->nodes[0]->deadline_ms > now_ms)
		return NULL;
	timer = heap->nodes[0];
	timer_disarm(heap, timer);
	return timer;
}

void timer_heap_fini(struct timer_heap *heap)
{
	for (uint32_t i = 0; i < heap->count; i++)
		heap->nodes[i]->slot = 0;
	free(heap->nodes);
	*heap = (struct timer_heap){ 0 };
}
