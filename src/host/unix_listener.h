// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * unix_listener.h - a listening Unix socket at a path that we made and that we
 * remove again, but never anything else that lies there.
 */
#ifndef HOST_UNIX_LISTENER_H
#define HOST_UNIX_LISTENER_H

#include <sys/types.h>
#include <sys/un.h>

#include "base/compiler.h"

struct unix_listener {
	int fd; /* -1 when closed */
	dev_t dev;
	ino_t ino; /* of the node we made */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/**
 * unix_listener_open() - Bind and listen, non-blocking
 * @path:    shorter than sun_path
 *
 * A socket at @path that nobody listens on is removed first.
 *
 * Return: 0; -EEXIST: something that is no socket is there; -EADDRINUSE:
 * somebody listens there; other -errno
 */
int unix_listener_open(struct unix_listener *listener, const char *path) must_use;

/** Close, and remove the node if it is still ours. Legal when closed. */
void unix_listener_close(struct unix_listener *listener);

/** Fill in an address. Return: 0 or -ENAMETOOLONG. */
int unix_address(struct sockaddr_un *address, const char *path) must_use;

#endif
