// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * passed.h - listening sockets that this process was started with: found again
 * by their address when somebody would make such a socket.
 *
 * They belong to whoever passed them: nobody here removes their nodes, and they
 * stay open, so that a VM which goes and comes back finds its clients waiting.
 * The table does not change while the daemon runs.
 */
#ifndef HOST_PASSED_H
#define HOST_PASSED_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/compiler.h"

struct passed_socket {
	int fd;
	int type; /* SOCK_STREAM or SOCK_SEQPACKET */
	struct sockaddr_storage address;
};

/** Zero-initialised is empty. */
struct passed_sockets {
	struct passed_socket *sockets;
	size_t count;
};

/**
 * passed_take() - A descriptor of the socket that listens at an address
 * @passed:  may be NULL
 * @address: AF_UNIX with a path, AF_VSOCK (its port counts), AF_INET or AF_INET6
 *
 * Return: the caller's own duplicate; -ENOENT: there is none; other -errno
 * Context: any thread
 */
int passed_take(const struct passed_sockets *passed, const struct sockaddr *address, int type)
	must_use;

/** As passed_take() for a path; one that is too long is not there. */
int passed_take_unix(const struct passed_sockets *passed, const char *path, int type) must_use;

/** Close and free all. */
void passed_close(struct passed_sockets *passed);

#endif
