// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * unix_listener.c - see unix_listener.h. Touches only the node it made and
 * sockets without a listener at the same path.
 */
#include "host/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define LISTEN_BACKLOG 4096 /* cut by net.core.somaxconn */

const struct unix_access unix_access_default = { .mode = -1, .group = (gid_t)-1 };

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

int unix_dial(const char *path, int type, bool takes_rights)
{
	struct sockaddr_un address;
	int fd scoped_fd = -1;
	int err = unix_address(&address, path);

	if (err < 0)
		return err;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!takes_rights)
		fd_refuse_rights(fd);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd_take(&fd);
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
	return -EADDRINUSE; /* EAGAIN: its backlog is full, EPROTOTYPE: another type */
}

/* A number of a node may be given again at once; the time of its making is another then. */
static bool is_same_node(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/*
 * Make room at the path. Somebody else may do the same: what is removed is what
 * nobody listened at, not what came to lie there since. No call removes a node by
 * anything but its name, so a moment remains between the last look and unlink().
 * Return: 0 or why it must not be touched.
 */
static int remove_stale(const struct sockaddr_un *address)
{
	struct stat before;
	struct stat st;
	int err;

	if (lstat(address->sun_path, &before) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(before.st_mode))
		return -EEXIST;
	err = probe(address);
	if (err < 0)
		return err;
	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!is_same_node(&before, &st))
		return -EADDRINUSE;
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int unix_open_parent(const char *path, const char **name)
{
	char parent[UNIX_PATH_ROOM] = ".";
	const char *slash = strrchr(path, '/');
	size_t len = slash == NULL ? 0 : (size_t)(slash - path) + 1;
	int fd;

	if (len >= sizeof(parent))
		return -ENAMETOOLONG;
	if (len > 0) {
		memcpy(parent, path, len);
		parent[len] = '\0';
	}
	fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*name = path + len;
	return fd;
}

/* The permissions come from the umask, so that there is no node without them. */
static int bind_node(int fd, const struct sockaddr_un *address, const struct unix_access *access)
{
	mode_t before = access->mode < 0 ? 0 : umask(0777u & ~(mode_t)access->mode);
	int err = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	if (access->mode >= 0)
		(void)umask(before);
	return err;
}

/* The socket is open and keeps the node's number from being given again. */
static bool is_own_node(const struct unix_listener *listener, const char *name)
{
	struct stat st;

	return fstatat(listener->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == listener->dev && st.st_ino == listener->ino;
}

/*
 * Know the node again, give it its group, and listen; nobody can connect before.
 * Until then it looks like a stale one to others, who may have replaced it: then
 * the path is theirs.
 */
static int settle_node(struct unix_listener *listener, int fd, const char *name, gid_t group)
{
	struct stat st;

	if (fstatat(listener->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	listener->dev = st.st_dev;
	listener->ino = st.st_ino;
	if (group != (gid_t)-1 &&
	    fchownat(listener->dir_fd, name, (uid_t)-1, group, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	return is_own_node(listener, name) ? 0 : -EADDRINUSE;
}

const char *unix_listener_why(int err)
{
	switch (err) {
	case -EEXIST:
		return "something that is no socket is there already";
	case -EADDRINUSE:
		return "another program listens there";
	case -ENOENT:
		return "cannot listen: its directory does not exist";
	case -EACCES:
	case -EPERM:
		return "cannot listen: this user may make no socket in its directory";
	case -ENOTDIR:
		return "cannot listen: what should be its directory is a file";
	case -EROFS:
		return "cannot listen: its file system is read-only";
	default:
		return strerrordesc_np(-err);
	}
}

static const char *node_name(const struct unix_listener *listener)
{
	const char *slash = strrchr(listener->path, '/');

	return slash == NULL ? listener->path : slash + 1;
}

int unix_listener_open(struct unix_listener *listener, const char *path, int type,
		       const struct unix_access *access)
{
	struct unix_listener made = { .fd = -1, .dir_fd = -1 };
	struct sockaddr_un address;
	const char *name = "";
	int fd scoped_fd = -1;
	int dir_fd scoped_fd = -1;
	int err;

	*listener = made;
	err = unix_address(&address, path);
	if (err == 0)
		err = remove_stale(&address);
	if (err < 0)
		return err;
	dir_fd = unix_open_parent(path, &name);
	if (dir_fd < 0)
		return dir_fd;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = bind_node(fd, &address, access);
	if (err < 0)
		return err;
	made.dir_fd = dir_fd;
	memcpy(made.path, address.sun_path, sizeof(made.path));
	err = settle_node(&made, fd, name, access->group);
	if (err < 0) {
		if (is_own_node(&made, name))
			(void)unlinkat(dir_fd, name, 0);
		return err;
	}
	*listener = made;
	listener->fd = fd_take(&fd);
	(void)fd_take(&dir_fd);
	return 0;
}

void unix_listener_remove(struct unix_listener *listener)
{
	const char *name = node_name(listener);

	if (listener->dir_fd < 0)
		return;
	if (is_own_node(listener, name))
		(void)unlinkat(listener->dir_fd, name, 0);
	fd_close(&listener->dir_fd);
}

void unix_listener_close(struct unix_listener *listener)
{
	if (listener->fd < 0)
		return;
	unix_listener_remove(listener);
	fd_close(&listener->fd);
}
