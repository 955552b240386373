// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * w_base_crr.c - connect/request/close over AF_UNIX without a daemon: what the
 * host's sockets alone cost, whoever connects.
 *
 *   crr       one thread keeps 16 connections going, as the guest of w_connect.c
 *   crr_host  4 threads, one connection each, as the host programs there
 *
 * Both against the same host program that answers in w_connect.c.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/echo.h"
#include "bench/hostside.h"
#include "bench/workloads.h"

#define PORT 10000u
#define FROM_GUEST 16u /* --concurrency of the cases in plan.py */
#define FROM_HOST 4u
#define WAIT_MS 50

struct direct {
	char path[WORLD_PATH_BYTES]; /* of the host program's socket */
	struct echo echo;
	bool stop;     /* shared */
	uint64_t done; /* shared */
};

static bool stopped(const struct direct *d)
{
	return __atomic_load_n(&d->stop, __ATOMIC_RELAXED);
}

static int ask(const struct direct *d)
{
	int fd = host_dial(d->path, now_ns() + HOST_LIMIT_NS);
	char byte = 0;

	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		die("send: %s", strerror(errno));
	return fd;
}

static void take_answer(struct direct *d, int fd)
{
	char byte;

	if (recv(fd, &byte, 1, 0) != 1)
		die("a host program did not answer");
	close(fd);
	__atomic_fetch_add(&d->done, 1, __ATOMIC_RELAXED);
}

/* One after the other. */
static void *ask_singly(void *arg)
{
	struct direct *d = arg;

	while (!stopped(d))
		take_answer(d, ask(d));
	return NULL;
}

/* FROM_GUEST at once. */
static void *ask_many(void *arg)
{
	struct direct *d = arg;
	struct pollfd asked[FROM_GUEST];

	for (size_t i = 0; i < FROM_GUEST; i++)
		asked[i] = (struct pollfd){ .fd = ask(d), .events = POLLIN };
	while (!stopped(d)) {
		if (poll(asked, FROM_GUEST, WAIT_MS) < 0)
			die("poll: %s", strerror(errno));
		for (size_t i = 0; i < FROM_GUEST; i++) {
			if (asked[i].revents == 0)
				continue;
			take_answer(d, asked[i].fd);
			asked[i].fd = ask(d);
		}
	}
	for (size_t i = 0; i < FROM_GUEST; i++)
		close(asked[i].fd);
	return NULL;
}

static void measure(struct direct *d, const struct options *o, const char *name,
		    void *(*asker)(void *), size_t count)
{
	pthread_t threads[FROM_HOST];
	struct result r;
	uint64_t before;
	uint64_t start;

	d->stop = false;
	for (size_t i = 0; i < count; i++) {
		if (pthread_create(&threads[i], NULL, asker, d) != 0)
			die("no thread");
	}
	pause_ms(o->warmup_ms);
	before = __atomic_load_n(&d->done, __ATOMIC_RELAXED);
	start = now_ns();
	pause_ms(o->run_ms);
	before = __atomic_load_n(&d->done, __ATOMIC_RELAXED) - before;
	result_begin(&r, "base");
	result_string(&r, "what", name);
	result_number(&r, "cycles_per_s", (double)before * 1e9 / (double)(now_ns() - start));
	result_end(&r);
	__atomic_store_n(&d->stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

void base_connects(const struct options *o)
{
	struct direct *d = must_calloc(1, sizeof(*d));
	char dir[] = "/tmp/vsock-bench-XXXXXX";
	char uds[WORLD_PATH_BYTES / 2];

	if (mkdtemp(dir) == NULL)
		die("%s: %s", dir, strerror(errno));
	snprintf(uds, sizeof(uds), "%s/0", dir);
	snprintf(d->path, sizeof(d->path), "%s_%u", uds, PORT);
	echo_start(&d->echo);
	echo_add(&d->echo, host_listen(uds, PORT));
	measure(d, o, "crr", ask_many, 1);
	measure(d, o, "crr_host", ask_singly, FROM_HOST);
	echo_stop(&d->echo);
	(void)unlink(d->path);
	(void)rmdir(dir);
	free(d);
}
