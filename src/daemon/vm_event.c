// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_event.c - a guest that goes on without its connections: it is told on its
 * event queue, and gets no packets before it knows.
 *
 * Theory of operation: a driver whose rings do not start at their beginning was
 * somebody else's before: of a daemon that is gone, of another host before a
 * migration, of a snapshot. Its connections are not known here. If the front-end
 * hands over the event queue the driver is told so; otherwise the queue is the
 * VMM's, and the guest learns by RST when it sends (vsock/tx.c).
 *
 * New connections must not reach the driver before it has ended the old ones,
 * which it would end with them. So the RX ring is held back until the driver has
 * taken the event. It is not held back for ever: EVENT_QUEUE_WAIT_MS when no
 * event queue was started until then, EVENT_ACK_WAIT_MS when the driver gives
 * no sign.
 */
#include "daemon/vm_internal.h"

static void schedule(struct vm *vm)
{
	vm->device.env->schedule(vm);
}

static void give_rx(struct vm *vm)
{
	struct vring *rx;

	loop_disarm(vm->loop, &vm->event_wait);
	vm->event.state = RESET_EVENT_NONE;
	if (vm->session == NULL || !vu_session_ring_ready(vm->session, VSOCK_RING_RX))
		return;
	rx = vu_session_ring(vm->session, VSOCK_RING_RX);
	if (vm->device.rx == NULL && !rx->broken)
		device_set_rx(&vm->device, rx);
	if (vm->device.rx != NULL && vm->device.tx != NULL)
		vm_went_up(vm);
}

void vm_event_timeout(struct timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, event_wait);

	if (vm->event.ring != NULL && !vm->event_late) {
		vm->event_late = true;
		if (loop_arm(vm->loop, timer, EVENT_ACK_WAIT_MS - EVENT_QUEUE_WAIT_MS) == 0)
			return;
	}
	log_debug(vm->tag, "the driver was not told that its connections are gone");
	give_rx(vm);
}

static void owe(struct vm *vm)
{
	log_info(vm->tag, "the driver was in use before: its connections are gone");
	vm->event.state = RESET_EVENT_OWED;
	vm->event_late = false;
	device_set_rx(&vm->device, NULL);
	if (loop_arm(vm->loop, &vm->event_wait, EVENT_QUEUE_WAIT_MS) < 0)
		vm->event.state = RESET_EVENT_NONE;
	schedule(vm);
}

void vm_event_ring_ready(struct vm *vm, unsigned int index)
{
	if (index == VSOCK_RING_EVENT)
		vm->event.ring = vu_session_ring(vm->session, index);
	else if (vu_session_take_continued(vm->session))
		owe(vm);
	if (vm->event.state == RESET_EVENT_NONE)
		give_rx(vm);
	else
		schedule(vm);
}

void vm_event_ring_stopping(struct vm *vm, unsigned int index)
{
	if (index == VSOCK_RING_EVENT)
		vm->event.ring = NULL;
}

void vm_event_run(struct vm *vm)
{
	bool notify;

	if (reset_event_run(&vm->event, vm->scratch->rx_chains, &notify) < 0)
		vm->device.env->ring_broken(vm, VSOCK_RING_EVENT);
	if (notify)
		vm->device.env->notify(vm, 1u << VSOCK_RING_EVENT);
	if (vm->event.state == RESET_EVENT_NONE)
		give_rx(vm);
}

void vm_event_forget(struct vm *vm)
{
	loop_disarm(vm->loop, &vm->event_wait);
	vm->event.state = RESET_EVENT_NONE;
}
