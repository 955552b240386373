// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * process.c - figures of the process from /proc and getrusage().
 */
#include "daemon/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

#define ENTRIES_BYTES 2048u

static uint64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void process_open(struct process *process)
{
	process->fd_dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	process->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	process->started_ms = now_ms();
}

void process_close(struct process *process)
{
	fd_close(&process->fd_dir);
	fd_close(&process->statm);
}

/* Entries but "." and "..", whose names begin with no digit. */
static int64_t count_descriptors(int dir)
{
	_Alignas(struct dirent64) char entries[ENTRIES_BYTES];
	int64_t count = 0;
	ssize_t got;

	if (dir < 0 || lseek(dir, 0, SEEK_SET) < 0)
		return -1;
	got = getdents64(dir, entries, sizeof(entries));
	while (got > 0) {
		for (ssize_t at = 0; at < got;) {
			const struct dirent64 *entry = (const struct dirent64 *)(entries + at);

			count += entry->d_name[0] != '.';
			at += entry->d_reclen;
		}
		got = getdents64(dir, entries, sizeof(entries));
	}
	return got < 0 ? -1 : count;
}

/* The second number of statm, in pages. */
static int64_t resident_bytes(int statm)
{
	char text[128];
	ssize_t got = statm < 0 ? -1 : pread(statm, text, sizeof(text) - 1, 0);
	const char *space;

	if (got <= 0)
		return -1;
	text[got] = '\0';
	space = strchr(text, ' ');
	return space == NULL ? -1 : strtoll(space, NULL, 10) * sysconf(_SC_PAGESIZE);
}

static uint64_t microseconds(const struct timeval *tv)
{
	return (uint64_t)tv->tv_sec * 1000000 + (uint64_t)tv->tv_usec;
}

void process_get_usage(struct process *process, struct process_usage *usage)
{
	struct rusage used = { 0 };
	struct rlimit limit = { 0 };

	(void)getrusage(RUSAGE_SELF, &used);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	*usage = (struct process_usage){
		.uptime_ms = now_ms() - process->started_ms,
		.descriptors = count_descriptors(process->fd_dir),
		.resident_bytes = resident_bytes(process->statm),
		.user_us = microseconds(&used.ru_utime),
		.system_us = microseconds(&used.ru_stime),
		.switches = (uint64_t)used.ru_nvcsw,
		.descriptor_limit = limit.rlim_cur,
	};
}
