// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * process.h - what the whole process uses.
 */
#ifndef DAEMON_PROCESS_H
#define DAEMON_PROCESS_H

#include <stdint.h>

#include "base/compiler.h"

/** Files opened once, so that they can be read from a sandbox. */
struct process {
	int fd_dir; /* /proc/self/fd; -1: not available */
	int statm;
	uint64_t started_ms; /* monotonic */
};

struct process_usage {
	uint64_t uptime_ms;
	int64_t descriptors;    /* open ones; -1: not known */
	int64_t resident_bytes; /* -1: not known */
	uint64_t user_us;       /* processor time of all threads */
	uint64_t system_us;
	uint64_t switches; /* voluntary context switches of all threads */
	uint64_t descriptor_limit;
};

/** At start-up; what is not available is left out later. */
void process_open(struct process *process);

void process_close(struct process *process);

/** Context: main thread. */
void process_get_usage(struct process *process, struct process_usage *usage);

#endif
