// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * bounds.c - divides descriptors and bytes among VMs. Knows no VM.
 */
#include "daemon/bounds.h"

#include <errno.h>
#include <sys/resource.h>

#include "control/exporter.h"
#include "control/server.h"

#define VM_DESCRIPTORS 24u /* listeners, front-end, rings, messages in flight */
#define WORKER_DESCRIPTORS 4u
#define OWN_DESCRIPTORS 8u /* standard streams, signals, figures of the process */
/* clients of the control socket and of metrics */
#define OBSERVER_DESCRIPTORS (CONTROL_MAX_CLIENTS + EXPORTER_MAX_CLIENTS)
#define MIN_CONNS 16u

/* Connections there are descriptors for, beside what the daemon needs itself. */
static uint64_t affordable_conns(const struct config *config, uint64_t places)
{
	uint64_t needed = OWN_DESCRIPTORS + WORKER_DESCRIPTORS * (uint64_t)config->threads +
			  VM_DESCRIPTORS * places;
	uint64_t floor = MIN_CONNS * places;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT32_MAX;
	if (config->control != NULL || config->metrics != NULL)
		needed += OBSERVER_DESCRIPTORS;
	for (size_t i = 0; i < config->vm_count; i++)
		needed += config->vms[i].forward_listen_count;
	return limit.rlim_cur < needed + floor ? floor : limit.rlim_cur - needed;
}

/* Half of it in equal shares that nobody else can take, the rest for who comes first. */
static void divide(struct bound *bound, const char *name, uint64_t total, uint64_t places)
{
	bound->share = total / 2 / places;
	bound->all = (struct quota){ .name = name, .max = total - bound->share * places };
}

void bounds_init(struct bounds *bounds, const struct config *config, bool may_grow)
{
	uint32_t places = (uint32_t)config->vm_count;
	const char *name = "open files";
	uint64_t conns;

	if (places == 0 || (may_grow && places < BOUNDS_SPARE_PLACES))
		places = BOUNDS_SPARE_PLACES;
	conns = affordable_conns(config, places);
	if (config->total_connections != 0 && config->total_connections <= conns) {
		conns = config->total_connections;
		name = "total-connections";
	}
	*bounds = (struct bounds){ .places = places };
	divide(&bounds->open, name, conns, places);
	divide(&bounds->buffered, "total-buffered", config->total_buffered, places);
	bounds->max_half_open = (uint32_t)(bounds->open.share / 2);
	if (bounds->max_half_open == 0)
		bounds->max_half_open = 1;
}

int bounds_admit(struct bounds *bounds, const struct vm_config *vm, bool at_start,
		 struct bounds_grant *grant)
{
	bool has_place = bounds->taken < bounds->places;
	uint64_t price = at_start ? 0 : vm->forward_listen_count;

	if (!has_place)
		price += VM_DESCRIPTORS;
	if (quota_take(&bounds->open.all, price) != NULL)
		return -ENFILE;
	*grant = (struct bounds_grant){
		.open = { .name = "max-connections", .parent = &bounds->open.all },
		.buffered = { .name = "max-buffered", .parent = &bounds->buffered.all },
		.has_place = has_place,
		.paid = price,
	};
	if (!has_place)
		return 0;
	grant->open.reserved = bounds->open.share;
	grant->buffered.reserved = bounds->buffered.share;
	bounds->taken++;
	return 0;
}

void bounds_release(struct bounds *bounds, const struct bounds_grant *grant)
{
	quota_give(&bounds->open.all, grant->paid);
	if (grant->has_place)
		bounds->taken--;
}
