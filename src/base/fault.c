// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fault.c - the SIGBUS handler and the ranges it may repair.
 *
 * Theory of operation: a signal handler gets no context, so the table has to
 * be global; it is the one exception to the rule against mutable globals
 * besides the log level. The handler may interrupt any thread at any instruction,
 * so it takes no lock: an entry has a version, odd while it is being changed, and
 * the handler believes a start and a length only when the version was the same
 * before and after it read them. Otherwise it would put the start of one mapping
 * and the length of another together, and replace memory of a third. An entry that
 * changes meanwhile need not be read again: the range of the access that failed was
 * guarded before it and is until after it, so that entry is another's.
 *
 * The handler replaces the whole range by anonymous memory with one mmap(), which
 * is safe in a signal handler, and returns to the access, which then succeeds.
 */
#include "base/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

struct fault_range {
	uintptr_t start;
	size_t len;           /* 0: free */
	unsigned int version; /* odd while start and len change */
	bool lost;
};

static struct fault_range ranges[FAULT_MAX_RANGES];
static unsigned int ranges_lost; /* guarded ones that are lost */
static unsigned int ranges_top;  /* no entry in use at or above */
static pthread_mutex_t ranges_lock = PTHREAD_MUTEX_INITIALIZER;

/* Under ranges_lock. Each store releases, so who sees one of them sees that the version is odd. */
static void set_range(struct fault_range *range, uintptr_t start, size_t len)
{
	unsigned int version = range->version;

	__atomic_store_n(&range->version, version + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&range->start, start, __ATOMIC_RELEASE);
	__atomic_store_n(&range->len, len, __ATOMIC_RELEASE);
	__atomic_store_n(&range->version, version + 2, __ATOMIC_RELEASE);
}

/* In the handler. Return: whether @address is in it, and both outputs are of one mapping. */
static bool find_in(const struct fault_range *range, uintptr_t address, uintptr_t *start,
		    size_t *len)
{
	unsigned int version = __atomic_load_n(&range->version, __ATOMIC_ACQUIRE);

	*start = __atomic_load_n(&range->start, __ATOMIC_ACQUIRE);
	*len = __atomic_load_n(&range->len, __ATOMIC_ACQUIRE);
	if (address < *start || address - *start >= *len)
		return false;
	return version % 2 == 0 && __atomic_load_n(&range->version, __ATOMIC_RELAXED) == version;
}

static bool repair(uintptr_t address)
{
	unsigned int top = __atomic_load_n(&ranges_top, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < top; i++) {
		struct fault_range *range = &ranges[i];
		uintptr_t start;
		size_t len;

		if (!find_in(range, address, &start, &len))
			continue;
		if (!__atomic_exchange_n(&range->lost, true, __ATOMIC_RELAXED))
			__atomic_add_fetch(&ranges_lost, 1, __ATOMIC_RELAXED);
		return mmap((void *)start, len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			    0) != MAP_FAILED;
	}
	return false;
}

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	(void)context;
	/* not ours: the access repeats and ends the process the usual way */
	if (info->si_code <= 0 || !repair((uintptr_t)info->si_addr))
		signal(signo, SIG_DFL);
	errno = saved_errno;
}

int fault_install(void)
{
	struct sigaction action = {
		.sa_sigaction = on_sigbus,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

static int claim(uintptr_t start, size_t len)
{
	for (unsigned int i = 0; i < FAULT_MAX_RANGES; i++) {
		struct fault_range *range = &ranges[i];

		if (range->len != 0)
			continue;
		__atomic_store_n(&range->lost, false, __ATOMIC_RELAXED);
		set_range(range, start, len);
		if (i >= ranges_top)
			__atomic_store_n(&ranges_top, i + 1, __ATOMIC_RELEASE);
		return (int)i;
	}
	return -ENOSPC;
}

int fault_guard(void *start, size_t len)
{
	int handle;

	pthread_mutex_lock(&ranges_lock);
	handle = claim((uintptr_t)start, len);
	pthread_mutex_unlock(&ranges_lock);
	return handle;
}

void fault_unguard(int handle)
{
	pthread_mutex_lock(&ranges_lock);
	set_range(&ranges[handle], 0, 0);
	if (__atomic_exchange_n(&ranges[handle].lost, false, __ATOMIC_RELAXED))
		__atomic_sub_fetch(&ranges_lost, 1, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&ranges_lock);
}

bool fault_is_lost(int handle)
{
	return __atomic_load_n(&ranges[handle].lost, __ATOMIC_RELAXED);
}

bool fault_any_lost(void)
{
	return __atomic_load_n(&ranges_lost, __ATOMIC_RELAXED) != 0;
}
