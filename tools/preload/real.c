// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * real.c - see real.h. Found at the first use, since a program's constructors
 * may call us before ours ran.
 */
#include "preload/real.h"

#include <dlfcn.h>

void *real_find(enum real_name name)
{
	static const char *const names[REAL_COUNT] = {
		[REAL_socket] = "socket",
		[REAL_connect] = "connect",
		[REAL_bind] = "bind",
		[REAL_listen] = "listen",
		[REAL_accept4] = "accept4",
		[REAL_getsockname] = "getsockname",
		[REAL_getpeername] = "getpeername",
		[REAL_getsockopt] = "getsockopt",
		[REAL_setsockopt] = "setsockopt",
		[REAL_ioctl] = "ioctl",
		/* The program may have asked for the 64-bit one, and never for less. */
		[REAL_open] = "open64",
		[REAL_openat] = "openat64",
		[REAL_close] = "close",
		[REAL_close_range] = "close_range",
		[REAL_dup] = "dup",
		[REAL_dup2] = "dup2",
		[REAL_dup3] = "dup3",
		[REAL_fcntl] = "fcntl64",
	};
	static void *found[REAL_COUNT];
	void *address = __atomic_load_n(&found[name], __ATOMIC_RELAXED);

	if (address == NULL) {
		address = dlsym(RTLD_NEXT, names[name]);
		__atomic_store_n(&found[name], address, __ATOMIC_RELAXED);
	}
	return address;
}
