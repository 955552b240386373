// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * shared.h - access to naturally aligned words that another party may be
 * writing at the same time (a guest's ring).
 *
 * Each function makes exactly one load or store of the whole word, so a value
 * that was checked is the value that is used. Words are little-endian there.
 */
#ifndef BASE_SHARED_H
#define BASE_SHARED_H

#include <endian.h>
#include <stdint.h>

static inline uint16_t shared_load16(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED));
}

/** Pairs with the release store of the driver's avail->idx. */
static inline uint16_t shared_load16_acquire(const void *p)
{
	return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE));
}

static inline uint32_t shared_load32(const void *p)
{
	return le32toh(__atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED));
}

static inline uint64_t shared_load64(const void *p)
{
	return le64toh(__atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED));
}

/** Pairs with the release store of a packed descriptor's flags by the driver. */
static inline uint64_t shared_load64_acquire(const void *p)
{
	return le64toh(__atomic_load_n((const uint64_t *)p, __ATOMIC_ACQUIRE));
}

static inline void shared_store16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELAXED);
}

/** Pairs with the driver's acquire load of used->idx. */
static inline void shared_store16_release(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, htole16(v), __ATOMIC_RELEASE);
}

static inline void shared_store32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, htole32(v), __ATOMIC_RELAXED);
}

static inline void shared_store64(void *p, uint64_t v)
{
	__atomic_store_n((uint64_t *)p, htole64(v), __ATOMIC_RELAXED);
}

/** Pairs with the driver's acquire load of a packed descriptor's flags. */
static inline void shared_store64_release(void *p, uint64_t v)
{
	__atomic_store_n((uint64_t *)p, htole64(v), __ATOMIC_RELEASE);
}

/** Full fence: orders our store of an index before our load of the peer's. */
static inline void shared_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
