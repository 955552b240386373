// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * capture.c - records of a capture's stream. Knows nothing of what is in a packet.
 */
#include "vsockctl/capture.h"

#include <errno.h>

#include "base/le.h"

ssize_t capture_next(const uint8_t *bytes, size_t count, struct capture_record *record)
{
	struct capture_record found;

	if (count < CAPTURE_RECORD_BYTES)
		return 0;
	found = (struct capture_record){
		.packet = bytes + CAPTURE_RECORD_BYTES,
		.kept = le32_load(bytes),
		.length = le32_load(bytes + 4),
		.time_ns = le64_load(bytes + 8),
		.lost = le64_load(bytes + 16),
	};
	if (found.kept > CAPTURE_MAX_KEPT || found.kept > found.length ||
	    (found.kept == 0 && found.length > 0))
		return -EPROTO;
	if (count - CAPTURE_RECORD_BYTES < found.kept)
		return 0;
	*record = found;
	return (ssize_t)(CAPTURE_RECORD_BYTES + found.kept);
}
