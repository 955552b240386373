// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * pattern.c - the bytes every stream carries. Pure.
 */
#include "bench/pattern.h"

#include <string.h>

#include "base/compiler.h"

void pattern_fill(uint8_t *area)
{
	uint32_t x = 0x2545f491;

	for (size_t i = 0; i < PATTERN_PERIOD; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		area[i] = (uint8_t)x;
	}
	memcpy(area + PATTERN_PERIOD, area, PATTERN_PERIOD);
	memcpy(area + 2 * (size_t)PATTERN_PERIOD, area, PATTERN_BYTES - 2 * (size_t)PATTERN_PERIOD);
}

bool pattern_matches(const uint8_t *area, uint64_t at, const void *bytes, size_t len)
{
	const uint8_t *next = bytes;

	while (len > 0) {
		size_t part = min_size(len, PATTERN_REACH);

		if (memcmp(area + pattern_place(at), next, part) != 0)
			return false;
		next += part;
		at += part;
		len -= part;
	}
	return true;
}
