// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * sandbox.c - the order of the stages, what each mode makes of a missing one,
 * and the line that tells. How a stage works is in the other files here.
 *
 * Theory of operation
 *
 * The order is forced: a namespace needs the privileges, which dropping the
 * user takes; capabilities go after the user, as a change of user needs some;
 * Landlock forbids mounts; the filter of system calls forbids all the others.
 *
 * A build with sanitizers or coverage reads /proc, writes files and makes calls
 * of its own at its end. There the root, Landlock, core dump and system call
 * stages are left out and named as missing, so strict refuses to start.
 */
#include "confine/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "confine/stages.h"

#ifdef INSTRUMENTED
#define IS_INSTRUMENTED true
#else
#define IS_INSTRUMENTED false
#endif

enum part { PART_USER, PART_CAPABILITIES, PART_ROOT, PART_LANDLOCK, PART_CORES, PART_SYSCALLS };

static const char *const part_names[] = {
	[PART_USER] = "unprivileged user", [PART_CAPABILITIES] = "no capabilities",
	[PART_ROOT] = "empty root",        [PART_LANDLOCK] = "Landlock",
	[PART_CORES] = "no core dumps",    [PART_SYSCALLS] = "system calls",
};

/* Reasons of our own, where no system call gives one. */
#define EINSTRUMENTED ECANCELED
#define EISROOT EOWNERDEAD

/* What came of the stages; a part is missing where err is not 0. */
struct outcome {
	int err[array_size(part_names)];
};

int sandbox_early(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* kernels without ambient capabilities have none to drop */
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

void sandbox_close_strays(unsigned int first, unsigned int last)
{
	(void)close_range(first, last, 0);
}

static void append(char *text, size_t room, const char *more)
{
	size_t used = strlen(text);

	(void)snprintf(text + used, room - used, "%s%s", used > 0 ? ", " : "", more);
}

static const char *why_missing(int err)
{
	if (err == -EISROOT)
		return "root, without --user";
	return err == -EINSTRUMENTED ? "instrumented build" : strerror(-err);
}

/* One line for the whole; a part says why it is missing. */
static int report(const struct sandbox_plan *plan, const struct outcome *outcome)
{
	char holds[200] = "";
	char misses[400] = "";
	char reason[100];

	for (unsigned int i = 0; i < array_size(part_names); i++) {
		if (outcome->err[i] == 0) {
			append(holds, sizeof(holds), part_names[i]);
			continue;
		}
		(void)snprintf(reason, sizeof(reason), "%s (%s)", part_names[i],
			       why_missing(outcome->err[i]));
		append(misses, sizeof(misses), reason);
	}
	if (misses[0] == '\0') {
		log_notice(NULL, "sandbox: %s", holds);
		return 0;
	}
	if (plan->mode == SANDBOX_STRICT) {
		log_error(NULL, "--sandbox=strict: missing: %s; --sandbox=auto goes on without",
			  misses);
		return -ECANCELED;
	}
	log_notice(NULL, "sandbox: %s; missing: %s", holds, misses);
	return 0;
}

static int become_user(const struct sandbox_plan *plan, gid_t extra)
{
	int err;

	if (plan->mode != SANDBOX_NONE)
		stage_bounding(0);
	err = stage_identity(plan->uid, plan->gid, extra);
	if (err < 0)
		log_error(NULL, "cannot become user %d and group %d: %s", (int)plan->uid,
			  (int)plan->gid,
			  err == -EPERM
				  ? "needs CAP_SETUID, CAP_SETGID, or leave --user and --group out"
				  : strerror(-err));
	return err < 0 ? -ECANCELED : 0;
}

/* Root without capabilities still owns root's files. */
static int is_unprivileged(void)
{
	return geteuid() == 0 ? -EISROOT : 0;
}

static unsigned int extras_of(const struct sandbox_plan *plan)
{
	return (plan->vsock ? SYSCALLS_VSOCK : 0) | (plan->figures ? SYSCALLS_FIGURES : 0) |
	       (plan->http ? SYSCALLS_HTTP : 0);
}

int sandbox_worker(const struct sandbox_plan *plan)
{
	static const struct landlock_grant nothing = { 0 };
	struct outcome outcome;
	int err;

	if (plan->mode == SANDBOX_NONE) {
		log_warning(NULL, "--sandbox=none: a guest that takes this process over has all "
				  "its rights");
		return 0;
	}
	for (unsigned int i = 0; i < array_size(outcome.err); i++)
		outcome.err[i] = -EINSTRUMENTED;
	if (!IS_INSTRUMENTED)
		outcome.err[PART_ROOT] = stage_root(!plan->sees_peers);
	err = become_user(plan, (gid_t)-1);
	if (err < 0)
		return err;
	outcome.err[PART_USER] = is_unprivileged();
	outcome.err[PART_CAPABILITIES] = stage_capabilities(0);
	if (!IS_INSTRUMENTED) {
		outcome.err[PART_LANDLOCK] = stage_landlock(&nothing);
		outcome.err[PART_CORES] = stage_cores();
	}
	if (!IS_INSTRUMENTED)
		outcome.err[PART_SYSCALLS] = stage_syscalls(SYSCALLS_WORKER, extras_of(plan));
	return report(plan, &outcome);
}

/* What a root without --user could reach so far, it can still reach. */
#define BROKER_CAPABILITIES (bit64(CAP_DAC_OVERRIDE) | bit64(CAP_FOWNER) | bit64(CAP_CHOWN))

/* Every stage is tried, whatever became of the others. Return: the first failure. */
static int take_broker_stages(const struct sandbox_plan *plan, uint64_t capabilities)
{
	const struct landlock_grant grant = {
		.sockets = true,
		.read_beside = plan->reload ? plan->config_file : NULL,
	};
	int err[] = { stage_capabilities(capabilities), 0, 0, 0 };

	if (!IS_INSTRUMENTED) {
		err[1] = stage_cores();
		err[2] = stage_landlock(&grant);
		err[3] = stage_syscalls(SYSCALLS_BROKER, 0);
	}
	for (size_t i = 0; i < array_size(err); i++) {
		if (err[i] < 0)
			return err[i];
	}
	return 0;
}

int sandbox_broker(const struct sandbox_plan *plan)
{
	bool stays_root = plan->uid == (uid_t)-1 && geteuid() == 0;
	int err = become_user(plan, plan->socket_group);

	if (err < 0 || plan->mode == SANDBOX_NONE)
		return err;
	(void)prctl(PR_SET_NAME, "vsock-broker", 0, 0, 0);
	err = take_broker_stages(plan, stays_root ? BROKER_CAPABILITIES : 0);
	if (err == 0)
		return 0;
	if (plan->mode == SANDBOX_STRICT) {
		log_error(NULL, "--sandbox=strict: cannot confine the broker: %s", strerror(-err));
		return -ECANCELED;
	}
	/* what a kernel lacks is told by the workers' line too */
	log_info(NULL, "the broker is not fully confined: %s", strerror(-err));
	return 0;
}
