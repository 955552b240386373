// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring_model.c - virtio/vring.c against a random driver.
 *
 * The driver offers chains of random shape, in batches; the device pops,
 * gives back, pushes out of order and publishes; both sides arm and disarm
 * notifications. The model knows for each chain which bytes it names and where
 * it is in its life: every head comes back exactly once, with the length the
 * device gave, and nobody who is armed sleeps through news.
 */
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
	uint32_t popped_at; /* place in model->popped */
};

struct model {
	struct rng rng;
	struct fakering *f;
	bool event_idx;
	bool notify_on_empty;
	struct model_chain *chains; /* by head */
	uint16_t *order;            /* head by avail index, masked */
	uint16_t *free;
	uint32_t n_free;
	uint16_t *popped;
	uint32_t n_popped;
	uint16_t *used_order;       /* head by used index, masked */
	uint16_t shown;             /* avail->idx as the device can see it */
	uint16_t next_avail;        /* what the device should pop next */
	uint16_t pushed, published; /* used indices */
	uint16_t reaped;
	bool first_signal_done;
	bool device_armed; /* it was told that nothing is there and sleeps */
	bool driver_armed;
};

static bool passes(uint16_t event, uint16_t from, uint16_t to)
{
	for (uint16_t i = from; i != to; i++) {
		if (i == event)
			return true;
	}
	return false;
}

static void add_piece(struct model *m, struct model_chain *c, uint64_t gpa, uint32_t len)
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
static struct fake_desc random_buffer(struct model *m, struct model_chain *c, bool writable)
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

static uint16_t take_free(struct model *m)
{
	uint32_t at = rng_below(&m->rng, m->n_free);
	uint16_t index = m->free[at];

	m->free[at] = m->free[--m->n_free];
	return index;
}

/* @n buffers in a table of their own; the descriptor that refers to it. */
static struct fake_desc make_table(struct model *m, struct model_chain *c, uint16_t head,
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
		fake_put(raw, &d);
		fake_write(m->f, gpa + i * sizeof(raw), raw, sizeof(raw));
	}
	return (struct fake_desc){ gpa, n * VRING_DESC_BYTES, F_INDIRECT, 0 };
}

/* A chain of random shape from free descriptors, written to the next slot. */
static void offer_chain(struct model *m)
{
	uint32_t n = 1 + rng_below(&m->rng, min_u32(MAX_DESCS, m->f->size));
	uint32_t n_readable = rng_below(&m->rng, n + 1);
	uint32_t direct = n;
	struct model_chain *c;
	uint16_t index;

	/* Some end in a table, which takes the place of one descriptor or more. */
	if (rng_below(&m->rng, 2) == 0)
		direct = rng_below(&m->rng, n);
	if (m->n_free < direct + (direct < n))
		return;
	index = take_free(m);
	c = &m->chains[index];
	assert_int_equal(c->life, FREE);
	*c = (struct model_chain){ .life = OFFERED };
	m->order[m->f->avail_idx & (m->f->size - 1)] = index;
	fake_avail_slot(m->f, index);
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
}

/* The driver shows what it has put into slots, and kicks if it is to. */
static void driver_show(struct model *m)
{
	uint16_t old = m->shown;
	bool kick;

	fake_avail_show(m->f);
	m->shown = m->f->avail_idx;
	if (m->shown == old)
		return;
	if (m->event_idx)
		kick = passes(fake_avail_event(m->f), old, m->shown);
	else
		kick = le16_load(m->f->used) == 0;
	if (m->device_armed)
		assert_true(kick);
	m->device_armed = false;
}

static void driver_reap(struct model *m)
{
	uint16_t idx = fake_used_idx(m->f);

	assert_int_equal(idx, m->published);
	while (m->reaped != idx) {
		uint16_t slot = m->reaped & (uint16_t)(m->f->size - 1);
		const uint8_t *elem = m->f->used + VRING_USED_RING + 8 * (size_t)slot;
		uint32_t head = le32_load(elem);
		struct model_chain *c;

		assert_int_equal(head, m->used_order[slot]);
		c = &m->chains[head];
		assert_int_equal(c->life, PUSHED);
		assert_int_equal(le32_load(elem + 4), c->used_len);
		c->life = FREE;
		for (uint32_t i = 0; i < c->n_descs; i++)
			m->free[m->n_free++] = c->descs[i];
		m->reaped++;
	}
}

/* After reaping everything the driver arms itself, or asks for silence. */
static void driver_arm(struct model *m)
{
	driver_reap(m);
	m->driver_armed = rng_below(&m->rng, 2) == 0;
	le16_store(m->f->avail, (uint16_t)(m->driver_armed ? 0 : VRING_AVAIL_F_NO_INTERRUPT));
	fake_set_used_event(m->f, m->driver_armed ? m->reaped : (uint16_t)rng_next(&m->rng));
}

static void device_pop(struct model *m)
{
	struct vring_chain chain;
	struct model_chain *c;
	uint16_t head;
	int rc = fake_pop(m->f, &chain);

	assert_int_equal(rc, m->next_avail != m->shown);
	if (rc == 0)
		return;
	head = m->order[m->next_avail & (m->f->size - 1)];
	c = &m->chains[head];
	assert_int_equal(chain.head, head);
	assert_int_equal(c->life, OFFERED);
	assert_int_equal(chain.readable, c->readable);
	assert_int_equal(chain.writable, c->writable);
	assert_int_equal(chain.readable_bytes, c->readable_bytes);
	assert_int_equal(chain.writable_bytes, c->writable_bytes);
	for (uint32_t i = 0; i < c->readable + c->writable; i++) {
		assert_ptr_equal(m->f->iov[i].iov_base, c->pieces[i].iov_base);
		assert_int_equal(m->f->iov[i].iov_len, c->pieces[i].iov_len);
	}
	c->life = POPPED;
	c->popped_at = m->n_popped;
	m->popped[m->n_popped++] = head;
	m->next_avail++;
}

static void forget_popped(struct model *m, struct model_chain *c)
{
	uint16_t last = m->popped[--m->n_popped];

	m->popped[c->popped_at] = last;
	m->chains[last].popped_at = c->popped_at;
}

static void device_unpop(struct model *m, uint32_t most)
{
	uint16_t n = 0;

	while (n < most && m->n_popped > 0) {
		uint16_t at = (uint16_t)(m->next_avail - 1) & (uint16_t)(m->f->size - 1);
		struct model_chain *c = &m->chains[m->order[at]];

		if (c->life != POPPED)
			break;
		c->life = OFFERED;
		forget_popped(m, c);
		m->next_avail--;
		n++;
	}
	vring_unpop(&m->f->vr, n);
}

static void device_push(struct model *m)
{
	struct model_chain *c;
	uint16_t head;

	if (m->n_popped == 0)
		return;
	head = m->popped[rng_below(&m->rng, m->n_popped)];
	c = &m->chains[head];
	c->life = PUSHED;
	c->used_len = (uint32_t)rng_next(&m->rng);
	forget_popped(m, c);
	vring_push(&m->f->vr, head, c->used_len);
	m->used_order[m->pushed & (m->f->size - 1)] = head;
	m->pushed++;
}

static bool signal_expected(struct model *m)
{
	if (m->pushed == m->published)
		return false;
	if (m->notify_on_empty && m->f->vr.seen_avail == m->next_avail)
		return true;
	if (!m->event_idx)
		return le16_load(m->f->avail) == 0;
	return !m->first_signal_done ||
	       passes(le16_load(m->f->avail + 4 + 2 * (size_t)m->f->size), m->published, m->pushed);
}

static void device_publish(struct model *m)
{
	bool expected = signal_expected(m);
	bool anything = m->pushed != m->published;

	assert_int_equal(vring_publish(&m->f->vr), expected);
	assert_int_equal(fake_used_idx(m->f), m->pushed);
	if (anything && m->driver_armed)
		assert_true(expected);
	if (anything && m->notify_on_empty && m->next_avail == m->shown)
		assert_true(expected);
	m->driver_armed = m->driver_armed && !anything;
	m->first_signal_done = m->first_signal_done || anything;
	m->published = m->pushed;
}

static void device_kick_setting(struct model *m)
{
	bool more;

	if (rng_below(&m->rng, 2) == 0) {
		vring_disable_kick(&m->f->vr);
		m->device_armed = false;
		return;
	}
	more = vring_enable_kick(&m->f->vr);
	assert_int_equal(more, m->next_avail != m->shown);
	m->device_armed = !more;
	if (m->event_idx)
		assert_int_equal(fake_avail_event(m->f), m->next_avail);
	else
		assert_int_equal(le16_load(m->f->used), 0);
}

/* Another device takes over: what is popped goes back first. */
static void device_restart(struct model *m)
{
	struct vring_layout layout = { m->f->desc, m->f->avail, m->f->used };
	uint64_t features = (m->event_idx ? bit64(VIRTIO_F_EVENT_IDX_BIT) : 0) |
			    (m->notify_on_empty ? bit64(VIRTIO_F_NOTIFY_ON_EMPTY_BIT) : 0);
	uint16_t base;

	device_unpop(m, m->f->size);
	if (m->n_popped > 0)
		return;
	device_publish(m);
	vring_stop(&m->f->vr);
	base = m->f->vr.next_avail;
	assert_int_equal(base, m->next_avail);
	assert_int_equal(vring_start(&m->f->vr, m->f->size, &layout, &m->f->gmem, base, features),
			 0);
	m->first_signal_done = false;
	m->device_armed = false;
}

static void step(struct model *m)
{
	uint32_t op = rng_below(&m->rng, 100);
	/* Bursts differ in length so that the ring is now full, now empty. */
	uint32_t times = 1 + rng_below(&m->rng, rng_below(&m->rng, 8) == 0 ? 64 : 3);

	if (op == 0)
		device_restart(m);
	else if (op < 6)
		device_unpop(m, times);
	else if (op < 16)
		device_publish(m);
	else if (op < 22)
		device_kick_setting(m);
	else if (op < 28)
		driver_arm(m);
	else if (op < 36)
		driver_reap(m);
	else if (op < 46)
		driver_show(m);
	else if (op < 48)
		assert_int_equal(vring_available(&m->f->vr), (uint16_t)(m->shown - m->next_avail));
	else
		for (uint32_t i = 0; i < times; i++) {
			if (op < 66 && m->n_free > 0)
				offer_chain(m);
			else if (op < 84)
				device_pop(m);
			else
				device_push(m);
		}
}

/* Everything offered is completed: all descriptors are free again. */
static void drain(struct model *m)
{
	driver_show(m);
	while (m->next_avail != m->shown)
		device_pop(m);
	while (m->n_popped > 0)
		device_push(m);
	device_publish(m);
	driver_reap(m);
	assert_int_equal(m->n_free, m->f->size);
	assert_int_equal(m->reaped, m->f->vr.next_avail);
}

static void run_model(struct rng *rng, uint32_t size, uint64_t features)
{
	uint16_t index = (uint16_t)(0 - rng_below(rng, 1000)); /* soon to wrap */
	struct model m = {
		.f = fake_new(size, index, features),
		.event_idx = features & bit64(VIRTIO_F_EVENT_IDX_BIT),
		.notify_on_empty = features & bit64(VIRTIO_F_NOTIFY_ON_EMPTY_BIT),
		.chains = calloc(size, sizeof(*m.chains)),
		.order = calloc(size, sizeof(*m.order)),
		.free = calloc(size, sizeof(*m.free)),
		.popped = calloc(size, sizeof(*m.popped)),
		.used_order = calloc(size, sizeof(*m.used_order)),
		.shown = index,
		.next_avail = index,
		.reaped = index,
		.pushed = index,
		.published = index,
	};

	m.rng.state = rng_next(rng);
	fake_region(m.f, TABLES, (size_t)size * TABLE_STRIDE);
	while (m.n_free < size) {
		m.free[m.n_free] = (uint16_t)m.n_free;
		m.n_free++;
	}
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 5000; i++)
			step(&m);
		drain(&m);
	}
	fake_free(m.f);
	free(m.chains);
	free(m.order);
	free(m.free);
	free(m.popped);
	free(m.used_order);
}

static void test_model(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 4, 256, VRING_MAX_SIZE };
	struct rng rng = rng_new();

	(void)state;
	for (size_t i = 0; i < array_size(sizes); i++) {
		uint64_t empty = bit64(VIRTIO_F_NOTIFY_ON_EMPTY_BIT);
		uint64_t event = bit64(VIRTIO_F_EVENT_IDX_BIT);

		run_model(&rng, sizes[i], 0);
		run_model(&rng, sizes[i], event);
		run_model(&rng, sizes[i], empty);
		run_model(&rng, sizes[i], event | empty);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
