// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * util.c - time, failure, samples, result lines. See util.h.
 */
#include "bench/util.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define SAMPLES_MAX (1u << 20)

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void die(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("vsock-bench: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(EXIT_FAILURE);
}

void die_hung(const char *what)
{
	fprintf(stderr, "vsock-bench: hang: %s\n", what);
	exit(EXIT_HANG);
}

void *must_calloc(size_t count, size_t size)
{
	void *p = calloc(count, size);

	if (p == NULL)
		die("no memory");
	return p;
}

void pause_ms(uint32_t ms)
{
	uint64_t end = now_ns() + ms * NS_PER_MS;

	for (uint64_t now = now_ns(); now < end; now = now_ns())
		(void)poll(NULL, 0, (int)((end - now) / NS_PER_MS + 1));
}

void raise_fd_limit(void)
{
	struct rlimit limit = { .rlim_cur = 1048576, .rlim_max = 1048576 };

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

bool wait_fd(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t now = now_ns();
		int n;

		if (now >= deadline_ns)
			return false;
		n = poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS + 1));
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
	}
}

void samples_add(struct samples *s, uint64_t ns)
{
	if (s->ns == NULL)
		s->ns = must_calloc(SAMPLES_MAX, sizeof(*s->ns));
	s->ns[s->count++ % SAMPLES_MAX] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

void samples_fini(struct samples *s)
{
	free(s->ns);
	s->ns = NULL;
	s->count = 0;
}

static size_t samples_kept(const struct samples *s)
{
	return s->count < SAMPLES_MAX ? (size_t)s->count : SAMPLES_MAX;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a;
	uint32_t y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

void samples_sort(struct samples *s)
{
	if (s->ns != NULL)
		qsort(s->ns, samples_kept(s), sizeof(*s->ns), compare_u32);
}

double samples_quantile_us(const struct samples *s, double q)
{
	size_t n = samples_kept(s);
	size_t at = (size_t)(q * (double)n);

	if (n == 0)
		return 0;
	return s->ns[at < n ? at : n - 1] / 1e3;
}

static void printf_like(2, 3)
add(struct result *r, const char *fmt, ...)
{
	size_t room = sizeof(r->text) - r->length;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(r->text + r->length, room, fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= room)
		die("result line too long");
	r->length += (size_t)n;
}

void result_begin(struct result *r, const char *workload)
{
	r->length = 0;
	add(r, "{\"workload\":\"%s\"", workload);
}

void result_string(struct result *r, const char *key, const char *value)
{
	add(r, ",\"%s\":\"%s\"", key, value);
}

void result_number(struct result *r, const char *key, double value)
{
	add(r, ",\"%s\":%.9g", key, value);
}

void result_samples(struct result *r, const char *prefix, struct samples *s)
{
	samples_sort(s);
	add(r, ",\"%sp50_us\":%.6g,\"%sp99_us\":%.6g,\"%sp999_us\":%.6g,\"%ssamples\":%llu", prefix,
	    samples_quantile_us(s, 0.5), prefix, samples_quantile_us(s, 0.99), prefix,
	    samples_quantile_us(s, 0.999), prefix, (unsigned long long)s->count);
}

void result_end(struct result *r)
{
	add(r, "}");
	puts(r->text);
	fflush(stdout);
}
