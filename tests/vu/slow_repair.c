// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * slow_repair.c - preloaded into the daemon by test_vu_control_life.py: the repair
 * of truncated guest memory (fault.c) waits until the FIFO that SLOW_REPAIR names
 * was opened and closed by a writer, so that a test can hold a worker there.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REPAIR (MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE)

/* The name of mmap() in a program with large files. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): libc's are reserved */
void *mmap64(void *address, size_t bytes, int prot, int flags, int fd, off_t offset)
{
	const char *path = getenv("SLOW_REPAIR");
	int fifo = path != NULL && (flags & REPAIR) == REPAIR ? open(path, O_RDONLY) : -1;
	char byte;

	if (fifo >= 0) {
		(void)!read(fifo, &byte, 1);
		(void)close(fifo);
	}
	return (void *)syscall(SYS_mmap, address, bytes, prot, flags, fd, offset);
}
