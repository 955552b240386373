// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fakering.h - the driver's half of a ring of either format, and a little guest
 * memory, for tests of virtio/vring*.c. May only be included by tests.
 *
 * Tests speak of a table of descriptors, heads and indices for both formats. A
 * packed ring has none of these: descriptors are staged, a chain is laid out
 * when its head is offered (its id is the head), and indices count chains.
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

#define PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED_BIT)
#define USED_FLAGS (VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED)

/* The features that choose a format, for tests that run over each. */
static const uint64_t fake_formats[] = { 0, PACKED };

struct fake_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct fake_used {
	uint32_t id;
	uint32_t len;
};

struct fakering {
	uint32_t size;
	uint64_t features;
	bool packed;
	uint8_t *desc;
	uint8_t *avail;
	uint8_t *used;
	struct gmem gmem;
	struct vring vr;
	uint16_t avail_idx; /* the driver's own */
	struct iovec *iov;  /* VRING_MAX_PIECES */

	/* packed; a place is 0 to 2 * size - 1, with wrap counter 1 in the first lap */
	struct fake_desc *staged;
	uint16_t *counts;      /* descriptors of the chain with that avail index */
	struct fake_used *log; /* the chain with that used index */
	uint16_t start_idx;
	uint16_t used_idx;
	uint32_t avail_place; /* of the next descriptor to be made available */
	uint32_t used_place;  /* where the next used element is to appear */
	uint32_t first_place; /* the batch not shown yet; == avail_place: none */
	uint16_t first_flags;
};

static inline void fake_region(struct fakering *f, uint64_t gpa, size_t bytes)
{
	struct gmem_region region = {
		.gpa = gpa, .uva = gpa, .size = bytes, .hva = calloc(1, bytes)
	};

	assert_int_equal(gmem_insert(&f->gmem, &region), 0);
}

static inline uint32_t fake_forward(const struct fakering *f, uint32_t place, uint32_t n)
{
	return (place + n) % (2 * f->size);
}

static inline uint32_t fake_encode_place(const struct fakering *f, uint32_t place)
{
	return place < f->size ? place | VRING_PACKED_WRAP : place - f->size;
}

/** What SET_VRING_BASE says for index @index of a ring with nothing in flight. */
static inline uint32_t fake_base(const struct fakering *f, uint16_t index)
{
	uint32_t place = fake_encode_place(f, index % (2 * f->size));

	return f->packed ? place | place << 16 : index;
}

/* What was used before: of this lap up to here, of the last one from here on. */
static inline void fake_used_up_to(struct fakering *f, uint32_t place)
{
	uint16_t last = place < f->size ? 0 : USED_FLAGS;

	for (uint32_t i = 0; i < f->size; i++)
		le16_store(f->desc + i * (size_t)VRING_DESC_BYTES + 14,
			   i < place % f->size ? last ^ USED_FLAGS : last);
}

static inline void fake_start(struct fakering *f, uint16_t index)
{
	struct vring_layout layout = { f->desc, f->avail, f->used };
	int rc;

	f->avail_idx = index;
	f->used_idx = f->start_idx = index;
	f->avail_place = f->used_place = f->first_place = index % (2 * f->size);
	if (f->packed) {
		fake_used_up_to(f, f->avail_place);
	} else {
		le16_store(f->avail + VRING_AVAIL_IDX, index);
		le16_store(f->used + VRING_USED_IDX, index);
	}
	rc = vring_start(&f->vr, f->size, &layout, &f->gmem, fake_base(f, index), f->features);
	assert_int_equal(rc, 0);
}

/** A ring that does not run yet. */
static inline struct fakering *fake_make(uint32_t size, uint64_t features)
{
	struct fakering *f = calloc(1, sizeof(*f));
	struct vring_extent extent = vring_extent(size, features);

	f->size = size;
	f->features = features;
	f->packed = features & PACKED;
	f->desc = calloc(1, extent.desc);
	f->avail = calloc(1, extent.avail);
	f->used = calloc(1, extent.used);
	f->iov = calloc(VRING_MAX_PIECES, sizeof(*f->iov));
	f->staged = calloc(size, sizeof(*f->staged));
	f->counts = calloc(UINT16_MAX + 1u, sizeof(*f->counts));
	f->log = calloc(UINT16_MAX + 1u, sizeof(*f->log));
	fake_region(f, FAKE_A, FAKE_REGION_BYTES);
	fake_region(f, FAKE_B, FAKE_REGION_BYTES);
	fake_region(f, FAKE_C, FAKE_REGION_BYTES);
	return f;
}

/** A running ring whose indices all begin at @index. */
static inline struct fakering *fake_new(uint32_t size, uint16_t index, uint64_t features)
{
	struct fakering *f = fake_make(size, features);

	fake_start(f, index);
	return f;
}

static inline void fake_free(struct fakering *f)
{
	vring_stop(&f->vr);
	for (size_t i = 0; i < f->gmem.count; i++)
		free(f->gmem.regions[i].hva);
	gmem_fini(&f->gmem);
	free(f->desc);
	free(f->avail);
	free(f->used);
	free(f->iov);
	free(f->staged);
	free(f->counts);
	free(f->log);
	free(f);
}

/** Write a descriptor anywhere; in the packed format next is the id. */
static inline void fake_put(const struct fakering *f, uint8_t *p, const struct fake_desc *d)
{
	le64_store(p, d->addr);
	le32_store(p + 8, d->len);
	le16_store(p + (f->packed ? 14 : 12), d->flags);
	le16_store(p + (f->packed ? 12 : 14), d->next);
}

static inline void fake_set(struct fakering *f, uint32_t index, struct fake_desc d)
{
	if (f->packed)
		f->staged[index] = d;
	else
		fake_put(f, f->desc + (size_t)index * VRING_DESC_BYTES, &d);
}

static inline uint8_t *fake_at(const struct fakering *f, uint32_t place)
{
	/* No ring has size 0. NOLINTNEXTLINE(clang-analyzer-core.DivideZero) */
	return f->desc + (size_t)(place % f->size) * VRING_DESC_BYTES;
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

/* One descriptor behind those made available; the batch's first stays hidden. */
static inline void fake_lay(struct fakering *f, struct fake_desc d)
{
	bool first = f->avail_place == f->first_place;
	uint8_t *p = fake_at(f, f->avail_place);
	uint16_t old = le16_load(p + 14);

	d.flags &= (uint16_t)~USED_FLAGS;
	d.flags |= f->avail_place < f->size ? VRING_PACKED_DESC_F_AVAIL : VRING_PACKED_DESC_F_USED;
	if (first) {
		f->first_flags = d.flags;
		d.flags = old;
	}
	fake_put(f, p, &d);
	f->avail_place = fake_forward(f, f->avail_place, 1);
}

/* The chain of staged descriptors, as far as the ring goes. */
static inline uint16_t fake_lay_chain(struct fakering *f, uint16_t head)
{
	struct fake_desc d = f->staged[head];
	uint16_t n = 1;

	for (; (d.flags & F_NEXT) && n < f->size; n++) {
		uint16_t next = d.next;

		d.next = head;
		fake_lay(f, d);
		d = f->staged[next];
	}
	d.next = head;
	fake_lay(f, d);
	return n;
}

static inline void fake_avail_slot(struct fakering *f, uint16_t head)
{
	if (f->packed)
		f->counts[f->avail_idx] = fake_lay_chain(f, head);
	else
		le16_store(f->avail + VRING_AVAIL_RING + 2 * (f->avail_idx % (size_t)f->size),
			   head);
	f->avail_idx++;
}

static inline void fake_avail_show(struct fakering *f)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!f->packed) {
		le16_store(f->avail + VRING_AVAIL_IDX, f->avail_idx);
	} else if (f->avail_place != f->first_place) {
		le16_store(fake_at(f, f->first_place) + 14, f->first_flags);
		f->first_place = f->avail_place;
	}
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

/** Both halves of an event structure of a packed ring. */
static inline void fake_set_event(struct fakering *f, uint16_t flags, uint32_t place)
{
	le32_store(f->avail, (uint32_t)flags << 16 | place);
}

static inline uint32_t fake_device_event(const struct fakering *f)
{
	return le32_load(f->used);
}

/* Look at one used element of a packed ring. Return: whether it was there. */
static inline bool fake_reap_packed(struct fakering *f)
{
	const uint8_t *p = fake_at(f, f->used_place);
	uint16_t flags = le16_load(p + 14);
	uint16_t expected = f->used_place < f->size ? USED_FLAGS : 0;

	/* It is used by nobody but the device, so look only as far as was offered. */
	if (f->used_idx == f->avail_idx || (flags & USED_FLAGS) != expected)
		return false;
	f->log[f->used_idx] = (struct fake_used){ le16_load(p + 12), le32_load(p + 8) };
	assert_int_equal((flags & F_WRITE) != 0, le32_load(p + 8) != 0);
	f->used_place = fake_forward(f, f->used_place, f->counts[f->used_idx]);
	f->used_idx++;
	return true;
}

/** The index up to which chains were used, as the driver sees it. */
static inline uint16_t fake_used_idx(struct fakering *f)
{
	if (!f->packed)
		return le16_load(f->used + VRING_USED_IDX);
	while (fake_reap_packed(f))
		;
	return f->used_idx;
}

/** The used element of that index; it was seen by fake_used_idx(). */
static inline struct fake_used fake_used_at(const struct fakering *f, uint16_t index)
{
	const uint8_t *elem = f->used + VRING_USED_RING + 8 * (index % (size_t)f->size);

	if (f->packed)
		return f->log[index];
	return (struct fake_used){ le32_load(elem), le32_load(elem + 4) };
}

/** The index of the chain to be popped next. */
static inline uint16_t fake_next(const struct fakering *f)
{
	return f->packed ? (uint16_t)(f->start_idx + f->vr.n_popped) : f->vr.next_avail;
}

static inline int fake_pop(struct fakering *f, struct vring_chain *chain)
{
	return vring_pop(&f->vr, chain, f->iov, VRING_MAX_PIECES);
}

#endif
