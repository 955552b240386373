// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * gsock.c - stream sockets of an emulated guest, with Linux's credit rules.
 * See guest.h. Makes no system call but through guest_send().
 */
#include "bench/gsock.h"

#include <string.h>

#include "base/le.h"
#include "bench/util.h"
#include "vsock/vsock_spec.h"

#define OWES(op) ((uint8_t)(1u << (op)))

/* --- table --- */

static struct gsock **bucket(struct guest *g, uint64_t cid, uint32_t local, uint32_t peer)
{
	uint64_t h = (cid << 40) ^ ((uint64_t)local << 20) ^ peer;

	h *= UINT64_C(0x9e3779b97f4a7c15);
	return &g->buckets[(h >> 40) % GUEST_BUCKETS];
}

static struct gsock *find(struct guest *g, uint64_t cid, uint32_t local, uint32_t peer)
{
	struct gsock *s = *bucket(g, cid, local, peer);

	while (s != NULL && (s->peer_cid != cid || s->local_port != local || s->peer_port != peer))
		s = s->hash_next;
	return s;
}

static void insert(struct guest *g, struct gsock *s)
{
	struct gsock **b = bucket(g, s->peer_cid, s->local_port, s->peer_port);

	s->guest = g;
	s->hash_next = *b;
	*b = s;
}

void gsock_forget(struct gsock *s)
{
	struct gsock **link = bucket(s->guest, s->peer_cid, s->local_port, s->peer_port);

	while (*link != NULL && *link != s)
		link = &(*link)->hash_next;
	if (*link == s)
		*link = s->hash_next;
	list_remove(&s->pending);
	list_remove(&s->unread);
	list_remove(&s->sending);
}

/* --- packets out --- */

static void encode(const struct gsock *s, uint8_t *header, uint16_t op, uint32_t len)
{
	memset(header, 0, VSOCK_HDR_BYTES);
	le64_store(header + VSOCK_HDR_SRC_CID, s->guest->cid);
	le64_store(header + VSOCK_HDR_DST_CID, s->peer_cid);
	le32_store(header + VSOCK_HDR_SRC_PORT, s->local_port);
	le32_store(header + VSOCK_HDR_DST_PORT, s->peer_port);
	le32_store(header + VSOCK_HDR_LEN, len);
	le16_store(header + VSOCK_HDR_TYPE, VSOCK_TYPE_STREAM);
	le16_store(header + VSOCK_HDR_OP, op);
	le32_store(header + VSOCK_HDR_FLAGS, op == VSOCK_OP_SHUTDOWN ? VSOCK_SHUTDOWN_BOTH : 0);
	le32_store(header + VSOCK_HDR_BUF_ALLOC, GUEST_BUF_ALLOC);
	le32_store(header + VSOCK_HDR_FWD_CNT, s->fwd_cnt);
}

static bool send_packet(struct gsock *s, uint16_t op, uint32_t len)
{
	uint8_t header[VSOCK_HDR_BYTES];

	encode(s, header, op, len);
	if (!guest_send(s->guest, header, s->total_sent, len))
		return false;
	s->last_fwd = s->fwd_cnt;
	return true;
}

static bool send_owed(struct gsock *s)
{
	static const uint8_t order[] = {
		VSOCK_OP_REQUEST,  VSOCK_OP_RESPONSE, VSOCK_OP_CREDIT_UPDATE,
		VSOCK_OP_SHUTDOWN, VSOCK_OP_RST,
	};

	for (size_t i = 0; i < sizeof(order); i++) {
		if ((s->owes & OWES(order[i])) == 0)
			continue;
		if (!send_packet(s, order[i], 0))
			return false;
		s->owes &= (uint8_t)~OWES(order[i]);
	}
	return true;
}

static void owe(struct gsock *s, uint8_t op)
{
	s->owes |= OWES(op);
	if (list_empty(&s->pending) && !send_owed(s))
		list_append(&s->guest->pending, &s->pending);
}

static void answer_rst(struct guest *g, const uint8_t *in)
{
	struct gsock nobody = {
		.guest = g,
		.peer_cid = le64_load(in + VSOCK_HDR_SRC_CID),
		.peer_port = le32_load(in + VSOCK_HDR_SRC_PORT),
		.local_port = le32_load(in + VSOCK_HDR_DST_PORT),
	};

	(void)send_packet(&nobody, VSOCK_OP_RST, 0); /* lost when the ring is full */
}

static uint32_t credit(const struct gsock *s)
{
	uint32_t window = min_u32(s->peer_buf, GUEST_BUF_ALLOC);
	uint32_t flight = s->sent - s->peer_fwd;

	return flight < window ? window - flight : 0;
}

uint64_t gsock_send(struct gsock *s, uint64_t bytes)
{
	uint64_t done = 0;

	if (s->state != GSOCK_OPEN || (!list_empty(&s->pending) && !send_owed(s)))
		return 0;
	while (done < bytes) {
		uint32_t part = min_u32(credit(s), s->guest->config.max_packet);

		if (part > bytes - done)
			part = (uint32_t)(bytes - done);
		if (part == 0 || !send_packet(s, VSOCK_OP_RW, part))
			break;
		s->sent += part;
		s->total_sent += part;
		done += part;
	}
	return done;
}

/* --- life --- */

void gsock_init(struct gsock *s, const struct gsock_ops *ops)
{
	memset(s, 0, sizeof(*s));
	s->ops = ops;
	list_init(&s->pending);
	list_init(&s->unread);
	list_init(&s->sending);
}

void gsock_connect(struct guest *g, struct gsock *s, const struct gsock_ops *ops, uint64_t cid,
		   uint32_t port)
{
	gsock_init(s, ops);
	s->peer_cid = cid;
	s->peer_port = port;
	s->local_port = g->next_port++;
	s->state = GSOCK_CONNECTING;
	insert(g, s);
	owe(s, VSOCK_OP_REQUEST);
}

void gsock_want_write(struct gsock *s, bool wanted)
{
	if (!wanted)
		list_remove(&s->sending);
	else if (list_empty(&s->sending))
		list_append(&s->guest->sending, &s->sending);
}

void gsock_close(struct gsock *s)
{
	s->state = GSOCK_CLOSING;
	list_remove(&s->sending);
	owe(s, VSOCK_OP_SHUTDOWN);
}

static void end(struct gsock *s)
{
	gsock_forget(s);
	s->state = GSOCK_CLOSED;
	if (s->ops->closed != NULL)
		s->ops->closed(s);
}

static void opened(struct gsock *s)
{
	s->state = GSOCK_OPEN;
	if (s->ops->opened != NULL)
		s->ops->opened(s);
}

/* --- packets in --- */

static void on_request(struct guest *g, const uint8_t *in)
{
	struct gsock *s =
		g->accept != NULL ? g->accept(g, le32_load(in + VSOCK_HDR_DST_PORT)) : NULL;

	if (s == NULL) {
		answer_rst(g, in);
		return;
	}
	s->peer_cid = le64_load(in + VSOCK_HDR_SRC_CID);
	s->peer_port = le32_load(in + VSOCK_HDR_SRC_PORT);
	s->local_port = le32_load(in + VSOCK_HDR_DST_PORT);
	s->peer_buf = le32_load(in + VSOCK_HDR_BUF_ALLOC);
	insert(g, s);
	owe(s, VSOCK_OP_RESPONSE);
	opened(s);
}

static void on_bytes(struct gsock *s, const uint8_t *payload, uint32_t len)
{
	s->received += len;
	if (s->received - s->fwd_cnt > GUEST_BUF_ALLOC)
		die("the device sent more than its credit");
	if (s->ops->received != NULL && s->state == GSOCK_OPEN)
		s->ops->received(s, payload, len);
	s->total_received += len;
	if (list_empty(&s->unread) && s->state == GSOCK_OPEN)
		list_append(&s->guest->unread, &s->unread);
}

static void on_shutdown(struct gsock *s, uint32_t flags)
{
	if ((flags & VSOCK_SHUTDOWN_BOTH) != VSOCK_SHUTDOWN_BOTH)
		return; /* our applications notice an end by the close that follows */
	s->owes = 0;
	list_remove(&s->pending);
	owe(s, VSOCK_OP_RST);
	end(s);
}

void gsock_packet(struct guest *g, const uint8_t *in, const uint8_t *payload)
{
	uint16_t op = le16_load(in + VSOCK_HDR_OP);
	struct gsock *s =
		find(g, le64_load(in + VSOCK_HDR_SRC_CID), le32_load(in + VSOCK_HDR_DST_PORT),
		     le32_load(in + VSOCK_HDR_SRC_PORT));

	if (s == NULL) {
		if (op == VSOCK_OP_REQUEST) {
			on_request(g, in);
		} else if (op != VSOCK_OP_RST) {
			g->surprises++;
			answer_rst(g, in);
		}
		return;
	}
	s->peer_buf = le32_load(in + VSOCK_HDR_BUF_ALLOC);
	s->peer_fwd = le32_load(in + VSOCK_HDR_FWD_CNT);
	if (op == VSOCK_OP_RW)
		on_bytes(s, payload, le32_load(in + VSOCK_HDR_LEN));
	else if (op == VSOCK_OP_RST)
		end(s);
	else if (op == VSOCK_OP_RESPONSE && s->state == GSOCK_CONNECTING)
		opened(s);
	else if (op == VSOCK_OP_CREDIT_REQUEST)
		owe(s, VSOCK_OP_CREDIT_UPDATE);
	else if (op == VSOCK_OP_SHUTDOWN)
		on_shutdown(s, le32_load(in + VSOCK_HDR_FLAGS));
}

void gsock_all_read(struct guest *g)
{
	while (!list_empty(&g->unread)) {
		struct gsock *s = list_first(&g->unread, struct gsock, unread);
		uint32_t untold;

		list_remove(&s->unread);
		s->fwd_cnt = s->received;
		untold = s->fwd_cnt - s->last_fwd;
		if (untold > 0 &&
		    (!g->config.lazy_credit || GUEST_BUF_ALLOC - untold < GUEST_MAX_PACKET))
			owe(s, VSOCK_OP_CREDIT_UPDATE);
		if (s->ops->writable != NULL && s->state == GSOCK_OPEN)
			s->ops->writable(s);
	}
}

bool gsock_push_all(struct guest *g)
{
	uint64_t before = g->packets_out;
	struct list *pos;
	struct list *tmp;

	while (!list_empty(&g->pending)) {
		struct gsock *s = list_first(&g->pending, struct gsock, pending);

		if (!send_owed(s))
			return g->packets_out != before;
		list_remove(&s->pending);
	}
	list_for_each_safe (pos, tmp, &g->sending) {
		struct gsock *s = container_of(pos, struct gsock, sending);

		s->ops->writable(s);
	}
	return g->packets_out != before;
}
