// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * device_world.h - what the parts of fuzz_device.c share: two guests, their
 * devices, host sockets and the books that are kept of them. May only be
 * included by fuzz_device.c and its parts.
 *
 * Theory of operation
 *
 * Ports are few. A port pair is either honest - both ends keep to the protocol,
 * what the larger port asks for the other answers, and every byte is a function
 * of its place, so that loss, doubling and disorder show - or wild.
 *
 * Nothing is polled: a device runs only when it asked for it or was kicked, a
 * driver looks only when it was notified and kicks only when asked to, so a
 * wake-up that is owed and not given leaves something undone at the end.
 *
 * Threads: wherever a device takes or gives back a lock, the owner of the other
 * one may come in between with anything that owners do.
 */
#ifndef FUZZ_DEVICE_WORLD_H
#define FUZZ_DEVICE_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "virtio/ring_spec.h"
#include "vsock/device.h"

#define check(condition)                                                                \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			abort();                                                        \
		}                                                                       \
	} while (0)

#define PORTS 4u
#define FLOWS (2 * PORTS * PORTS)
#define MAX_RING 64u
#define RX_AREA 4096u /* guest memory of one RX descriptor */
#define TX_AREA 8192u
#define MEMORY_BYTES (MAX_RING * (RX_AREA + TX_AREA))
#define FIRST_CID 3u
#define MIN_BUF_ALLOC 4096u

enum flow_state { NONE, ASKED, WAS_ASKED, OPEN };

/** What a guest's kernel knows of one port pair. */
struct flow {
	enum flow_state state;
	uint32_t sent; /* place of the next byte */
	uint32_t received;
	uint32_t consumed;
	uint32_t sent_whole;     /* seqpacket: where the message being sent begins */
	uint32_t received_whole; /* and the one being received */
	uint32_t window_end;     /* place up to which bytes were allowed */
	uint32_t peer_alloc;
	uint32_t peer_fwd;
	uint8_t shut;
	uint8_t peer_shut;
	bool used;       /* more than once: what was on its way may be of before */
	bool tainted;    /* both ends disagree about which connection it is */
	bool owe_update; /* answers for which the TX ring had no room */
	bool owe_rst;
};

/** The driver's half of a ring. */
struct driver_ring {
	uint32_t size;
	uint8_t *desc;
	uint8_t *avail;
	uint8_t *used;
	uint8_t *ring; /* packed; NULL: split */
	bool packed;
	uint16_t first_flags; /* of the batch that is not shown yet */
	uint32_t place;       /* packed: as in virtio/vring_packed.c */
	uint32_t shown_place; /* place at the last publish */
	uint32_t used_place;
	uint16_t avail_idx;
	uint16_t shown; /* avail_idx at the last publish */
	uint16_t used_idx;
	uint16_t free_count;
	uint16_t free[MAX_RING];
	uint8_t chain[MAX_RING]; /* descriptors of the chain at this head; 0: not the device's */
	bool called;
	bool dead; /* broken on purpose */
	struct vring vr;
};

/** One VM: guest, device and owner. */
struct side {
	struct world *world;
	struct side *other;
	uint32_t cid;
	uint64_t features;
	bool event_idx;
	bool volunteers; /* tells consumption without being asked */
	uint8_t *memory;
	struct gmem gmem;
	struct driver_ring ring[2];
	struct device device;
	uint64_t spilt; /* bytes of this guest at its host side */
	uint64_t kept;  /* bytes of the other guest in this one's inbox */
	struct scratch *scratch;
	struct flow flows[FLOWS]; /* flow_at() */
	bool scheduled;
	bool busy; /* its owner is at it */
	bool locked;
	bool probe_armed;
};

struct world {
	struct side side[2];
	uint64_t rng;
	const uint8_t *data;
	size_t left;
	bool interleave;
	bool calm;      /* the end: everybody does what is expected */
	bool faults;    /* sockets fail now and then */
	bool blind;     /* sockets do not tell the length of a message */
	uint32_t eager; /* how often guests and owners get on by themselves, of 8 */
	unsigned held;  /* locks of the thread that runs */
	bool between;   /* the other owner has come in */
	long timers;    /* armed */
};

/** One socket of the host. */
struct sock {
	struct conn conn; /* first */
	bool open;
	bool dialling;
	bool fatal; /* it has said that it takes no more */
	bool rd_shut;
	bool wr_shut;
	bool eof;
	bool hung_up;
	bool wants_room;
	bool timer;
	uint32_t room;
	uint32_t written; /* by the host program, bytes */
	uint32_t fetched; /* of those, by the device */
	uint32_t got;     /* bytes of the guest */
};

static inline uint32_t rnd(struct world *w, uint32_t n)
{
	w->rng ^= w->rng << 13;
	w->rng ^= w->rng >> 7;
	w->rng ^= w->rng << 17;
	return (uint32_t)(w->rng >> 24) % n;
}

static inline uint8_t next_byte(struct world *w)
{
	if (w->left == 0)
		return 0;
	w->left--;
	return *w->data++;
}

static inline bool is_honest(uint32_t a, uint32_t b)
{
	return a < PORTS && b < PORTS && a != b && (a + b) % 4 != 0;
}

/* Honest pairs whose sockets are of type SOCK_SEQPACKET. */
static inline bool is_seqpacket(uint32_t a, uint32_t b)
{
	return (a ^ b) == 2 || (a | b) == 3;
}

/* Length of the message that begins at @place; it fits every window. Odd ones
 * end a record, too. */
static inline uint32_t message_bytes(uint32_t place)
{
	uint32_t x = (place ^ place >> 7) * 2654435761u;

	return 1 + (x >> 20) % (x & 64 ? 40u : 3000u);
}

/* Bytes up to the end of the message at @place, which began at @begin. */
static inline uint32_t left_of_message(uint32_t begin, uint32_t place)
{
	return begin + message_bytes(begin) - place;
}

static inline uint32_t end_flags(uint32_t begin)
{
	return message_bytes(begin) % 2 ? VSOCK_SEQ_EOM | VSOCK_SEQ_EOR : VSOCK_SEQ_EOM;
}

static inline bool is_message_end(const struct pkt *pkt)
{
	return pkt->op == VSOCK_OP_RW && pkt->type == VSOCK_TYPE_SEQPACKET &&
	       (pkt->flags == VSOCK_SEQ_EOM || pkt->flags == (VSOCK_SEQ_EOM | VSOCK_SEQ_EOR));
}

static inline uint8_t pattern(uint32_t src_port, uint32_t dst_port, uint32_t place)
{
	return (uint8_t)(place * 131 + (place >> 8) * 7 + src_port * 29 + dst_port * 3);
}

static inline struct flow *flow_at(struct side *s, uint32_t sibling, uint32_t own, uint32_t other)
{
	return &s->flows[(sibling * PORTS + own) * PORTS + other];
}

static inline struct flow *flow_of(struct side *s, uint64_t peer, uint32_t own, uint32_t other)
{
	if (!is_honest(own, other) || (peer != VSOCK_CID_HOST && peer != s->other->cid))
		return NULL;
	return flow_at(s, peer != VSOCK_CID_HOST, own, other);
}

static inline bool is_tainted(struct side *s, const struct pkt *pkt)
{
	const struct flow *twin = flow_of(s->other, s->cid, pkt->src_port, pkt->dst_port);

	return flow_of(s, pkt->src_cid, pkt->dst_port, pkt->src_port)->tainted ||
	       (pkt->src_cid != VSOCK_CID_HOST && twin->tainted);
}

/* The receive buffer of a flow; small ones are filled by a few packets. */
static inline uint32_t window_of(const struct side *s, const struct flow *f)
{
	return MIN_BUF_ALLOC << (f - s->flows) % 5;
}

/** The owner of @s runs soon. */
static inline void schedule_side(struct side *s)
{
	s->scheduled = true;
}

/* --- fuzz_device.c --- */

/** The other owner's thread, or a guest, gets on while @running is at it. */
void come_between(struct world *w, struct side *running);
/** The guest has shown chains and not looked yet whether it has to kick. */
void while_publishing(struct side *s);

#endif
