// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * worker.c - threads of VMs. Knows nothing of what runs on them.
 */
#include "daemon/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void deliver(struct loop_msg *msg)
{
	struct worker *worker = container_of(msg, struct worker, msg);

	worker->fn(worker->arg);
	(void)sem_post(&worker->done);
}

int worker_init(struct worker *worker)
{
	worker->msg.deliver = deliver;
	/* cannot fail: the value is small and the semaphore is not shared */
	(void)sem_init(&worker->done, 0, 0);
	worker->scratch = calloc(1, sizeof(struct scratch));
	if (worker->scratch == NULL)
		return -ENOMEM;
	worker->loop = loop_new();
	return worker->loop == NULL ? -errno : 0;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	int err = loop_run(worker->loop);

	if (err < 0)
		log_error(NULL, "a worker ended: %s", strerror(-err));
	return NULL;
}

int worker_start(struct worker *worker)
{
	int err = pthread_create(&worker->thread, NULL, work, worker);

	worker->running = err == 0;
	return -err;
}

void worker_stop(struct worker *worker)
{
	if (!worker->running)
		return;
	loop_stop(worker->loop);
	(void)pthread_join(worker->thread, NULL);
	worker->running = false;
}

void worker_fini(struct worker *worker)
{
	event_queue_fini(&worker->events);
	loop_free(worker->loop);
	free(worker->scratch);
	worker->loop = NULL;
	worker->scratch = NULL;
}

void worker_call(struct worker *worker, void (*fn)(void *arg), void *arg)
{
	int err;

	if (!worker->running) {
		fn(arg);
		return;
	}
	worker->fn = fn;
	worker->arg = arg;
	loop_post(worker->loop, &worker->msg);
	do
		err = sem_wait(&worker->done);
	while (err < 0); /* interrupted by a signal */
}
