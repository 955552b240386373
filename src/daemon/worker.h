// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * worker.h - a thread with a loop that VMs belong to, and the way to have
 * something done on it.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/events.h"
#include "loop/loop.h"
#include "vsock/scratch.h"

/** Zero-initialised is empty. */
struct worker {
	struct loop *loop;
	struct scratch *scratch; /* of its thread */
	struct event_queue events;
	uint32_t vms; /* how many belong to it; the manager's count */
	pthread_t thread;
	bool running;

	/* the call at hand, see worker_call() */
	struct loop_msg msg;
	sem_t done;
	void (*fn)(void *arg);
	void *arg;
};

/** Make loop and scratch; no thread yet. Return: 0 or -errno, worker_fini() is due anyway. */
int worker_init(struct worker *worker) must_use;

/** Start the thread. Return: 0 or -errno. */
int worker_start(struct worker *worker) must_use;

/** Have the thread end after its turn, and wait for that; legal when it does not run. */
void worker_stop(struct worker *worker);

/** Free everything; the thread does not run, its VMs are gone. */
void worker_fini(struct worker *worker);

/**
 * worker_call() - Have @fn(@arg) run between two dispatches of the worker, and wait
 *
 * While the thread does not run, @fn is called here. The wait is as long as a
 * turn of the loop, which is bounded. After the return the worker holds no
 * pointer that it took from shared tables before.
 *
 * Context: the main thread only, never a worker
 */
void worker_call(struct worker *worker, void (*fn)(void *arg), void *arg);

#endif
