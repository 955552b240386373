// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * sim_faults.c - deterministic simulation of the pure core (vsock/ and virtio/)
 * in which every call to the outside fails once.
 *
 * The world is that of fuzz/fuzz_device.c: two guests that are siblings, drivers
 * and kernels that keep the protocol and check it, host programs, virtual time
 * and interleaved owners, all of it a function of the input. An input is a
 * scenario, recorded (the corpus in the directory named on the command line) or
 * made from a seed. Each scenario runs once undisturbed, which counts its calls,
 * and then once for each call of
 *
 *   the endpoint:  open, accepted, send, recv fail
 *   the heap:      malloc, calloc, realloc return NULL (wrapped by the linker)
 *
 * Each run makes all checks of the world: heads come back once, bytes are in
 * order and complete on each connection that was not visibly ended, counts and
 * lists agree, nothing is left undone or, with ASan, allocated at the end.
 *
 * VDV_SEED=n begins with another seed; SIM_SECONDS bounds the time.
 */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* The file, not a copy: one world, two ways to choose what happens in it. */
#include "fuzz_device.c" /* NOLINT(bugprone-suspicious-include) */

#define SCENARIO_BYTES 120u
#define MAX_SCENARIO_BYTES 4096u
#define DEFAULT_SECONDS 15

/* Which allocation fails, counted down; 0: none. */
static uint64_t allocations;
static uint64_t failing_allocation;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);

static bool allocation_fails(void)
{
	return ++allocations == failing_allocation;
}

void *__wrap_malloc(size_t bytes)
{
	return allocation_fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return allocation_fails() ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *p, size_t bytes)
{
	return allocation_fails() ? NULL : __real_realloc(p, bytes);
}

struct scenario {
	char name[64];
	uint8_t bytes[MAX_SCENARIO_BYTES];
	size_t length;
};

/* What is said when a check of the world ends the process. */
static char now[160];
static size_t now_length;

static void on_abort(int sig)
{
	(void)sig;
	(void)!write(STDERR_FILENO, now, now_length);
}

/* One run. Return: calls of the endpoint that could have failed. */
static uint64_t run(const struct scenario *scenario, const char *kind, uint64_t call)
{
	bool heap = strcmp(kind, "allocation") == 0;

	(void)snprintf(now, sizeof(now), "sim_faults: %s, %s %lu fails\n", scenario->name, kind,
		       call);
	now_length = strlen(now);
	allocations = 0;
	failing_allocation = heap ? call : 0;
	endpoint_calls = 0;
	failing_endpoint_call = heap ? 0 : call;
	LLVMFuzzerTestOneInput(scenario->bytes, scenario->length);
	return endpoint_calls;
}

/* The allocations of the world itself come first and do not fail. */
static uint64_t own_allocations(const struct scenario *scenario)
{
	struct scenario empty = *scenario;

	empty.length = HEAD_BYTES;
	run(&empty, "nothing", 0);
	return allocations;
}

/* Every call of a scenario once. Return: runs. */
static uint64_t disturb(const struct scenario *scenario)
{
	uint64_t own = own_allocations(scenario);
	uint64_t calls = run(scenario, "nothing", 0);
	uint64_t total = allocations;

	for (uint64_t i = 1; i <= calls; i++)
		run(scenario, "endpoint call", i);
	for (uint64_t i = own + 1; i <= total; i++)
		run(scenario, "allocation", i);
	return calls + (total > own ? total - own : 0);
}

/* Guests, clients and sockets that do things; never on wild ports. */
static void make_scenario(struct scenario *scenario, uint64_t seed)
{
	static const uint8_t ops[] = { 1, 2, 4, 4, 4, 5, 5, 5, 6, 6, 7 };
	struct world w = { .rng = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) };

	snprintf(scenario->name, sizeof(scenario->name), "seed %lu", seed);
	scenario->length = HEAD_BYTES + SCENARIO_BYTES;
	for (size_t i = 0; i < HEAD_BYTES; i++)
		scenario->bytes[i] = (uint8_t)rnd(&w, 256);
	scenario->bytes[2] &= (uint8_t)~32u; /* only our faults */
	for (size_t i = HEAD_BYTES; i < scenario->length; i++) {
		uint8_t op = ops[rnd(&w, array_size(ops))];
		uint8_t high = op == 7 ? (uint8_t)rnd(&w, 10) : (uint8_t)rnd(&w, 16);

		scenario->bytes[i] = (uint8_t)(high << 4 | op << 1 | rnd(&w, 2));
	}
}

static bool load_scenario(struct scenario *scenario, const char *directory, const char *name)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	f = fopen(path, "rb");
	if (!f)
		return false;
	snprintf(scenario->name, sizeof(scenario->name), "%.63s", name);
	scenario->length = fread(scenario->bytes, 1, sizeof(scenario->bytes), f);
	fclose(f);
	if (scenario->length >= HEAD_BYTES)
		scenario->bytes[2] &= (uint8_t)~32u;
	return scenario->length >= HEAD_BYTES && scenario->length < sizeof(scenario->bytes);
}

/* Counts of what was done. */
struct totals_done {
	uint64_t scenarios;
	uint64_t faults;
};

static void run_recorded(const char *directory, time_t end, struct totals_done *done)
{
	static struct scenario scenario;
	struct dirent **names;
	int count = scandir(directory, &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		if (time(NULL) < end && load_scenario(&scenario, directory, names[i]->d_name)) {
			done->faults += disturb(&scenario);
			done->scenarios++;
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	static struct scenario scenario;
	uint64_t seed = number_from("VDV_SEED", 1);
	time_t end = time(NULL) + (time_t)number_from("SIM_SECONDS", DEFAULT_SECONDS);
	struct totals_done done = { 0 };

	signal(SIGABRT, on_abort);
	printf("sim_faults: from seed %lu, VDV_SEED=%lu repeats\n", seed, seed);
	if (argc > 1)
		run_recorded(argv[1], end, &done);
	do {
		make_scenario(&scenario, seed++);
		done.faults += disturb(&scenario);
		done.scenarios++;
	} while (time(NULL) < end);
	printf("sim_faults: %lu scenarios, %lu faults survived\n", done.scenarios, done.faults);
	return 0;
}
