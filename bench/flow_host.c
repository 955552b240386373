// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * flow_host.c - the host programs of flows: one thread each with blocking
 * sockets, as the simplest program would be written.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/flow.h"
#include "bench/hostside.h"
#include "bench/pattern.h"

static bool stopping(const struct flow *flow)
{
	return __atomic_load_n(flow->stop, __ATOMIC_RELAXED);
}

static void count(struct flow *flow, uint64_t n)
{
	__atomic_store_n(&flow->got, flow->got + n, __ATOMIC_RELAXED);
}

/* Whether a read or write that gave @n goes on; an end that nobody asked for is fatal. */
static bool goes_on(const struct flow *flow, ssize_t n)
{
	if (n > 0)
		return true;
	if (!stopping(flow))
		die("flow %u: the host's end broke: %s", flow->index,
		    n == 0 ? "end of file" : strerror(errno));
	return false;
}

static void read_bulk(struct flow *flow)
{
	bool verify = flow->world->options->guest.verify;
	ssize_t n;

	do {
		n = recv(flow->host_fd, flow->buffer, flow->world->options->host_io, 0);
		if (!goes_on(flow, n))
			return;
		if (verify && !pattern_matches(flow->pattern, flow->got, flow->buffer, (size_t)n))
			die("flow %u: wrong content near byte %llu", flow->index,
			    (unsigned long long)flow->got);
		count(flow, (uint64_t)n);
	} while (!stopping(flow));
}

static void write_bulk(struct flow *flow)
{
	uint64_t at = 0;
	ssize_t n;

	do {
		n = send(flow->host_fd, flow->pattern + pattern_place(at),
			 flow->world->options->host_io, MSG_NOSIGNAL);
		at += n > 0 ? (uint64_t)n : 0;
	} while (goes_on(flow, n) && !stopping(flow));
}

static bool read_message(struct flow *flow)
{
	return goes_on(flow, recv(flow->host_fd, flow->buffer, flow->message, MSG_WAITALL));
}

static bool write_message(struct flow *flow)
{
	return goes_on(flow, send(flow->host_fd, flow->buffer, flow->message, MSG_NOSIGNAL));
}

static void answer_all(struct flow *flow)
{
	while (read_message(flow) && write_message(flow))
		;
}

static void ask_all(struct flow *flow)
{
	while (!stopping(flow)) {
		uint64_t start = now_ns();

		if (!write_message(flow) || !read_message(flow))
			return;
		if (__atomic_load_n(flow->measuring, __ATOMIC_RELAXED))
			samples_add(&flow->latency, now_ns() - start);
		count(flow, 1);
	}
}

static void *host_end(void *arg)
{
	struct flow *flow = arg;

	if (flow->host_fd < 0)
		flow->host_fd = host_connect(flow->world->uds[flow->vm], flow_port(flow));
	if (flow->host_fd < 0)
		die("flow %u: the guest refused", flow->index);
	switch (flow->kind) {
	case FLOW_G2H:
		read_bulk(flow);
		break;
	case FLOW_H2G:
		write_bulk(flow);
		break;
	case FLOW_RR:
		answer_all(flow);
		break;
	case FLOW_RRH:
		ask_all(flow);
		break;
	case FLOW_SIB:
	case FLOW_RRS:
		break;
	}
	return NULL;
}

void flow_host_start(struct flow *flow)
{
	if (pthread_create(&flow->thread, NULL, host_end, flow) != 0)
		die("no thread for the host's end");
	flow->has_thread = true;
}
