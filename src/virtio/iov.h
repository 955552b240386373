// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * iov.h - a cursor over an array of iovecs: advance, slice, copy in and out.
 *
 * Pure. The memory may be a guest's: copies make no assumption that it stays
 * the same during or after the call.
 */
#ifndef VIRTIO_IOV_H
#define VIRTIO_IOV_H

#include <stddef.h>
#include <sys/uio.h>

#include "base/compiler.h"

/** Position in a list of pieces; copy it to remember a place. */
struct iov_cursor {
	const struct iovec *iov; /* current piece */
	size_t count;            /* pieces left, the current one included */
	size_t offset;           /* bytes of the current piece already passed */
	size_t left;             /* bytes left in all */
};

/** Total bytes of @count pieces. */
size_t iov_total(const struct iovec *iov, size_t count) must_use;

/** A cursor at the start of @count pieces. */
struct iov_cursor iov_begin(const struct iovec *iov, size_t count) must_use;

/** Move forward by @len <= cursor->left bytes. */
void iov_advance(struct iov_cursor *cursor, size_t len);

/** Copy up to @len bytes out of the pieces; advances. Return: bytes copied. */
size_t iov_copy_out(struct iov_cursor *from, void *dst, size_t len);

/** Copy up to @len bytes into the pieces; advances. Return: bytes copied. */
size_t iov_copy_in(struct iov_cursor *to, const void *src, size_t len);

/** Copy up to @len bytes from pieces to pieces; advances both. Return: bytes. */
size_t iov_copy(struct iov_cursor *to, struct iov_cursor *from, size_t len);

/**
 * iov_slice() - Take the next bytes as pieces, without copying
 * @cursor: advances by what was taken
 * @len:    bytes wanted
 * @out:    output pieces; empty ones are left out
 * @max:    room in @out; when it is used up, fewer bytes are taken
 *
 * Return: number of pieces
 */
size_t iov_slice(struct iov_cursor *cursor, size_t len, struct iovec *out, size_t max) must_use;

#endif
