// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_vring.c - libFuzzer harness for virtio/vring*.c and virtio/gmem.c over
 * an arbitrary ring of either format and arbitrary guest memory.
 *
 * Input: a head (see guest_init()), then a script of the length it tells, then
 * the image of the three parts of the ring and the regions, one after the
 * other; what is missing is zero. Each byte of the script is an operation and
 * its argument. Every part is a heap block of its own, so that a step beyond
 * any of them is seen.
 *
 * Checked: what vring_pop() returns lies within the regions, fits the room it
 * was given and adds up; a broken ring stays broken; an error takes nothing.
 *
 * Whatever was checked must be what is used, so there are two variants more:
 * with -DFUZZ_RACE a second thread writes to ring and memory all the while;
 * with -DFUZZ_HOSTILE -include fuzz/hostile_shared.h every other word changes
 * as soon as it was loaded.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/le.h"
#include "check.h"
#include "virtio/ring_spec.h"
#include "virtio/vring.h"

#define MAX_LOG2_SIZE 8u
#define PACKED 0x80u /* in the byte of the size, which is then 1 to 128 */
#define MAX_REGIONS 6u
#define HEAD_BYTES 6u

/** Where guest memory is: adjacent at odd places, apart, at the very top. */
static const struct {
	uint64_t gpa;
	uint64_t bytes;
} regions[MAX_REGIONS] = {
	{ 0, 4096 },   { 4096, 100 },     { 4196, 7 },
	{ 4203, 900 }, { 0x10000, 4096 }, { UINT64_MAX - 4096, 4096 },
};

struct guest {
	uint32_t size;
	uint64_t features;
	uint32_t base;
	struct vring_layout layout;
	uint8_t *blocks[3 + MAX_REGIONS]; /* ring parts, then regions */
	size_t bytes[3 + MAX_REGIONS];
	struct gmem gmem;
	struct vring vr;
	bool packed;
	uint16_t popped; /* newest ones that may be given back */
	uint16_t head;   /* of the newest */
	uint32_t place;  /* packed: of the driver, in two laps */
};

static struct iovec pieces[VRING_MAX_PIECES];

#if defined(FUZZ_RACE) || defined(FUZZ_HOSTILE)
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A word as a ring could hold it as often as any. */
static uint64_t next_word(uint64_t *state)
{
	uint64_t r = next_random(state);

	if (r & 1)
		return r;
	return (r >> 8 & 0x1fff) | (r >> 21 & 0xff) << 32 | (r >> 30 & 7) << 32;
}
#endif

#ifdef FUZZ_HOSTILE
static uint64_t hostile_state;

void hostile_loaded(uintptr_t p, size_t width)
{
	uint64_t word;

	if (next_random(&hostile_state) & 1)
		return;
	word = next_word(&hostile_state);
	memcpy((void *)p, &word, width);
}
#endif

#ifdef FUZZ_RACE
#define ROUNDS 8

static struct guest *victim; /* what the other thread writes to; NULL: nothing */
static bool mutating;        /* it is at it just now */

/* Change one word, of the ring more often than elsewhere. */
static void mutate(struct guest *g, uint64_t *state)
{
	uint64_t r = next_random(state);
	size_t block = r & 3 ? r >> 2 & 1 : (r >> 4) % (3 + g->gmem.count);
	size_t at = (r >> 16) % (g->bytes[block] - 1) & ~(size_t)1;
	uint16_t *word = (uint16_t *)(void *)(g->blocks[block] + at);

	__atomic_store_n(word, (uint16_t)next_word(state), __ATOMIC_RELAXED);
}

static void *mutator(void *arg)
{
	uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

	for (;;) {
		struct guest *g;

		__atomic_store_n(&mutating, true, __ATOMIC_SEQ_CST);
		g = __atomic_load_n(&victim, __ATOMIC_SEQ_CST);
		for (int i = 0; g && i < 16; i++)
			mutate(g, &state);
		__atomic_store_n(&mutating, false, __ATOMIC_SEQ_CST);
		if (!g)
			(void)sched_yield();
	}
	return arg;
}

static void race_begin(struct guest *g)
{
	static pthread_t thread;

	if (!thread)
		check(pthread_create(&thread, NULL, mutator, NULL) == 0);
	__atomic_store_n(&victim, g, __ATOMIC_SEQ_CST);
}

static void race_end(void)
{
	__atomic_store_n(&victim, NULL, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&mutating, __ATOMIC_SEQ_CST))
		(void)sched_yield();
}
#else
static void race_begin(struct guest *g)
{
	(void)g;
}

static void race_end(void)
{
}
#endif

/* A block of @bytes, filled from the image as far as that reaches. */
static uint8_t *block_from(struct guest *g, size_t i, size_t bytes, const uint8_t **image,
			   size_t *left)
{
	size_t n = min_size(bytes, *left);

	g->blocks[i] = calloc(1, bytes);
	g->bytes[i] = bytes;
	check(g->blocks[i]);
	memcpy(g->blocks[i], *image, n);
	*image += n;
	*left -= n;
	return g->blocks[i];
}

static void guest_init(struct guest *g, const uint8_t *head, const uint8_t *image, size_t left)
{
	size_t n = 1 + head[1] % MAX_REGIONS;
	struct vring_extent extent;

	*g = (struct guest){ .size = 1u << head[0] % (MAX_LOG2_SIZE + 1) };
	g->features = (uint64_t)head[2] << VIRTIO_F_NOTIFY_ON_EMPTY_BIT;
	g->packed = head[0] & PACKED;
	if (g->packed) {
		g->size = 1 + head[0] % PACKED;
		g->features |= bit64(VIRTIO_F_RING_PACKED_BIT);
	}
	extent = vring_extent(g->size, g->features);
	g->base = le16_load(head + 4);
	if (g->packed) {
		uint32_t offset = (g->base & VRING_PACKED_OFFSET_MASK) % g->size;
		uint32_t wire = offset | (g->base & VRING_PACKED_WRAP);

		g->base = wire | wire << 16;
		g->place = wire & VRING_PACKED_WRAP ? offset : offset + g->size;
	}
	g->layout.desc = block_from(g, 0, extent.desc, &image, &left);
	g->layout.avail = block_from(g, 1, extent.avail, &image, &left);
	g->layout.used = block_from(g, 2, extent.used, &image, &left);
	for (size_t i = 0; i < n; i++) {
		struct gmem_region region = {
			.gpa = regions[i].gpa,
			.uva = i << 20,
			.size = regions[i].bytes,
			.hva = block_from(g, 3 + i, regions[i].bytes, &image, &left),
		};

		check(gmem_insert(&g->gmem, &region) == 0);
	}
	check(vring_start(&g->vr, g->size, &g->layout, &g->gmem, g->base, g->features) == 0);
}

static void guest_fini(struct guest *g)
{
	vring_stop(&g->vr);
	for (size_t i = 0; i < array_size(g->blocks); i++)
		free(g->blocks[i]);
	gmem_fini(&g->gmem);
}

static bool is_in_a_region(const struct guest *g, const struct iovec *piece)
{
	uintptr_t at = (uintptr_t)piece->iov_base;

	for (size_t i = 3; i < array_size(g->blocks); i++) {
		uintptr_t start = (uintptr_t)g->blocks[i];

		if (start && at >= start && at - start < g->bytes[i])
			return piece->iov_len <= g->bytes[i] - (at - start);
	}
	return false;
}

/* Every piece is guest memory; use the first and the last byte of each. */
static uint64_t check_pieces(const struct guest *g, const struct iovec *iov, size_t count,
			     bool writable)
{
	uint64_t total = 0;

	for (size_t i = 0; i < count; i++) {
		volatile uint8_t *p = iov[i].iov_base;

		check(iov[i].iov_len > 0 && is_in_a_region(g, &iov[i]));
		total += iov[i].iov_len;
		if (writable)
			p[0] = p[iov[i].iov_len - 1] = 0xa5;
		else
			(void)(p[0] + p[iov[i].iov_len - 1]);
	}
	return total;
}

static void pop(struct guest *g, size_t max)
{
	const struct vring before = g->vr;
	struct vring_chain chain;
	int rc = vring_pop(&g->vr, &chain, pieces, max);

	if (rc == 1) {
		check(!before.broken && (g->packed || chain.head < g->size));
		check((uint64_t)chain.readable + chain.writable <= max);
		check(check_pieces(g, pieces, chain.readable, false) == chain.readable_bytes);
		check(check_pieces(g, pieces + chain.readable, chain.writable, true) ==
		      chain.writable_bytes);
		if (g->packed)
			check((uint16_t)(g->vr.n_popped - g->vr.n_pushed) <= g->size &&
			      g->vr.n_popped == (uint16_t)(before.n_popped + 1));
		else
			check(g->vr.next_avail == (uint16_t)(before.next_avail + 1));
		g->head = chain.head;
		g->popped++;
		return;
	}
	check(rc == 0 || rc == -EPROTO || (rc == -ENOBUFS && max < VRING_MAX_PIECES));
	check(g->vr.next_avail == before.next_avail);
	check(g->vr.broken == (before.broken || rc == -EPROTO));
	check(!before.broken || rc == 0);
}

/* As a driver that goes on, whatever state the ring is in. */
static void drive(struct guest *g, uint8_t arg)
{
	uint8_t *avail = g->blocks[1];

	if (!g->packed)
		le16_store(avail + VRING_AVAIL_IDX,
			   (uint16_t)(le16_load(avail + VRING_AVAIL_IDX) + arg));
	for (; g->packed && arg > 0; arg--) {
		uint8_t *flags = g->blocks[0] + g->place % g->size * (size_t)16 + 14;
		uint16_t rest = le16_load(flags) &
				(uint16_t) ~(VRING_PACKED_DESC_F_AVAIL | VRING_PACKED_DESC_F_USED);

		le16_store(flags, rest | (g->place < g->size ? VRING_PACKED_DESC_F_AVAIL
							     : VRING_PACKED_DESC_F_USED));
		g->place = (g->place + 1) % (2 * g->size);
	}
}

static void restart(struct guest *g)
{
	uint32_t base = vring_base(&g->vr);

	vring_stop(&g->vr);
	check(vring_base(&g->vr) == base && vring_available(&g->vr) == 0);
	check(vring_start(&g->vr, g->size, &g->layout, &g->gmem, base, g->features) == 0);
	g->popped = 0;
}

static void push(struct guest *g, uint8_t arg)
{
	vring_push(&g->vr, g->head, arg);
	g->popped = 0;
}

static void unpop(struct guest *g, uint8_t arg)
{
	uint16_t n = arg < g->popped ? arg : g->popped;

	vring_unpop(&g->vr, n);
	g->popped = (uint16_t)(g->popped - n);
}

static void operate(struct guest *g, uint8_t code)
{
	static const size_t rooms[] = { 0, 1, 2, 4, 64, VRING_MAX_PIECES };
	uint8_t arg = code >> 3;

	switch (code & 7) {
	case 0:
	case 1:
		pop(g, rooms[arg < array_size(rooms) ? arg : array_size(rooms) - 1]);
		break;
	case 2:
		push(g, arg);
		break;
	case 3:
		(void)!vring_publish(&g->vr);
		break;
	case 4:
		unpop(g, arg);
		break;
	case 5:
		if (arg & 1)
			vring_disable_kick(&g->vr);
		else if (vring_enable_kick(&g->vr))
			check(!g->vr.broken);
		break;
	case 6:
		drive(g, arg);
		break;
	default:
		if (arg == 0)
			restart(g);
		else
			check(vring_available(&g->vr) == 0 || !g->vr.broken);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest g;
	const uint8_t *script;
	size_t steps;

	if (size < HEAD_BYTES)
		return 0;
	script = data + HEAD_BYTES;
	steps = min_size(data[3], size - HEAD_BYTES);
	guest_init(&g, data, script + steps, size - HEAD_BYTES - steps);
#ifdef FUZZ_HOSTILE
	hostile_state = 1 + le16_load(data + 4);
#endif
	race_begin(&g);
#ifdef FUZZ_RACE
	for (int round = 0; round < ROUNDS; round++, restart(&g))
#endif
		for (size_t i = 0; i < steps; i++)
			operate(&g, script[i]);
	race_end();
	guest_fini(&g);
	return 0;
}
