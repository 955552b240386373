// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * w_flows.c - flows side by side: throughput, fairness, latency.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/flow.h"
#include "bench/pattern.h"
#include "bench/workloads.h"

#define GIB 1073741824.0
#define STALL_MS 3000u
#define STALL_STEP_MS 50u

/* All of one run. */
struct run {
	const struct options *options;
	struct world world;
	struct flow flows[WORLD_MAX_FLOWS];
	uint64_t before[WORLD_MAX_FLOWS];
	uint64_t after[WORLD_MAX_FLOWS];
	struct usage usage[2];
	uint8_t *pattern;
	bool stop;
	bool measuring;
};

struct driver {
	struct guest *guest;
	const bool *stop;
	pthread_t thread;
};

static void *drive(void *arg)
{
	struct driver *driver = arg;

	while (!__atomic_load_n(driver->stop, __ATOMIC_RELAXED)) {
		if (!guest_poll(driver->guest))
			guest_wait(driver->guest, 100);
	}
	return NULL;
}

static uint32_t vms_needed(const struct run *run)
{
	uint32_t n = run->options->vms;

	for (size_t i = 0; i < run->options->flow_count; i++) {
		const struct flow *flow = &run->flows[i];
		bool sibling = flow->kind == FLOW_SIB || flow->kind == FLOW_RRS;
		uint32_t vms = flow->vm + (sibling ? 2 : 1);

		n = vms > n ? vms : n;
	}
	return n;
}

static void set_up(struct run *run)
{
	if (run->options->flow_count == 0)
		die("no --flow given");
	run->pattern = must_calloc(1, PATTERN_BYTES);
	pattern_fill(run->pattern);
	for (size_t i = 0; i < run->options->flow_count; i++)
		flow_parse(&run->flows[i], run->options->flows[i]);
	world_start(&run->world, run->options, vms_needed(run));
	for (uint32_t i = 0; i < run->world.vms; i++) {
		run->world.guests[i]->accept = flow_accept;
		run->world.guests[i]->app = run->flows;
	}
	for (size_t i = 0; i < run->options->flow_count; i++) {
		struct flow *flow = &run->flows[i];

		flow->index = (uint32_t)i;
		flow->world = &run->world;
		flow->stop = &run->stop;
		flow->measuring = &run->measuring;
		flow->pattern = run->pattern;
		flow_open(flow);
	}
	for (size_t i = 0; i < run->options->flow_count; i++)
		flow_go(&run->flows[i]);
}

static void snapshot(struct run *run, uint64_t *got, struct usage *usage)
{
	proc_usage_quick(&run->world.daemon, usage);
	for (size_t i = 0; i < run->options->flow_count; i++)
		got[i] = __atomic_load_n(&run->flows[i].got, __ATOMIC_RELAXED);
}

/* Whether a flow did not move at all. */
static bool has_stalled(const struct run *run)
{
	for (size_t i = 0; i < run->options->flow_count; i++) {
		if (run->after[i] == run->before[i])
			return true;
	}
	return false;
}

static void measure(struct run *run)
{
	struct driver *drivers = must_calloc(run->world.vms, sizeof(*drivers));

	for (uint32_t i = 0; i < run->world.vms; i++) {
		drivers[i].guest = run->world.guests[i];
		drivers[i].stop = &run->stop;
		if (pthread_create(&drivers[i].thread, NULL, drive, &drivers[i]) != 0)
			die("no thread for a guest");
	}
	pause_ms(run->options->warmup_ms);
	snapshot(run, run->before, &run->usage[0]);
	__atomic_store_n(&run->measuring, true, __ATOMIC_RELAXED);
	pause_ms(run->options->run_ms);
	snapshot(run, run->after, &run->usage[1]);
	/* a starved machine is no hang: give it time */
	for (uint32_t i = 0; has_stalled(run) && i < STALL_MS / STALL_STEP_MS; i++) {
		pause_ms(STALL_STEP_MS);
		snapshot(run, run->after, &run->usage[1]);
	}
	__atomic_store_n(&run->measuring, false, __ATOMIC_RELAXED);
	__atomic_store_n(&run->stop, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < run->world.vms; i++) {
		guest_wake(drivers[i].guest);
		pthread_join(drivers[i].thread, NULL);
	}
	free(drivers);
}

/* Jain's index of the bulk flows, and what they carried together. */
static double sum_bulk(const struct run *run, double *jain)
{
	double sum = 0;
	double squares = 0;
	double n = 0;

	for (size_t i = 0; i < run->options->flow_count; i++) {
		double bytes = (double)(run->after[i] - run->before[i]);

		if (!flow_is_bulk(&run->flows[i]))
			continue;
		sum += bytes;
		squares += bytes * bytes;
		n++;
	}
	*jain = squares > 0 ? sum * sum / (n * squares) : 0;
	return sum;
}

static void report_exchanges(struct run *run, double seconds, struct result *r)
{
	for (size_t i = 0; i < run->options->flow_count; i++) {
		struct flow *flow = &run->flows[i];
		double done = (double)(run->after[i] - run->before[i]);

		if (flow_is_bulk(flow))
			continue;
		result_number(r, "message", flow->message);
		result_number(r, "exchanges_per_s", done / seconds);
		result_samples(r, "", &flow->latency);
		if (run->usage[1].syscalls >= 0 && done > 0)
			result_number(r, "syscalls_per_exchange",
				      (run->usage[1].syscalls - run->usage[0].syscalls) / done);
		return; /* the first one speaks for all */
	}
}

static void report(struct run *run)
{
	double seconds = (double)(run->usage[1].when_ns - run->usage[0].when_ns) / 1e9;
	struct guest *guest = run->world.guests[0];
	struct result r;
	double jain;
	double bulk = sum_bulk(run, &jain);

	result_begin(&r, "flows");
	world_describe(run->options, &r);
	result_number(&r, "seconds", seconds);
	if (bulk > 0) {
		result_number(&r, "gbit_per_s", bulk * 8 / seconds / 1e9);
		result_number(&r, "jain", jain);
	}
	report_exchanges(run, seconds, &r);
	world_report_usage(&run->usage[0], &run->usage[1], bulk / GIB, &r);
	result_number(&r, "interrupts_per_s", (double)guest->interrupts / seconds);
	result_number(&r, "kicks_per_s", (double)(guest->rx.kicks + guest->tx.kicks) / seconds);
	result_number(&r, "surprises", (double)guest->surprises);
	result_number(&r, "stalled", has_stalled(run));
	result_end(&r);
}

/* What the rings and sockets of each guest look like. */
static void explain_stall(struct run *run)
{
	proc_explain(&run->world.daemon);
	for (uint32_t i = 0; i < run->world.vms; i++) {
		const struct guest *guest = run->world.guests[i];

		fprintf(stderr, "guest %u: %llu packets in, %llu out\n", guest->cid,
			(unsigned long long)guest->packets_in,
			(unsigned long long)guest->packets_out);
		vq_explain(&guest->rx, "  rx");
		vq_explain(&guest->tx, "  tx");
	}
}

void workload_flows(const struct options *options)
{
	struct run *run = must_calloc(1, sizeof(*run));
	bool stalled;

	run->options = options;
	set_up(run);
	measure(run);
	report(run);
	stalled = has_stalled(run);
	if (stalled)
		explain_stall(run);
	for (size_t i = 0; i < options->flow_count; i++)
		flow_close(&run->flows[i]);
	world_stop(&run->world);
	free(run->pattern);
	free(run);
	if (stalled)
		die_hung("a flow did not move");
}
