// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring_model.h - the driver of test_vring_model.c: what it has offered, shown
 * and got back, and which notifications it asked for.
 */
#ifndef TESTS_UNIT_VRING_MODEL_H
#define TESTS_UNIT_VRING_MODEL_H

#include "fakering.h"
#include "rng.h"

#define MAX_DESCS 7u
#define TABLES 0x1000000u /* where indirect tables are, a slot for each head */
#define TABLE_STRIDE 128u

enum life { FREE, OFFERED, POPPED, PUSHED };

struct model_chain {
	enum life life;
	uint32_t n_descs; /* of the ring; those of a table are not counted */
	uint16_t descs[MAX_DESCS];
	uint32_t readable, writable;
	uint64_t readable_bytes, writable_bytes;
	struct iovec pieces[2 * MAX_DESCS];
	uint32_t used_len;
};

struct model {
	struct rng rng;
	struct fakering *f;
	bool event_idx;
	bool notify_on_empty;
	struct model_chain *chains; /* by head */
	uint16_t *order;            /* head by index; they are used in that order */
	uint16_t *free;
	uint32_t n_free;
	uint16_t shown;             /* avail->idx as the device can see it */
	uint16_t next_avail;        /* what the device should pop next */
	uint16_t pushed, published; /* used indices */
	uint16_t reaped;
	bool first_signal_done;
	bool device_armed; /* it was told that nothing is there and sleeps */
	bool driver_armed;
};

static inline bool passes(uint16_t event, uint16_t from, uint16_t to)
{
	for (uint16_t i = from; i != to; i++) {
		if (i == event)
			return true;
	}
	return false;
}

/* The descriptors of the chains @from up to @to. */
static inline uint32_t descs_of(const struct model *m, uint16_t from, uint16_t to)
{
	uint32_t n = 0;

	for (uint16_t i = from; i != to; i++)
		n += m->f->counts[i];
	return n;
}

/* Whether the event structure @word of a packed ring asks to be told of the
 * chains @from up to @to, the first of which lies at @place. */
static inline bool passes_packed(const struct model *m, uint32_t word, uint32_t place,
				 uint16_t from, uint16_t to)
{
	uint32_t n = descs_of(m, from, to);

	if (word >> 16 != VRING_PACKED_EVENT_F_DESC)
		return word >> 16 == VRING_PACKED_EVENT_F_ENABLE;
	for (uint32_t i = 0; i < n; i++) {
		if (fake_encode_place(m->f, fake_forward(m->f, place, i)) == (word & 0xffff))
			return true;
	}
	return (word & VRING_PACKED_OFFSET_MASK) >= m->f->size;
}

static inline void add_piece(struct model *m, struct model_chain *c, uint64_t gpa, uint32_t len)
{
	uint32_t *n = &c->readable;

	if (len == 0)
		return;
	if (c->writable > 0 || c->writable_bytes > 0)
		n = &c->writable;
	c->pieces[c->readable + c->writable].iov_base = gmem_from_gpa(&m->f->gmem, gpa, len);
	assert_non_null(c->pieces[c->readable + c->writable].iov_base);
	c->pieces[c->readable + c->writable].iov_len = len;
	(*n)++;
}

/* A random buffer; @c is extended by it. */
static inline struct fake_desc random_buffer(struct model *m, struct model_chain *c, bool writable)
{
	static const uint64_t bases[] = { FAKE_A, FAKE_B - 64, FAKE_C, FAKE_C + 0x8000 };
	struct fake_desc d = {
		.addr = bases[rng_below(&m->rng, 4)] + rng_below(&m->rng, 64),
		.len = rng_below(&m->rng, 8) == 0 ? 0 : 1 + rng_below(&m->rng, 200),
		.flags = writable ? F_WRITE : 0,
	};
	uint32_t before = d.len;

	if (writable)
		c->writable_bytes += d.len;
	else
		c->readable_bytes += d.len;
	if (d.addr < FAKE_B && d.addr + d.len > FAKE_B)
		before = (uint32_t)(FAKE_B - d.addr);
	add_piece(m, c, d.addr, before);
	add_piece(m, c, FAKE_B, d.len - before);
	return d;
}

static inline uint16_t take_free(struct model *m)
{
	uint32_t at = rng_below(&m->rng, m->n_free);
	uint16_t index = m->free[at];

	m->free[at] = m->free[--m->n_free];
	return index;
}

/* @n buffers in a table of their own; the descriptor that refers to it. */
static inline struct fake_desc make_table(struct model *m, struct model_chain *c, uint16_t head,
					  uint32_t n, uint32_t n_readable)
{
	/* Odd addresses are legal as well. */
	uint64_t gpa = TABLES + (uint64_t)head * TABLE_STRIDE + rng_below(&m->rng, 16);

	for (uint32_t i = 0; i < n; i++) {
		struct fake_desc d = random_buffer(m, c, i >= n_readable);
		uint8_t raw[VRING_DESC_BYTES];

		d.next = (uint16_t)(i + 1);
		if (i + 1 < n)
			d.flags |= F_NEXT;
		fake_put(m->f, raw, &d);
		fake_write(m->f, gpa + i * sizeof(raw), raw, sizeof(raw));
	}
	return (struct fake_desc){ gpa, n * VRING_DESC_BYTES, F_INDIRECT, 0 };
}

/* A chain of random shape from free descriptors, written to the next slot. */
static inline void offer_chain(struct model *m)
{
	uint32_t n = 1 + rng_below(&m->rng, min_u32(MAX_DESCS, m->f->size));
	uint32_t n_readable = rng_below(&m->rng, n + 1);
	uint32_t direct = n;
	struct model_chain *c;
	uint16_t index;
	uint16_t head;

	/* Some end in a table, which takes the place of one descriptor or more. */
	if (rng_below(&m->rng, 2) == 0)
		direct = m->f->packed ? 0 : rng_below(&m->rng, n);
	if (m->n_free < direct + (direct < n))
		return;
	head = index = take_free(m);
	c = &m->chains[index];
	assert_int_equal(c->life, FREE);
	*c = (struct model_chain){ .life = OFFERED };
	m->order[m->f->avail_idx] = index;
	for (uint32_t i = 0; i <= direct && i < n; i++) {
		bool last = i + 1 == n || i == direct;
		struct fake_desc d;

		if (i < direct)
			d = random_buffer(m, c, i >= n_readable);
		else
			d = make_table(m, c, c->n_descs ? c->descs[0] : index, n - direct,
				       n_readable > direct ? n_readable - direct : 0);
		c->descs[c->n_descs++] = index;
		if (!last) {
			d.next = take_free(m);
			d.flags |= F_NEXT;
		}
		fake_set(m->f, index, d);
		index = d.next;
	}
	fake_avail_slot(m->f, head);
}

/* The driver shows what it has put into slots, and kicks if it is to. */
static inline void driver_show(struct model *m)
{
	uint16_t old = m->shown;
	uint32_t place = m->f->first_place;
	bool kick;

	fake_avail_show(m->f);
	m->shown = m->f->avail_idx;
	if (m->shown == old)
		return;
	if (m->f->packed)
		kick = passes_packed(m, fake_device_event(m->f), place, old, m->shown);
	else if (m->event_idx)
		kick = passes(fake_avail_event(m->f), old, m->shown);
	else
		kick = le16_load(m->f->used) == 0;
	if (m->device_armed)
		assert_true(kick);
	m->device_armed = false;
}

static inline void driver_reap(struct model *m)
{
	uint16_t idx = fake_used_idx(m->f);

	assert_int_equal(idx, m->published);
	for (; m->reaped != idx; m->reaped++) {
		struct fake_used used = fake_used_at(m->f, m->reaped);
		struct model_chain *c = &m->chains[used.id];

		assert_int_equal(used.id, m->order[m->reaped]);
		assert_int_equal(c->life, PUSHED);
		assert_int_equal(used.len, c->used_len);
		c->life = FREE;
		for (uint32_t i = 0; i < c->n_descs; i++)
			m->free[m->n_free++] = c->descs[i];
	}
}

static inline void driver_arm_packed(struct model *m)
{
	struct fakering *f = m->f;

	if (!m->driver_armed)
		fake_set_event(f, (uint16_t)rng_below(&m->rng, m->event_idx ? 3 : 2),
			       rng_below(&m->rng, 2 * f->size) % f->size +
				       rng_below(&m->rng, 2) * VRING_PACKED_WRAP);
	else if (m->event_idx)
		fake_set_event(f, VRING_PACKED_EVENT_F_DESC, fake_encode_place(f, f->used_place));
	else
		fake_set_event(f, VRING_PACKED_EVENT_F_ENABLE, 0);
}

/* After reaping everything the driver arms itself, or asks for silence. */
static inline void driver_arm(struct model *m)
{
	driver_reap(m);
	m->driver_armed = rng_below(&m->rng, 2) == 0;
	if (m->f->packed) {
		driver_arm_packed(m);
		return;
	}
	le16_store(m->f->avail, (uint16_t)(m->driver_armed ? 0 : VRING_AVAIL_F_NO_INTERRUPT));
	fake_set_used_event(m->f, m->driver_armed ? m->reaped : (uint16_t)rng_next(&m->rng));
}

#endif
