// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * passed.c - looks passed sockets up. Makes no socket and touches no path.
 */
#include "host/passed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/fd.h"
#include "host/unix_listener.h"

static bool same_unix(const void *a, const void *b)
{
	const struct sockaddr_un *left = a;
	const struct sockaddr_un *right = b;

	/* abstract and unnamed ones begin with NUL and are never asked for */
	return left->sun_path[0] != '\0' &&
	       strncmp(left->sun_path, right->sun_path, sizeof(left->sun_path)) == 0;
}

static bool same_vsock(const void *a, const void *b)
{
	const struct sockaddr_vm *left = a;
	const struct sockaddr_vm *right = b;

	return left->svm_port == right->svm_port;
}

static bool same_inet(const void *a, const void *b)
{
	const struct sockaddr_in *left = a;
	const struct sockaddr_in *right = b;

	return left->sin_port == right->sin_port && left->sin_addr.s_addr == right->sin_addr.s_addr;
}

static bool same_inet6(const void *a, const void *b)
{
	const struct sockaddr_in6 *left = a;
	const struct sockaddr_in6 *right = b;

	return left->sin6_port == right->sin6_port &&
	       memcmp(&left->sin6_addr, &right->sin6_addr, sizeof(left->sin6_addr)) == 0;
}

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_UNIX)
		return same_unix(a, b);
	if (a->sa_family == AF_VSOCK)
		return same_vsock(a, b);
	if (a->sa_family == AF_INET)
		return same_inet(a, b);
	return a->sa_family == AF_INET6 && same_inet6(a, b);
}

int passed_take(const struct passed_sockets *passed, const struct sockaddr *address, int type)
{
	for (size_t i = 0; passed != NULL && i < passed->count; i++) {
		const struct passed_socket *it = &passed->sockets[i];
		int fd;

		if (it->type != type ||
		    !same_address((const struct sockaddr *)&it->address, address))
			continue;
		fd = fcntl(it->fd, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? -errno : fd;
	}
	return -ENOENT;
}

int passed_take_unix(const struct passed_sockets *passed, const char *path, int type)
{
	struct sockaddr_un address;

	if (unix_address(&address, path) < 0)
		return -ENOENT;
	return passed_take(passed, (const struct sockaddr *)&address, type);
}

void passed_close(struct passed_sockets *passed)
{
	for (size_t i = 0; i < passed->count; i++)
		fd_close(&passed->sockets[i].fd);
	free(passed->sockets);
	*passed = (struct passed_sockets){ 0 };
}
