// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * pattern.h - the bytes every stream carries: a function of the offset in the
 * stream, laid out once so that sending needs no filling and checking is one
 * comparison. Its period divides no packet or buffer size, so a lost, repeated
 * or exchanged piece does not go unnoticed.
 */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_PERIOD (251u * 1024u)
#define PATTERN_REACH (256u * 1024u) /* longest piece */
#define PATTERN_BYTES (PATTERN_PERIOD + PATTERN_REACH)

/** Fill PATTERN_BYTES of @area. */
void pattern_fill(uint8_t *area);

/** Where the bytes from stream offset @at on begin. */
static inline size_t pattern_place(uint64_t at)
{
	return (size_t)(at % PATTERN_PERIOD);
}

/** Whether @len received bytes are those from stream offset @at on. */
bool pattern_matches(const uint8_t *area, uint64_t at, const void *bytes, size_t len);

#endif
