// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vq.c - the driver side of a split virtqueue. See vq.h.
 */
#include "bench/vq.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/le.h"
#include "base/shared.h"
#include "bench/util.h"
#include "virtio/ring_spec.h"

#define PART_ALIGN 64u
#define TABLE_BYTES (VQ_MAX_PIECES * (size_t)VRING_DESC_BYTES)

static size_t align_up(size_t n)
{
	return (n + PART_ALIGN - 1) & ~(size_t)(PART_ALIGN - 1);
}

static size_t avail_bytes(uint16_t size)
{
	return align_up(VRING_AVAIL_RING + 2 * (size_t)size + 2);
}

static size_t used_bytes(uint16_t size)
{
	return align_up(VRING_USED_RING + VRING_USED_ELEM_BYTES * (size_t)size + 2);
}

size_t vq_bytes(uint16_t size, bool indirect)
{
	return align_up(VRING_DESC_BYTES * (size_t)size) + avail_bytes(size) + used_bytes(size) +
	       (indirect ? size * TABLE_BYTES : 0);
}

void vq_init(struct vq *vq, uint16_t size, uint8_t *memory, uint64_t gpa, bool event_idx,
	     bool indirect)
{
	size_t tables;

	memset(vq, 0, sizeof(*vq));
	vq->size = size;
	vq->free_count = size;
	vq->event_idx = event_idx;
	vq->callbacks = true;
	vq->desc = memory;
	vq->avail = vq->desc + align_up(VRING_DESC_BYTES * (size_t)size);
	vq->used = vq->avail + avail_bytes(size);
	tables = (size_t)(vq->used - memory) + used_bytes(size);
	if (indirect) {
		vq->tables = memory + tables;
		vq->tables_gpa = gpa + tables;
	}
	for (uint16_t i = 0; i < size; i++)
		vq->next[i] = (uint16_t)(i + 1);
}

static void write_desc(uint8_t *desc, uint64_t gpa, uint32_t bytes, uint16_t flags, uint16_t next)
{
	le64_store(desc, gpa);
	le32_store(desc + 8, bytes);
	le16_store(desc + 12, flags);
	le16_store(desc + 14, next);
}

static void add_indirect(struct vq *vq, uint16_t head, const struct vq_piece *pieces, size_t count,
			 uint16_t flags)
{
	uint8_t *table = vq->tables + head * TABLE_BYTES;

	for (size_t i = 0; i < count; i++) {
		uint16_t more = i + 1 < count ? VRING_DESC_F_NEXT : 0;

		write_desc(table + i * VRING_DESC_BYTES, pieces[i].gpa, pieces[i].bytes,
			   flags | more, (uint16_t)(i + 1));
	}
	write_desc(vq->desc + head * (size_t)VRING_DESC_BYTES, vq->tables_gpa + head * TABLE_BYTES,
		   (uint32_t)(count * VRING_DESC_BYTES), VRING_DESC_F_INDIRECT, 0);
}

static uint16_t add_direct(struct vq *vq, uint16_t at, const struct vq_piece *pieces, size_t count,
			   uint16_t flags)
{
	uint16_t last = at;

	for (size_t i = 0; i < count; i++) {
		uint16_t more = i + 1 < count ? VRING_DESC_F_NEXT : 0;

		last = at;
		write_desc(vq->desc + at * (size_t)VRING_DESC_BYTES, pieces[i].gpa, pieces[i].bytes,
			   flags | more, vq->next[at]);
		at = vq->next[at];
	}
	return last;
}

bool vq_add(struct vq *vq, const struct vq_piece *pieces, size_t count, uint32_t token)
{
	bool indirect = vq->tables != NULL && count > 1;
	uint16_t needed = indirect ? 1 : (uint16_t)count;
	uint16_t flags = vq->writable ? VRING_DESC_F_WRITE : 0;
	uint16_t head = vq->free_head;
	uint16_t last = head;

	if (vq->free_count < needed)
		return false;
	if (indirect)
		add_indirect(vq, head, pieces, count, flags);
	else
		last = add_direct(vq, head, pieces, count, flags);
	vq->free_head = vq->next[last];
	vq->free_count = (uint16_t)(vq->free_count - needed);
	vq->length[head] = needed;
	vq->token[head] = token;
	shared_store16(vq->avail + VRING_AVAIL_RING + 2 * (size_t)(vq->avail_idx % vq->size), head);
	vq->avail_idx++;
	shared_store16_release(vq->avail + VRING_AVAIL_IDX, vq->avail_idx);
	return true;
}

void vq_kick(struct vq *vq)
{
	size_t avail_event = VRING_USED_RING + VRING_USED_ELEM_BYTES * (size_t)vq->size;
	uint16_t new = vq->avail_idx;
	uint16_t old = vq->kicked_idx;
	uint64_t one = 1;
	bool wanted;

	if (new == old)
		return;
	shared_fence();
	vq->kicked_idx = new;
	if (vq->event_idx) {
		uint16_t event = shared_load16(vq->used + avail_event);

		wanted = (uint16_t)(new - event - 1) < (uint16_t)(new - old);
	} else {
		wanted = (shared_load16(vq->used) & VRING_USED_F_NO_NOTIFY) == 0;
	}
	if (!wanted)
		return;
	vq->kicks++;
	if (write(vq->kick_fd, &one, sizeof(one)) != sizeof(one))
		die("cannot kick");
}

static void release(struct vq *vq, uint16_t head)
{
	uint16_t last = head;

	for (uint16_t i = 1; i < vq->length[head]; i++)
		last = vq->next[last];
	vq->next[last] = vq->free_head;
	vq->free_head = head;
	vq->free_count = (uint16_t)(vq->free_count + vq->length[head]);
	vq->length[head] = 0;
}

bool vq_take(struct vq *vq, uint32_t *token, uint32_t *bytes)
{
	const uint8_t *elem;
	uint32_t head;

	if (shared_load16_acquire(vq->used + VRING_USED_IDX) == vq->last_used)
		return false;
	elem = vq->used + VRING_USED_RING +
	       (vq->last_used % vq->size) * (size_t)VRING_USED_ELEM_BYTES;
	head = le32_load(elem);
	if (head >= vq->size || vq->length[head] == 0)
		die("the device used a chain that was not available: %u", head);
	*bytes = le32_load(elem + 4);
	*token = vq->token[head];
	release(vq, (uint16_t)head);
	vq->last_used++;
	return true;
}

static void set_used_event(struct vq *vq, uint16_t event)
{
	shared_store16(vq->avail + VRING_AVAIL_RING + 2 * (size_t)vq->size, event);
}

void vq_disable_callbacks(struct vq *vq)
{
	if (!vq->callbacks)
		return;
	vq->callbacks = false;
	if (vq->event_idx)
		set_used_event(vq, 0); /* as Linux: somewhere else */
	else
		shared_store16(vq->avail, VRING_AVAIL_F_NO_INTERRUPT);
}

bool vq_enable_callbacks(struct vq *vq)
{
	vq->callbacks = true;
	if (vq->event_idx)
		set_used_event(vq, vq->last_used);
	else
		shared_store16(vq->avail, 0);
	shared_fence();
	return shared_load16(vq->used + VRING_USED_IDX) == vq->last_used;
}

void vq_explain(const struct vq *vq, const char *name)
{
	size_t used_event = VRING_AVAIL_RING + 2 * (size_t)vq->size;
	size_t avail_event = VRING_USED_RING + VRING_USED_ELEM_BYTES * (size_t)vq->size;

	fprintf(stderr,
		"%s: made available %u, kick wanted after %u, decided at %u; used %u, taken %u, "
		"interrupt wanted after %u; %llu kicks\n",
		name, vq->avail_idx, shared_load16(vq->used + avail_event), vq->kicked_idx,
		shared_load16(vq->used + VRING_USED_IDX), vq->last_used,
		shared_load16(vq->avail + used_event), (unsigned long long)vq->kicks);
}
