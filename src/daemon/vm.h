// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm.h - one guest: binds the front-end's session, the device and the host
 * side together. The only place where vhost_user/ and vsock/ meet.
 *
 * Context: a VM belongs to a worker, its owner. "Owner" below means on that
 * worker's thread, or before it runs, or after it stopped. The others are the
 * main thread's.
 */
#ifndef DAEMON_VM_H
#define DAEMON_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "config/config.h"
#include "daemon/bounds.h"
#include "daemon/vm_set.h"
#include "daemon/worker.h"
#include "vsock/device.h"

struct vm;

struct vm_params {
	const struct vm_config *config; /* copied */
	const struct vm_set *set;       /* the guests it may meet */
	struct worker *worker;          /* owner */
	const struct bounds_grant *grant;
	uint32_t max_half_open; /* whatever @config says */
	bool from_file;         /* kept for the manager, see vm_is_from_file() */
};

#define VM_WHY_BYTES 256u

/**
 * vm_new() - Listen for a guest's VMM and host programs; nobody is served yet
 * @made: output: the VM, to be put into the set and started
 * @why:  output on failure: text for people, room for VM_WHY_BYTES
 *
 * Return: 0 or -errno
 * Context: main thread; file system calls
 */
int vm_new(const struct vm_params *params, struct vm **made, char *why) must_use;

/** Begin to serve. Owner. Return: 0, or -errno of epoll: stop and free it. */
int vm_start(struct vm *vm) must_use;

/**
 * vm_hang_up() - End its front-end and take no other
 *
 * From then on it posts no message to its own loop: vm_stop() in a later message
 * is behind the last one. Context: owner; legal when it was not started
 */
void vm_hang_up(struct vm *vm);

/**
 * vm_stop() - End its front-end and every connection, siblings' ones included
 *
 * Nobody else may find it in the set any more, or no worker runs. All that is
 * left is vm_free(). While its worker runs, vm_hang_up() was a message before.
 * Context: owner; legal when it was not started
 */
void vm_stop(struct vm *vm);

/** Remove the sockets it made, and free it. Stopped, or never put into the set. */
void vm_free(struct vm *vm);

/** Whether its one front-end is a connection that the parent made. */
bool vm_has_lent_session(const struct vm *vm) must_use;

/** What it was given, to be given back when it is gone. */
const struct bounds_grant *vm_grant(const struct vm *vm) must_use;

/** Context: any thread. */
uint32_t vm_cid(const struct vm *vm) must_use;

#define VM_TAG_BYTES 16u

/** Write "vm=CID", the tag of lines in the log about a VM. Return: @tag */
const char *vm_tag(char tag[VM_TAG_BYTES], uint32_t cid);

/** Context: any thread; valid as vm_set_table(). */
const struct vm_config *vm_config(const struct vm *vm) must_use;

/** The owner. */
struct worker *vm_worker(const struct vm *vm) must_use;

/** Whether the configuration file asked for it. */
bool vm_is_from_file(const struct vm *vm) must_use;
void vm_set_from_file(struct vm *vm, bool from_file);

/**
 * vm_swap_config() - Give it a copy with other groups or limits
 * Return: the old configuration, to be freed when no worker uses it any more
 */
struct vm_config *vm_swap_config(struct vm *vm, struct vm_config *config) must_use;

/** Make the limits of its configuration true; those connections that are there stay. Owner. */
void vm_take_limits(struct vm *vm);

/** End the connections with guests that it may not meet any more. Owner. */
void vm_part(struct vm *vm);

/** Refuse new connections, or no longer. Owner. */
void vm_drain(struct vm *vm, bool on);

/** As device_add_tap() and device_remove_tap(). Owner. */
void vm_add_tap(struct vm *vm, struct tap *tap);
void vm_remove_tap(struct vm *vm, struct tap *tap);

/* --- what can be told about it, see vm_query.c --- */

enum vm_state {
	VM_WAITING,   /* for a front-end */
	VM_CONNECTED, /* a front-end is there, the rings do not both run */
	VM_RUNNING,
};

/** One ring; size 0: it does not run. */
struct vm_ring_info {
	uint32_t size;
	uint32_t available; /* chains that the driver gave and we have not taken */
};

/** Options whose bounds a VM may hit; others' hits are not counted. */
#define VM_LIMIT_COUNT 5u

/** Name of the option number @limit. */
const char *vm_limit_name(unsigned int limit) must_use;

/** The short story. */
struct vm_info {
	uint32_t cid;
	enum vm_state state;
	bool draining;
	uint32_t connections; /* with the host side, in any state */
	uint32_t siblings;    /* connections with siblings */
	uint64_t max_conns;
	uint64_t spill_bytes;   /* held for the host side now */
	uint64_t sibling_bytes; /* of this guest, held in siblings' inboxes now */
	struct device_stats stats;
	uint64_t kicks;
	uint64_t rx_calls;
	uint64_t tx_calls;
	uint64_t guest_errors;
	uint64_t limit_hits[VM_LIMIT_COUNT];
	uint64_t captured;     /* packets */
	uint64_t capture_lost; /* for which captures had no room */
	struct vm_ring_info rx;
	struct vm_ring_info tx;
};

/** Count connections with the host side by state; walks all of them. Owner. */
void vm_count_states(struct vm *vm, uint32_t states[CONN_STATE_COUNT]);

/** Name of a state, such as "established". */
const char *vm_state_name(enum conn_state state) must_use;

/** Fill @info. Owner. */
void vm_get_info(struct vm *vm, struct vm_info *info);

struct vm_region {
	uint64_t gpa;
	uint64_t bytes;
};

/** The long one. */
struct vm_details {
	struct vm_info info;
	uint64_t features; /* negotiated */
	uint32_t states[CONN_STATE_COUNT];
	uint32_t region_count;
	struct vm_region regions[GMEM_MAX_REGIONS];
};

/** Fill @details; walks all connections. Owner. */
void vm_get_details(struct vm *vm, struct vm_details *details);

/** One connection, with the host side or a sibling. */
struct vm_conn {
	uint32_t cid;
	uint32_t guest_port;
	uint32_t host_port; /* of the other side */
	uint32_t host_cid;
	bool sibling; /* the other side is a guest, too */
	enum conn_state state;
	bool by_guest;
	uint64_t tx_bytes; /* from the guest */
	uint64_t rx_bytes; /* to the guest */
	uint32_t held_bytes;
};

/** Fill at most @max of @conns, those with siblings last. Return: how many there are;
 *  without memory those with siblings are left out. Owner. */
size_t vm_get_conns(struct vm *vm, struct vm_conn *conns, size_t max) must_use;

#endif
