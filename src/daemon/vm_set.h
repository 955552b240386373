// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_set.h - the guests of the daemon, for finding a sibling by its CID.
 *
 * Theory of operation: the table is never changed. A change makes a new one and
 * publishes it by one store, so workers look up without a lock. Whoever looked
 * may use the old table, and the VMs in it, until its dispatch ends: so the main
 * thread lets every worker end one (worker_call) before it frees what it took out.
 */
#ifndef DAEMON_VM_SET_H
#define DAEMON_VM_SET_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "host/broker.h"
#include "host/peer.h"
#include "loop/loop.h"

struct vm;

/** Sorted by CID. */
struct vm_table {
	size_t count;
	struct vm *vms[];
};

/** How many VMs can still have a front-end, where no VM comes and none may reconnect. */
struct vm_rest {
	uint32_t left;     /* atomic */
	struct loop *loop; /* of the main thread, stopped when none is left */
};

struct vm_set {
	struct vm_table *table; /* atomic; NULL: nobody yet */
	struct broker *broker;  /* makes and removes their sockets */
	struct peer_list peers; /* who may connect to these */
	struct vm_rest *rest;   /* NULL: the daemon goes on whatever becomes of them */
};

/** The table of now. Context: any thread; valid until its dispatch ends. */
static inline const struct vm_table *vm_set_table(const struct vm_set *set)
{
	return __atomic_load_n(&set->table, __ATOMIC_ACQUIRE);
}

/** The VM of this CID, or NULL. As vm_set_table(). */
struct vm *vm_set_find(const struct vm_set *set, uint64_t cid) must_use;

/** A copy of the table with @add (unless NULL) and without @leave_out.
 *  Return: to be published or freed; NULL: no memory. Main thread only. */
struct vm_table *vm_set_copy(const struct vm_set *set, struct vm *add, const struct vm *leave_out)
	must_use;

/** Let everybody see @table. Return: the old one, to be freed when nobody uses it. */
struct vm_table *vm_set_publish(struct vm_set *set, struct vm_table *table) must_use;

/** A VM can have no front-end any more. Context: any thread */
void vm_set_leave(const struct vm_set *set);

#endif
