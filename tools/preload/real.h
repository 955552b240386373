// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * real.h - the functions of libc that the library stands in front of.
 */
#ifndef PRELOAD_REAL_H
#define PRELOAD_REAL_H

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/compiler.h"

enum real_name {
	REAL_socket,
	REAL_connect,
	REAL_bind,
	REAL_listen,
	REAL_accept4,
	REAL_getsockname,
	REAL_getpeername,
	REAL_getsockopt,
	REAL_setsockopt,
	REAL_ioctl,
	REAL_open,
	REAL_openat,
	REAL_close,
	REAL_close_range,
	REAL_dup,
	REAL_dup2,
	REAL_dup3,
	REAL_fcntl,
	REAL_COUNT
};

/** Address of a function behind ours. Context: any thread, also before main(). */
void *real_find(enum real_name name) must_use;

/** REAL(close)(fd) is libc's close(fd). */
#define REAL(name) ((__typeof__(&(name)))real_find(REAL_##name))

#endif
