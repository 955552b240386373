// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_query.c - tells about a VM: what it is doing, what it did, what happens.
 * Changes nothing but counters and flags of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/vm_internal.h"
#include "virtio/gmem.h"
#include "vsock/sibling_list.h"

/* "vm=" and "conn=", two addresses of a CID and a port each */
#define CONN_TAG_BYTES 72u

uint32_t vm_cid(const struct vm *vm)
{
	return vm->cid;
}

const char *vm_tag(char tag[VM_TAG_BYTES], uint32_t cid)
{
	(void)snprintf(tag, VM_TAG_BYTES, "vm=%u", cid);
	return tag;
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return __atomic_load_n(&vm->config, __ATOMIC_ACQUIRE);
}

struct worker *vm_worker(const struct vm *vm)
{
	return vm->worker;
}

const struct bounds_grant *vm_grant(const struct vm *vm)
{
	return &vm->grant;
}

bool vm_is_from_file(const struct vm *vm)
{
	return vm->from_file;
}

void vm_set_from_file(struct vm *vm, bool from_file)
{
	vm->from_file = from_file;
}

struct vm_config *vm_swap_config(struct vm *vm, struct vm_config *config)
{
	return __atomic_exchange_n(&vm->config, config, __ATOMIC_ACQ_REL);
}

void vm_part(struct vm *vm)
{
	const struct vm_table *table = vm_set_table(vm->set);

	for (size_t i = 0; i < table->count; i++) {
		struct vm *other = table->vms[i];

		if (other == vm || vm_may_meet(vm, other))
			continue;
		device_note_parting(&vm->device, other->cid);
		device_drop_sibling(&other->device, vm->cid, vm->scratch);
		device_drop_sibling(&vm->device, other->cid, vm->scratch);
	}
}

void vm_drain(struct vm *vm, bool on)
{
	device_drain(&vm->device, on);
}

void vm_add_tap(struct vm *vm, struct tap *tap)
{
	device_add_tap(&vm->device, tap);
}

void vm_remove_tap(struct vm *vm, struct tap *tap)
{
	device_remove_tap(&vm->device, tap);
}

/* --- events --- */

static struct event begin_event(const struct vm *vm, enum event_kind kind, const char *reason)
{
	struct event event = { .kind = kind, .cid = vm->cid };

	snprintf(event.reason, sizeof(event.reason), "%s", reason);
	return event;
}

void vm_went_up(struct vm *vm)
{
	struct event event;

	if (vm->up)
		return;
	vm->up = true;
	if (!event_queue_is_on(&vm->worker->events))
		return;
	event = begin_event(vm, EVENT_VM_UP, "");
	event_queue_write(&vm->worker->events, &event);
}

void vm_went_down(struct vm *vm, const char *why)
{
	struct event event;

	if (!vm->up)
		return;
	vm->up = false;
	if (!event_queue_is_on(&vm->worker->events))
		return;
	event = begin_event(vm, EVENT_VM_DOWN, why);
	event_queue_write(&vm->worker->events, &event);
}

/* "vm=3 conn=3:1024>2:80": from who asked to who was asked. */
static cold_path void log_conn(const struct vm *vm, const struct conn_notice *notice)
{
	static const char *const names[] = {
		[CONN_OPENED] = "opened",
		[CONN_CLOSED] = "closed",
		[CONN_REFUSED] = "refused",
	};
	uint32_t peer = notice->sibling != 0 ? notice->sibling : VSOCK_CID_HOST;
	char tag[CONN_TAG_BYTES];

	if (notice->by_guest)
		(void)snprintf(tag, sizeof(tag), "%s conn=%u:%u>%u:%u", vm->tag, vm->cid,
			       notice->guest_port, peer, notice->host_port);
	else
		(void)snprintf(tag, sizeof(tag), "%s conn=%u:%u>%u:%u", vm->tag, peer,
			       notice->host_port, vm->cid, notice->guest_port);
	if (notice->what == CONN_OPENED)
		log_debug(tag, "opened");
	else
		log_debug(tag, "%s: %s", names[notice->what], conn_end_name(notice->why));
}

void vm_conn_event(void *ctx, const struct conn_notice *notice)
{
	static const enum event_kind kinds[] = {
		[CONN_OPENED] = EVENT_CONNECTION_OPENED,
		[CONN_CLOSED] = EVENT_CONNECTION_CLOSED,
		[CONN_REFUSED] = EVENT_CONNECTION_REFUSED,
	};
	struct vm *vm = ctx;
	struct event event;

	if (unlikely(log_enabled(LOG_DEBUG)))
		log_conn(vm, notice);
	if (!event_queue_is_on(&vm->worker->events))
		return;
	event = begin_event(vm, kinds[notice->what],
			    notice->what == CONN_OPENED ? "" : conn_end_name(notice->why));
	event.guest_port = notice->guest_port;
	event.host_port = notice->host_port;
	event.sibling = notice->sibling;
	event.by_guest = notice->by_guest;
	event_queue_write(&vm->worker->events, &event);
}

/* --- limits --- */

const char *vm_limit_name(unsigned int limit)
{
	static const char *const names[VM_LIMIT_COUNT] = {
		"max-connections",   "max-half-open",  "max-buffered",
		"total-connections", "total-buffered",
	};

	return names[limit];
}

void vm_count_limit(struct vm *vm, const char *option)
{
	for (unsigned int i = 0; i < VM_LIMIT_COUNT; i++) {
		if (strcmp(vm_limit_name(i), option) == 0)
			vm->limit_hits[i]++;
	}
}

/* --- questions --- */

static void ring_info(struct vring *ring, struct vm_ring_info *info)
{
	if (ring == NULL)
		return;
	info->size = ring->size;
	info->available = vring_available(ring);
}

void vm_get_info(struct vm *vm, struct vm_info *info)
{
	struct device *device = &vm->device;
	uint64_t buffered = quota_used(&device->buffered);

	*info = (struct vm_info){
		.cid = vm->cid,
		.state = vm->session != NULL ? VM_CONNECTED : VM_WAITING,
		.draining = device->draining,
		.connections = device->conns.used,
		.siblings = sibling_count(device),
		.max_conns = device->open.max,
		.spill_bytes = device->spill_bytes,
		.stats = device->stats,
		.kicks = vm->kicks,
		.tx_calls = vm->calls[VSOCK_RING_TX],
		.guest_errors = vm->guest_errors,
		.captured = __atomic_load_n(&device->taps.kept, __ATOMIC_RELAXED),
		.capture_lost = __atomic_load_n(&device->taps.lost, __ATOMIC_RELAXED),
	};
	if (buffered > device->spill_bytes)
		info->sibling_bytes = buffered - device->spill_bytes;
	ring_info(device->tx, &info->tx);
	pthread_mutex_lock(&vm->lock);
	ring_info(device->rx, &info->rx);
	info->rx_calls = vm->calls[VSOCK_RING_RX];
	pthread_mutex_unlock(&vm->lock);
	memcpy(info->limit_hits, vm->limit_hits, sizeof(info->limit_hits));
	if (device->rx != NULL && device->tx != NULL)
		info->state = VM_RUNNING;
}

const char *vm_state_name(enum conn_state state)
{
	static const char *const names[CONN_STATE_COUNT] = {
		[CONN_FREE] = "free",
		[CONN_HANDSHAKE] = "handshake",
		[CONN_REQUESTED] = "requested",
		[CONN_CONNECTING] = "connecting",
		[CONN_ESTABLISHED] = "established",
		[CONN_CLOSING] = "closing",
		[CONN_RESET] = "reset",
		[CONN_ORPHAN] = "orphan",
	};

	return names[state];
}

static void count_state(void *ctx, struct conn *conn)
{
	uint32_t *states = ctx;

	states[conn->state]++;
}

void vm_count_states(struct vm *vm, uint32_t states[CONN_STATE_COUNT])
{
	conntab_each(&vm->device.conns, count_state, states);
}

void vm_get_details(struct vm *vm, struct vm_details *details)
{
	const struct gmem *gmem;

	memset(details, 0, sizeof(*details));
	vm_get_info(vm, &details->info);
	vm_count_states(vm, details->states);
	if (vm->session == NULL)
		return;
	details->features = vu_session_features(vm->session);
	gmem = vu_session_memory(vm->session);
	for (size_t i = 0; i < gmem->count && i < GMEM_MAX_REGIONS; i++) {
		details->regions[i].gpa = gmem->regions[i].gpa;
		details->regions[i].bytes = gmem->regions[i].size;
		details->region_count++;
	}
}

/** Where vm_get_conns() is. */
struct conn_list {
	struct vm_conn *conns;
	size_t max;
	size_t seen;
	uint32_t cid;
};

static void list_conn(void *ctx, struct conn *conn)
{
	struct conn_list *list = ctx;

	if (list->seen++ >= list->max)
		return;
	list->conns[list->seen - 1] = (struct vm_conn){
		.cid = list->cid,
		.guest_port = conn->guest_port,
		.host_port = conn->host_port,
		.host_cid = conn->host_cid,
		.state = (enum conn_state)conn->state,
		.by_guest = conn->by_guest,
		.tx_bytes = conn->tx_bytes,
		.rx_bytes = conn->rx_bytes,
		.held_bytes = buf_length(&conn->spill),
	};
}

/* Return: how many there are. */
static size_t list_siblings(const struct conn_list *list, struct device *device)
{
	size_t room = list->seen < list->max ? list->max - list->seen : 0;
	size_t want = min_size(room, sibling_count(device));
	struct sibling_conn *found = calloc(want + 1, sizeof(*found));
	size_t count;

	if (found == NULL)
		return 0;
	count = sibling_list(device, found, want);
	for (size_t i = 0; i < min_size(want, count); i++)
		list->conns[list->seen + i] = (struct vm_conn){
			.cid = list->cid,
			.guest_port = found[i].own_port,
			.host_port = found[i].port,
			.host_cid = (uint32_t)found[i].cid,
			.sibling = true,
			.state = found[i].state,
			.by_guest = found[i].by_guest,
			.tx_bytes = found[i].tx_bytes,
			.rx_bytes = found[i].rx_bytes,
			.held_bytes = found[i].held_bytes,
		};
	free(found);
	return count;
}

size_t vm_get_conns(struct vm *vm, struct vm_conn *conns, size_t max)
{
	struct conn_list list = { .conns = conns, .max = max, .cid = vm->cid };

	conntab_each(&vm->device.conns, list_conn, &list);
	return list.seen + list_siblings(&list, &vm->device);
}
