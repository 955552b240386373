// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fd.h - owned file descriptors: every descriptor has one owner (a struct
 * member, -1 when none) and changes hands only through these functions.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/compiler.h"

/** Close *@fd if it is open and set it to -1; errno is preserved. */
void fd_close(int *fd);

/** Give *@fd away: returns it and leaves -1 behind. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/** Scope clean-up for a local descriptor: int fd scoped_fd = -1; */
#define scoped_fd __attribute__((cleanup(fd_close)))

/** Set O_NONBLOCK. Return: 0 or -errno. */
int fd_set_nonblocking(int fd) must_use;

/**
 * fd_recv() - Receive bytes and descriptors from a Unix stream socket
 * @sock:     non-blocking socket
 * @buf:      room for @len bytes
 * @fds:      output: received descriptors, close-on-exec, owned by the caller
 *            from then on, also at end of file
 * @max_fds:  room in @fds, at most FD_RECV_MAX
 * @n_fds:    output: how many were received
 *
 * Return: bytes (0 at end of file), -EAGAIN, -EPROTO when more descriptors
 *         came than fit, -EMFILE when this process has no room for them, other
 *         -errno. On an error every descriptor is closed and *@n_fds is 0. The
 *         bytes that came with them are lost, so end the connection; after
 *         -EMFILE they are in @buf.
 */
ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t max_fds, size_t *n_fds) must_use;

#define FD_RECV_MAX 16u

/**
 * fd_refuse_rights() - Let nobody pass descriptors to a Unix socket
 *
 * On a listener, also to the sockets that come from it. Descriptors that nobody
 * receives are closed by the one who reads the bytes, and closing can wait: for a
 * FUSE server, or for a socket that lingers. Kernels before 6.16 cannot do it.
 */
void fd_refuse_rights(int sock);

/**
 * fd_send() - Send bytes and at most one descriptor over a Unix socket
 * @fd: to go along, still the caller's afterwards; -1: none
 *
 * Return: 0 when all @len bytes went, -EAGAIN, other -errno; never blocks
 */
int fd_send(int sock, const void *buf, size_t len, int fd) must_use;

/** The same with @count descriptors, at most FD_RECV_MAX. */
int fd_send_several(int sock, const void *buf, size_t len, const int *fds, size_t count) must_use;

/** Close @n descriptors of an array and set each to -1. */
void fd_close_all(int *fds, size_t n);

/** Raise RLIMIT_NOFILE's soft limit to the hard one. Return: 0 or -errno. */
int fd_raise_limit(void);

#endif
