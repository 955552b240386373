// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * util.h - time, failure, latency samples and result lines of the benchmark.
 * Knows nothing of vsock.
 */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* Exit status when something that must come in bounded time did not. */
#define EXIT_HANG 3

/** Nanoseconds of the monotonic clock. */
uint64_t now_ns(void) must_use;

/** Give up: print a line and end the process with status 1. */
_Noreturn void die(const char *fmt, ...) printf_like(1, 2);

/** Give up because nothing happened in time: status EXIT_HANG. */
_Noreturn void die_hung(const char *what);

/** Zeroed memory or the end of the process. */
void *must_calloc(size_t count, size_t size) must_use;

/** Pause the calling thread; only ever the length of a measurement. */
void pause_ms(uint32_t ms);

/** Let the process open as many descriptors as the kernel allows. */
void raise_fd_limit(void);

/** Wait until @fd has one of @events. Return: false when @deadline_ns passed. */
bool wait_fd(int fd, short events, uint64_t deadline_ns) must_use;

/** Durations; beyond their bound new ones replace old ones in turn. */
struct samples {
	uint32_t *ns;
	uint64_t count; /* ever added */
};

void samples_add(struct samples *s, uint64_t ns);
void samples_fini(struct samples *s);

/** Sort; afterwards only samples_quantile_us() may be called. */
void samples_sort(struct samples *s);

/** The @q-quantile (0 to 1) in microseconds; 0 when empty. */
double samples_quantile_us(const struct samples *s, double q) must_use;

/** One result: a line of JSON under construction. */
struct result {
	char text[8192];
	size_t length;
};

void result_begin(struct result *r, const char *workload);
void result_string(struct result *r, const char *key, const char *value);
void result_number(struct result *r, const char *key, double value);
/** p50, p99, p99.9 and count of sorted @s, keys prefixed by @prefix. */
void result_samples(struct result *r, const char *prefix, struct samples *s);
/** Print the line. */
void result_end(struct result *r);

#endif
