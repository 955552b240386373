// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * iov.c - the cursor over an array of iovecs.
 *
 * Makes no system call and allocates nothing. The pieces may be empty, may
 * overlap one another and may be written by a guest while we copy.
 */
#include "virtio/iov.h"

#include <stdint.h>
#include <string.h>

/* The bytes that follow the cursor within its piece; cursor->left is not 0. */
static struct iovec current_span(struct iov_cursor *cursor)
{
	while (cursor->offset == cursor->iov->iov_len) {
		cursor->iov++;
		cursor->count--;
		cursor->offset = 0;
	}
	return (struct iovec){
		.iov_base = (uint8_t *)cursor->iov->iov_base + cursor->offset,
		.iov_len = cursor->iov->iov_len - cursor->offset,
	};
}

/* Pass @len bytes of the current piece. */
static void pass(struct iov_cursor *cursor, size_t len)
{
	cursor->offset += len;
	cursor->left -= len;
}

size_t iov_total(const struct iovec *iov, size_t count)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++)
		total += iov[i].iov_len;
	return total;
}

struct iov_cursor iov_begin(const struct iovec *iov, size_t count)
{
	return (struct iov_cursor){
		.iov = iov,
		.count = count,
		.left = iov_total(iov, count),
	};
}

void iov_advance(struct iov_cursor *cursor, size_t len)
{
	len = min_size(len, cursor->left);
	while (len > 0) {
		size_t n = min_size(len, current_span(cursor).iov_len);

		pass(cursor, n);
		len -= n;
	}
}

size_t iov_copy_out(struct iov_cursor *from, void *dst, size_t len)
{
	uint8_t *to = dst;
	size_t done = 0;

	len = min_size(len, from->left);
	while (done < len) {
		struct iovec span = current_span(from);
		size_t n = min_size(len - done, span.iov_len);

		memcpy(to + done, span.iov_base, n);
		pass(from, n);
		done += n;
	}
	return len;
}

size_t iov_copy_in(struct iov_cursor *to, const void *src, size_t len)
{
	const uint8_t *from = src;
	size_t done = 0;

	len = min_size(len, to->left);
	while (done < len) {
		struct iovec span = current_span(to);
		size_t n = min_size(len - done, span.iov_len);

		memcpy(span.iov_base, from + done, n);
		pass(to, n);
		done += n;
	}
	return len;
}

size_t iov_copy(struct iov_cursor *to, struct iov_cursor *from, size_t len)
{
	size_t left;

	len = min_size(len, min_size(to->left, from->left));
	left = len;
	while (left > 0) {
		struct iovec dst = current_span(to);
		struct iovec src = current_span(from);
		size_t n = min_size(left, min_size(dst.iov_len, src.iov_len));

		/* Both sides are a driver's choice, so they may overlap. */
		memmove(dst.iov_base, src.iov_base, n);
		pass(to, n);
		pass(from, n);
		left -= n;
	}
	return len;
}

size_t iov_slice(struct iov_cursor *cursor, size_t len, struct iovec *out, size_t max)
{
	size_t pieces = 0;

	len = min_size(len, cursor->left);
	while (len > 0 && pieces < max) {
		struct iovec span = current_span(cursor);

		span.iov_len = min_size(len, span.iov_len);
		out[pieces++] = span;
		pass(cursor, span.iov_len);
		len -= span.iov_len;
	}
	return pieces;
}
