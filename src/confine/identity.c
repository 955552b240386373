// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * identity.c - the stages about who the process is: user and groups,
 * capabilities, core dumps.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/stages.h"

static int set_groups(gid_t gid, gid_t extra)
{
	if (setgroups(extra == (gid_t)-1 ? 0 : 1, &extra) < 0)
		return -errno;
	if (gid != (gid_t)-1 && setresgid(gid, gid, gid) < 0)
		return -errno;
	return 0;
}

int stage_identity(uid_t uid, gid_t gid, gid_t extra)
{
	bool same_uid = uid == (uid_t)-1 || (uid == getuid() && uid == geteuid());
	bool same_gid = gid == (gid_t)-1 || (gid == getgid() && gid == getegid());
	int err;

	/* somebody who is that user already need not be able to change groups */
	if (same_uid && same_gid && (geteuid() != 0 || (uid == (uid_t)-1 && gid == (gid_t)-1)))
		return 0;
	err = set_groups(gid, extra);
	if (err < 0)
		return err;
	if (uid == (uid_t)-1)
		return 0;
	if (setresuid(uid, uid, uid) < 0)
		return -errno;
	/* there must be no way back */
	if (uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
		return -EPERM;
	return 0;
}

void stage_bounding(uint64_t keep)
{
	for (unsigned int cap = 0; cap < 64; cap++) {
		if ((keep & bit64(cap)) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return;
	}
}

int stage_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	uint64_t permitted;

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	permitted = (data[0].permitted | (uint64_t)data[1].permitted << 32) & keep;
	for (unsigned int i = 0; i < 2; i++) {
		data[i].permitted = (uint32_t)(permitted >> (32 * i));
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int stage_cores(void)
{
	const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	return 0;
}
