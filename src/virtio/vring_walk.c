// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring_walk.c - what collecting a chain's buffers needs apart from the fast
 * path: indirect tables, buffers over region borders, refusal. Knows no format.
 *
 * Trust and bounds: see vring.c.
 */
#include "virtio/vring_internal.h"

/* Indirect tables need no alignment and may cross regions anywhere: byte by
 * byte, volatile so that no byte is loaded twice. */
static cold_path int raw_gather(struct vring *vr, uint64_t gpa, struct raw_desc *desc)
{
	struct iovec pieces[VRING_DESC_BYTES];
	_Alignas(8) uint8_t raw[VRING_DESC_BYTES];
	size_t filled = 0;
	int n = gmem_iov(vr->gmem, &vr->gmem_hint, gpa, sizeof(raw), pieces, array_size(pieces));

	if (n < 0)
		return -EPROTO;
	for (int i = 0; i < n; i++) {
		const volatile uint8_t *src = pieces[i].iov_base;

		for (size_t k = 0; k < pieces[i].iov_len; k++)
			raw[filled++] = src[k];
	}
	*desc = (struct raw_desc){ shared_load64(raw), shared_load64(raw + 8) };
	return 0;
}

int table_load(struct vring *vr, const struct table *table, uint32_t index, struct raw_desc *raw)
{
	uint64_t offset = (uint64_t)index * VRING_DESC_BYTES;
	const uint8_t *p;

	if (unlikely(index >= table->count))
		return -EPROTO;
	if (unlikely(!table->direct))
		return raw_gather(vr, table->gpa + offset, raw);
	p = table->direct + offset;
	*raw = (struct raw_desc){ shared_load64(p), shared_load64(p + 8) };
	return 0;
}

int table_open(struct vring *vr, const struct desc *desc, struct table *table)
{
	struct iovec piece;
	uint64_t end;

	if (desc->flags & VRING_DESC_F_NEXT)
		return -EPROTO;
	table->gpa = desc->addr;
	table->count = desc->len / VRING_DESC_BYTES;
	if (table->count == 0 || table->count > vr->size || desc->len % VRING_DESC_BYTES != 0)
		return -EPROTO;
	/* Everything in the table then has an address that does not wrap. */
	if (!checked_add_u64(desc->addr, desc->len, &end))
		return -EPROTO;
	table->direct = NULL;
	if (likely(gmem_iov_within(vr->gmem, vr->gmem_hint, desc->addr, desc->len, &piece)) ||
	    gmem_iov(vr->gmem, &vr->gmem_hint, desc->addr, desc->len, &piece, 1) == 1) {
		if (likely((uintptr_t)piece.iov_base % sizeof(uint64_t) == 0))
			table->direct = piece.iov_base;
	}
	return 0;
}

cold_path int walk_pieces(struct walk *w, const struct desc *desc)
{
	struct vring *vr = w->vr;
	int n = gmem_iov(vr->gmem, &vr->gmem_hint, desc->addr, desc->len, w->next,
			 (size_t)(w->end - w->next));

	if (n < 0)
		return n == -ENOBUFS ? n : -EPROTO;
	w->next += n;
	return 0;
}

void walk_finish(const struct walk *w, struct vring_chain *chain, const struct iovec *iov)
{
	const struct iovec *turn = w->writable ? w->turn : w->next;

	chain->readable = (uint32_t)(turn - iov);
	chain->writable = (uint32_t)(w->next - turn);
	chain->readable_bytes = w->writable ? w->readable_bytes : w->bytes;
	chain->writable_bytes = w->bytes - chain->readable_bytes;
}

/* A chain that not even VRING_MAX_PIECES can hold goes over the same region
 * border again and again, which no honest one does. */
cold_path int vring_refuse(struct vring *vr, int rc, size_t max)
{
	if (rc == -ENOBUFS && max < VRING_MAX_PIECES)
		return rc;
	vr->broken = true;
	vr->usable = VRING_STOPPED;
	return -EPROTO;
}
