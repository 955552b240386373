// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hostile_shared.h - stands in for base/shared.h (compile with -include): the
 * driver that changes a word the moment after it was loaded.
 *
 * Whoever loads a word twice and trusts the second load gets something else,
 * every time and repeatably, where a racing thread would hardly ever hit.
 * May only be used by fuzz harnesses, which provide hostile_loaded().
 */
#ifndef FUZZ_HOSTILE_SHARED_H
#define FUZZ_HOSTILE_SHARED_H

/* The real one is to stay out. */
#define BASE_SHARED_H

#include <stddef.h>
#include <stdint.h>

/** Called after each load with the word and its width in bytes. */
void hostile_loaded(uintptr_t p, size_t width);

static inline uint16_t shared_load16(const void *p)
{
	uint16_t v = __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);

	hostile_loaded((uintptr_t)p, sizeof(v));
	return v;
}

static inline uint16_t shared_load16_acquire(const void *p)
{
	return shared_load16(p);
}

static inline uint64_t shared_load64(const void *p)
{
	uint64_t v = __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);

	hostile_loaded((uintptr_t)p, sizeof(v));
	return v;
}

static inline uint32_t shared_load32(const void *p)
{
	uint32_t v = __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);

	hostile_loaded((uintptr_t)p, sizeof(v));
	return v;
}

static inline uint64_t shared_load64_acquire(const void *p)
{
	return shared_load64(p);
}

static inline void shared_store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, v, __ATOMIC_RELAXED);
}

static inline void shared_store16_release(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, v, __ATOMIC_RELEASE);
}

static inline void shared_store32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, v, __ATOMIC_RELAXED);
}

static inline void shared_store64(void *p, uint64_t v)
{
	__atomic_store_n((uint64_t *)p, v, __ATOMIC_RELAXED);
}

static inline void shared_store64_release(void *p, uint64_t v)
{
	__atomic_store_n((uint64_t *)p, v, __ATOMIC_RELEASE);
}

static inline void shared_fence(void)
{
}

#endif
