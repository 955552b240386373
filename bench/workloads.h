// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * workloads.h - the measurements; each prints its result lines.
 */
#ifndef BENCH_WORKLOADS_H
#define BENCH_WORKLOADS_H

#include "bench/world.h"

/** Bulk and request/response flows side by side, as options.flows says. */
void workload_flows(const struct options *options);

/** Connect, exchange a byte, close; again and again. */
void workload_crr(const struct options *options);

/** Connect to a port of the host where nobody listens. */
void workload_refused(const struct options *options);

/** Many idle connections: set-up rate, memory, an exchange on each. */
void workload_idle(const struct options *options);

/** Many VMs: threads, memory, wake-ups, an exchange in each. */
void workload_vms(const struct options *options);

/** What the machine can do without a daemon. */
void workload_base(const struct options *options);

/** The part of it that connects. */
void base_connects(const struct options *options);

#endif
