// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_owner.h - part of fuzz_device.c: what the owner's loop and the front-end
 * do to a device, and what a device asks of its owner.
 */
#ifndef FUZZ_DEVICE_OWNER_H
#define FUZZ_DEVICE_OWNER_H

#include <errno.h>

#include "device_guest.h"
#include "device_world.h"

/* --- the owner --- */

static inline void env_schedule(void *ctx)
{
	schedule_side(ctx);
}

static inline void env_wake(void *ctx)
{
	check(((struct side *)ctx)->locked);
	schedule_side(ctx);
}

static inline void env_notify(void *ctx, uint32_t rings)
{
	struct side *s = ctx;
	bool rx = (rings >> VSOCK_RING_RX & 1u) != 0;
	bool tx = (rings >> VSOCK_RING_TX & 1u) != 0;

	check(rx || tx);
	check(rings >> (VSOCK_RING_TX + 1) == 0);
	check(!rx || (s->locked && s->device.rx));
	s->ring[VSOCK_RING_RX].called |= rx;
	s->ring[VSOCK_RING_TX].called |= tx;
}

static inline void env_ring_broken(void *ctx, unsigned int index)
{
	check(((struct side *)ctx)->ring[index].dead);
}

static inline void env_guest_error(void *ctx, const char *what)
{
	(void)ctx;
	check(what && *what);
}

static inline void env_limit_reached(void *ctx, const char *option, const char *effect)
{
	(void)ctx;
	check(option && *option && effect && *effect);
}

static inline void env_probe_later(void *ctx, uint32_t delay_ms)
{
	check(delay_ms > 0);
	((struct side *)ctx)->probe_armed = true;
}

static inline struct device *env_sibling(void *ctx, uint64_t cid)
{
	struct side *s = ctx;

	return cid == s->other->cid ? &s->other->device : NULL;
}

static inline void env_lock(void *ctx)
{
	struct side *s = ctx;
	struct world *w = s->world;

	check(w->held == 0); /* no thread holds two */
	come_between(w, w->side[0].busy ? &w->side[0] : &w->side[1]);
	check(!s->locked);
	s->locked = true;
	w->held++;
}

static inline void env_unlock(void *ctx)
{
	struct side *s = ctx;
	struct world *w = s->world;

	check(s->locked && w->held == 1);
	s->locked = false;
	w->held--;
	come_between(w, w->side[0].busy ? &w->side[0] : &w->side[1]);
}

static inline void env_conn_event(void *ctx, const struct conn_notice *notice)
{
	(void)ctx;
	check(notice->what == CONN_OPENED || notice->why < CONN_END_COUNT);
}

static const struct device_env env = {
	.schedule = env_schedule,
	.wake = env_wake,
	.notify = env_notify,
	.ring_broken = env_ring_broken,
	.guest_error = env_guest_error,
	.limit_reached = env_limit_reached,
	.conn_event = env_conn_event,
	.probe_later = env_probe_later,
	.sibling = env_sibling,
	.lock = env_lock,
	.unlock = env_unlock,
};

/* One turn, as the owner's loop gives it. */
static inline void turn(struct side *s)
{
	bool more;

	if (!s->scheduled)
		return;
	s->scheduled = false;
	s->busy = true;
	more = device_run_tx(&s->device);
	if (device_run_rx(&s->device))
		more = true;
	s->busy = false;
	s->scheduled |= more;
}

static inline void probe(struct side *s)
{
	if (!s->probe_armed)
		return;
	s->probe_armed = false;
	s->busy = true;
	device_probe_siblings(&s->device);
	s->busy = false;
}

/* --- the front-end --- */

static inline bool is_running(struct side *s, unsigned int index)
{
	return s->ring[index].vr.format != VRING_STOPPED;
}

static inline void set_ring(struct side *s, unsigned int index, struct vring *vr)
{
	s->busy = true;
	if (index == VSOCK_RING_RX)
		device_set_rx(&s->device, vr);
	else
		device_set_tx(&s->device, vr);
	s->busy = false;
}

static inline void start_ring(struct side *s, unsigned int index)
{
	struct driver_ring *r = &s->ring[index];
	struct vring_layout layout = { r->packed ? r->ring : r->desc, r->avail, r->used };

	int err;

	if (is_running(s, index))
		return;
	err = vring_start(&r->vr, r->size, &layout, &s->gmem, vring_base(&r->vr), s->features);
	if (err == -ENOMEM) /* the front-end's next message has it tried again */
		err = vring_start(&r->vr, r->size, &layout, &s->gmem, vring_base(&r->vr),
				  s->features);
	check(err == 0);
	set_ring(s, index, &r->vr);
}

static inline void stop_ring(struct side *s, unsigned int index)
{
	if (!is_running(s, index))
		return;
	set_ring(s, index, NULL);
	vring_stop(&s->ring[index].vr);
}

static inline void reboot(struct side *s)
{
	for (unsigned int i = 0; i < 2; i++)
		stop_ring(s, i);
	s->busy = true;
	device_reset(&s->device);
	device_drop_sibling(&s->other->device, s->cid, s->scratch);
	s->busy = false;
	memset(s->flows, 0, sizeof(s->flows));
	for (size_t i = 0; i < FLOWS; i++)
		s->flows[i].used = true;
	for (unsigned int i = 0; i < 2; i++) {
		ring_reset(&s->ring[i]);
		s->ring[i].vr.base = ring_first_base(&s->ring[i]);
		start_ring(s, i);
	}
}

#endif
