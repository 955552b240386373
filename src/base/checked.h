// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * checked.h - the only way to do size arithmetic on numbers a peer gave us.
 */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/**
 * checked_add_u64() - Add without wrap-around
 * @a, @b: summands
 * @sum:   output; untouched on failure
 *
 * Return: false if the sum does not fit 64 bits
 */
static inline must_use bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *sum)
{
	uint64_t result;

	if (__builtin_add_overflow(a, b, &result))
		return false;
	*sum = result;
	return true;
}

/**
 * range_within() - Whether [offset, offset + len) lies in [0, size)
 *
 * A range of length 0 lies within when its offset does not exceed @size.
 */
static inline must_use bool range_within(uint64_t offset, uint64_t len, uint64_t size)
{
	return offset <= size && len <= size - offset;
}

#endif
