// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * stages.h - the stages that sandbox.c puts in order; tests call them one by one.
 *
 * Each returns 0 when the part holds, or -errno when it could not be had and
 * nothing else is harmed. None logs.
 */
#ifndef CONFINE_STAGES_H
#define CONFINE_STAGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"

/**
 * stage_root() - An empty, read-only root directory
 * @user_ns: a user namespace may be made for it, where uids of others are not seen
 *
 * A mount namespace with a tmpfs for its root; without the right to that, a
 * chroot to a directory that is removed already.
 *
 * Return: 0; -EPERM: neither is allowed
 */
int stage_root(bool user_ns) must_use;

/**
 * stage_identity() - Become another user and group, without a way back
 * @uid:   (uid_t)-1: stay
 * @gid:   (gid_t)-1: stay
 * @extra: the one supplementary group that is kept; (gid_t)-1: none
 *
 * Does nothing when both are (uid_t)-1 or are what this process is already.
 */
int stage_identity(uid_t uid, gid_t gid, gid_t extra) must_use;

/**
 * stage_bounding() - No program run later may get capabilities but @keep
 *
 * Only who may change users can do it, so it comes before that; for others it
 * does nothing, and no_new_privs says the same.
 */
void stage_bounding(uint64_t keep);

/** Give up all capabilities but those of the mask @keep, by bit number. */
int stage_capabilities(uint64_t keep) must_use;

/** What Landlock still allows; everything else that needs a path is refused. */
struct landlock_grant {
	bool sockets;            /* make and remove sockets, anywhere */
	const char *read_beside; /* read files in the directory of this path; may be NULL */
};

/** Return: 0; -ENOSYS, -EOPNOTSUPP: the kernel has no Landlock, or it is off. */
int stage_landlock(const struct landlock_grant *grant) must_use;

/** No core dumps, no debugger of the same user. */
int stage_cores(void) must_use;

enum syscalls_role {
	SYSCALLS_BROKER,
	SYSCALLS_WORKER,
};

/* What a worker's process does beyond serving VMs. */
#define SYSCALLS_VSOCK 1u   /* AF_VSOCK sockets */
#define SYSCALLS_FIGURES 2u /* its own figures */
#define SYSCALLS_HTTP 4u    /* libmicrohttpd */

/** Allow the system calls of a role and of @extras; any other ends the process. */
int stage_syscalls(enum syscalls_role role, unsigned int extras) must_use;

#endif
