// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * bell.c - eventfds signalled by the completion of asynchronous I/O.
 *
 * Nobody reads the completions: when their ring is full it is emptied without
 * looking. libaio would add nothing to these four system calls.
 */
#include "base/bell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

#define BELL_EVENTS 64
#define BELL_TRIES 8 /* others may use up what one has emptied */

int bell_open(struct bell *bell)
{
	aio_context_t context = 0;

	bell->context = 0;
	bell->sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (bell->sink < 0)
		return -errno;
	if (syscall(SYS_io_setup, BELL_EVENTS, &context) < 0) {
		int err = -errno;

		fd_close(&bell->sink);
		return err;
	}
	bell->context = context;
	return 0;
}

void bell_close(struct bell *bell)
{
	if (bell->context != 0)
		(void)syscall(SYS_io_destroy, bell->context);
	bell->context = 0;
	fd_close(&bell->sink);
}

static void forget_completions(const struct bell *bell)
{
	struct io_event events[BELL_EVENTS];
	struct timespec at_once = { 0 };

	(void)syscall(SYS_io_getevents, bell->context, 0, BELL_EVENTS, events, &at_once);
}

/* Ring what can be rung. Return: 0, or -errno of the last that could not. */
static int submit(const struct bell *bell, const int *fds, size_t count)
{
	struct iocb requests[BELL_MAX_FDS] = { 0 };
	struct iocb *list[BELL_MAX_FDS];
	size_t done = 0;
	int tries = 0;
	int err = 0;

	for (size_t i = 0; i < count; i++) {
		requests[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		requests[i].aio_fildes = (uint32_t)bell->sink;
		requests[i].aio_flags = IOCB_FLAG_RESFD;
		requests[i].aio_resfd = (uint32_t)fds[i];
		list[i] = &requests[i];
	}
	while (done < count) {
		long rung = syscall(SYS_io_submit, bell->context, count - done, list + done);

		if (rung > 0) {
			done += (size_t)rung;
		} else if (errno == EAGAIN && ++tries < BELL_TRIES) {
			forget_completions(bell);
		} else {
			err = -errno;
			done++; /* that one is not for ringing */
		}
	}
	return err;
}

void bell_ring(const struct bell *bell, const int *fds, size_t count)
{
	const uint64_t one = 1;
	int saved_errno = errno;

	/* a full counter means that an event is pending anyway; whatever else
	 * is wrong with a descriptor is its owner's loss */
	if (bell->context != 0)
		(void)submit(bell, fds, count);
	for (size_t i = 0; bell->context == 0 && i < count; i++)
		(void)!write(fds[i], &one, sizeof(one));
	errno = saved_errno;
}

bool bell_fits(const struct bell *bell, int fd)
{
	int saved_errno = errno;
	int err = bell->context != 0 ? submit(bell, &fd, 1) : 0;

	errno = saved_errno;
	return err != -EINVAL && err != -EBADF;
}
