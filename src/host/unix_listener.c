// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * unix_listener.c - see unix_listener.h. Touches only the node it made and
 * sockets without a listener at the same path.
 */
#include "host/unix_listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define LISTEN_BACKLOG 4096 /* cut by net.core.somaxconn */

int unix_address(struct sockaddr_un *address, const char *path)
{
	size_t len = strlen(path);

	if (len >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, len + 1);
	return 0;
}

/* Whether somebody accepts connections there. */
static int probe(const struct sockaddr_un *address)
{
	int fd scoped_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
	    errno == ECONNREFUSED)
		return 0;
	return -EADDRINUSE; /* EAGAIN: its backlog is full, so it lives */
}

/* Make room at the path. Return: 0 or why it must not be touched. */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat st;
	int err;

	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	err = probe(address);
	if (err < 0)
		return err;
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int unix_listener_open(struct unix_listener *listener, const char *path)
{
	struct sockaddr_un address;
	struct stat st;
	int fd scoped_fd = -1;
	int err;

	listener->fd = -1;
	err = unix_address(&address, path);
	if (err < 0)
		return err;
	err = remove_stale(&address);
	if (err < 0)
		return err;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	if (listen(fd, LISTEN_BACKLOG) < 0 || lstat(path, &st) < 0) {
		err = -errno;
		unlink(path);
		return err;
	}
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	memcpy(listener->path, address.sun_path, sizeof(listener->path));
	listener->fd = fd_take(&fd);
	return 0;
}

void unix_listener_close(struct unix_listener *listener)
{
	struct stat st;

	if (listener->fd < 0)
		return;
	if (lstat(listener->path, &st) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->ino)
		unlink(listener->path);
	fd_close(&listener->fd);
}
