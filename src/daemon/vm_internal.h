// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_internal.h - what the files of a VM share with each other and nobody else
 * may include: vm.c is its life, vm_query.c tells about it.
 */
#ifndef DAEMON_VM_INTERNAL_H
#define DAEMON_VM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "daemon/vm.h"
#include "host/host.h"
#include "host/unix_listener.h"
#include "vhost_user/vu_session.h"
#include "vsock/device.h"

struct vm {
	uint32_t cid;
	struct vm_config *config; /* atomic pointer: another one by vm_set_config() */
	const struct vm_set *set;
	struct worker *worker; /* owner */
	struct loop *loop;     /* its loop and scratch */
	struct scratch *scratch;
	struct loop_task run;
	pthread_mutex_t lock;
	struct device device;
	struct host host;
	struct vu_device_ops vu_ops;
	struct vu_session *session; /* NULL: no front-end */
	struct unix_listener listener;
	struct loop_source accept;
	struct timer accept_resume;
	struct timer probe;
	struct loop_msg wake_up;   /* from a sibling's owner */
	bool woken;                /* it is on its way; under the lock */
	bool up;                   /* subscribers were told so, or would have been */
	bool from_file;            /* for the manager */
	struct bounds_grant grant; /* likewise */
	uint64_t kicks;
	uint64_t calls[VU_MAX_RINGS]; /* of RX: under the lock */
	uint64_t guest_errors;
	struct log_limit guest_error_lines;
	struct log_limit limits_hit;
	struct log_limit front_ends;
	struct log_limit refusals;
	char tag[sizeof("vm=4294967295")];
};

/** Whether the two are siblings. Context: any thread. */
bool vm_may_meet(const struct vm *vm, const struct vm *other) must_use;

/* vm_query.c: what subscribers are told, if there are any; owner only */

/** Both rings run. */
void vm_went_up(struct vm *vm);

/** The driver or its front-end is gone; legal when it was not up. */
void vm_went_down(struct vm *vm, const char *why);

/** As device_env.conn_event. */
void vm_conn_event(void *ctx, const struct conn_notice *notice);

#endif
