// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * landlock.c - the stage that has the kernel refuse paths, where it has
 * Landlock. Works with headers older than the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "confine/stages.h"

/* As in the kernel's header of today; the fields behind the first came later. */
struct ruleset {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

#define FS_ABI_1 UINT64_C(0x1fff) /* all from EXECUTE to MAKE_SYM */
#define FS_REFER UINT64_C(0x2000)
#define FS_TRUNCATE UINT64_C(0x4000)
#define FS_IOCTL_DEV UINT64_C(0x8000)
#define NET_TCP UINT64_C(0x3)   /* bind and connect */
#define SCOPE_ALL UINT64_C(0x3) /* abstract Unix sockets and signals */

/* All that the kernel can refuse. */
static struct ruleset everything(long abi, size_t *size)
{
	struct ruleset rules = { .fs = FS_ABI_1 };

	if (abi >= 2)
		rules.fs |= FS_REFER;
	if (abi >= 3)
		rules.fs |= FS_TRUNCATE;
	if (abi >= 4)
		rules.net = NET_TCP;
	if (abi >= 5)
		rules.fs |= FS_IOCTL_DEV;
	if (abi >= 6)
		rules.scoped = SCOPE_ALL;
	*size = abi >= 6   ? sizeof(rules)
		: abi >= 4 ? offsetof(struct ruleset, scoped)
			   : offsetof(struct ruleset, net);
	return rules;
}

static int allow_beneath(int ruleset_fd, const char *directory, size_t len, uint64_t access)
{
	char *path = strndup(directory, len);
	int fd scoped_fd = -1;
	struct landlock_path_beneath_attr rule = { .allowed_access = access };

	if (path == NULL)
		return -ENOMEM;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(path);
	if (fd < 0)
		return -errno;
	rule.parent_fd = fd;
	return syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

static int allow(int ruleset_fd, const struct landlock_grant *grant)
{
	const char *slash;
	int err = 0;

	if (grant->sockets)
		err = allow_beneath(ruleset_fd, "/", 1,
				    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE);
	if (err < 0 || grant->read_beside == NULL)
		return err;
	slash = strrchr(grant->read_beside, '/');
	if (slash == NULL)
		return allow_beneath(ruleset_fd, ".", 1, LANDLOCK_ACCESS_FS_READ_FILE);
	return allow_beneath(ruleset_fd, grant->read_beside,
			     (size_t)(slash - grant->read_beside) + 1,
			     LANDLOCK_ACCESS_FS_READ_FILE);
}

int stage_landlock(const struct landlock_grant *grant)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset rules;
	int fd scoped_fd = -1;
	size_t size = 0;
	int err;

	if (abi < 0)
		return -errno;
	rules = everything(abi, &size);
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (fd < 0)
		return -errno;
	err = allow(fd, grant);
	if (err < 0)
		return err;
	return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}
