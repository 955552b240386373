// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conntab.h - the connections of one guest: a slab that grows by chunks up to
 * a bound, and a keyed hash from port pair and CID to connection.
 *
 * Elements never move, so they can sit on lists and in epoll. Makes no system
 * call of its own.
 */
#ifndef VSOCK_CONNTAB_H
#define VSOCK_CONNTAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vsock/conn.h"

struct conntab {
	struct conn **buckets; /* NULL until the first insert */
	uint32_t bucket_mask;
	uint32_t hashed; /* elements in the hash */
	uint32_t used;   /* elements handed out */
	uint32_t max;
	size_t element_bytes; /* of the structure that starts with struct conn */
	uint64_t key;         /* secret: the guest chooses ports */
	void **chunks;
	uint32_t chunk_count;
	struct list free_list; /* linked by conn.ctl */
};

/**
 * conntab_init() - Prepare an empty table; allocates nothing
 * @element_bytes: size of the endpoint structure, struct conn is its first member
 * @max:           most elements at a time
 * @key:           random number
 */
void conntab_init(struct conntab *tab, size_t element_bytes, uint32_t max, uint64_t key);

/** Free everything; no element may be in use. */
void conntab_fini(struct conntab *tab);

/** A zeroed element in state CONN_FREE with its lists initialised, or NULL
 *  when the bound or memory is reached. */
struct conn *conntab_alloc(struct conntab *tab) must_use;

/** Make a fresh element one of SOCK_SEQPACKET. Return: 0 or -ENOMEM. */
int conntab_add_messages(struct conn *conn) must_use;

/** Give an element back; it is taken out of the hash first. */
void conntab_release(struct conntab *tab, struct conn *conn);

/** Enter by its ports and CID; the key must not be present. Return: 0 or -ENOMEM. */
int conntab_insert(struct conntab *tab, struct conn *conn) must_use;

/** Take out of the hash; legal when not in it. */
void conntab_remove(struct conntab *tab, struct conn *conn);

/** Look up. Return: the connection, or NULL. */
struct conn *conntab_find(const struct conntab *tab, uint32_t guest_port, uint32_t host_port,
			  uint32_t host_cid) must_use;

/** Call @visit for every element that is not CONN_FREE; it may release it. */
void conntab_each(struct conntab *tab, void (*visit)(void *ctx, struct conn *conn), void *ctx);

#endif
