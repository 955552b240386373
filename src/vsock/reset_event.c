// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * reset_event.c - VIRTIO_VSOCK_EVENT_TRANSPORT_RESET into the event queue. Pure.
 *
 * Bounds: one buffer that fits, and those before it that do not, are used up;
 * there are at most as many as the ring has entries.
 */
#include "vsock/reset_event.h"

#include <errno.h>

#include "base/le.h"
#include "virtio/iov.h"
#include "vsock/vsock_spec.h"

static void write_event(struct vring *ring, const struct iovec *iov, size_t count)
{
	struct iov_cursor to = iov_begin(iov, count);
	uint8_t event[VSOCK_EVENT_BYTES];

	le32_store(event, VSOCK_EVENT_TRANSPORT_RESET);
	iov_copy_in(&to, event, sizeof(event));
	vring_wrote(ring, iov, count, sizeof(event));
}

/* Use the next buffer. Return: 1 it holds the event; 0 there is none; -EPROTO. */
static int show(struct reset_event *event, struct iovec *scratch)
{
	for (uint32_t i = 0; i < event->ring->size; i++) {
		struct vring_chain chain;
		int got = vring_pop(event->ring, &chain, scratch, VRING_MAX_PIECES);
		bool fits = got == 1 && chain.writable_bytes >= VSOCK_EVENT_BYTES;

		if (got != 1)
			return got;
		if (fits)
			write_event(event->ring, scratch + chain.readable, chain.writable);
		vring_push(event->ring, chain.head, fits ? VSOCK_EVENT_BYTES : 0);
		if (fits)
			return 1;
	}
	return 0;
}

/* Ask for a kick behind all that is available. Return: how much that is, or -EPROTO. */
static int look(struct reset_event *event, struct iovec *scratch)
{
	struct vring *ring = event->ring;
	struct vring_chain chain;
	uint32_t count = 0;
	int got = 0;

	do {
		while (count < ring->size &&
		       (got = vring_pop(ring, &chain, scratch, VRING_MAX_PIECES)) == 1)
			count++;
	} while (got == 0 && vring_enable_kick(ring));
	vring_unpop(ring, (uint16_t)count);
	return got < 0 ? got : (int)count;
}

/* Return: 0, or -EPROTO */
static int try_to_show(struct reset_event *event, struct iovec *scratch, bool *notify)
{
	int got = show(event, scratch);
	int left = got == 1 ? look(event, scratch) : 0;

	if (got == 1 && left >= 0) {
		event->state = RESET_EVENT_SHOWN;
		event->left = (uint16_t)left;
	}
	*notify |= vring_publish(event->ring);
	return got < 0 || left < 0 ? -EPROTO : 0;
}

static int run(struct reset_event *event, struct iovec *scratch, bool *notify)
{
	int count;

	if (event->state == RESET_EVENT_OWED && try_to_show(event, scratch, notify) < 0)
		return -EPROTO;
	count = look(event, scratch);
	if (count > 0 && event->state == RESET_EVENT_OWED) /* they came meanwhile */
		return try_to_show(event, scratch, notify);
	if (count > event->left && event->state == RESET_EVENT_SHOWN)
		event->state = RESET_EVENT_NONE;
	return count < 0 ? count : 0;
}

int reset_event_run(struct reset_event *event, struct iovec *scratch, bool *notify)
{
	int err;

	*notify = false;
	if (event->ring == NULL || event->state == RESET_EVENT_NONE)
		return 0;
	err = run(event, scratch, notify);
	if (err < 0)
		event->ring = NULL;
	return err;
}
