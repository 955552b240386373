// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_guest.h - part of fuzz_device.c: the guest, a kernel that keeps the
 * protocol on honest port pairs and checks what it is sent.
 */
#ifndef FUZZ_DEVICE_GUEST_H
#define FUZZ_DEVICE_GUEST_H

#include <string.h>

#include "base/le.h"
#include "device_ring.h"

#ifdef FUZZ_TRACE /* to understand a finding */
static inline void trace(const struct side *s, const char *what, const struct pkt *p)
{
	fprintf(stderr,
		"guest %u %s %lu:%u > %lu:%u type %u op %u len %u flags %u alloc %u fwd %u\n",
		s->cid, what, p->src_cid, p->src_port, p->dst_cid, p->dst_port, p->type, p->op,
		p->len, p->flags, p->buf_alloc, p->fwd_cnt);
}
#else
static inline void trace(const struct side *s, const char *what, const struct pkt *p)
{
	(void)s;
	(void)what;
	(void)p;
}
#endif

/* --- sending --- */

/* Put a packet on the ring; @payload may be longer or shorter than it says. */
static inline bool guest_send(struct side *s, const struct pkt *pkt, const uint8_t *payload,
			      uint32_t bytes)
{
	uint8_t header[VSOCK_HDR_BYTES];
	struct piece pieces[4];
	uint8_t count = 0;
	uint32_t cut = rnd(s->world, 4) == 0 ? rnd(s->world, VSOCK_HDR_BYTES) : VSOCK_HDR_BYTES;

	trace(s, "sends", pkt);
	pkt_encode(header, pkt);
	pieces[count++] = (struct piece){ cut, header };
	if (cut < VSOCK_HDR_BYTES)
		pieces[count++] = (struct piece){ VSOCK_HDR_BYTES - cut, header + cut };
	for (uint32_t at = 0; at < bytes && count < array_size(pieces);) {
		uint32_t part = min_u32(bytes - at, TX_AREA);

		pieces[count++] = (struct piece){ part, payload + at };
		at += part;
	}
	return ring_add(s, VSOCK_RING_TX, pieces, count);
}

static inline struct pkt flow_header(const struct side *s, const struct flow *f, uint16_t op)
{
	size_t at = (size_t)(f - s->flows);
	bool sibling = at >= PORTS * PORTS;
	bool seqpacket = is_seqpacket((uint32_t)(at / PORTS % PORTS), (uint32_t)(at % PORTS));

	return (struct pkt){
		.src_cid = s->cid,
		.dst_cid = sibling ? s->other->cid : VSOCK_CID_HOST,
		.src_port = (uint32_t)(at / PORTS % PORTS),
		.dst_port = (uint32_t)(at % PORTS),
		.type = seqpacket ? VSOCK_TYPE_SEQPACKET : VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = window_of(s, f),
		.fwd_cnt = f->consumed,
	};
}

static inline bool flow_send(struct side *s, struct flow *f, uint16_t op, uint32_t flags)
{
	struct pkt pkt = flow_header(s, f, op);

	pkt.flags = flags;
	if (op == VSOCK_OP_RST || op == VSOCK_OP_REQUEST)
		pkt.fwd_cnt = 0;
	if (!guest_send(s, &pkt, NULL, 0))
		return false;
	f->window_end = f->consumed + window_of(s, f);
	return true;
}

static inline void flow_begin(struct side *s, struct flow *f, enum flow_state state)
{
	bool tainted = f->tainted;

	*f = (struct flow){ .state = state, .used = true, .tainted = tainted };
	f->window_end = window_of(s, f);
}

static inline void flow_ask(struct side *s, struct flow *f)
{
	struct flow old = *f;
	struct pkt key = flow_header(s, f, VSOCK_OP_REQUEST);

	if (f->state != NONE || f->owe_rst || key.src_port < key.dst_port)
		return;
	flow_begin(s, f, ASKED);
	f->used = old.used;
	if (!flow_send(s, f, VSOCK_OP_REQUEST, 0))
		*f = old;
}

static inline void flow_answer(struct side *s, struct flow *f)
{
	if (f->state == WAS_ASKED && flow_send(s, f, VSOCK_OP_RESPONSE, 0))
		f->state = OPEN;
}

static inline void flow_abort(struct side *s, struct flow *f)
{
	if (f->state == NONE)
		return;
	if (f->state == ASKED) /* its RESPONSE may be taken for that of the next */
		f->tainted = true;
	f->state = NONE;
	f->used = true;
	f->owe_update = false;
	f->owe_rst = !flow_send(s, f, VSOCK_OP_RST, 0);
}

static inline void flow_shutdown(struct side *s, struct flow *f, uint8_t flags)
{
	if (f->state == OPEN && flow_send(s, f, VSOCK_OP_SHUTDOWN, f->shut | flags))
		f->shut |= flags;
}

/* Send the next bytes of the stream, or of a message, as far as credit goes. */
static inline void flow_write(struct side *s, struct flow *f, uint32_t want)
{
	static uint8_t payload[2 * TX_AREA];
	struct pkt pkt = flow_header(s, f, VSOCK_OP_RW);
	uint32_t in_flight = f->sent - f->peer_fwd;

	if (f->state != OPEN || (f->shut & VSOCK_SHUTDOWN_SEND) != 0 || in_flight > f->peer_alloc)
		return;
	pkt.len = min_u32(min_u32(want, sizeof(payload)), f->peer_alloc - in_flight);
	if (pkt.type == VSOCK_TYPE_SEQPACKET) {
		uint32_t rest = left_of_message(f->sent_whole, f->sent);

		pkt.len = min_u32(pkt.len, rest);
		pkt.flags = pkt.len == rest ? end_flags(f->sent_whole) : 0;
	}
	for (uint32_t i = 0; i < pkt.len; i++)
		payload[i] = pattern(pkt.src_port, pkt.dst_port, f->sent + i);
	if (pkt.len == 0 || !guest_send(s, &pkt, payload, pkt.len))
		return;
	f->window_end = f->consumed + window_of(s, f);
	f->sent += pkt.len;
	if (pkt.flags != 0 || pkt.type == VSOCK_TYPE_STREAM)
		f->sent_whole = f->sent;
}

static inline void flow_consume(struct side *s, struct flow *f)
{
	/* as kernels do: only whole messages are read */
	if (f->state != OPEN || f->consumed == f->received_whole)
		return;
	f->consumed = f->received_whole;
	if (s->volunteers)
		f->owe_update = !flow_send(s, f, VSOCK_OP_CREDIT_UPDATE, 0);
}

/* Answers the ring had no room for. */
static inline void flow_owed(struct side *s, struct flow *f)
{
	if (f->owe_rst)
		f->owe_rst = !flow_send(s, f, VSOCK_OP_RST, 0);
	if (f->owe_update && f->state == OPEN)
		f->owe_update = !flow_send(s, f, VSOCK_OP_CREDIT_UPDATE, 0);
}

/* --- receiving --- */

static inline void got_bytes(struct side *s, struct flow *f, const struct pkt *pkt,
			     const uint8_t *bytes)
{
	if (f->state != OPEN && f->state != WAS_ASKED)
		return; /* of a connection this end has left */
	if (is_tainted(s, pkt)) {
		f->tainted = true;
		return;
	}
	check((f->peer_shut & VSOCK_SHUTDOWN_SEND) == 0);
	for (uint32_t i = 0; i < pkt->len; i++)
		check(bytes[i] == pattern(pkt->src_port, pkt->dst_port, f->received + i));
	f->received += pkt->len;
	if (pkt->type == VSOCK_TYPE_SEQPACKET) {
		uint32_t begin = f->received_whole;
		bool end = left_of_message(begin, f->received) == 0;

		check(pkt->len > 0 && left_of_message(begin, f->received) < 65536);
		check(pkt->flags == (end ? end_flags(begin) : 0));
		if (end)
			f->received_whole = f->received;
	} else {
		f->received_whole = f->received;
	}
	check((int32_t)(f->window_end - f->received) >= 0);
}

static inline void got_request(struct side *s, struct flow *f, const struct pkt *pkt)
{
	bool used = f->used;

	check(f->state == NONE || f->tainted || used);
	flow_begin(s, f, WAS_ASKED);
	f->used = used;
	f->peer_alloc = pkt->buf_alloc;
	/* what the device has not taken yet may be of the connection before */
	if (used && s->ring[VSOCK_RING_TX].free_count < s->ring[VSOCK_RING_TX].size)
		f->tainted = true;
}

static inline void got_response(struct flow *f)
{
	if (f->state == ASKED) {
		f->state = OPEN;
		f->received = f->received_whole = 0;
	} else if (f->state == OPEN || f->state == WAS_ASKED) {
		check(f->used);
		f->tainted = true;
	} else {
		f->owe_rst = true;
	}
}

static inline void got_control(struct side *s, struct flow *f, const struct pkt *pkt)
{
	switch ((enum vsock_op)pkt->op) {
	case VSOCK_OP_RST:
		f->state = NONE;
		f->used = true;
		f->owe_update = false;
		break;
	case VSOCK_OP_SHUTDOWN:
		if (f->state == OPEN)
			f->peer_shut |= (uint8_t)pkt->flags;
		if (f->state == OPEN && f->peer_shut == VSOCK_SHUTDOWN_BOTH)
			flow_abort(s, f);
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		f->owe_update = f->state == OPEN;
		break;
	case VSOCK_OP_REQUEST:
	case VSOCK_OP_RESPONSE:
	case VSOCK_OP_RW:
	case VSOCK_OP_CREDIT_UPDATE:
	case VSOCK_OP_INVALID:
		break;
	}
}

static inline void got_honest(struct side *s, struct flow *f, const struct pkt *pkt,
			      const uint8_t *bytes)
{
	uint32_t told = pkt->fwd_cnt - f->peer_fwd;

	if (pkt->op == VSOCK_OP_REQUEST) {
		got_request(s, f, pkt);
		return;
	}
	if (pkt->op == VSOCK_OP_RESPONSE)
		got_response(f);
	if (f->state == NONE) { /* as Linux: nobody is there */
		f->owe_rst |= pkt->op != VSOCK_OP_RST;
		return;
	}
	if (f->state == OPEN && pkt->op != VSOCK_OP_RST && !is_tainted(s, pkt)) {
		check(told <= f->sent - f->peer_fwd);
		f->peer_fwd = pkt->fwd_cnt;
		f->peer_alloc = pkt->buf_alloc;
	}
	if (pkt->op != VSOCK_OP_RW)
		got_control(s, f, pkt);
	else
		got_bytes(s, f, pkt, bytes);
}

/* A packet that no device may send ends the run. */
static inline void guest_receive(struct side *s, const uint8_t *raw, uint32_t len)
{
	struct pkt pkt;
	struct flow *f;

	if (len == 0)
		return;
	check(len >= VSOCK_HDR_BYTES);
	pkt_decode(&pkt, raw);
	trace(s, "gets", &pkt);
	check(pkt.dst_cid == s->cid && (pkt.src_cid != s->cid || pkt.op == VSOCK_OP_RST));
	check(pkt.op >= VSOCK_OP_REQUEST && pkt.op <= VSOCK_OP_CREDIT_REQUEST);
	check(pkt.type == VSOCK_TYPE_STREAM || pkt.type == VSOCK_TYPE_SEQPACKET ||
	      pkt.op == VSOCK_OP_RST);
	check(pkt.len == len - VSOCK_HDR_BYTES && pkt.len <= VSOCK_MAX_PAYLOAD);
	check(pkt.len == 0 || pkt.op == VSOCK_OP_RW);
	/* a sibling's flags are its own business */
	check(pkt.src_cid != VSOCK_CID_HOST ||
	      (pkt.op == VSOCK_OP_SHUTDOWN ? pkt.flags - 1 < 3
					   : pkt.flags == 0 || is_message_end(&pkt)));
	f = flow_of(s, pkt.src_cid, pkt.dst_port, pkt.src_port);
	if (f && pkt.type == flow_header(s, f, 0).type)
		got_honest(s, f, &pkt, raw + VSOCK_HDR_BYTES);
}

static inline void receive_all(struct side *s)
{
	static uint8_t raw[VSOCK_HDR_BYTES + VSOCK_MAX_PAYLOAD];
	struct driver_ring *r = &s->ring[VSOCK_RING_RX];
	uint32_t len;
	int head;

	do {
		while ((head = ring_take(r, &len)) >= 0) {
			check(len <= sizeof(raw) && ring_read(s, head, raw, len) == len);
			ring_release(r, head);
			guest_receive(s, raw, len);
		}
	} while (ring_arm(s, r));
}

static inline void reclaim_all(struct side *s)
{
	struct driver_ring *r = &s->ring[VSOCK_RING_TX];
	uint32_t len;
	int head;

	do {
		while ((head = ring_take(r, &len)) >= 0) {
			check(len == 0);
			ring_release(r, head);
		}
	} while (ring_arm(s, r));
}

/* Answer notifications. */
static inline void guest_poll(struct side *s)
{
	if (s->ring[VSOCK_RING_RX].called) {
		s->ring[VSOCK_RING_RX].called = false;
		receive_all(s);
	}
	if (s->ring[VSOCK_RING_TX].called) {
		s->ring[VSOCK_RING_TX].called = false;
		reclaim_all(s);
	}
	for (size_t i = 0; i < FLOWS; i++)
		flow_owed(s, &s->flows[i]);
	ring_publish(s, VSOCK_RING_TX);
}

static inline void post_rx(struct side *s, uint32_t count, uint32_t shape)
{
	static const uint32_t sizes[] = { 3776, 44, 45, 1000, 64, 4096, 20, 144 };
	uint32_t bytes = sizes[shape % array_size(sizes)];
	struct piece pieces[3] = { { bytes, NULL } };
	uint8_t n = 1;

	if (shape & 8) {
		pieces[0].bytes = 11;
		pieces[n++].bytes = bytes;
	}
	if (shape & 16)
		pieces[n++].bytes = 300;
	while (count-- > 0 && ring_add(s, VSOCK_RING_RX, pieces, n))
		;
	ring_publish(s, VSOCK_RING_RX);
}

#endif
