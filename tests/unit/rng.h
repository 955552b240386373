// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rng.h - random numbers for model tests, repeatable by their printed seed.
 *
 * VDV_SEED=N in the environment repeats a run. May only be included by tests.
 */
#ifndef TESTS_UNIT_RNG_H
#define TESTS_UNIT_RNG_H

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct rng {
	uint64_t state;
};

/** Seed from VDV_SEED or the clock, and print the seed as a TAP comment. */
static inline struct rng rng_new(void)
{
	const char *wanted = getenv("VDV_SEED");
	struct timespec ts;
	uint64_t seed;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	seed = (uint64_t)ts.tv_sec * 1000003 + (uint64_t)ts.tv_nsec;
	if (wanted != NULL)
		seed = strtoull(wanted, NULL, 10);
	printf("# VDV_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return (struct rng){ .state = seed };
}

/** The next 64 bits (splitmix64, public domain, Sebastiano Vigna). */
static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/** A number from 0 to @bound - 1; @bound is not 0. */
static inline uint32_t rng_below(struct rng *rng, uint32_t bound)
{
	assert(bound > 0);
	return (uint32_t)(rng_next(rng) % bound);
}

#endif
