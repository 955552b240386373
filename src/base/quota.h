// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * quota.h - a bound on how much of something is held at a time, by one VM and
 * by all of them together. Counts; owns nothing.
 *
 * Theory of operation: a quota may have a parent that its siblings share. The
 * first @reserved units of a child are its own, whatever the others do; only
 * what goes beyond them is taken from the parent. So one VM can use what the
 * others leave, and cannot take what they were promised.
 *
 * Every change is one atomic addition per level; a request that turns out to be
 * too much is taken back. Two threads that ask for the last unit at the same
 * time may both be refused, never both be granted.
 */
#ifndef BASE_QUOTA_H
#define BASE_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

struct quota {
	const char *name;     /* of the option that sets it, for the log */
	struct quota *parent; /* NULL: none */
	uint64_t max;         /* units, at most 2^62; atomic */
	uint64_t reserved;    /* of these, not taken from the parent */
	uint64_t used;        /* atomic */
};

static inline uint64_t quota_used(const struct quota *quota)
{
	return __atomic_load_n(&quota->used, __ATOMIC_RELAXED);
}

/** Another bound. What was granted beyond it stays. Context: any thread. */
static inline void quota_set_max(struct quota *quota, uint64_t max)
{
	__atomic_store_n(&quota->max, max, __ATOMIC_RELAXED);
}

/** Give back @n units that were granted. Context: any thread. */
void quota_give(struct quota *quota, uint64_t n);

/**
 * quota_take() - Ask for units
 * @n: how many, at most 2^32; all or none are granted
 *
 * Return: NULL when granted, else the quota (this one or its parent) whose
 *         bound stands against it
 * Context: any thread
 */
const struct quota *quota_take(struct quota *quota, uint64_t n) must_use;

/** Whether @n more units would be granted now; like quota_take(), but takes none. */
const struct quota *quota_would_refuse(const struct quota *quota, uint64_t n) must_use;

#endif
