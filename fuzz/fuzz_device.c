// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_device.c - libFuzzer harness for the whole of vsock/: two devices that
 * are siblings, between guests that keep the rules on some ports and none on
 * others, and host sockets that do as they like.
 *
 * Input: HEAD_BYTES of set-up, then operations of one byte and their arguments.
 * How sockets cut reads and writes, and where the other thread comes in, follows
 * from a seed in the head, so that a changed byte does not shift the rest.
 *
 * Checked after each operation: device_checks.h. By the guests: that every head
 * comes back once, every packet is legal and within credit, and bytes are in
 * order; by the sockets: bytes in order, nothing after an end. In the end both
 * guests give buffers, take bytes and answer as kernels do; then nothing may be
 * left undone (check_end()), and freeing everything must leave nothing.
 */
#include <string.h>

#include "device_world.h"

#include "device_guest.h"

#include "device_host.h"

#include "device_checks.h"

#include "device_owner.h"

#define HEAD_BYTES 8u
#define MAX_STEPS 2000
#define MAX_ROUNDS 5000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- operations --- */

/* Anything at all, on ports where nobody relies on it. */
static void wild_packet(struct side *s)
{
	static const uint32_t lens[] = { 0, 1, 100, 4096, 16384, 32000, 70000, 0x80000000 };
	static const uint32_t allocs[] = { 0, 1, 5000, 65536, 1u << 20, UINT32_MAX };
	static uint8_t payload[2 * TX_AREA];
	struct world *w = s->world;
	static const uint8_t pairs[][2] = { { 0, 0 }, { 1, 1 }, { 1, 3 }, { 3, 1 } };
	uint8_t pair = next_byte(w) % array_size(pairs);
	uint8_t what = next_byte(w);
	uint8_t how = next_byte(w);
	struct pkt pkt = {
		.src_cid = s->cid,
		.dst_cid = what & 8 ? s->other->cid : VSOCK_CID_HOST,
		.src_port = pairs[pair][0],
		.dst_port = pairs[pair][1],
		.type = what >= 240 ? 3 : 1 + (how >> 6 & 1),
		.op = what & 7,
		.flags = how & 3,
		.buf_alloc = allocs[how % array_size(allocs)],
		.fwd_cnt = how >= 250 ? how : 0,
	};

	if (pkt.op == VSOCK_OP_RW)
		pkt.len = lens[(how >> 2) % array_size(lens)];
	if ((what >> 4) == 14)
		pkt.dst_cid = how;
	if ((what >> 4) == 13)
		pkt.src_cid = how;
	guest_send(s, &pkt, payload, min_u32(pkt.len, how & 32 ? 90 : sizeof(payload)));
}

/* A kernel's step on an honest port pair. */
static void honest_step(struct side *s)
{
	static const uint8_t pairs[][2] = { { 1, 0 }, { 2, 0 }, { 3, 0 }, { 2, 1 }, { 3, 2 },
					    { 0, 1 }, { 0, 2 }, { 0, 3 }, { 1, 2 }, { 2, 3 } };
	struct world *w = s->world;
	uint8_t choice = next_byte(w);
	uint8_t what = next_byte(w);
	const uint8_t *pair = pairs[choice % array_size(pairs)];
	struct flow *f = flow_at(s, choice >> 7, pair[0], pair[1]);

	if (f->state == NONE)
		flow_ask(s, f);
	else if (what == 255)
		flow_abort(s, f);
	else if (f->state == WAS_ASKED)
		flow_answer(s, f);
	else if (what >= 248)
		flow_shutdown(s, f, 1 + what % 3);
	else if (what & 1)
		flow_write(s, f, 1u << (what >> 1) % 16);
	else
		flow_consume(s, f);
}

static void control_ring(struct side *s, uint8_t what)
{
	unsigned int index = what & 1;
	struct driver_ring *r = &s->ring[index];

	if (what >= 240) {
		reboot(s);
	} else if (what >= 232 && !r->dead) {
		ring_break(r);
		schedule_side(s);
	} else if (what & 2) {
		stop_ring(s, index);
	} else {
		start_ring(s, index);
	}
}

static void operate(struct world *w, uint8_t op)
{
	struct side *s = &w->side[op & 1];

	switch (op >> 1 & 7) {
	case 0:
		turn(s);
		break;
	case 1:
		guest_poll(s);
		break;
	case 2:
		post_rx(s, 1u + (op >> 4), next_byte(w));
		break;
	case 3:
		wild_packet(s);
		break;
	case 4:
	case 5:
		honest_step(s);
		break;
	case 6:
		host_event(s, op >> 4, next_byte(w));
		break;
	default:
		if (op >> 4 < 8)
			host_client(s, next_byte(w));
		else if (op >> 4 < 10)
			probe(s);
		else
			control_ring(s, next_byte(w));
		break;
	}
	if (rnd(w, 8) >= w->eager)
		return;
	for (int i = 0; i < 2; i++) {
		guest_poll(&w->side[i]);
		post_rx(&w->side[i], 4, rnd(w, 32));
		turn(&w->side[i]);
	}
}

void come_between(struct world *w, struct side *running)
{
	struct side *s = running->other;
	uint32_t what = rnd(w, 32);

	if (!w->interleave || w->held > 0 || w->between || !running->busy || what > 8)
		return;
	w->between = true;
	running->busy = false; /* the lock hooks ask whose turn it is */
	guest_poll(running);
	guest_poll(s);
	if (what < 5)
		turn(s);
	else if (what == 5 && !w->calm)
		host_event(s, (uint8_t)rnd(w, 256), (uint8_t)rnd(w, 256));
	else if (what == 6 && !w->calm)
		control_ring(s, (uint8_t)rnd(w, 245));
	else if (what == 7)
		probe(s);
	running->busy = true;
	w->between = false;
}

void while_publishing(struct side *s)
{
	struct world *w = s->world;

	if (!w->interleave || w->held > 0 || w->between || s->busy || s->other->busy ||
	    rnd(w, 4) > 0)
		return;
	w->between = true;
	turn(rnd(w, 2) ? s : s->other);
	w->between = false;
}

/* --- the end --- */

static void end_wild_conn(void *ctx, struct conn *conn)
{
	struct side *s = ctx;
	struct pkt rst = {
		.src_cid = s->cid,
		.dst_cid = conn->host_cid,
		.src_port = conn->guest_port,
		.dst_port = conn->host_port,
		.type = conn->seqpacket ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM,
		.op = VSOCK_OP_RST,
	};

	if (conn->in_table && !has_pattern(conn) && s->ring[VSOCK_RING_TX].free_count >= 8)
		(void)guest_send(s, &rst, NULL, 0);
}

static void end_wild_flows(struct side *s)
{
	for (uint32_t a = 0; a < PORTS; a++) {
		for (uint32_t b = 0; b < PORTS; b++) {
			struct pkt rst = { s->cid,
					   s->other->cid,
					   a,
					   b,
					   0,
					   VSOCK_TYPE_STREAM,
					   VSOCK_OP_RST,
					   0,
					   0,
					   0 };

			const struct inbox_flow *record =
				inbox_find(&s->other->device.inbox, s->cid, a, b);

			if (!record)
				record = inbox_find(&s->device.inbox, s->other->cid, b, a);
			if (record)
				rst.type = record->type;
			if (!is_honest(a, b) && s->ring[VSOCK_RING_TX].free_count >= 8 && record)
				(void)guest_send(s, &rst, NULL, 0);
		}
	}
	conntab_each(&s->device.conns, end_wild_conn, s);
}

static bool is_idle(struct side *s)
{
	struct some_conns all = all_conns(s);

	for (uint32_t i = 0; i < all.count; i++) {
		if (all.sock[i]->conn.starved || all.sock[i]->wants_room || all.sock[i]->dialling ||
		    all.sock[i]->conn.state == CONN_REQUESTED)
			return false;
	}
	return !s->scheduled && !s->probe_armed && !s->ring[0].called && !s->ring[1].called &&
	       s->ring[0].free_count == 0;
}

/* What a guest, its host programs and the clock do when all is well. */
static void live(struct side *s, bool clock)
{
	struct some_conns all = all_conns(s);

	guest_poll(s);
	for (size_t i = 0; i < FLOWS; i++) {
		struct flow *f = &s->flows[i];

		if (f->tainted) /* its credit is unknown, too */
			flow_abort(s, f);
		flow_answer(s, f);
		flow_consume(s, f);
		if (f->sent != f->sent_whole)
			flow_write(s, f, UINT32_MAX);
	}
	end_wild_flows(s);
	ring_publish(s, VSOCK_RING_TX);
	post_rx(s, MAX_RING, 0);
	for (uint32_t i = 0; i < all.count; i++) {
		struct sock *k = all.sock[i];

		if (k->conn.state == CONN_FREE)
			continue;
		if (k->open && !k->dialling)
			make_room(s, k, 1u << 20);
		if (clock && k->conn.state != CONN_FREE)
			fire(s, k);
	}
	if (clock)
		probe(s);
	turn(s);
}

static void settle(struct world *w)
{
	int quiet = 0;

	w->calm = true;
	for (int i = 0; i < 2; i++) {
		if (w->side[i].ring[0].dead || w->side[i].ring[1].dead)
			reboot(&w->side[i]);
		start_ring(&w->side[i], VSOCK_RING_RX);
		start_ring(&w->side[i], VSOCK_RING_TX);
	}
	for (int round = 0; quiet < 4; round++) {
		check(round < MAX_ROUNDS);
		live(&w->side[0], round % 8 == 7);
		live(&w->side[1], round % 8 == 7);
		check_world(w);
		quiet = is_idle(&w->side[0]) && is_idle(&w->side[1]) ? quiet + 1 : 0;
	}
	check_end(&w->side[0]);
	check_end(&w->side[1]);
	check_flows(&w->side[0]);
	check_flows(&w->side[1]);
}

/* --- life --- */

static uint8_t *exactly(size_t bytes)
{
	uint8_t *p = calloc(1, bytes);

	check(p);
	return p;
}

static void new_ring(struct side *s, unsigned int index, uint32_t size)
{
	struct driver_ring *r = &s->ring[index];

	struct vring_extent extent = vring_extent(size, s->features);

	r->size = size;
	r->packed = s->features & PACKED;
	r->desc = exactly(extent.desc);
	r->avail = exactly(extent.avail);
	r->used = exactly(extent.used);
	r->ring = r->packed ? exactly(extent.desc) : NULL;
	r->vr.base = ring_first_base(r);
	ring_reset(r);
}

static void side_init(struct world *w, int i, const uint8_t *head)
{
	static struct scratch scratch[2];
	static uint8_t *memory[2];
	struct side *s = &w->side[i];
	struct device_params params = {
		.env = &env,
		.ctx = s,
		.endpoint = &host_ops,
		.host = s,
		.scratch = &scratch[i],
		.conn_bytes = sizeof(struct sock),
		.random = head[7],
		.guest_cid = FIRST_CID + (uint32_t)i,
		.window = 4096u << (head[0] >> 4 * i & 7),
		.max_half_open = 1 + head[1] % 48u / 2,
		.open = { .name = "open", .max = 1 + head[1] % 48u },
		.buffered = { .name = "buffered", .max = 64u << 20 },
	};
	struct gmem_region region = { .gpa = 0, .uva = 1u << 30, .size = MEMORY_BYTES };

	if (!memory[i])
		memory[i] = exactly(MEMORY_BYTES);
	s->world = w;
	s->other = &w->side[1 - i];
	s->cid = params.guest_cid;
	s->scratch = params.scratch;
	s->event_idx = head[2] >> i & 1;
	s->volunteers = head[2] >> (2 + i) & 1;
	s->features = s->event_idx ? bit64(VIRTIO_F_EVENT_IDX_BIT) : 0;
	if (head[0] >> (4 * i + 3) & 1)
		s->features |= PACKED;
	s->memory = region.hva = memory[i];
	check(gmem_insert(&s->gmem, &region) == 0);
	new_ring(s, VSOCK_RING_RX, 4u << (head[3] >> 4 * i & 3) % 5);
	new_ring(s, VSOCK_RING_TX, 8u << (head[3] >> (4 * i + 2) & 3));
	device_init(&s->device, &params);
	device_set_features(&s->device, 7);
}

static void side_fini(struct side *s)
{
	for (unsigned int i = 0; i < 2; i++) {
		stop_ring(s, i);
		free(s->ring[i].desc);
		free(s->ring[i].avail);
		free(s->ring[i].used);
		free(s->ring[i].ring);
	}
	gmem_fini(&s->gmem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world *w;

	if (size < HEAD_BYTES)
		return 0;
	w = calloc(1, sizeof(*w));
	check(w);
	w->data = data + HEAD_BYTES;
	w->left = size - HEAD_BYTES;
	w->rng = UINT64_C(0x9e3779b97f4a7c15) ^ le32_load(data + 4);
	w->interleave = data[2] & 16;
	w->faults = data[2] & 32;
	w->eager = data[2] >> 6 << 1;
	w->blind = data[7] & 64;
	for (int i = 0; i < 2; i++)
		side_init(w, i, data);
	for (int i = 0; i < 2; i++) {
		start_ring(&w->side[i], VSOCK_RING_RX);
		start_ring(&w->side[i], VSOCK_RING_TX);
	}
	for (int step = 0; w->left > 0 && step < MAX_STEPS; step++) {
		operate(w, next_byte(w));
		check_world(w);
	}
	settle(w);
	for (int i = 0; i < 2; i++) {
		device_reset(&w->side[i].device);
		device_drop_sibling(&w->side[1 - i].device, w->side[i].cid, w->side[i].scratch);
	}
	check_world(w);
	check(w->side[0].device.conns.used + w->side[1].device.conns.used == 0 || w->timers > 0);
	side_fini(&w->side[0]);
	side_fini(&w->side[1]);
	device_fini(&w->side[0].device);
	device_fini(&w->side[1].device);
	free(w);
	return 0;
}
