// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm.h - one guest: binds the front-end's session, the device and the host
 * side together. The only place where vhost_user/ and vsock/ meet.
 */
#ifndef DAEMON_VM_H
#define DAEMON_VM_H

#include <stddef.h>

#include "base/compiler.h"
#include "base/quota.h"
#include "daemon/config.h"
#include "host/broker.h"
#include "host/peer.h"
#include "loop/loop.h"
#include "vsock/scratch.h"

struct vm;

/** What the VMs have together of something, and what each is sure of. */
struct vm_share {
	struct quota *all; /* beyond what is reserved for each */
	uint64_t reserved;
};

/** All guests of the daemon, sorted by CID; constant while workers run. */
struct vm_set {
	struct vm **vms;
	size_t count;
	struct vm_share open;     /* connections */
	struct vm_share buffered; /* bytes of guests that nobody has taken */
	uint32_t max_half_open;   /* of each, so that they cannot take every connection */
	struct broker *broker;    /* makes and removes their sockets */
	struct peer_list peers;   /* who may connect to these */
};

/**
 * vm_new() - Listen for a guest's VMM and host programs
 * @config:  outlives the VM
 * @set:     the guests it may meet; complete before any loop runs
 * @loop:    owner; not running yet
 * @scratch: of the owner's thread
 *
 * Return: the VM, or NULL after one line was logged
 */
struct vm *vm_new(const struct vm_config *config, const struct vm_set *set, struct loop *loop,
		  struct scratch *scratch) must_use;

/**
 * vm_stop() - End its front-end and every connection, siblings' ones included
 * Context: no loop runs any more; before any VM of the set is freed
 */
void vm_stop(struct vm *vm);

/**
 * vm_free() - Close everything and remove the sockets it made
 * Context: as vm_stop(); NULL is legal
 */
void vm_free(struct vm *vm);

/** Order for vm_set: by CID. */
int vm_compare(const void *a, const void *b);

#endif
