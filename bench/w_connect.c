// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * w_connect.c - short connections: connect, one byte each way, close; and
 * connections that nobody answers.
 *
 * A cycle ends where the application's close() returns: the packets that end
 * the connection overlap with the next one, as they do in Linux.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/echo.h"
#include "bench/gsock.h"
#include "bench/hostside.h"
#include "bench/workloads.h"

#define PORT 10000u
#define CONNECT_LIMIT_NS (2 * NS_PER_S) /* Linux: VSOCK_DEFAULT_CONNECT_TIMEOUT */

/* One who connects again and again; on the host it is a thread. */
struct cycle {
	struct crr *crr;
	struct gsock *sock; /* the guest's current connection */
	uint64_t start_ns;
	uint64_t done; /* shared */
	struct samples latency;
	pthread_t thread;
};

struct crr {
	struct world world;
	struct echo echo;
	bool stop;      /* shared */
	bool measuring; /* shared */
	uint64_t refused;
	uint32_t cycles;
	struct cycle *cycle;
};

static bool flag(const bool *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void completed(struct cycle *c)
{
	if (flag(&c->crr->measuring))
		samples_add(&c->latency, now_ns() - c->start_ns);
	__atomic_store_n(&c->done, c->done + 1, __ATOMIC_RELAXED);
}

/* --- the guest connects --- */

static void next_cycle(struct cycle *c);

static void asker_opened(struct gsock *sock)
{
	(void)gsock_send(sock, 1);
}

/* Something was read: it can only be the answer. */
static void asker_writable(struct gsock *sock)
{
	struct cycle *c = sock->app;

	completed(c);
	gsock_close(sock);
	next_cycle(c);
}

static void asker_closed(struct gsock *sock)
{
	struct cycle *c = sock->app;
	bool current = c->sock == sock;

	free(sock);
	if (!current)
		return;
	c->crr->refused++;
	next_cycle(c);
}

static const struct gsock_ops asker = {
	.opened = asker_opened,
	.writable = asker_writable,
	.closed = asker_closed,
};

static void next_cycle(struct cycle *c)
{
	c->sock = NULL;
	if (flag(&c->crr->stop))
		return;
	c->sock = must_calloc(1, sizeof(*c->sock));
	c->start_ns = now_ns();
	gsock_connect(c->crr->world.guests[0], c->sock, &asker, 2, PORT);
	c->sock->app = c;
}

/* --- the host connects --- */

static void answerer_writable(struct gsock *sock)
{
	(void)gsock_send(sock, 1);
}

static void answerer_closed(struct gsock *sock)
{
	free(sock);
}

static const struct gsock_ops answerer = {
	.writable = answerer_writable,
	.closed = answerer_closed,
};

static struct gsock *accept_any(struct guest *guest, uint32_t local_port)
{
	struct gsock *sock = must_calloc(1, sizeof(*sock));

	(void)guest;
	(void)local_port;
	gsock_init(sock, &answerer);
	return sock;
}

static void *call_guest(void *arg)
{
	struct cycle *c = arg;
	char byte = 0;

	while (!flag(&c->crr->stop)) {
		int fd;

		c->start_ns = now_ns();
		fd = host_connect(c->crr->world.uds[0], PORT);
		if (fd < 0) {
			__atomic_fetch_add(&c->crr->refused, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1)
			completed(c);
		close(fd);
	}
	return NULL;
}

/* --- both --- */

static void drive_for(struct guest *guest, uint32_t ms)
{
	uint64_t end = now_ns() + ms * NS_PER_MS;

	while (now_ns() < end) {
		if (!guest_poll(guest))
			guest_wait(guest, 1);
	}
}

static uint64_t all_done(const struct crr *crr)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < crr->cycles; i++)
		sum += __atomic_load_n(&crr->cycle[i].done, __ATOMIC_RELAXED);
	return sum;
}

static void call_guest_from_all(struct crr *crr)
{
	for (uint32_t i = 0; i < crr->cycles; i++) {
		struct cycle *c = &crr->cycle[i];

		if (pthread_create(&c->thread, NULL, call_guest, c) != 0)
			die("no thread for a host program");
	}
}

static void start(struct crr *crr, const struct options *o)
{
	world_start(&crr->world, o, 1);
	crr->world.guests[0]->accept = accept_any;
	crr->cycles = o->concurrency;
	crr->cycle = must_calloc(crr->cycles, sizeof(*crr->cycle));
	for (uint32_t i = 0; i < crr->cycles; i++)
		crr->cycle[i].crr = crr;
	if (o->from_host) {
		call_guest_from_all(crr);
		return;
	}
	echo_start(&crr->echo);
	echo_add(&crr->echo, host_listen(crr->world.uds[0], PORT));
	for (uint32_t i = 0; i < crr->cycles; i++)
		next_cycle(&crr->cycle[i]);
}

/* Clients that still wait for the daemon end with the process. */
static void finish(struct crr *crr, const struct options *o)
{
	__atomic_store_n(&crr->stop, true, __ATOMIC_RELAXED);
	drive_for(crr->world.guests[0], 100);
	if (!o->from_host)
		echo_stop(&crr->echo);
	world_stop(&crr->world);
}

static void report(struct crr *crr, const struct options *o, double cycles,
		   const struct usage usage[2])
{
	double seconds = (double)(usage[1].when_ns - usage[0].when_ns) / 1e9;
	struct result r;

	result_begin(&r, "crr");
	world_describe(o, &r);
	result_string(&r, "from", o->from_host ? "host" : "guest");
	result_number(&r, "concurrency", crr->cycles);
	result_number(&r, "cycles_per_s", cycles / seconds);
	result_number(&r, "refused", (double)crr->refused);
	result_samples(&r, "", &crr->cycle[0].latency);
	if (cycles > 0)
		result_number(&r, "cpu_us_per_cycle",
			      (double)(usage[1].cpu_ns - usage[0].cpu_ns) / 1e3 / cycles);
	if (usage[1].syscalls >= 0 && cycles > 0)
		result_number(&r, "syscalls_per_cycle",
			      (usage[1].syscalls - usage[0].syscalls) / cycles);
	world_report_usage(&usage[0], &usage[1], 0, &r);
	result_number(&r, "stalled", cycles <= 0);
	result_end(&r);
}

void workload_crr(const struct options *o)
{
	struct crr *crr = must_calloc(1, sizeof(*crr)); /* threads may outlive this call */
	struct usage usage[2];
	uint64_t before;
	uint64_t after;

	start(crr, o);
	drive_for(crr->world.guests[0], o->warmup_ms);
	before = all_done(crr);
	proc_usage_quick(&crr->world.daemon, &usage[0]);
	__atomic_store_n(&crr->measuring, true, __ATOMIC_RELAXED);
	drive_for(crr->world.guests[0], o->run_ms);
	__atomic_store_n(&crr->measuring, false, __ATOMIC_RELAXED);
	proc_usage_quick(&crr->world.daemon, &usage[1]);
	after = all_done(crr);
	report(crr, o, (double)(after - before), usage);
	finish(crr, o);
	if (after == before)
		die_hung("no connection came through");
}

/* --- refused connections --- */

struct refusal {
	bool over;
	struct gsock sock;
};

static void refusal_closed(struct gsock *sock)
{
	struct refusal *refusal = sock->app;

	refusal->over = true;
}

static const struct gsock_ops refusal_ops = { .closed = refusal_closed };

/* One attempt. Return: nanoseconds until the refusal, or 0 when none came. */
static uint64_t try_once(struct guest *guest, struct refusal *refusal)
{
	uint64_t start_ns = now_ns();

	refusal->over = false;
	gsock_connect(guest, &refusal->sock, &refusal_ops, 2, PORT + 1);
	refusal->sock.app = refusal;
	while (!refusal->over) {
		if (now_ns() > start_ns + CONNECT_LIMIT_NS) {
			gsock_forget(&refusal->sock);
			return 0;
		}
		if (!guest_poll(guest))
			guest_wait(guest, 50);
	}
	return now_ns() - start_ns;
}

void workload_refused(const struct options *o)
{
	struct refusal *refusal = must_calloc(1, sizeof(*refusal));
	struct samples latency = { 0 };
	struct world world;
	struct result r;
	uint64_t unanswered = 0;
	uint64_t end;

	world_start(&world, o, 1);
	end = now_ns() + o->run_ms * NS_PER_MS;
	while (now_ns() < end) {
		uint64_t ns = try_once(world.guests[0], refusal);

		if (ns == 0)
			unanswered++;
		else
			samples_add(&latency, ns);
	}
	result_begin(&r, "refused");
	world_describe(o, &r);
	result_samples(&r, "", &latency);
	result_number(&r, "unanswered", (double)unanswered);
	result_end(&r);
	samples_fini(&latency);
	world_stop(&world);
	free(refusal);
}
