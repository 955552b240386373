// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * methods.h - what can be asked on the control socket (docs/control.md), joined
 * to the manager of VMs.
 *
 * Context: main thread.
 */
#ifndef DAEMON_METHODS_H
#define DAEMON_METHODS_H

#include "base/compiler.h"
#include "control/server.h"
#include "daemon/capture.h"
#include "daemon/manager.h"
#include "daemon/process.h"

#define METHODS_MAX_CONNECTIONS 10000u /* in one answer */
#define METHODS_DEFAULT_CONNECTIONS 1000u

/** Zero-initialised is closed. */
struct methods {
	struct control_server server;
	struct manager *manager;
	struct process process;
	struct captures captures;
	bool open;
};

/**
 * methods_open() - Serve the control socket at @place
 * @manager: its workers exist and do not run yet
 *
 * Return: 0, or -errno as control_open() or -ENOMEM
 */
int methods_open(struct methods *methods, struct manager *manager, struct loop *loop,
		 const struct control_place *place) must_use;

/** Legal when closed. */
void methods_close(struct methods *methods);

#endif
