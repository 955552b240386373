// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * unix_listener.h - a listening Unix socket at a path that we made and that we
 * remove again, but never anything else that lies there.
 */
#ifndef HOST_UNIX_LISTENER_H
#define HOST_UNIX_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/compiler.h"

#define UNIX_PATH_ROOM sizeof(((struct sockaddr_un *)0)->sun_path)

/** Who may connect to the sockets that we make. */
struct unix_access {
	int mode;    /* permissions, 0 to 0777; -1: what the umask leaves */
	gid_t group; /* (gid_t)-1: ours */
};

/** As any program's that does not care. */
extern const struct unix_access unix_access_default;

struct unix_listener {
	int fd;     /* -1 when closed */
	int dir_fd; /* the node's directory (O_PATH); -1: another process removes it */
	bool lent;  /* the socket came from the parent, and so did the node: it stays */
	dev_t dev;
	ino_t ino;   /* of the node we made */
	uint32_t id; /* with the broker, if that made it */
	char path[UNIX_PATH_ROOM];
};

/** What is wrong, and with it what to do, when unix_listener_open() returned @err. */
const char *unix_listener_why(int err);

/**
 * unix_listener_open() - Bind and listen, non-blocking
 * @path:    shorter than sun_path
 * @type:    SOCK_STREAM or SOCK_SEQPACKET
 * @access:  of the node; in force before anybody can connect
 *
 * A socket at @path that nobody listens on is removed first. Changes the
 * process's umask for a moment if @access has a mode.
 *
 * Return: 0; -EEXIST: something that is no socket is there; -EADDRINUSE:
 * somebody listens there; other -errno
 */
int unix_listener_open(struct unix_listener *listener, const char *path, int type,
		       const struct unix_access *access) must_use;

/** Remove the node if it is still ours and where it was made; legal twice. */
void unix_listener_remove(struct unix_listener *listener);

/** Close, and remove the node as above. Legal when closed. */
void unix_listener_close(struct unix_listener *listener);

/**
 * unix_dial() - Connect without waiting
 * @takes_rights: whether the other side may pass descriptors
 *
 * Return: a non-blocking socket; -EAGAIN: the listener's backlog is full; other -errno
 */
int unix_dial(const char *path, int type, bool takes_rights) must_use;

/** Fill in an address. Return: 0 or -ENAMETOOLONG. */
int unix_address(struct sockaddr_un *address, const char *path) must_use;

/**
 * unix_open_parent() - Hold on to the directory of a path
 * @name: output: what follows the last '/', inside @path
 *
 * Return: a descriptor good for the *at() calls and fchdir() only, or -errno
 */
int unix_open_parent(const char *path, const char **name) must_use;

#endif
