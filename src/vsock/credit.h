// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * credit.h - the arithmetic of flow control, safe against wrap-around and lies.
 *
 * Theory of operation
 *
 * All counters run modulo 2^32. credit_out is our side as sender: the receiver
 * (a guest) told us the size of its buffer (buf_alloc) and how many bytes it
 * has taken out so far (fwd_cnt). What it takes is bounded twice: by bytes, as
 * the specification says, and by packets, because Linux since 6.12.92 resets
 * a connection whose queued packets, whatever their size, would cost more
 * kernel memory than buf_alloc (576 bytes each on the leanest architecture).
 * CREDIT_BYTES_PER_PACKET keeps us well under that.
 *
 * To know how many packets are still in the receiver's queue we remember, for
 * up to CREDIT_GROUPS groups of packets, the byte counter at the group's end: a
 * group is gone when fwd_cnt has passed its end. Groups make the memory fixed;
 * the count errs on the safe side by less than one group.
 *
 * credit_in is our side as receiver. Pure, inline, no state of its own.
 *
 * Spec: virtio 1.3, "Buffer Space Management"
 */
#ifndef VSOCK_CREDIT_H
#define VSOCK_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define CREDIT_GROUPS 6u
#define CREDIT_BYTES_PER_PACKET 1024u /* Linux charges 576 to 1024 per queued packet */
#define CREDIT_MAX_PACKETS 32768u     /* a group's count stays far below 2^16 */
#define CREDIT_SLIVER_BYTES 4096u     /* do not send pieces smaller than this at the window's end */

/** What we may send to a guest on one connection. */
struct credit_out {
	uint32_t buf_alloc; /* the receiver's buffer, bytes */
	uint32_t fwd_cnt;   /* bytes it has consumed */
	uint32_t sent;      /* bytes we have sent */
	uint16_t packets;   /* packets sent and not known to be consumed */
	uint8_t group_first;
	uint8_t group_count;
	uint32_t group_end[CREDIT_GROUPS];
	uint16_t group_packets[CREDIT_GROUPS]; /* add up to packets, modulo 2^16 as well */
};

static inline uint32_t credit_out_in_flight(const struct credit_out *c)
{
	return c->sent - c->fwd_cnt;
}

static inline void credit_out_retire(struct credit_out *c)
{
	while (c->group_count > 0) {
		uint32_t end = c->group_end[c->group_first];

		/* still in flight: the end lies in (fwd_cnt, sent] */
		if (c->sent - end < c->sent - c->fwd_cnt)
			return;
		c->packets = (uint16_t)(c->packets - c->group_packets[c->group_first]);
		c->group_first = (uint8_t)((c->group_first + 1u) % CREDIT_GROUPS);
		c->group_count--;
	}
}

/**
 * credit_out_update() - Take note of what the receiver says in any header
 *
 * Return: false if it claims to have consumed bytes that were never sent, or
 *         takes back a claim: a lie that ends the connection
 */
static inline must_use bool credit_out_update(struct credit_out *c, uint32_t buf_alloc,
					      uint32_t fwd_cnt)
{
	if (fwd_cnt - c->fwd_cnt > c->sent - c->fwd_cnt)
		return false;
	c->buf_alloc = buf_alloc;
	c->fwd_cnt = fwd_cnt;
	credit_out_retire(c);
	return true;
}

static inline uint32_t credit_out_packet_limit(const struct credit_out *c)
{
	uint32_t limit = min_u32(c->buf_alloc / CREDIT_BYTES_PER_PACKET, CREDIT_MAX_PACKETS);

	return limit > 0 ? limit : 1;
}

/** Packets that may be sent now. */
static inline uint32_t credit_out_packets(const struct credit_out *c)
{
	uint32_t limit = credit_out_packet_limit(c);

	return c->packets < limit ? limit - c->packets : 0;
}

/** Bytes that may be sent now; saturates at 0 when the receiver shrank its buffer. */
static inline uint32_t credit_out_bytes(const struct credit_out *c)
{
	uint32_t in_flight = credit_out_in_flight(c);

	return in_flight < c->buf_alloc ? c->buf_alloc - in_flight : 0;
}

/** Bytes that may be sent now by both limits, bytes and packets. */
static inline uint32_t credit_out_allowed(const struct credit_out *c)
{
	return credit_out_packets(c) > 0 ? credit_out_bytes(c) : 0;
}

/**
 * credit_out_usable() - Bytes worth sending now: 0 instead of a sliver
 *
 * A sliver is sent only when nothing is in flight, because then no better
 * moment will come.
 */
static inline uint32_t credit_out_usable(const struct credit_out *c)
{
	uint32_t bytes = credit_out_allowed(c);
	uint32_t sliver = min_u32(CREDIT_SLIVER_BYTES, c->buf_alloc / 4);

	return bytes < sliver && credit_out_in_flight(c) > 0 ? 0 : bytes;
}

/**
 * credit_out_takes() - Whether a whole message of @bytes may be sent now
 *
 * Receivers read whole messages only, so one that has begun must come to its
 * end: it is begun when there is room for it in packets of ordinary size, and
 * then the packet limit does not hold it up any more.
 */
static inline bool credit_out_takes(const struct credit_out *c, uint32_t bytes)
{
	return bytes <= credit_out_bytes(c) &&
	       (c->packets == 0 || bytes / CREDIT_BYTES_PER_PACKET < credit_out_packets(c));
}

/** One packet of @bytes was sent. */
static inline void credit_out_sent(struct credit_out *c, uint32_t bytes)
{
	uint32_t group_size = credit_out_packet_limit(c) / CREDIT_GROUPS + 1;
	uint32_t last = (c->group_first + c->group_count - 1u) % CREDIT_GROUPS;

	c->sent += bytes;
	c->packets++;
	if (c->group_count == 0 ||
	    (c->group_packets[last] >= group_size && c->group_count < CREDIT_GROUPS)) {
		last = (c->group_first + c->group_count) % CREDIT_GROUPS;
		c->group_packets[last] = 0;
		c->group_count++;
	}
	c->group_packets[last]++;
	c->group_end[last] = c->sent;
}

/** What a guest may send to us on one connection; the window is the device's. */
struct credit_in {
	uint32_t received; /* bytes that arrived */
	uint32_t fwd_cnt;  /* bytes handed on */
	uint32_t reported; /* fwd_cnt in the last header we sent, never less than before */
};

/** Bytes held for a receiver that has not taken them. */
static inline uint32_t credit_in_held(const struct credit_in *c)
{
	return c->received - c->fwd_cnt;
}

/** Whether @len more bytes stay within @window. */
static inline bool credit_in_fits(const struct credit_in *c, uint32_t len, uint32_t window)
{
	uint32_t held = credit_in_held(c);

	return held <= window && len <= window - held;
}

/** The fwd_cnt to tell while @withheld bytes of the window are: not less than was told before. */
static inline uint32_t credit_in_told(const struct credit_in *c, uint32_t withheld)
{
	uint32_t news = c->fwd_cnt - c->reported;

	return news > withheld ? c->fwd_cnt - withheld : c->reported;
}

/**
 * credit_in_update_due() - Whether the sender should be told of free space
 * @window:      our buffer as advertised, bytes
 * @peer_window: the sender's own buffer: Linux sends no more than that either,
 *               so with a smaller one half of ours would never be reached
 * @withheld:    less than both, or 0
 */
static inline bool credit_in_update_due(const struct credit_in *c, uint32_t window,
					uint32_t peer_window, uint32_t withheld)
{
	uint32_t effective = min_u32(window, peer_window) - withheld;
	uint32_t unreported = credit_in_told(c, withheld) - c->reported;

	return unreported > 0 && unreported >= effective / 2;
}

#endif
