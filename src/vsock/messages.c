// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * messages.c - see messages.h. Touches no byte of a message.
 */
#include "vsock/messages.h"

#include <errno.h>

#include "virtio/iov.h"

#define END_MAX_BYTES 5u /* 33 bits */
#define ENDS_MAX_BYTES (UINT32_C(1) << 30)

static uint32_t put_end(uint8_t raw[END_MAX_BYTES], uint32_t bytes, bool eor)
{
	uint64_t value = (uint64_t)bytes << 1 | eor;
	uint32_t n = 0;

	for (; value >= 0x80; value >>= 7)
		raw[n++] = (uint8_t)(value | 0x80);
	raw[n++] = (uint8_t)value;
	return n;
}

static struct message get_end(struct buf *ends)
{
	uint8_t raw[END_MAX_BYTES] = { 0 };
	struct iovec spans[2];
	struct iov_cursor from = iov_begin(spans, buf_spans(ends, spans));
	uint64_t value = 0;
	uint32_t n = 0;

	iov_copy_out(&from, raw, sizeof(raw));
	for (bool more = true; more && n < END_MAX_BYTES; n++) {
		value |= (uint64_t)(raw[n] & 0x7f) << (7 * n);
		more = raw[n] & 0x80;
	}
	buf_consume(ends, n);
	return (struct message){
		.bytes = (uint32_t)(value >> 1),
		.complete = true,
		.eor = value & 1,
	};
}

int messages_end(struct messages *m, bool eor)
{
	if (m->complete == 0) {
		m->first = (struct message){ .bytes = m->open, .complete = true, .eor = eor };
	} else {
		uint8_t raw[END_MAX_BYTES];
		uint32_t n = put_end(raw, m->open, eor);

		if (buf_append(&m->ends, raw, n, ENDS_MAX_BYTES) < 0)
			return -ENOMEM;
	}
	m->complete++;
	m->open = 0;
	return 0;
}

void messages_take(struct messages *m, uint32_t bytes)
{
	if (m->complete > 0)
		m->first.bytes -= bytes;
	else
		m->open -= bytes;
}

void messages_drop_first(struct messages *m)
{
	if (--m->complete > 0)
		m->first = get_end(&m->ends);
}

void messages_clear(struct messages *m)
{
	buf_fini(&m->ends);
	m->complete = 0;
	m->open = 0;
}
