// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * events.c - bounded queue of events between two threads. No lock, no system
 * call but the one that wakes the reader.
 *
 * Theory of operation: the writer fills an element and then moves written, the
 * reader copies an element and then moves read, both by release stores that the
 * other side loads with acquire. One message at a time is on its way to the
 * reader; it is free to be posted again before the reader begins to read, so
 * that what is written during the reading is not forgotten.
 *
 * A reading takes what there was when it began. A writer that is as fast as the
 * reader would otherwise keep it from everything else for ever.
 */
#include "daemon/events.h"

#include <errno.h>
#include <stdlib.h>

int event_queue_init(struct event_queue *queue, struct loop *reader,
		     void (*deliver)(struct loop_msg *msg), void *ctx)
{
	queue->ring = calloc(EVENT_QUEUE_LENGTH, sizeof(*queue->ring));
	if (queue->ring == NULL)
		return -ENOMEM;
	queue->reader = reader;
	queue->ready.deliver = deliver;
	queue->ctx = ctx;
	return 0;
}

void event_queue_fini(struct event_queue *queue)
{
	free(queue->ring);
	queue->ring = NULL;
}

void event_queue_switch(struct event_queue *queue, bool on)
{
	__atomic_store_n(&queue->on, on && queue->ring != NULL, __ATOMIC_RELAXED);
}

static void wake_reader(struct event_queue *queue)
{
	if (!__atomic_exchange_n(&queue->posted, true, __ATOMIC_ACQ_REL))
		loop_post(queue->reader, &queue->ready);
}

void event_queue_write(struct event_queue *queue, const struct event *event)
{
	uint32_t at = queue->written;

	if (at - __atomic_load_n(&queue->read, __ATOMIC_ACQUIRE) >= EVENT_QUEUE_LENGTH) {
		(void)__atomic_add_fetch(&queue->lost, 1, __ATOMIC_RELAXED);
	} else {
		queue->ring[at % EVENT_QUEUE_LENGTH] = *event;
		__atomic_store_n(&queue->written, at + 1, __ATOMIC_RELEASE);
	}
	wake_reader(queue);
}

void event_queue_begin(struct event_queue *queue)
{
	(void)__atomic_exchange_n(&queue->posted, false, __ATOMIC_ACQ_REL);
	/* after it: who writes what is not seen here posts again */
	queue->end = __atomic_load_n(&queue->written, __ATOMIC_ACQUIRE);
}

bool event_queue_read(struct event_queue *queue, struct event *event)
{
	uint32_t at = queue->read;

	if (at == queue->end)
		return false;
	*event = queue->ring[at % EVENT_QUEUE_LENGTH];
	__atomic_store_n(&queue->read, at + 1, __ATOMIC_RELEASE);
	return true;
}

uint32_t event_queue_take_lost(struct event_queue *queue)
{
	return __atomic_exchange_n(&queue->lost, 0, __ATOMIC_RELAXED);
}
