// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_rate.c - vsock/rate.c on a clock of its own: what passes in the long run,
 * bursts, debts, waits; and vsock/paced.c, which asks it for a device.
 */
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "unit.h"
#include "vsock/device_internal.h"
#include "vsock/rate.h"

static void test_burst_then_wait(void **state)
{
	struct rate rate;

	(void)state;
	rate_set(&rate, 1000, 100);
	assert_int_equal(rate_allow(&rate, 5), 100);
	rate_charge(&rate, 60);
	assert_int_equal(rate_allow(&rate, 5), 40);
	rate_charge(&rate, 40);
	assert_int_equal(rate_allow(&rate, 5), 0);
	assert_int_equal(rate_wait_ms(&rate), RATE_RESUME_MS);
	assert_int_equal(rate_allow(&rate, 5 + RATE_RESUME_MS - 1), 0);
	assert_int_equal(rate_allow(&rate, 5 + RATE_RESUME_MS), RATE_RESUME_MS);
	assert_false(rate.waits);
}

static void test_debt(void **state)
{
	struct rate rate;

	(void)state;
	rate_set(&rate, 1000, 100);
	assert_int_equal(rate_allow(&rate, 0), 100);
	rate_charge(&rate, 600);
	assert_int_equal(rate_allow(&rate, 0), 0);
	assert_int_equal(rate_wait_ms(&rate), 500 + RATE_RESUME_MS);
	assert_int_equal(rate_allow(&rate, 500), 0);
	assert_int_equal(rate_allow(&rate, 500 + RATE_RESUME_MS), RATE_RESUME_MS);
}

static void test_long_pause_gives_one_burst(void **state)
{
	struct rate rate;

	(void)state;
	rate_set(&rate, UINT32_MAX, 7);
	assert_int_equal(rate_allow(&rate, UINT64_MAX / 2), 7);
	rate_charge(&rate, 7);
	assert_int_equal(rate_allow(&rate, UINT64_MAX), 7);
	assert_int_equal(rate_allow(&rate, 3), 7); /* a clock that went back gives nothing */
	rate_charge(&rate, UINT64_MAX);
	rate_charge(&rate, UINT64_MAX);
	assert_int_equal(rate_allow(&rate, 4), 0);
	assert_true(rate_wait_ms(&rate) > 0);
}

/* One a second: waits are as long as they have to be, and no longer. */
static void test_slow(void **state)
{
	struct rate rate;

	(void)state;
	rate_set(&rate, 1, 1);
	for (uint64_t now = 0; now < 10000; now += 1000) {
		assert_int_equal(rate_allow(&rate, now), 1);
		rate_charge(&rate, 1);
		assert_int_equal(rate_allow(&rate, now), 0);
		assert_int_equal(rate_wait_ms(&rate), 1000);
		assert_int_equal(rate_allow(&rate, now + 999), 0);
	}
}

/*
 * A sender that always has something, in pieces of any size: never more than
 * rate and burst and one piece in any time from the start, never much less, and
 * it sleeps between.
 */
static void run_sender(struct rng *rng, uint32_t per_second, uint32_t burst, uint32_t piece_max)
{
	const uint64_t duration_ms = 20000;
	uint64_t passed = 0;
	uint64_t sleeps = 0;
	uint64_t now = 0;
	struct rate rate;

	rate_set(&rate, per_second, burst);
	while (now < duration_ms) {
		uint32_t allowed = rate_allow(&rate, now);
		uint64_t most = burst + (uint64_t)per_second * now / 1000;

		if (allowed == 0) {
			now += rate_wait_ms(&rate);
			sleeps++;
			assert_true(rate_allow(&rate, now) > 0);
			continue;
		}
		allowed = 1 + rng_below(rng, piece_max);
		assert_true(passed <= most);
		passed += allowed;
		rate_charge(&rate, allowed);
	}
	assert_true(passed + piece_max >= (uint64_t)per_second * (duration_ms / 1000));
	assert_true(sleeps <= duration_ms / RATE_RESUME_MS + 1);
}

static void test_long_run(void **state)
{
	static const uint32_t rates[] = { 65536, 1000003, 100u << 20, UINT32_MAX };
	struct rng rng = rng_new();

	(void)state;
	for (size_t i = 0; i < array_size(rates); i++) {
		uint32_t burst = rates[i] / 10 > 65536 ? rates[i] / 10 : 65536;

		run_sender(&rng, rates[i], burst, 65536 + 44);
		run_sender(&rng, rates[i], burst, burst);
	}
}

/* --- paced.c --- */

struct owner {
	uint64_t now_ms;
	uint32_t delay_ms;
	unsigned int waits;
	unsigned int limits;
	unsigned int schedules;
};

static uint64_t owner_now(void *ctx)
{
	return ((struct owner *)ctx)->now_ms;
}

static void owner_pace(void *ctx, uint32_t delay_ms)
{
	struct owner *owner = ctx;

	owner->delay_ms = delay_ms;
	owner->waits++;
}

static void owner_limit(void *ctx, const char *option, const char *effect)
{
	(void)effect;
	assert_string_equal(option, "conn-rate");
	((struct owner *)ctx)->limits++;
}

static void owner_schedule(void *ctx)
{
	((struct owner *)ctx)->schedules++;
}

static const struct device_env env = {
	.now_ms = owner_now,
	.pace_later = owner_pace,
	.limit_reached = owner_limit,
	.schedule = owner_schedule,
};

static void test_device(void **state)
{
	struct owner owner = { .now_ms = 1000 };
	struct device *device = calloc(1, sizeof(*device));
	const struct device_rates rates = { .tx = 65536, .rx = 100u << 20, .conns = 2 };
	uint64_t *count = &device->stats.tx_paced;

	(void)state;
	device->env = &env;
	device->ctx = &owner;
	device_set_rates(device, &rates);
	assert_int_equal(owner.schedules, 1);
	assert_int_equal(device_pace(device, &device->rx_rate, 1u << 30, count), (100u << 20) / 10);
	assert_int_equal(device_pace(device, &device->tx_rate, 5, count), 5);
	rate_charge(&device->tx_rate, VSOCK_MAX_PAYLOAD + VSOCK_HDR_BYTES);
	assert_int_equal(device_pace(device, &device->tx_rate, 5, count), 0);
	assert_int_equal(device_pace(device, &device->tx_rate, 5, count), 0);
	assert_int_equal(*count, 1);
	assert_int_equal(owner.waits, 2);
	owner.now_ms += owner.delay_ms;
	assert_int_equal(device_pace(device, &device->tx_rate, 5, count), 5);
	assert_true(device_may_connect(device) && device_may_connect(device));
	assert_false(device_may_connect(device));
	assert_int_equal(owner.limits, 1);
	owner.now_ms += 500;
	assert_true(device_may_connect(device));
	device_set_rates(device, &(struct device_rates){ .tx = 0 });
	for (int i = 0; i < 100; i++)
		assert_true(device_may_connect(device));
	free(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_then_wait),
		cmocka_unit_test(test_debt),
		cmocka_unit_test(test_long_pause_gives_one_burst),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_long_run),
		cmocka_unit_test(test_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
