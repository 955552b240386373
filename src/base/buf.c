// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * buf.c - bounded byte ring that grows on demand.
 *
 * Allocates; makes no system call of its own. Knows nothing of what the bytes
 * are.
 *
 * Theory of operation
 * The bytes are data[(head + i) & (capacity - 1)] for i in [0, length). The
 * capacity is a power of two and doubles until an append fits, so n bytes cost
 * O(n) copies in all however they arrive. It starts at a page, for most
 * backlogs are one small write, and never exceeds the next power of two above
 * the caller's bound. An emptied buffer is freed: a backlog is rare, idle
 * connections are many, and what is kept per connection is paid by each.
 */
#include "base/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN_CAPACITY 4096u
#define BUF_MAX_LENGTH (UINT32_C(1) << 30) /* so that a capacity fits 32 bits */

/* Copy all bytes in order to @dst, which has room for them. */
static void buf_copy_out(const struct buf *b, uint8_t *dst)
{
	struct iovec spans[2];
	unsigned int n = buf_spans(b, spans);

	for (unsigned int i = 0; i < n; i++) {
		memcpy(dst, spans[i].iov_base, spans[i].iov_len);
		dst += spans[i].iov_len;
	}
}

static int buf_reserve(struct buf *b, uint32_t needed)
{
	uint32_t capacity = b->capacity != 0 ? b->capacity : BUF_MIN_CAPACITY;
	uint8_t *data;

	if (needed <= b->capacity)
		return 0;
	while (capacity < needed)
		capacity *= 2;
	data = malloc(capacity);
	if (data == NULL)
		return -ENOMEM;
	buf_copy_out(b, data);
	free(b->data);
	b->data = data;
	b->capacity = capacity;
	b->head = 0;
	return 0;
}

int buf_append(struct buf *b, const void *src, size_t len, uint32_t max)
{
	uint32_t tail, first;
	int ret;

	if (max > BUF_MAX_LENGTH)
		max = BUF_MAX_LENGTH;
	if (b->length > max || len > max - b->length)
		return -ENOBUFS;
	if (len == 0)
		return 0;
	ret = buf_reserve(b, b->length + (uint32_t)len);
	if (ret < 0)
		return ret;
	tail = (b->head + b->length) & (b->capacity - 1);
	first = min_u32((uint32_t)len, b->capacity - tail);
	memcpy(b->data + tail, src, first);
	memcpy(b->data, (const uint8_t *)src + first, len - first);
	b->length += (uint32_t)len;
	return 0;
}

int buf_room(struct buf *b, size_t len, uint32_t max, struct iovec *room)
{
	int ret;

	assert(b->length == 0);
	if (len > min_u32(max, BUF_MAX_LENGTH))
		return -ENOBUFS;
	ret = buf_reserve(b, (uint32_t)len);
	if (ret < 0)
		return ret;
	b->head = 0;
	room->iov_base = b->data;
	room->iov_len = len;
	return 0;
}

void buf_commit(struct buf *b, size_t len)
{
	assert(b->length == 0 && len <= b->capacity);
	b->length = (uint32_t)len;
}

unsigned int buf_spans(const struct buf *b, struct iovec spans[2])
{
	uint32_t first = min_u32(b->length, b->capacity - b->head);

	if (b->length == 0)
		return 0;
	spans[0].iov_base = b->data + b->head;
	spans[0].iov_len = first;
	if (first == b->length)
		return 1;
	spans[1].iov_base = b->data;
	spans[1].iov_len = b->length - first;
	return 2;
}

void buf_consume(struct buf *b, size_t len)
{
	assert(len <= b->length);
	if (len == 0)
		return;
	b->head = (b->head + (uint32_t)len) & (b->capacity - 1);
	b->length -= (uint32_t)len;
	if (b->length > 0)
		return;
	b->head = 0;
	if (b->capacity > BUF_KEEP_BYTES)
		buf_fini(b);
}

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}
