// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hooks.c - the functions of libc that the program calls in the library's
 * place. Each decides whether it is about AF_VSOCK and passes on what is not.
 *
 * Nothing else of the library can be seen from outside. Reading and writing
 * are not here: the descriptors are real.
 */
#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/time.h>

#include "preload/door.h"
#include "preload/real.h"
#include "preload/stream.h"

#define exported __attribute__((visibility("default")))

#define VSOCK_DEVICE "/dev/vsock"
#define CONNECT_TIMEOUT_S 2

/* Which argument a call with "..." has, if any: as libc, take it as a word. */
#define REST(last)                                             \
	({                                                     \
		va_list rest_args;                             \
		unsigned long rest_value;                      \
                                                               \
		va_start(rest_args, last);                     \
		rest_value = va_arg(rest_args, unsigned long); \
		va_end(rest_args);                             \
		rest_value;                                    \
	})

static int result(int err)
{
	if (err >= 0)
		return err;
	errno = -err;
	return -1;
}

/* The address as the kernel gives it: as much as there is room for, and its full length. */
static int give(const struct sockaddr_vm *from, struct sockaddr *to, socklen_t *len)
{
	if (to == NULL || len == NULL)
		return result(-EFAULT);
	memcpy(to, from, min_size(*len, sizeof(*from)));
	*len = sizeof(*from);
	return 0;
}

static const struct sockaddr_vm *vm_of(const struct sockaddr *address, socklen_t len)
{
	if (address == NULL || len < sizeof(struct sockaddr_vm) || address->sa_family != AF_VSOCK)
		return NULL;
	return (const struct sockaddr_vm *)(const void *)address;
}

exported int socket(int domain, int type, int protocol)
{
	if (domain == AF_VSOCK)
		return stream_socket(type, protocol);
	return REAL(socket)(domain, type, protocol);
}

exported int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	const struct sockaddr_vm *to = vm_of(address.__sockaddr__, len);

	return to != NULL ? stream_connect(fd, to) : REAL(connect)(fd, address, len);
}

exported int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	const struct sockaddr_vm *at = vm_of(address.__sockaddr__, len);

	return at != NULL ? stream_bind(fd, at) : REAL(bind)(fd, address, len);
}

exported int listen(int fd, int backlog)
{
	struct stream stream;

	if (door_find(fd, NULL))
		return 0;
	stream_look(fd, &stream);
	if (stream.state == STREAM_OTHER)
		return REAL(listen)(fd, backlog);
	if (stream.state != STREAM_BOUND)
		return result(-EINVAL);
	return result(door_open(fd, stream.local.svm_port));
}

exported int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict len, int flags)
{
	struct stream stream;
	int accepted;

	if (!door_find(fd, NULL))
		return REAL(accept4)(fd, address, len, flags);
	accepted = door_accept(fd, flags);
	if (accepted < 0)
		return result(accepted);
	stream_mark(accepted);
	if (address.__sockaddr__ != NULL) {
		stream_look(accepted, &stream);
		(void)give(&stream.peer, address.__sockaddr__, len);
	}
	return accepted;
}

exported int accept(int fd, __SOCKADDR_ARG address, socklen_t *restrict len)
{
	return accept4(fd, address, len, 0);
}

exported int getsockname(int fd, __SOCKADDR_ARG address, socklen_t *restrict len)
{
	struct stream stream;

	stream.local = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	if (door_find(fd, &stream.local.svm_port))
		return give(&stream.local, address.__sockaddr__, len);
	stream_look(fd, &stream);
	if (stream.state == STREAM_OTHER)
		return REAL(getsockname)(fd, address, len);
	return give(&stream.local, address.__sockaddr__, len);
}

exported int getpeername(int fd, __SOCKADDR_ARG address, socklen_t *restrict len)
{
	struct stream stream;

	if (door_find(fd, NULL))
		return result(-ENOTCONN);
	stream_look(fd, &stream);
	if (stream.state == STREAM_CONNECTED || stream.state == STREAM_ACCEPTED)
		return give(&stream.peer, address.__sockaddr__, len);
	return REAL(getpeername)(fd, address, len);
}

/* --- options --- */

static int give_option(const void *value, size_t size, void *to, socklen_t *len)
{
	if (to == NULL || len == NULL)
		return result(-EFAULT);
	*len = (socklen_t)min_size(*len, size);
	memcpy(to, value, *len);
	return 0;
}

static int vsock_option(int name, void *to, socklen_t *len)
{
	struct timeval timeout = { .tv_sec = CONNECT_TIMEOUT_S };
	uint64_t bytes = STREAM_BUFFER_BYTES;
	int zero = 0;

	switch (name) {
	case SO_VM_SOCKETS_BUFFER_SIZE:
	case SO_VM_SOCKETS_BUFFER_MIN_SIZE:
	case SO_VM_SOCKETS_BUFFER_MAX_SIZE:
		return give_option(&bytes, sizeof(bytes), to, len);
	case SO_VM_SOCKETS_CONNECT_TIMEOUT_OLD:
	case SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW:
		return give_option(&timeout, sizeof(timeout), to, len);
	case SO_VM_SOCKETS_TRUSTED:
	case SO_VM_SOCKETS_NONBLOCK_TXRX:
		return give_option(&zero, sizeof(zero), to, len);
	default:
		return result(-ENOPROTOOPT);
	}
}

/* What a set of listeners says of itself as a socket. */
static int door_option(int fd, int name, void *to, socklen_t *len)
{
	int value = 0;

	if (name == SO_TYPE)
		value = door_type(fd);
	else if (name == SO_DOMAIN)
		value = AF_VSOCK;
	else if (name == SO_ACCEPTCONN)
		value = 1;
	return give_option(&value, sizeof(value), to, len);
}

exported int getsockopt(int fd, int level, int name, void *restrict to, socklen_t *restrict len)
{
	bool is_door = door_find(fd, NULL);
	int domain = AF_VSOCK;
	struct stream stream;

	if (is_door && level == SOL_SOCKET)
		return door_option(fd, name, to, len);
	if (level == AF_VSOCK || (level == SOL_SOCKET && name == SO_DOMAIN)) {
		stream_look(fd, &stream);
		if ((is_door || stream.state != STREAM_OTHER) && level == AF_VSOCK)
			return vsock_option(name, to, len);
		if (stream.state != STREAM_OTHER)
			return give_option(&domain, sizeof(domain), to, len);
	}
	return REAL(getsockopt)(fd, level, name, to, len);
}

exported int setsockopt(int fd, int level, int name, const void *from, socklen_t len)
{
	bool is_door = door_find(fd, NULL);
	struct stream stream;

	if (is_door && (level == SOL_SOCKET || level == AF_VSOCK))
		return 0;
	stream_look(fd, &stream);
	/* The sizes are the daemon's; the time is ours. */
	if (stream.state != STREAM_OTHER && level == AF_VSOCK)
		return 0;
	return REAL(setsockopt)(fd, level, name, from, len);
}

/* --- descriptors --- */

exported int close(int fd)
{
	door_closing(fd);
	return REAL(close)(fd);
}

/* What doors that stay open have of their own is not the program's to close. */
static int close_but_own(unsigned int first, unsigned int last, int flags)
{
	for (;;) {
		unsigned int own = door_next_own(first);
		int err = 0;

		if (own > last || own == UINT_MAX)
			return REAL(close_range)(first, last, flags);
		if (own > first)
			err = REAL(close_range)(first, own - 1, flags);
		if (err < 0 || own == last)
			return err;
		first = own + 1;
	}
}

exported int close_range(unsigned int first, unsigned int last, int flags)
{
	if (((unsigned int)flags & CLOSE_RANGE_CLOEXEC) == 0)
		door_closing_range(first, last);
	return close_but_own(first, last, flags);
}

exported void closefrom(int first)
{
	(void)close_range(first > 0 ? (unsigned int)first : 0, UINT_MAX, 0);
}

exported int dup(int fd)
{
	int copy = REAL(dup)(fd);

	if (copy >= 0)
		door_copied(fd, copy);
	return copy;
}

exported int dup2(int fd, int copy)
{
	int made = REAL(dup2)(fd, copy);

	if (made >= 0 && fd != copy) {
		door_closing(copy); /* it was, and no sooner: a refused call closes nothing */
		door_copied(fd, copy);
	}
	return made;
}

exported int dup3(int fd, int copy, int flags)
{
	int made = REAL(dup3)(fd, copy, flags);

	if (made >= 0) { /* as dup2() */
		door_closing(copy);
		door_copied(fd, copy);
	}
	return made;
}

static int do_fcntl(int fd, int command, unsigned long argument)
{
	int made = REAL(fcntl)(fd, command, argument);

	if (made >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))
		door_copied(fd, made);
	return made;
}

exported int fcntl(int fd, int command, ...)
{
	return do_fcntl(fd, command, REST(command));
}

exported int fcntl64(int fd, int command, ...)
{
	return do_fcntl(fd, command, REST(command));
}

/* --- the device --- */

/* Only the question for the own CID is asked there, and ioctl() answers it. */
static const char *opened_path(const char *path)
{
	return path != NULL && strcmp(path, VSOCK_DEVICE) == 0 ? "/dev/null" : path;
}

exported int open(const char *path, int flags, ...)
{
	return REAL(open)(opened_path(path), flags, (mode_t)REST(flags));
}

exported int open64(const char *path, int flags, ...)
{
	return REAL(open)(opened_path(path), flags, (mode_t)REST(flags));
}

exported int openat(int dir, const char *path, int flags, ...)
{
	return REAL(openat)(dir, opened_path(path), flags, (mode_t)REST(flags));
}

exported int openat64(int dir, const char *path, int flags, ...)
{
	return REAL(openat)(dir, opened_path(path), flags, (mode_t)REST(flags));
}

exported int ioctl(int fd, unsigned long request, ...)
{
	unsigned long argument = REST(request);
	unsigned int cid = VMADDR_CID_HOST;

	if (request != IOCTL_VM_SOCKETS_GET_LOCAL_CID)
		return REAL(ioctl)(fd, request, argument);
	if (argument == 0)
		return result(-EFAULT);
	memcpy((void *)argument, &cid, sizeof(cid));
	return 0;
}
