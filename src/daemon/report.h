// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * report.h - VMs, connections, events and the process as JSON, in the shapes of
 * docs/control.md. Each returns a new reference, or NULL without memory.
 */
#ifndef DAEMON_REPORT_H
#define DAEMON_REPORT_H

#include <jansson.h>

#include "base/compiler.h"
#include "daemon/events.h"
#include "daemon/process.h"
#include "daemon/vm.h"

/** A string; bytes that are no UTF-8 become '?'. */
json_t *report_text(const char *text) must_use;

/** A VM as the method "list" shows it. */
json_t *report_vm(const struct vm_config *config, const struct vm_info *info, unsigned int worker)
	must_use;

/** A VM as "show" shows it. */
json_t *report_details(const struct vm_config *config, const struct vm_details *details,
		       unsigned int worker) must_use;

/** Counters of a VM. */
json_t *report_stats(const struct vm_info *info) must_use;

json_t *report_conn(const struct vm_conn *conn) must_use;

json_t *report_process(const struct process_usage *usage) must_use;

json_t *report_event(const struct event *event) must_use;

#endif
