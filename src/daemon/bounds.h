// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * bounds.h - what the VMs may hold together, and what each is sure of.
 *
 * Theory of operation: half of each total is for places, in equal shares that
 * nobody else can take; the other half is for who comes first. The number of
 * places is settled at the start and never changes, so no promise is taken back
 * when VMs come. A VM that finds no place left is served from the other half
 * alone, which also pays for its descriptors.
 *
 * Context: the main thread. The quotas inside are charged by any.
 */
#ifndef DAEMON_BOUNDS_H
#define DAEMON_BOUNDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/quota.h"
#include "config/config.h"

/* Places at least, where VMs may be added later. */
#define BOUNDS_SPARE_PLACES 16u

/** What the VMs have together of something. */
struct bound {
	struct quota all; /* beyond what is kept for the places */
	uint64_t share;   /* of a place */
};

struct bounds {
	struct bound open;     /* connections */
	struct bound buffered; /* bytes of guests that nobody has taken */
	uint32_t places;
	uint32_t taken;
	uint32_t max_half_open; /* of each VM, so that they cannot take every connection */
};

/** What one VM was given. */
struct bounds_grant {
	struct quota open; /* to be its own; without a bound of its own yet */
	struct quota buffered;
	bool has_place;
	uint64_t paid; /* descriptors, from the half for who comes first */
};

/** Divide. @may_grow: VMs may be added while the daemon runs. */
void bounds_init(struct bounds *bounds, const struct config *config, bool may_grow);

/**
 * bounds_admit() - What a new VM gets
 * @at_start: it is one of the configuration that bounds_init() saw
 *
 * Return: 0; -ENFILE: there are no descriptors left for it
 */
int bounds_admit(struct bounds *bounds, const struct vm_config *vm, bool at_start,
		 struct bounds_grant *grant) must_use;

/** A VM is gone, and holds nothing any more. */
void bounds_release(struct bounds *bounds, const struct bounds_grant *grant);

#endif
