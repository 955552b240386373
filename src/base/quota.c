// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * quota.c - counting against a bound and its parent's. No lock, no system call.
 *
 * What the parent is charged is always the sum of what its children hold beyond
 * their reserves: each addition charges the difference it made, and these
 * differences add up in whatever order threads come.
 */
#include "base/quota.h"

static uint64_t bound_of(const struct quota *quota)
{
	return __atomic_load_n(&quota->max, __ATOMIC_RELAXED);
}

static uint64_t beyond_reserve(const struct quota *quota, uint64_t used)
{
	return used > quota->reserved ? used - quota->reserved : 0;
}

void quota_give(struct quota *quota, uint64_t n)
{
	while (quota != NULL && n > 0) {
		uint64_t now = __atomic_sub_fetch(&quota->used, n, __ATOMIC_RELAXED);

		n = beyond_reserve(quota, now + n) - beyond_reserve(quota, now);
		quota = quota->parent;
	}
}

const struct quota *quota_take(struct quota *quota, uint64_t n)
{
	const struct quota *full = NULL;
	struct quota *level = quota;
	uint64_t more = n;

	/* to the top even when refused, so that giving back undoes all of it */
	while (level != NULL && more > 0) {
		uint64_t now = __atomic_add_fetch(&level->used, more, __ATOMIC_RELAXED);

		if (now > bound_of(level) && full == NULL)
			full = level;
		more = beyond_reserve(level, now) - beyond_reserve(level, now - more);
		level = level->parent;
	}
	if (full != NULL)
		quota_give(quota, n);
	return full;
}

const struct quota *quota_would_refuse(const struct quota *quota, uint64_t n)
{
	while (quota != NULL && n > 0) {
		uint64_t used = quota_used(quota);

		if (used + n > bound_of(quota))
			return quota;
		n = beyond_reserve(quota, used + n) - beyond_reserve(quota, used);
		quota = quota->parent;
	}
	return NULL;
}
