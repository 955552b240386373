// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vring_walk.c - what collecting a chain's buffers needs apart from the fast
 * path: indirect tables, buffers over region borders, refusal. Knows no format.
 *
 * Trust and bounds: see vring.c. Behind a virtual IOMMU every address takes the
 * way through translate(); a chain that lacks a translation is left where it is
 * and the ring stalls, see vring_use_iotlb().
 */
#include "virtio/vring_internal.h"

/* Where a ring behind an IOMMU looks first: nothing is ever found there, so that
 * every buffer comes to translate(). */
static const struct gmem no_memory;

void vring_use_iotlb(struct vring *vr, const struct iotlb *iotlb)
{
	vr->iotlb = iotlb;
	vr->gmem = &no_memory;
}

static cold_path int translate_iova(struct vring *vr, uint64_t iova, uint64_t len, bool writable,
				    struct iovec *out, size_t max)
{
	struct iotlb_miss miss;
	int n = iotlb_iov(vr->iotlb, iova, len, writable ? IOTLB_WRITE : IOTLB_READ, out, max,
			  &miss);

	if (n != -EAGAIN && n != -EACCES)
		return n;
	if (miss.iova != vr->miss.iova)
		vr->misses++;
	vr->miss = miss;
	vr->asks = true;
	vr->denied = n == -EACCES;
	return n;
}

/* An address that a driver wrote. Return: as gmem_iov(), or -EAGAIN: to be tried later */
static int translate(struct vring *vr, uint64_t addr, uint64_t len, bool writable,
		     struct iovec *out, size_t max)
{
	if (unlikely(vr->iotlb))
		return translate_iova(vr, addr, len, writable, out, max);
	return gmem_iov(vr->gmem, &vr->gmem_hint, addr, len, out, max);
}

/* Indirect tables need no alignment and may cross regions anywhere: byte by
 * byte, volatile so that no byte is loaded twice. */
static cold_path int raw_gather(struct vring *vr, uint64_t gpa, struct raw_desc *desc)
{
	struct iovec pieces[VRING_DESC_BYTES];
	_Alignas(8) uint8_t raw[VRING_DESC_BYTES];
	size_t filled = 0;
	int n = translate(vr, gpa, sizeof(raw), false, pieces, array_size(pieces));

	if (n < 0)
		return n == -EAGAIN ? n : -EPROTO;
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
	int n = 1;

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
	if (unlikely(!gmem_iov_within(vr->gmem, vr->gmem_hint, desc->addr, desc->len, &piece)))
		n = translate(vr, desc->addr, desc->len, false, &piece, 1);
	if (likely(n == 1) && likely((uintptr_t)piece.iov_base % sizeof(uint64_t) == 0))
		table->direct = piece.iov_base;
	return n == -EAGAIN ? n : 0;
}

cold_path int walk_pieces(struct walk *w, const struct desc *desc)
{
	struct vring *vr = w->vr;
	int n = translate(vr, desc->addr, desc->len, desc->flags & VRING_DESC_F_WRITE, w->next,
			  (size_t)(w->end - w->next));

	if (n < 0)
		return n == -ENOBUFS || n == -EAGAIN ? n : -EPROTO;
	w->next += n;
	return 0;
}

void walk_finish(const struct walk *w, struct vring_chain *chain, const struct iovec *iov)
{
	const struct iovec *turn = w->writable ? w->turn : w->next;

	w->vr->misses = 0;
	w->vr->forsaken = false;
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
	if (rc == -EAGAIN && !vr->forsaken && vr->misses < VRING_MAX_MISSES) {
		vr->stalled = true;
		vr->usable = VRING_STOPPED;
		return 0;
	}
	vr->broken = true;
	vr->usable = VRING_STOPPED;
	return -EPROTO;
}
