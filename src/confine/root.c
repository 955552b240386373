// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * root.c - the stage that takes the file system away.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "confine/stages.h"

static int write_file(const char *path, const char *text)
{
	int fd scoped_fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(text);

	if (fd < 0)
		return -errno;
	return write(fd, text, len) == (ssize_t)len ? 0 : -EIO;
}

/* Each id is itself inside, others have no name there. */
static int map_ids(uid_t uid, gid_t gid)
{
	char uid_map[sizeof("4294967295 4294967295 1")];
	char gid_map[sizeof(uid_map)];
	int err;

	(void)snprintf(uid_map, sizeof(uid_map), "%u %u 1", uid, uid);
	(void)snprintf(gid_map, sizeof(gid_map), "%u %u 1", gid, gid);
	err = write_file("/proc/self/setgroups", "deny");
	if (err == 0)
		err = write_file("/proc/self/uid_map", uid_map);
	return err < 0 ? err : write_file("/proc/self/gid_map", gid_map);
}

static int enter_namespaces(bool user_ns)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int err;

	if (unshare(CLONE_NEWNS) == 0)
		return 0;
	err = -errno;
	if (!user_ns)
		return err;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	return map_ids(uid, gid);
}

/* A tmpfs over any directory, to become the root. */
static int mount_empty(void)
{
	static const char *const places[] = { "/tmp", "/run", "/dev", "/proc" };
	int err = -ENOENT;

	for (size_t i = 0; i < array_size(places); i++) {
		if (mount("none", places[i], "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "mode=0555,size=4k,nr_inodes=2") == 0)
			return chdir(places[i]) < 0 ? -errno : 0;
		err = -errno;
	}
	return err;
}

static int pivot(bool user_ns)
{
	int err = enter_namespaces(user_ns);

	if (err < 0)
		return err;
	/* nothing of this gets out */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	err = mount_empty();
	if (err < 0)
		return err;
	/* the old root comes to lie on top of the new one, and is taken off */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}

/* In a directory that is removed nothing can be made, and nothing is there. */
static int change_root(void)
{
	char place[] = "/tmp/vhost-device-vsock.XXXXXX";
	int fd scoped_fd = -1;

	if (mkdtemp(place) == NULL)
		return -errno;
	fd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rmdir(place) < 0 || fd < 0 || fchdir(fd) < 0)
		return -errno;
	return chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
}

int stage_root(bool user_ns)
{
	if (pivot(user_ns) == 0 || change_root() == 0)
		return 0;
	return -EPERM;
}
