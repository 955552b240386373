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
#include "host/door.h"
#include "host/host.h"
#include "host/unix_listener.h"
#include "vhost_user/vu_session.h"
#include "vsock/device.h"
#include "vsock/reset_event.h"

/** Where front-ends come from. */
struct vm_front {
	struct unix_listener listener; /* of a server */
	struct loop_source accept;
	struct timer timer;        /* accept, or dial, again */
	int lent_fd;               /* connected, from the parent, not served yet; or -1 */
	int door_fd;               /* of the broker, to dial a VMM that listens; or -1 */
	struct door door;          /* likewise, when it is started */
	struct door_caller caller; /* a call is under way */
	uint32_t pause_ms;         /* before the next one */
};

struct vm {
	uint32_t cid;
	struct vm_config *config; /* atomic pointer: another one by vm_set_config() */
	const struct vm_set *set;
	struct worker *worker; /* owner */
	struct loop *loop;     /* its loop and scratch */
	struct scratch *scratch;
	struct loop_task run;
	struct loop_lookout lookout; /* while its kicks are not asked for */
	pthread_mutex_t lock;
	struct device device;
	struct host host;
	struct vu_device_ops vu_ops;
	struct vu_session *session; /* NULL: no front-end */
	struct vm_front front;
	struct timer probe;
	struct timer pace;        /* brings back what a rate holds back */
	struct reset_event event; /* vm_event.c: RX is held back while it is not NONE */
	struct timer event_wait;
	bool event_late;           /* the second wait has begun */
	struct loop_msg wake_up;   /* from a sibling's owner */
	bool woken;                /* it is on its way; under the lock */
	bool rx_follows;           /* device_run_tx() is being run */
	bool up;                   /* subscribers were told so, or would have been */
	bool from_file;            /* for the manager */
	struct bounds_grant grant; /* likewise */
	uint32_t half_open_bound;  /* whatever its configuration says */
	uint64_t kicks;
	uint64_t calls[VU_MAX_RINGS]; /* of RX: under the lock */
	uint64_t guest_errors;
	uint64_t limit_hits[VM_LIMIT_COUNT];
	struct log_limit guest_error_lines;
	struct log_limit limits_hit;
	struct log_limit front_ends;
	struct log_limit refusals;
	char tag[VM_TAG_BYTES];
};

/** Whether the two are siblings. Context: any thread. */
bool vm_may_meet(const struct vm *vm, const struct vm *other) must_use;

/** The session is over, as vu_device_ops.closed. */
void vm_end_session(void *ctx, const char *reason);

/* vm_front_end.c: front-ends come, in one of three ways */

/** Nothing is open yet. */
void vm_init_front_end(struct vm *vm);

/** Listen, prepare to dial, or take over what the parent gave. Return: 0, or -errno with @why. */
int vm_open_front_end(struct vm *vm, char *why) must_use;

/** Begin to accept or dial. Owner. Return: 0 or -errno */
int vm_start_front_end(struct vm *vm) must_use;

/** A session has ended; @spoke: it was one. Owner. */
void vm_front_end_gone(struct vm *vm, bool spoke);

/** No more front-ends. Owner; legal when not started. */
void vm_stop_front_end(struct vm *vm);

/** Close what vm_open_front_end() opened. */
void vm_close_front_end(struct vm *vm);

/** Say why listening failed, in VM_WHY_BYTES. */
void vm_explain(char *why, const char *what, int err);

/** As device_env.schedule. */
void vm_schedule(void *ctx);

/* vm_limits.c */

/** As device_env.now_ms and device_env.pace_later. */
uint64_t vm_now_ms(void *ctx) must_use;
void vm_pace_later(void *ctx, uint32_t delay_ms);

/** What was paced goes on. */
void vm_pace_over(struct timer *timer);

/** Of its configuration, for its device. */
struct device_rates vm_rates(const struct vm_config *config) must_use;
uint32_t vm_half_open_bound(const struct vm *vm, const struct vm_config *config) must_use;

/* vm_event.c: a guest whose connections are not known here; owner only */

#define EVENT_QUEUE_WAIT_MS 200u /* for an event queue to be started */
#define EVENT_ACK_WAIT_MS 2000u  /* for the driver to take the event, as long as a connect */

/** Ring @index runs; gives the RX ring to the device, now or when the driver knows. */
void vm_event_ring_ready(struct vm *vm, unsigned int index);

/** Ring @index is about to stop. */
void vm_event_ring_stopping(struct vm *vm, unsigned int index);

/** Go on after a kick; while there is something to tell. */
void vm_event_run(struct vm *vm);

/** Another driver, or none: there is nothing to tell. */
void vm_event_forget(struct vm *vm);

/** The timer's. */
void vm_event_timeout(struct timer *timer);

/* vm_query.c: what subscribers are told, if there are any; owner only */

/** Both rings run. */
void vm_went_up(struct vm *vm);

/** The driver or its front-end is gone; legal when it was not up. */
void vm_went_down(struct vm *vm, const char *why);

/** The bound that @option sets was hit. */
void vm_count_limit(struct vm *vm, const char *option);

/** As device_env.conn_event. */
void vm_conn_event(void *ctx, const struct conn_notice *notice);

#endif
