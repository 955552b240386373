// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * world.h - what one measurement runs in: options, a directory, the daemon and
 * its guests.
 */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/guest.h"
#include "bench/proc.h"
#include "bench/util.h"

#define WORLD_FIRST_CID 3u
#define WORLD_PATH_BYTES 96u
#define WORLD_MAX_FLOWS 64u

/** Everything the command line can say. */
struct options {
	const char *workload;
	const char *daemon; /* command template */
	const char *log;    /* where the daemon's output goes, or NULL */
	const char *flows[WORLD_MAX_FLOWS];
	size_t flow_count;
	struct guest_config guest;
	uint32_t vms;
	uint32_t connections; /* idle: how many */
	uint32_t concurrency; /* at a time: connects */
	uint32_t host_io;     /* bytes per read or write of a host program */
	uint32_t sockbuf;     /* SO_SNDBUF of the baselines, 0: as it is */
	uint32_t warmup_ms;
	uint32_t run_ms;
	uint32_t limit_s; /* then the process is a hang */
	bool from_host;   /* crr: who connects */
	bool count_syscalls;
};

/** A running daemon with guests. */
struct world {
	const struct options *options;
	char dir[WORLD_PATH_BYTES / 2];
	struct proc daemon;
	uint32_t vms;
	char (*uds)[WORLD_PATH_BYTES]; /* by guest: its address, see hostside.h */
	struct guest **guests;
};

/** Start the daemon with @vms VMs and a guest in each. */
void world_start(struct world *world, const struct options *options, uint32_t vms);

/** The same without guests: only the daemon listens. */
void world_start_daemon(struct world *world, const struct options *options, uint32_t vms);

/** Bring up the guests of world_start_daemon(). */
void world_start_guests(struct world *world);

/** End guests and daemon and remove the directory; dies if the daemon had died. */
void world_stop(struct world *world);

/** What every result line says of its circumstances. */
void world_describe(const struct options *options, struct result *result);

/** CPU time, system calls and wake-ups between @from and @to. */
void world_report_usage(const struct usage *from, const struct usage *to, double gib,
			struct result *result);

#endif
