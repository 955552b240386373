// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * proc.h - the daemon under test as a process: started from a command template,
 * looked at from outside, ended.
 */
#ifndef BENCH_PROC_H
#define BENCH_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_MAX_COUNTERS 8192u

/** A running daemon; zeroed when the kernel is the device: its usage is zero. */
struct proc {
	pid_t pid;
	int *counters; /* system call counters, one per thread */
	size_t counter_count;
};

/** What a daemon, with a process it may have started, has used so far or holds now. */
struct usage {
	uint64_t when_ns;
	uint64_t cpu_ns;
	uint64_t switches; /* voluntary ones: each is a wake-up */
	uint64_t anon_kib; /* memory of its own, resident */
	uint64_t threads;
	uint64_t fds;
	double syscalls; /* negative: not counted */
};

/**
 * proc_start() - Start the daemon
 * @command: words; "{vms}" stands for the VM options
 * @vms:     the VM options, @vm_count of them, each "--vm" "KEY=VALUE,..."
 *
 * Its output goes to @log (a path) or nowhere (NULL). It dies with us.
 */
void proc_start(struct proc *proc, const char *command, char *const *vms, size_t vm_count,
		const char *log);

/** End it and wait; 0 or the signal that had ended it before. */
int proc_stop(struct proc *proc);

/** Whether it still runs. */
bool proc_alive(const struct proc *proc);

/** Count system calls of its present threads from now on, where possible. */
void proc_count_syscalls(struct proc *proc);

/** CPU time and system calls only: cheap enough to frame a measurement. */
void proc_usage_quick(const struct proc *proc, struct usage *usage);

/** Print what each thread waits in, for whoever asks why nothing moves. */
void proc_explain(const struct proc *proc);

/** All of it. */
void proc_usage(const struct proc *proc, struct usage *usage);

#endif
