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

/* Return: 0 or -errno. */
static int submit(const struct bell *bell, int fd)
{
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = (uint32_t)bell->sink,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	};
	struct iocb *list = &request;

	for (int i = 0; i < BELL_TRIES; i++) {
		if (syscall(SYS_io_submit, bell->context, 1, &list) == 1)
			return 0;
		if (errno != EAGAIN)
			break;
		forget_completions(bell);
	}
	return -errno;
}

void bell_ring(const struct bell *bell, int fd)
{
	const uint64_t one = 1;
	int saved_errno = errno;

	/* a full counter means that an event is pending anyway; whatever else
	 * is wrong with the descriptor is its owner's loss */
	if (bell->context != 0)
		(void)submit(bell, fd);
	else
		(void)!write(fd, &one, sizeof(one));
	errno = saved_errno;
}

bool bell_fits(const struct bell *bell, int fd)
{
	int saved_errno = errno;
	int err = bell->context != 0 ? submit(bell, fd) : 0;

	errno = saved_errno;
	return err != -EINVAL && err != -EBADF;
}
