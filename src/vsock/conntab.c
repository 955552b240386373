// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * conntab.c - slab and hash of connections. Pure but for the heap.
 *
 * Chunks of CHUNK_ELEMENTS are added on demand and kept; buckets double when
 * there is more than one element per bucket.
 */
#include "vsock/conntab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ELEMENTS 64u
#define MIN_BUCKETS 64u

void conntab_init(struct conntab *tab, size_t element_bytes, uint32_t max, uint64_t key)
{
	memset(tab, 0, sizeof(*tab));
	tab->element_bytes = element_bytes;
	tab->max = max;
	tab->key = key;
	list_init(&tab->free_list);
}

void conntab_fini(struct conntab *tab)
{
	for (uint32_t i = 0; i < tab->chunk_count; i++)
		free(tab->chunks[i]);
	free(tab->chunks);
	free(tab->buckets);
	conntab_init(tab, tab->element_bytes, tab->max, tab->key);
}

static struct conn *element(const struct conntab *tab, uint32_t chunk, uint32_t index)
{
	return (struct conn *)((char *)tab->chunks[chunk] + index * tab->element_bytes);
}

static int add_chunk(struct conntab *tab)
{
	void **chunks = realloc(tab->chunks, (tab->chunk_count + 1) * sizeof(*chunks));

	if (chunks == NULL)
		return -ENOMEM;
	tab->chunks = chunks;
	chunks[tab->chunk_count] = calloc(CHUNK_ELEMENTS, tab->element_bytes);
	if (chunks[tab->chunk_count] == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < CHUNK_ELEMENTS; i++)
		list_append(&tab->free_list, &element(tab, tab->chunk_count, i)->ctl);
	tab->chunk_count++;
	return 0;
}

struct conn *conntab_alloc(struct conntab *tab)
{
	struct conn *conn;

	if (tab->used >= tab->max)
		return NULL;
	if (list_empty(&tab->free_list) && add_chunk(tab) < 0)
		return NULL;
	conn = list_first(&tab->free_list, struct conn, ctl);
	list_remove(&conn->ctl);
	memset(conn, 0, tab->element_bytes);
	list_init(&conn->ctl);
	list_init(&conn->data);
	tab->used++;
	return conn;
}

int conntab_add_messages(struct conn *conn)
{
	conn->messages = calloc(1, sizeof(*conn->messages));
	if (conn->messages == NULL)
		return -ENOMEM;
	conn->seqpacket = true;
	return 0;
}

void conntab_release(struct conntab *tab, struct conn *conn)
{
	free(conn->messages);
	conntab_remove(tab, conn);
	list_remove(&conn->ctl);
	list_remove(&conn->data);
	buf_fini(&conn->spill);
	conn->state = CONN_FREE;
	list_append(&tab->free_list, &conn->ctl);
	tab->used--;
}

/* The finaliser of a 64-bit mixer, keyed so that a guest cannot aim at one bucket. */
static uint32_t hash_key(const struct conntab *tab, uint32_t guest_port, uint32_t host_port,
			 uint32_t host_cid)
{
	uint64_t h = tab->key ^ ((uint64_t)guest_port << 32 | host_port);

	h = (h ^ (h >> 32)) * UINT64_C(0xd6e8feb86659fd93);
	h ^= (h >> 32) ^ host_cid ^ (tab->key << 7);
	h = (h ^ (h >> 32)) * UINT64_C(0xd6e8feb86659fd93);
	return (uint32_t)(h ^ (h >> 32)) & tab->bucket_mask;
}

static int grow(struct conntab *tab)
{
	uint32_t old_count = tab->buckets == NULL ? 0 : tab->bucket_mask + 1;
	uint32_t count = old_count == 0 ? MIN_BUCKETS : old_count * 2;
	struct conn **buckets = calloc(count, sizeof(*buckets));
	struct conn **old = tab->buckets;

	if (buckets == NULL)
		return -ENOMEM;
	tab->buckets = buckets;
	tab->bucket_mask = count - 1;
	for (uint32_t i = 0; i < old_count; i++) {
		while (old[i] != NULL) {
			struct conn *c = old[i];
			uint32_t b = hash_key(tab, c->guest_port, c->host_port, c->host_cid);

			old[i] = c->hash_next;
			c->hash_next = buckets[b];
			buckets[b] = c;
		}
	}
	free(old);
	return 0;
}

int conntab_insert(struct conntab *tab, struct conn *conn)
{
	uint32_t b;

	/* a table that cannot grow any more still works, only slower */
	if ((tab->buckets == NULL || tab->hashed > tab->bucket_mask) && grow(tab) < 0 &&
	    tab->buckets == NULL)
		return -ENOMEM;
	b = hash_key(tab, conn->guest_port, conn->host_port, conn->host_cid);
	conn->hash_next = tab->buckets[b];
	tab->buckets[b] = conn;
	conn->in_table = true;
	tab->hashed++;
	return 0;
}

void conntab_remove(struct conntab *tab, struct conn *conn)
{
	struct conn **link;

	if (!conn->in_table)
		return;
	link = &tab->buckets[hash_key(tab, conn->guest_port, conn->host_port, conn->host_cid)];
	while (*link != conn)
		link = &(*link)->hash_next;
	*link = conn->hash_next;
	conn->in_table = false;
	tab->hashed--;
}

struct conn *conntab_find(const struct conntab *tab, uint32_t guest_port, uint32_t host_port,
			  uint32_t host_cid)
{
	struct conn *conn;

	if (tab->buckets == NULL)
		return NULL;
	conn = tab->buckets[hash_key(tab, guest_port, host_port, host_cid)];
	while (conn != NULL && (conn->guest_port != guest_port || conn->host_port != host_port ||
				conn->host_cid != host_cid))
		conn = conn->hash_next;
	return conn;
}

void conntab_each(struct conntab *tab, void (*visit)(void *ctx, struct conn *conn), void *ctx)
{
	for (uint32_t i = 0; i < tab->chunk_count; i++) {
		for (uint32_t j = 0; j < CHUNK_ELEMENTS; j++) {
			struct conn *conn = element(tab, i, j);

			if (conn->state != CONN_FREE)
				visit(ctx, conn);
		}
	}
}
