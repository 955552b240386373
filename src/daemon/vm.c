// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm.c - the glue of one guest. Holds no protocol: vhost-user is vu_session's,
 * vsock is the device's, sockets are host's.
 *
 * Theory of operation
 *
 * Everything of a VM happens on its owner loop. Kicks, sockets and time-outs
 * only note what changed and ask for vm_run(), a task at the end of the turn:
 * so a burst of events is one pass over the rings. The pass is bounded; what is
 * left comes again in the next turn, after the other VMs had theirs.
 *
 * The lock protects what sibling VMs' owners use: the RX ring, the memory it
 * lies in, its call descriptor and the inbox.
 */
#include "daemon/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/fault.h"
#include "daemon/vm_internal.h"
#include "virtio/ring_spec.h"

/* --- what the device needs --- */

void vm_schedule(void *ctx)
{
	struct vm *vm = ctx;

	loop_defer(vm->loop, &vm->run);
}

static void lock(void *ctx)
{
	struct vm *vm = ctx;

	pthread_mutex_lock(&vm->lock);
}

static void wake(void *ctx)
{
	struct vm *vm = ctx;

	if (!vm->woken)
		loop_post(vm->loop, &vm->wake_up);
	vm->woken = true;
}

/* A sibling's owner may have been the one to find this guest's memory truncated. */
static void unlock(void *ctx)
{
	struct vm *vm = ctx;

	/* while the ring is there the session is, and nobody changes its memory */
	if (unlikely(fault_any_lost()) && vm->device.rx != NULL &&
	    vu_session_memory_lost(vm->session))
		wake(vm);
	if (unlikely(vm->vu_ops.iommu) && vm->device.rx != NULL && vring_asks(vm->device.rx))
		wake(vm); /* only the owner can ask the front-end */
	pthread_mutex_unlock(&vm->lock);
}

static void on_wake_up(struct loop_msg *msg)
{
	struct vm *vm = container_of(msg, struct vm, wake_up);

	lock(vm);
	vm->woken = false;
	unlock(vm);
	vm_schedule(vm);
}

/* What device_run_tx() leaves to be done device_run_rx() does at once. */
static void schedule(void *ctx)
{
	struct vm *vm = ctx;

	if (!vm->rx_follows)
		vm_schedule(vm);
}

static void notify(void *ctx, uint32_t rings)
{
	struct vm *vm = ctx;

	/* only those that are meant: a sibling's worker comes here for RX, under the lock,
	 * while the owner, without it, tells of TX */
	for (unsigned int i = 0; i < array_size(vm->calls); i++)
		if ((rings >> i & 1u) != 0)
			vm->calls[i]++;
	vu_session_notify(vm->session, rings);
}

static void ring_broken(void *ctx, unsigned int index)
{
	struct vm *vm = ctx;

	log_limited(&vm->guest_error_lines, loop_now_ms(vm->loop), LOG_WARNING, vm->tag,
		    "the driver broke ring %u: it is stopped until the device is reset", index);
	vu_session_ring_error(vm->session, index);
}

static void guest_error(void *ctx, const char *what)
{
	struct vm *vm = ctx;

	vm->guest_errors++;
	log_limited(&vm->guest_error_lines, loop_now_ms(vm->loop), LOG_WARNING, vm->tag,
		    "guest: %s", what);
}

static void limit_reached(void *ctx, const char *option, const char *effect)
{
	struct vm *vm = ctx;

	vm_count_limit(vm, option);
	log_limited(&vm->limits_hit, loop_now_ms(vm->loop), LOG_WARNING, vm->tag,
		    "limit reached: %s: %s", option, effect);
}

static void probe_later(void *ctx, uint32_t delay_ms)
{
	struct vm *vm = ctx;

	if (!timer_is_armed(&vm->probe))
		(void)!loop_arm(vm->loop, &vm->probe, delay_ms);
}

static void probe(struct timer *timer)
{
	device_probe_siblings(&container_of(timer, struct vm, probe)->device);
}

bool vm_may_meet(const struct vm *vm, const struct vm *other)
{
	const struct vm_config *a = vm_config(vm);
	const struct vm_config *b = vm_config(other);

	return other != vm && a->uds_path != NULL && b->uds_path != NULL &&
	       config_share_group(a, b);
}

static struct device *sibling(void *ctx, uint64_t cid)
{
	struct vm *vm = ctx;
	struct vm *found = vm_set_find(vm->set, cid);

	return found != NULL && vm_may_meet(vm, found) ? &found->device : NULL;
}

static const struct device_env device_env = {
	.schedule = schedule,
	.wake = wake,
	.notify = notify,
	.ring_broken = ring_broken,
	.guest_error = guest_error,
	.limit_reached = limit_reached,
	.conn_event = vm_conn_event,
	.probe_later = probe_later,
	.now_ms = vm_now_ms,
	.pace_later = vm_pace_later,
	.sibling = sibling,
	.lock = lock,
	.unlock = unlock,
};

/* --- what the session needs --- */

static void config_read(void *ctx, uint8_t *buf, uint32_t offset, uint32_t len)
{
	struct vm *vm = ctx;

	for (uint32_t i = 0; i < len; i++) {
		uint32_t at = offset + i;

		buf[i] = at < sizeof(uint32_t) ? (uint8_t)(vm->cid >> (8 * at)) : 0;
	}
}

static void ring_ready(void *ctx, unsigned int index)
{
	struct vm *vm = ctx;

	log_debug(vm->tag, "ring %u runs", index);
	device_set_features(&vm->device, vu_session_features(vm->session));
	if (index == VSOCK_RING_TX)
		device_set_tx(&vm->device, vu_session_ring(vm->session, index));
	vm_event_ring_ready(vm, index);
}

static void ring_stopping(void *ctx, unsigned int index)
{
	struct vm *vm = ctx;

	log_debug(vm->tag, "ring %u stops", index);
	if (index == VSOCK_RING_RX)
		device_set_rx(&vm->device, NULL);
	else if (index == VSOCK_RING_TX)
		device_set_tx(&vm->device, NULL);
	vm_event_ring_stopping(vm, index);
}

static void ring_kicked(void *ctx, unsigned int index)
{
	struct vm *vm = ctx;

	(void)index;
	vm->kicks++;
	vm_schedule(vm);
}

/* Everybody's connections with this guest end. */
static void reset(struct vm *vm, const char *why)
{
	const struct vm_table *table = vm_set_table(vm->set);

	vm_went_down(vm, why);
	vm_event_forget(vm);
	device_reset(&vm->device);
	for (size_t i = 0; i < table->count; i++) {
		struct vm *other = table->vms[i];

		if (vm_may_meet(vm, other))
			device_drop_sibling(&other->device, vm->cid, vm->scratch);
	}
}

static void device_was_reset(void *ctx)
{
	reset(ctx, "the device was reset");
}

void vm_end_session(void *ctx, const char *reason)
{
	struct vm *vm = ctx;
	bool spoke = vu_session_has_spoken(vm->session);

	log_limited(&vm->front_ends, loop_now_ms(vm->loop), LOG_NOTICE, vm->tag,
		    "front-end gone: %s", reason);
	vm_went_down(vm, reason); /* which copies what may be the session's own */
	vu_session_free(vm->session);
	vm->session = NULL;
	reset(vm, "front-end gone");
	vm_front_end_gone(vm, spoke);
}

static const struct vu_device_ops vu_ops_template = {
	.features = UINT64_C(1) << VIRTIO_F_VERSION_1_BIT | UINT64_C(1) << VIRTIO_F_EVENT_IDX_BIT |
		    UINT64_C(1) << VIRTIO_F_INDIRECT_DESC_BIT |
		    UINT64_C(1) << VIRTIO_F_NOTIFY_ON_EMPTY_BIT |
		    UINT64_C(1) << VIRTIO_F_RING_PACKED_BIT | UINT64_C(1) << VIRTIO_F_IN_ORDER_BIT |
		    UINT64_C(1) << VSOCK_F_STREAM_BIT | UINT64_C(1) << VSOCK_F_SEQPACKET_BIT |
		    UINT64_C(1) << VSOCK_F_NO_IMPLIED_STREAM_BIT,
	.config_read = config_read,
	.lock = lock,
	.unlock = unlock,
	.ring_ready = ring_ready,
	.ring_stopping = ring_stopping,
	.ring_kicked = ring_kicked,
	.device_reset = device_was_reset,
	.closed = vm_end_session,
};

static bool look(struct loop_lookout *lookout)
{
	struct vm *vm = container_of(lookout, struct vm, lookout);
	bool waits = device_tx_waits(&vm->device);

	if (waits)
		vm_schedule(vm);
	return waits;
}

static void look_away(struct loop_lookout *lookout)
{
	struct vm *vm = container_of(lookout, struct vm, lookout);

	if (device_ask_kick(&vm->device))
		vm_schedule(vm);
}

static void run(struct loop_task *task)
{
	struct vm *vm = container_of(task, struct vm, run);
	bool more;

	vm->device.tx_looks = loop_looks(vm->loop);
	vm->rx_follows = true;
	more = device_run_tx(&vm->device);
	vm->rx_follows = false;
	if (unlikely(vm->event.state != RESET_EVENT_NONE))
		vm_event_run(vm);
	if (device_run_rx(&vm->device))
		more = true;
	if (vm->session != NULL)
		vu_session_signal_log(vm->session);
	if (unlikely(vm->vu_ops.iommu) && vm->session != NULL)
		vu_session_ask(vm->session);
	if (vm->session != NULL && vu_session_memory_lost(vm->session))
		vm_end_session(vm, "it truncated the guest's memory");
	else if (more)
		loop_defer(vm->loop, &vm->run);
	else if (vm->device.tx_unasked)
		loop_look_out(vm->loop, &vm->lookout);
}

/* --- life --- */

static void init_device(struct vm *vm, const struct vm_params *vm_params)
{
	const struct vm_config *config = vm->config;
	struct device_params params = {
		.env = &device_env,
		.ctx = vm,
		.endpoint = &host_endpoint,
		.host = &vm->host,
		.scratch = vm->scratch,
		.conn_bytes = host_conn_bytes(),
		.guest_cid = vm->cid,
		.window = config->tx_buffer_size,
		.max_half_open = vm_half_open_bound(vm, config),
		.open = vm_params->grant->open,
		.buffered = vm_params->grant->buffered,
		.any_cid = config->forward_cid != 0,
		.rates = vm_rates(config),
	};

	/* an unseeded key only makes collisions cheaper to find */
	if (getrandom(&params.random, sizeof(params.random), GRND_NONBLOCK) < 0)
		params.random = (uintptr_t)vm;
	params.open.max = config->max_connections;
	params.buffered.max = config->max_buffered;
	device_init(&vm->device, &params);
}

static int open_sockets(struct vm *vm, char *why)
{
	char culprit[HOST_CULPRIT_BYTES];
	struct host_params params = {
		.loop = vm->loop,
		.broker = vm->set->broker,
		.peers = &vm->set->peers,
		.device = &vm->device,
		.tag = vm->tag,
		.uds_path = vm->config->uds_path,
		.silent = vm->config->no_ack,
		.forward_cid = vm->config->forward_cid,
		.forward_listen = vm->config->forward_listen,
		.forward_listen_count = vm->config->forward_listen_count,
	};
	int err = vm_open_front_end(vm, why);

	if (err < 0)
		return err;
	err = host_open(&vm->host, &params, culprit);
	if (err < 0)
		vm_explain(why, culprit, err);
	return err;
}

static const char *front_end_name(const struct vm_config *config)
{
	return config->socket != NULL ? config->socket : "a descriptor of the parent";
}

static void announce(const struct vm *vm)
{
	const struct vm_config *config = vm->config;

	if (config->uds_path != NULL)
		log_notice(vm->tag, "VMM at %s, host programs at %s", front_end_name(config),
			   config->uds_path);
	else
		log_notice(vm->tag, "VMM at %s, forwarding to CID %u, %zu listening ports",
			   front_end_name(config), config->forward_cid,
			   config->forward_listen_count);
}

/* The members that are not zero. */
static void set_up(struct vm *vm, const struct vm_params *params)
{
	vm->cid = vm->config->guest_cid;
	vm->set = params->set;
	vm->worker = params->worker;
	vm->from_file = params->from_file;
	vm->grant = *params->grant;
	vm->half_open_bound = params->max_half_open;
	vm->loop = params->worker->loop;
	vm->scratch = params->worker->scratch;
	vm_init_front_end(vm);
	vm->host.uds.fd = -1;
	vm->host.door_fd = -1;
	vm->host.uds_seqpacket.fd = -1;
	vm->probe.on_expire = probe;
	vm->pace.on_expire = vm_pace_over;
	vm->event_wait.on_expire = vm_event_timeout;
	vm->wake_up.deliver = on_wake_up;
	vm->vu_ops = vu_ops_template;
	vm->vu_ops.max_queue_size = vm->config->queue_size;
	vm->vu_ops.no_mem_slots = vm->config->no_mem_slots;
	vm->vu_ops.iommu = vm->config->iommu;
	vm->vu_ops.refusals = &vm->refusals;
	(void)vm_tag(vm->tag, vm->cid);
	pthread_mutex_init(&vm->lock, NULL);
	loop_task_init(&vm->run, run);
	loop_lookout_init(&vm->lookout, look, look_away);
	init_device(vm, params);
}

int vm_new(const struct vm_params *params, struct vm **made, char *why)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int err;

	snprintf(why, VM_WHY_BYTES, "no memory for a VM");
	if (vm == NULL)
		return -ENOMEM;
	vm->config = config_copy_vm(params->config);
	if (vm->config == NULL) {
		free(vm);
		return -ENOMEM;
	}
	set_up(vm, params);
	err = open_sockets(vm, why);
	if (err < 0) {
		vm_free(vm);
		return err;
	}
	announce(vm);
	*made = vm;
	return 0;
}

int vm_start(struct vm *vm)
{
	int err = host_start(&vm->host);

	if (err == 0)
		err = vm_start_front_end(vm);
	return err;
}

void vm_hang_up(struct vm *vm)
{
	vm_stop_front_end(vm);
	vu_session_free(vm->session);
	vm->session = NULL;
}

void vm_stop(struct vm *vm)
{
	vm_hang_up(vm);
	host_stop(&vm->host);
	reset(vm, "the VM was removed");
	loop_disarm(vm->loop, &vm->probe);
	loop_disarm(vm->loop, &vm->pace);
	device_fini(&vm->device);
	loop_cancel(&vm->run);
	loop_look_away(vm->loop, &vm->lookout);
}

void vm_free(struct vm *vm)
{
	vm_close_front_end(vm);
	host_close(&vm->host);
	pthread_mutex_destroy(&vm->lock);
	config_free_vm(vm->config);
	free(vm);
}
