// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * metrics.h - counters of all VMs and figures of the process as OpenMetrics text,
 * and the socket where it is served.
 *
 * Context: main thread.
 */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include "base/compiler.h"
#include "config/config.h"
#include "control/exporter.h"
#include "daemon/manager.h"
#include "daemon/process.h"
#include "host/unix_listener.h"

/** Zero-initialised is closed. */
struct metrics {
	struct exporter exporter;
	struct unix_listener listener; /* the node of a Unix socket */
	struct manager *manager;
	struct process process;
	bool open;
};

/** Serve at @endpoint. Return: 0 or -errno. */
int metrics_open(struct metrics *metrics, struct manager *manager, struct loop *loop,
		 const struct config_endpoint *endpoint) must_use;

/** Legal when closed. */
void metrics_close(struct metrics *metrics);

/** The page; free() it. Return: NULL without memory. */
char *metrics_text(struct metrics *metrics, bool openmetrics, size_t *length) must_use;

#endif
