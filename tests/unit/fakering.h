// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fakering.h - the driver's half of a split ring, and a little guest memory,
 * for tests of virtio/vring.c. May only be included by tests.
 *
 * Each part of the ring and each region is its own heap block of exactly its
 * size, so that a sanitizer sees every step beyond.
 */
#ifndef TESTS_UNIT_FAKERING_H
#define TESTS_UNIT_FAKERING_H

#include <stdlib.h>

#include "unit.h"

#include "base/le.h"
#include "virtio/ring_spec.h"
#include "virtio/vring.h"

/* Two adjacent regions and one apart, all of FAKE_REGION_BYTES. */
#define FAKE_A 0x100000u
#define FAKE_B 0x110000u
#define FAKE_C 0x200000u
#define FAKE_REGION_BYTES 0x10000u
#define FAKE_HOLE 0x120000u

#define F_NEXT VRING_DESC_F_NEXT
#define F_WRITE VRING_DESC_F_WRITE
#define F_INDIRECT VRING_DESC_F_INDIRECT

struct fake_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct fakering {
	uint32_t size;
	uint8_t *desc;
	uint8_t *avail;
	uint8_t *used;
	struct gmem gmem;
	struct vring vr;
	uint16_t avail_idx; /* the driver's own */
	struct iovec *iov;  /* VRING_MAX_PIECES */
};

static inline void fake_region(struct fakering *f, uint64_t gpa, size_t bytes)
{
	struct gmem_region region = {
		.gpa = gpa, .uva = gpa, .size = bytes, .hva = calloc(1, bytes)
	};

	assert_int_equal(gmem_insert(&f->gmem, &region), 0);
}

static inline void fake_start(struct fakering *f, uint16_t index, uint64_t features)
{
	struct vring_layout layout = { f->desc, f->avail, f->used };

	f->avail_idx = index;
	le16_store(f->avail + VRING_AVAIL_IDX, index);
	le16_store(f->used + VRING_USED_IDX, index);
	assert_int_equal(vring_start(&f->vr, f->size, &layout, &f->gmem, index, features), 0);
}

/** A running ring whose four indices all begin at @index. */
static inline struct fakering *fake_new(uint32_t size, uint16_t index, uint64_t features)
{
	struct fakering *f = calloc(1, sizeof(*f));

	f->size = size;
	f->desc = calloc(size, VRING_DESC_BYTES);
	f->avail = calloc(1, 6 + 2 * (size_t)size);
	f->used = calloc(1, 6 + 8 * (size_t)size);
	f->iov = calloc(VRING_MAX_PIECES, sizeof(*f->iov));
	fake_region(f, FAKE_A, FAKE_REGION_BYTES);
	fake_region(f, FAKE_B, FAKE_REGION_BYTES);
	fake_region(f, FAKE_C, FAKE_REGION_BYTES);
	fake_start(f, index, features);
	return f;
}

static inline void fake_free(struct fakering *f)
{
	for (size_t i = 0; i < f->gmem.count; i++)
		free(f->gmem.regions[i].hva);
	gmem_fini(&f->gmem);
	free(f->desc);
	free(f->avail);
	free(f->used);
	free(f->iov);
	free(f);
}

/** Write a descriptor anywhere. */
static inline void fake_put(uint8_t *p, const struct fake_desc *d)
{
	le64_store(p, d->addr);
	le32_store(p + 8, d->len);
	le16_store(p + 12, d->flags);
	le16_store(p + 14, d->next);
}

static inline void fake_set(struct fakering *f, uint32_t index, struct fake_desc d)
{
	fake_put(f->desc + (size_t)index * VRING_DESC_BYTES, &d);
}

/** Write to guest memory, over region borders too. */
static inline void fake_write(struct fakering *f, uint64_t gpa, const void *src, size_t len)
{
	const uint8_t *bytes = src;

	for (size_t i = 0; i < len; i++) {
		uint8_t *p = gmem_from_gpa(&f->gmem, gpa + i, 1);

		assert_non_null(p);
		*p = bytes[i];
	}
}

static inline void fake_avail_slot(struct fakering *f, uint16_t head)
{
	le16_store(f->avail + VRING_AVAIL_RING + 2 * (size_t)(f->avail_idx & (f->size - 1)), head);
	f->avail_idx++;
}

static inline void fake_avail_show(struct fakering *f)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
	le16_store(f->avail + VRING_AVAIL_IDX, f->avail_idx);
}

/** Make the chain at @head available. */
static inline void fake_offer(struct fakering *f, uint16_t head)
{
	fake_avail_slot(f, head);
	fake_avail_show(f);
}

static inline void fake_set_used_event(struct fakering *f, uint16_t event)
{
	le16_store(f->avail + VRING_AVAIL_RING + 2 * (size_t)f->size, event);
}

static inline uint16_t fake_avail_event(const struct fakering *f)
{
	return le16_load(f->used + VRING_USED_RING + 8 * (size_t)f->size);
}

static inline uint16_t fake_used_idx(const struct fakering *f)
{
	return le16_load(f->used + VRING_USED_IDX);
}

static inline int fake_pop(struct fakering *f, struct vring_chain *chain)
{
	return vring_pop(&f->vr, chain, f->iov, VRING_MAX_PIECES);
}

#endif
