// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * manager.h - the VMs of the daemon as a whole: made, removed and changed, at
 * start and while workers run.
 *
 * Context: the main thread, which owns the set; what has to happen on a VM's
 * owner is done there by worker_call().
 */
#ifndef DAEMON_MANAGER_H
#define DAEMON_MANAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/compiler.h"
#include "config/config.h"
#include "daemon/bounds.h"
#include "daemon/vm.h"
#include "daemon/vm_set.h"
#include "daemon/worker.h"

/** Told what happens to the set of VMs. */
struct manager_watch {
	void (*changed)(void *ctx);   /* VMs came or went */
	void (*reloading)(void *ctx); /* the file is about to be read again */
	void (*reloaded)(void *ctx);  /* it was, or there is a mistake in it */
};

/** Zero-initialised is empty. */
struct manager {
	struct worker *workers;
	uint32_t worker_count;
	struct vm_set set;
	struct bounds bounds;
	char **argv; /* for reading the configuration again */
	int argc;
	bool has_file;                     /* to be read again */
	bool runs;                         /* the configuration's VMs are made */
	bool may_forward;                  /* AF_VSOCK sockets can be made */
	const char *control;               /* path of that socket, or NULL */
	const char *metrics;               /* likewise */
	enum log_level file_level;         /* as the configuration said last */
	const struct manager_watch *watch; /* NULL: nobody */
	void *watch_ctx;
};

/** How many VMs there are. */
size_t manager_count(const struct manager *manager) must_use;

/**
 * manager_add() - Make a VM and serve it; on the worker that has the fewest
 * @config: copied
 * @why:    output on failure: text for people, room for VM_WHY_BYTES
 *
 * The one way a VM comes to be, at start as later.
 *
 * Return: 0; -EEXIST: this CID is taken, or its guest would reach a socket that is
 * not for guests; -ENFILE: as bounds_admit(); -EPERM: it
 * forwards, and the sandbox has no such sockets; -errno as vm_new()
 */
int manager_add(struct manager *manager, const struct vm_config *config, bool from_file, char *why)
	must_use;

/** End a VM: its connections and its VMM's session end, its sockets are removed.
 *  Return: 0, or -ENOMEM: it goes on */
int manager_remove(struct manager *manager, struct vm *vm);

/** As manager_remove() for all of them; workers do not run any more. */
void manager_remove_all(struct manager *manager);

/** Give a VM other groups or limits, all at once: connections with those it may not
 *  meet end, the others stay. @config: a copy of its own with the changes, taken over. */
void manager_change(struct manager *manager, struct vm *vm, struct vm_config *config);

/** A VM that --vm would describe so. Return: as config_parse_vm(); -EEXIST: another
 *  VM has its CID or one of its paths, which was printed too. */
int manager_parse(const struct manager *manager, const char *text, struct vm_config **vm, FILE *err)
	must_use;

/** What manager_reload() did to one VM. */
enum reload_change {
	RELOAD_ADDED,
	RELOAD_REMOVED,
	RELOAD_CHANGED,
	RELOAD_UNCHANGED,
	RELOAD_FAILED, /* it could not be made: @why */
};

/** Told of each VM that the file names or named. */
struct reload_report {
	void (*vm)(void *ctx, uint32_t cid, enum reload_change change, const char *why);
	void *ctx;
};

/**
 * manager_reload() - Read the configuration file again and make it true
 * @err: where the one line about a mistake in it goes; nothing is changed then
 *
 * VMs that are the same keep everything, and so do those that differ only by
 * limits. Those that differ by groups keep what the new ones allow. The others
 * are removed and made anew. VMs that were added at run time stay.
 *
 * Return: 0; -ENOENT: there is no file; -EINVAL: a mistake; other -errno
 */
int manager_reload(struct manager *manager, const struct reload_report *report, FILE *err) must_use;

/** Have @fn(@vm, @arg) run on the owner. */
void manager_call(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg);

/** Call @fn for each VM, in order of CID within a worker, on its owner; @index: in the
 *  table of now. */
void manager_each(struct manager *manager, void (*fn)(struct vm *vm, size_t index, void *arg),
		  void *arg);

#endif
