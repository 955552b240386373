// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * rate.h - a token bucket: how much may pass a second. Pure, on the caller's clock.
 *
 * Theory of operation: what passes is charged afterwards, so the last piece may
 * be larger than what was left and the bucket goes into debt by it. Once empty,
 * nothing passes until RATE_RESUME_MS worth has come: so a limited VM costs a
 * wake-up for each such piece of time at most, and none while it has nothing to do.
 *
 * Context: one thread at a time.
 */
#ifndef VSOCK_RATE_H
#define VSOCK_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define RATE_RESUME_MS 10u /* worth of units before the next may pass */

struct rate {
	uint64_t per_second; /* units; 0: no limit */
	uint64_t burst;      /* units that may pass at once after a pause */
	int64_t level;       /* thousandths of units that may pass; below 0: debt */
	uint64_t filled_ms;  /* when that was so */
	bool waits;          /* it was empty, and not enough has come since */
};

/** Begin anew with a full bucket. @per_second: 0: no limit, and nothing else is to be
 *  called. @burst: at least 1 */
void rate_set(struct rate *rate, uint32_t per_second, uint32_t burst);

/** Units that may pass now; 0: none before rate_wait_ms(). */
uint32_t rate_allow(struct rate *rate, uint64_t now_ms) must_use;

/** So many have passed. */
void rate_charge(struct rate *rate, uint64_t units);

/** Milliseconds until rate_allow() is not 0, after it was; at least 1. */
uint32_t rate_wait_ms(const struct rate *rate) must_use;

#endif
