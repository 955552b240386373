// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * capture.h - the stream of packets that the daemon's method "capture" makes of a
 * control connection (docs/control.md): taking it apart.
 */
#ifndef VSOCKCTL_CAPTURE_H
#define VSOCKCTL_CAPTURE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

#define CAPTURE_RECORD_BYTES 24u
#define CAPTURE_MAX_KEPT (256u * 1024u) /* bytes of a packet that are believed */

/** One record. */
struct capture_record {
	const uint8_t *packet; /* in the bytes that were given */
	uint32_t kept;         /* of it; 0: the stream ends here */
	uint32_t length;       /* that it had */
	uint64_t time_ns;      /* since 1970 */
	uint64_t lost;         /* packets before it, in all */
};

/**
 * capture_next() - The record at the beginning of @bytes
 * Return: its length; 0: it is not complete; -EPROTO: it is none
 */
ssize_t capture_next(const uint8_t *bytes, size_t count, struct capture_record *record) must_use;

#endif
