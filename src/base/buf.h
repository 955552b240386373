// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * buf.h - bounded byte ring that grows on demand, for data a peer has not
 * taken yet. Empty costs no heap. The bound is the caller's, per append.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/compiler.h"

/** Byte ring; zero-initialised is empty. Members are private to buf.c. */
struct buf {
	uint8_t *data;     /* NULL when nothing is allocated */
	uint32_t capacity; /* bytes allocated: 0 or a power of two */
	uint32_t head;     /* offset of the first byte */
	uint32_t length;   /* bytes held */
};

static inline uint32_t buf_length(const struct buf *b)
{
	return b->length;
}

/**
 * buf_append() - Copy bytes to the end
 * @b:      the buffer
 * @src:    where the bytes are; may be memory a guest is writing to
 * @len:    how many
 * @max:    the buffer may hold at most this many bytes afterwards (<= 2^30)
 *
 * Return: 0; -ENOBUFS if @max would be exceeded; -ENOMEM. Nothing is appended
 *         on failure.
 */
int buf_append(struct buf *b, const void *src, size_t len, uint32_t max) must_use;

/**
 * buf_room() - Memory behind the end, to be filled by the caller
 * @b:    an empty buffer
 * @len:  bytes wanted, at least 1
 * @max:  as for buf_append()
 * @room: output: @len bytes, valid until the next call on @b
 *
 * Return: as buf_append(). What was filled is added by buf_commit(), or all of
 * it is given back by buf_fini().
 */
int buf_room(struct buf *b, size_t len, uint32_t max, struct iovec *room) must_use;

/** Add the first @len bytes of buf_room() to the empty buffer. */
void buf_commit(struct buf *b, size_t len);

/**
 * buf_spans() - The readable bytes, first to last, without copying
 * @spans: output: up to two pieces, valid until the next call on @b
 *
 * Return: number of pieces, 0 when empty
 */
unsigned int buf_spans(const struct buf *b, struct iovec spans[2]) must_use;

/** Drop the first @len bytes (<= buf_length()); an emptied buffer keeps its
 *  allocation only if it is at most BUF_KEEP_BYTES. */
void buf_consume(struct buf *b, size_t len);

#define BUF_KEEP_BYTES 0u

/** Drop everything and free the memory; legal at any time. */
void buf_fini(struct buf *b);

#endif
