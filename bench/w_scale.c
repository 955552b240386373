// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * w_scale.c - many connections, many VMs: what each costs while it is idle, and
 * that it works when it is used.
 */
#include <stdlib.h>
#include <string.h>

#include "bench/echo.h"
#include "bench/gsock.h"
#include "bench/hostside.h"
#include "bench/workloads.h"

#define PORT 10000u
#define IN_PARALLEL 64u /* connections being set up */
#define CONNECTIONS_PER_VM 50000u
#define PROGRESS_LIMIT_NS (5 * NS_PER_S)

/* One of many connections of guests to the echoing host program. */
struct member {
	struct gsock sock;
	bool open;
	bool was_open;
	bool failed;
	bool answered;
};

static void member_opened(struct gsock *sock)
{
	struct member *m = sock->app;

	m->open = true;
	m->was_open = true;
}

static void member_closed(struct gsock *sock)
{
	struct member *m = sock->app;

	m->open = false;
	m->failed = true;
}

static void member_writable(struct gsock *sock)
{
	struct member *m = sock->app;

	m->answered = true;
}

static const struct gsock_ops member_ops = {
	.opened = member_opened,
	.writable = member_writable,
	.closed = member_closed,
};

static void connect_member(struct member *m, struct guest *guest)
{
	gsock_connect(guest, &m->sock, &member_ops, 2, PORT);
	m->sock.app = m;
}

static void drive(struct guest *guest)
{
	if (!guest_poll(guest))
		guest_wait(guest, 10);
}

/* Open @count connections of one guest. Return: how many came about. */
static uint32_t open_members(struct guest *guest, struct member *members, uint32_t count)
{
	uint64_t progress = now_ns();
	uint32_t begun = 0;
	uint32_t settled = 0;

	while (settled < count) {
		while (begun < count && begun - settled < IN_PARALLEL)
			connect_member(&members[begun++], guest);
		drive(guest);
		while (settled < begun && (members[settled].open || members[settled].failed)) {
			settled++;
			progress = now_ns();
		}
		if (now_ns() - progress > PROGRESS_LIMIT_NS)
			break;
	}
	count = 0;
	for (uint32_t i = 0; i < begun; i++)
		count += members[i].open;
	return count;
}

/* One byte there and back. Return: false when no answer came. */
static bool exchange(struct member *m, struct samples *latency)
{
	struct guest *guest = m->sock.guest;
	uint64_t start = now_ns();

	m->answered = false;
	if (!m->open || gsock_send(&m->sock, 1) != 1)
		return false;
	while (!m->answered && !m->failed) {
		if (now_ns() - start > PROGRESS_LIMIT_NS)
			return false;
		drive(guest);
	}
	samples_add(latency, now_ns() - start);
	return m->answered;
}

/* Exchanges with all in turn, for as long as a measurement takes. */
static uint64_t exchange_with_all(struct member *members, size_t count, uint32_t ms,
				  struct samples *latency)
{
	uint64_t end = now_ns() + ms * NS_PER_MS;
	uint64_t failed = 0;
	size_t i = 0;

	while (count > 0 && now_ns() < end && failed < 3) {
		if (members[i].was_open && !exchange(&members[i], latency))
			failed++;       /* one that never was is missing in "open" */
		i = (i + 7919) % count; /* a prime: neighbours are far apart */
	}
	return failed;
}

/* Let the daemon be for a while; what it does meanwhile is idle work. */
static void report_idle(struct world *w, uint32_t ms, struct result *r)
{
	struct usage before;
	struct usage after;
	double seconds;

	pause_ms(200);
	proc_usage(&w->daemon, &before);
	pause_ms(ms);
	proc_usage(&w->daemon, &after);
	seconds = (double)(after.when_ns - before.when_ns) / 1e9;
	result_number(r, "idle_wakeups_per_s",
		      (double)(after.switches - before.switches) / seconds);
	result_number(r, "idle_cpu_ms_per_s",
		      (double)(after.cpu_ns - before.cpu_ns) / 1e6 / seconds);
	result_number(r, "threads", (double)after.threads);
	result_number(r, "fds", (double)after.fds);
	result_number(r, "anon_kib", (double)after.anon_kib);
}

void workload_idle(const struct options *o)
{
	uint32_t vms = (o->connections + CONNECTIONS_PER_VM - 1) / CONNECTIONS_PER_VM;
	uint32_t per_vm = o->connections / vms;
	struct member *members = must_calloc(o->connections, sizeof(*members));
	struct samples latency = { 0 };
	struct usage before;
	struct usage after;
	struct world world;
	struct echo echo;
	struct result r;
	uint32_t open = 0;
	double seconds;

	world_start(&world, o, vms);
	echo_start(&echo);
	for (uint32_t i = 0; i < vms; i++)
		echo_add(&echo, host_listen(world.uds[i], PORT));
	pause_ms(100);
	proc_usage(&world.daemon, &before);
	for (uint32_t i = 0; i < vms; i++)
		open += open_members(world.guests[i], members + i * per_vm, per_vm);
	proc_usage(&world.daemon, &after);
	seconds = (double)(after.when_ns - before.when_ns) / 1e9;
	result_begin(&r, "idle");
	result_number(&r, "wanted", o->connections);
	result_number(&r, "open", open);
	result_number(&r, "setup_per_s", open / seconds);
	result_number(&r, "bytes_each",
		      ((double)after.anon_kib - (double)before.anon_kib) * 1024 / open);
	result_number(&r, "fds_each", ((double)after.fds - (double)before.fds) / open);
	result_number(&r, "setup_cpu_us_each", (double)(after.cpu_ns - before.cpu_ns) / 1e3 / open);
	report_idle(&world, o->run_ms, &r);
	result_number(&r, "exchanges_failed",
		      (double)exchange_with_all(members, per_vm, o->run_ms, &latency));
	result_samples(&r, "", &latency);
	result_end(&r);
	echo_stop(&echo);
	world_stop(&world);
	samples_fini(&latency);
	free(members);
}

void workload_vms(const struct options *o)
{
	struct member *members = must_calloc(o->vms, sizeof(*members));
	struct samples latency = { 0 };
	struct usage idle;
	struct usage used;
	struct world world;
	struct echo echo;
	struct result r;
	uint64_t failed;
	uint64_t start = now_ns();
	uint32_t open = 0;

	world_start(&world, o, o->vms);
	proc_usage(&world.daemon, &idle);
	result_begin(&r, "vms");
	result_number(&r, "vms", o->vms);
	result_number(&r, "setup_ms_each", (double)(idle.when_ns - start) / 1e6 / o->vms);
	result_number(&r, "anon_kib_per_vm", (double)idle.anon_kib / o->vms);
	report_idle(&world, o->run_ms, &r);
	echo_start(&echo);
	for (uint32_t i = 0; i < o->vms; i++) {
		echo_add(&echo, host_listen(world.uds[i], PORT));
		open += open_members(world.guests[i], &members[i], 1);
	}
	failed = exchange_with_all(members, o->vms, o->run_ms, &latency);
	proc_usage(&world.daemon, &used);
	result_number(&r, "open", open);
	result_number(&r, "used_anon_kib_per_vm", (double)used.anon_kib / o->vms);
	result_number(&r, "exchanges_failed", (double)failed);
	result_samples(&r, "", &latency);
	result_end(&r);
	echo_stop(&echo);
	world_stop(&world);
	samples_fini(&latency);
	free(members);
}
