// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * compiler.h - attributes and tiny helpers every file may use.
 *
 * May not contain policy, state or anything that makes a system call.
 */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#include <stddef.h>
#include <stdint.h>

#define must_use __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define cold_path __attribute__((cold, noinline))
#define maybe_unused __attribute__((unused))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define array_size(a) (sizeof(a) / sizeof((a)[0]))

/**
 * container_of() - The structure that embeds a member
 * @ptr:    pointer to the member, not NULL
 * @type:   type of the embedding structure
 * @member: name of the member in @type
 */
/* Release 14 takes the minus for a sign: */
/* clang-format off */
#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))
/* clang-format on */

/**
 * bit64() - The mask of a feature bit number
 * @bit: bit number, 0 to 63; numbers are named *_BIT, masks come only from here
 */
static inline uint64_t bit64(unsigned int bit)
{
	return UINT64_C(1) << bit;
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

#endif
