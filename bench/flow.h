// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * flow.h - one connection that is kept busy: a bulk stream or an exchange of
 * requests and responses, between a guest and the host or another guest.
 *
 * The guest's end runs on the guest's thread, the host's end on its own. Both
 * ends touch only their own side of the structure, but for the words marked
 * shared.
 */
#ifndef BENCH_FLOW_H
#define BENCH_FLOW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/gsock.h"
#include "bench/util.h"
#include "bench/world.h"

enum flow_kind {
	FLOW_G2H, /* bulk, guest to host */
	FLOW_H2G, /* bulk, host to guest */
	FLOW_SIB, /* bulk, guest to the next guest */
	FLOW_RR,  /* the guest asks, the host answers */
	FLOW_RRH, /* the host asks, the guest answers */
	FLOW_RRS, /* the guest asks, the next guest answers */
};

struct flow {
	enum flow_kind kind;
	uint32_t index;
	uint32_t vm;
	uint32_t message; /* RR: bytes each way */
	struct world *world;
	const bool *stop;      /* shared */
	const bool *measuring; /* shared: samples count */
	struct gsock sock;     /* the first or only guest's end */
	struct gsock other;    /* the sibling's end */
	bool opened;           /* shared: each end is set up */
	bool other_opened;     /* shared */
	uint64_t got;          /* shared: bytes the receiver has, or exchanges done */
	uint32_t pending;      /* RR in a guest: bytes of the message that arrived */
	uint32_t other_pending;
	uint64_t asked_ns;
	struct samples latency;
	int host_fd; /* shared: -1 until connected */
	int listener;
	bool has_thread;
	pthread_t thread;
	uint8_t *buffer;        /* of the host's end */
	const uint8_t *pattern; /* the host's copy */
};

/** Parse "KIND[:BYTES][@VM]"; dies if it makes no sense. */
void flow_parse(struct flow *flow, const char *text);

/** Connect and start the host's end; the guests are driven meanwhile. */
void flow_open(struct flow *flow);

/** Begin to send. Before the guests' threads start. */
void flow_go(struct flow *flow);

/** End the host's end; *flow->stop is set and the guests' threads are gone. */
void flow_close(struct flow *flow);

/** Whether it carries bulk: then got counts bytes. */
static inline bool flow_is_bulk(const struct flow *flow)
{
	return flow->kind <= FLOW_SIB;
}

/** guest.accept for flows: guest.app is the array of WORLD_MAX_FLOWS flows. */
struct gsock *flow_accept(struct guest *guest, uint32_t local_port);

/* --- flow_host.c --- */

/** The port of a flow, on either side. */
static inline uint32_t flow_port(const struct flow *flow)
{
	return 10000 + flow->index;
}

void flow_host_start(struct flow *flow);

#endif
