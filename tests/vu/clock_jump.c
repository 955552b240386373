// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * clock_jump.c - preloaded into the daemon by test_vu_capture.py: each SIGUSR2 is a
 * minute and a second that has gone by, so that a test need not wait that long.
 */
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define JUMP_S 61

static time_t jumped;

static void on_jump(int signo)
{
	(void)signo;
	__atomic_add_fetch(&jumped, JUMP_S, __ATOMIC_RELAXED);
}

__attribute__((constructor)) static void listen_for_jumps(void)
{
	(void)signal(SIGUSR2, on_jump);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are reserved */
int clock_gettime(clockid_t clock, struct timespec *now)
{
	int ret = (int)syscall(SYS_clock_gettime, clock, now);

	if (ret == 0 && clock == CLOCK_MONOTONIC)
		now->tv_sec += __atomic_load_n(&jumped, __ATOMIC_RELAXED);
	return ret;
}
