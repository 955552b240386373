// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * sandbox.h - what the process gives up, stage by stage.
 *
 * Each stage is for good. Stages act on the calling thread only, and threads
 * started afterwards inherit them: so all of them run before there are others.
 */
#ifndef CONFINE_SANDBOX_H
#define CONFINE_SANDBOX_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/compiler.h"

enum sandbox_mode {
	SANDBOX_AUTO,   /* what can be had; one line tells what that is */
	SANDBOX_STRICT, /* all parts, or do not start */
	SANDBOX_NONE,   /* nothing beyond sandbox_early(); a warning */
	SANDBOX_MODE_COUNT
};

struct sandbox_plan {
	enum sandbox_mode mode;
	uid_t uid;          /* to become; (uid_t)-1: stay */
	gid_t gid;          /* (gid_t)-1: stay */
	gid_t socket_group; /* the broker gives it to sockets; (gid_t)-1: none */
	bool sees_peers;    /* uids of peers matter, so no user namespace */
	bool vsock;         /* AF_VSOCK sockets are made while it runs */
	bool figures;       /* of the process are read while it runs */
	bool http;          /* is served by it */
	bool reload;        /* the broker may be asked for config_file */
	const char *config_file;
};

/**
 * sandbox_early() - First of all: no way to gain privileges by exec
 *
 * Sets no_new_privs and drops the ambient capabilities. Needs no configuration
 * and takes nothing that a start needs.
 *
 * Return: 0 or -errno
 */
int sandbox_early(void) must_use;

/**
 * sandbox_close_strays() - Close descriptors that the parent left open
 * @first: of a range of them that nobody handed over on purpose
 * @last:  likewise
 *
 * Context: when everything named on the command line was read
 */
void sandbox_close_strays(unsigned int first, unsigned int last);

/**
 * sandbox_broker() - Confine the broker's process
 *
 * It keeps the file system, but may only make, remove and connect to sockets
 * there, and read the configuration file; of root's capabilities those to do
 * that everywhere. Its user is that of the plan, and that is all that happens
 * in mode none, where the daemon proper is its own broker.
 *
 * Return: 0; -ECANCELED: it cannot become the user, or a part is missing and
 *         the mode is strict; logged
 */
int sandbox_broker(const struct sandbox_plan *plan) must_use;

/**
 * sandbox_worker() - Confine the daemon proper
 *
 * Afterwards it has an empty root directory, no capability, no core dumps, and
 * the system calls of syscalls.c. Sockets, eventfds and memory it holds stay.
 * Writes the line that tells which parts hold.
 *
 * Return: as sandbox_broker()
 */
int sandbox_worker(const struct sandbox_plan *plan) must_use;

#endif
