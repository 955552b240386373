// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * messages.h - where the messages of a SOCK_SEQPACKET connection end among
 * bytes that lie in a struct buf. Holds no byte of them.
 *
 * Theory of operation
 *
 * The bytes in the buffer are those of @complete messages, then @open bytes of
 * one whose end has not come. The end of the first message is kept ready, each
 * other is a number of 7 bits per byte, low ones first: length times two, plus
 * one if a record ends there. No message is kept that has neither a byte in the
 * buffer nor one that went ahead, so that ends take no more room than bytes,
 * which have a bound: a sender of messages of one byte costs twice its window.
 *
 * Pure but for the heap.
 * Spec: virtio 1.3, "Seqpacket Sockets", "Message and Record Boundaries"
 */
#ifndef VSOCK_MESSAGES_H
#define VSOCK_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/compiler.h"

/** A message, or what is left of it. */
struct message {
	uint32_t bytes;
	bool complete; /* its end is known */
	bool eor;      /* which is the end of a record */
};

/** Zero-initialised is empty. */
struct messages {
	struct message first; /* valid while complete > 0 */
	uint32_t complete;
	uint32_t open;   /* bytes behind the complete ones */
	struct buf ends; /* of the second message and those behind it */
};

/** The next bytes of the buffer: the first message, or the open one. */
static inline struct message messages_first(const struct messages *m)
{
	return m->complete > 0 ? m->first : (struct message){ .bytes = m->open };
}

/** @bytes more were put into the buffer. */
static inline void messages_add(struct messages *m, uint32_t bytes)
{
	m->open += bytes;
}

/** The open message ends here. Return: 0 or -ENOMEM, with nothing changed. */
int messages_end(struct messages *m, bool eor) must_use;

/**
 * messages_take() - Bytes were taken from the front of the buffer
 * @bytes: at most messages_first()->bytes
 *
 * A complete message without bytes stays until messages_drop_first().
 */
void messages_take(struct messages *m, uint32_t bytes);

/** The first message, complete and of no bytes any more, is done with. */
void messages_drop_first(struct messages *m);

/** Forget everything. */
void messages_clear(struct messages *m);

#endif
