// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rate.c - see rate.h. Pure.
 */
#include "vsock/rate.h"

/* Thousandths: what comes in a millisecond is then the rate itself. */
#define UNIT 1000

/* Longer pauses add nothing that a bucket would hold, and products stay small. */
#define FILL_MAX_MS 3600000u
#define DEBT_MAX (INT64_MAX / 4)

void rate_set(struct rate *rate, uint32_t per_second, uint32_t burst)
{
	*rate = (struct rate){
		.per_second = per_second,
		.burst = burst,
		.level = (int64_t)burst * UNIT,
	};
}

static void fill(struct rate *rate, uint64_t now_ms)
{
	uint64_t elapsed = now_ms > rate->filled_ms ? now_ms - rate->filled_ms : 0;
	int64_t full = (int64_t)rate->burst * UNIT;

	if (elapsed > FILL_MAX_MS)
		elapsed = FILL_MAX_MS;
	rate->level += (int64_t)(elapsed * rate->per_second);
	if (rate->level > full)
		rate->level = full;
	rate->filled_ms = now_ms;
}

/* Level at which what was empty goes on. */
static int64_t resume_level(const struct rate *rate)
{
	uint64_t level = rate->per_second * RATE_RESUME_MS;
	uint64_t full = rate->burst * UNIT;

	if (level < UNIT)
		level = UNIT;
	return (int64_t)(level < full ? level : full);
}

uint32_t rate_allow(struct rate *rate, uint64_t now_ms)
{
	uint64_t units;

	fill(rate, now_ms);
	rate->waits = rate->level < (rate->waits ? resume_level(rate) : UNIT);
	if (rate->waits)
		return 0;
	units = (uint64_t)rate->level / UNIT;
	return units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

void rate_charge(struct rate *rate, uint64_t units)
{
	uint64_t cost = units < DEBT_MAX / UNIT ? units * UNIT : DEBT_MAX;

	if (rate->level > -DEBT_MAX)
		rate->level -= (int64_t)cost;
}

uint32_t rate_wait_ms(const struct rate *rate)
{
	int64_t missing = resume_level(rate) - rate->level;
	uint64_t ms;

	if (missing <= 0)
		return 1;
	ms = ((uint64_t)missing + rate->per_second - 1) / rate->per_second;
	return ms < FILL_MAX_MS ? (uint32_t)ms : FILL_MAX_MS;
}
