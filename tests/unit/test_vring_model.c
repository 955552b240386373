// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vring_model.c - virtio/vring.c, both formats, against a random driver.
 *
 * The driver offers chains of random shape, in batches; the device pops,
 * gives back, pushes and publishes; both sides arm and disarm notifications.
 * The model (vring_model.h) knows for each chain which bytes it names and where
 * it is in its life: every head comes back exactly once, with the length the
 * device gave, and nobody who is armed sleeps through news.
 */
#include "vring_model.h"

#define ROUNDS 4u
#define STEPS 5000u

static void device_pop(struct model *m)
{
	struct vring_chain chain;
	struct model_chain *c;
	uint16_t head;
	int rc = fake_pop(m->f, &chain);

	assert_int_equal(rc, m->next_avail != m->shown);
	if (rc == 0)
		return;
	head = m->order[m->next_avail];
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
	m->next_avail++;
}

static void device_unpop(struct model *m, uint32_t most)
{
	uint16_t n = 0;

	while (n < most && m->next_avail != m->pushed) {
		struct model_chain *c = &m->chains[m->order[--m->next_avail]];

		assert_int_equal(c->life, POPPED);
		c->life = OFFERED;
		n++;
	}
	vring_unpop(&m->f->vr, n);
}

static void device_push(struct model *m)
{
	struct model_chain *c;
	uint16_t head = m->order[m->pushed];

	if (m->pushed == m->next_avail)
		return;
	c = &m->chains[head];
	c->life = PUSHED;
	c->used_len = rng_below(&m->rng, 4) == 0 ? 0 : (uint32_t)rng_next(&m->rng);
	vring_push(&m->f->vr, head, c->used_len);
	m->pushed++;
}

/* Where the used element of @index is, on a packed ring. */
static uint32_t used_place_of(const struct model *m, uint16_t index)
{
	return fake_forward(m->f, m->f->used_place, descs_of(m, m->f->used_idx, index));
}

static bool signal_expected(struct model *m)
{
	uint32_t word;

	if (m->pushed == m->published)
		return false;
	if (m->f->packed) {
		word = le32_load(m->f->avail);
		if (word >> 16 == VRING_PACKED_EVENT_F_DESC && !m->first_signal_done)
			return true;
		return passes_packed(m, word, used_place_of(m, m->published), m->published,
				     m->pushed);
	}
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

	/* Nothing of the batch is seen before. */
	assert_int_equal(fake_used_idx(m->f), m->published);
	driver_reap(m);
	assert_int_equal(vring_publish(&m->f->vr), expected);
	assert_int_equal(fake_used_idx(m->f), m->pushed);
	if (anything && m->driver_armed)
		assert_true(expected);
	if (anything && m->notify_on_empty && !m->f->packed && m->next_avail == m->shown)
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
	if (m->f->packed)
		return; /* what it asks for shows in driver_show() */
	if (m->event_idx)
		assert_int_equal(fake_avail_event(m->f), m->next_avail);
	else
		assert_int_equal(le16_load(m->f->used), 0);
}

/* Another device takes over: what is popped goes back first. */
static void device_restart(struct model *m)
{
	struct vring_layout layout = { m->f->desc, m->f->avail, m->f->used };
	struct vring *vr = &m->f->vr;
	uint32_t base;

	device_unpop(m, m->f->size);
	device_publish(m);
	vring_stop(vr);
	base = vring_base(vr);
	if (!m->f->packed)
		assert_int_equal(base, m->next_avail);
	assert_int_equal(vring_start(vr, m->f->size, &layout, &m->f->gmem, base, m->f->features),
			 0);
	m->first_signal_done = false;
	m->device_armed = false;
}

static void check_available(struct model *m)
{
	uint16_t got = vring_available(&m->f->vr);

	if (!m->f->packed) {
		assert_int_equal(got, (uint16_t)(m->shown - m->next_avail));
		return;
	}
	/* An estimate: what is laid out and not shown yet may seem to be there. */
	assert_int_equal(got != 0, m->shown != m->next_avail);
	assert_true(got >= descs_of(m, m->next_avail, m->shown));
	assert_true(got <= descs_of(m, m->next_avail, m->f->avail_idx));
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
		check_available(m);
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
	while (m->pushed != m->next_avail)
		device_push(m);
	device_publish(m);
	driver_reap(m);
	assert_int_equal(m->n_free, m->f->size);
	assert_int_equal(m->reaped, m->next_avail);
}

static void run_model(struct rng *rng, uint32_t size, uint64_t features)
{
	uint16_t index = (uint16_t)(0 - rng_below(rng, 1000)); /* soon to wrap */
	struct model m = {
		.f = fake_new(size, index, features),
		.event_idx = features & bit64(VIRTIO_F_EVENT_IDX_BIT),
		.notify_on_empty = features & bit64(VIRTIO_F_NOTIFY_ON_EMPTY_BIT),
		.chains = calloc(size, sizeof(*m.chains)),
		.order = calloc(UINT16_MAX + 1u, sizeof(*m.order)),
		.free = calloc(size, sizeof(*m.free)),
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
	for (unsigned int round = 0; round < ROUNDS; round++) {
		for (unsigned int i = 0; i < STEPS; i++)
			step(&m);
		drain(&m);
	}
	fake_free(m.f);
	free(m.chains);
	free(m.order);
	free(m.free);
}

static void test_split(void **state)
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
	figure(array_size(sizes) * 4 * ROUNDS * STEPS, "steps");
}

static void test_packed(void **state)
{
	static const uint32_t sizes[] = {
		1, 2, 3, 7, 256, 1000, VRING_MAX_SIZE - 1, VRING_MAX_SIZE
	};
	struct rng rng = rng_new();

	(void)state;
	for (size_t i = 0; i < array_size(sizes); i++) {
		run_model(&rng, sizes[i], PACKED);
		run_model(&rng, sizes[i], PACKED | bit64(VIRTIO_F_EVENT_IDX_BIT));
	}
	figure(array_size(sizes) * 2 * ROUNDS * STEPS, "steps");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
