// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * service.h - what the service manager is told: ready, reloading, stopping, how
 * many VMs there are, and that no thread hangs (sd_notify(3)).
 *
 * Context: the main thread.
 */
#ifndef DAEMON_SERVICE_H
#define DAEMON_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "daemon/manager.h"
#include "loop/loop.h"

struct service_ping;

/** Zero-initialised, with fd -1, is a daemon that nobody asked to tell anything. */
struct service {
	int fd; /* connected to $NOTIFY_SOCKET; -1: there is none */
	struct loop *loop;
	struct manager *manager;
	struct loop_task status;
	struct timer tick;
	uint32_t watchdog_ms; /* it expects a sign within this time; 0: it does not */
	struct service_ping *pings;
	bool told_hang;
};

/**
 * service_open() - Connect to the service manager, if there is one
 *
 * Reads $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID. From now on it follows
 * what happens to @manager's VMs. Without a service manager nothing is done, here
 * and in the other functions.
 *
 * Return: 0; -errno: the socket is no good: logged by the caller, the rest works
 * Context: paths can still be reached; the workers exist
 */
int service_open(struct service *service, struct loop *loop, struct manager *manager) must_use;

/** All sockets listen and all workers run. */
void service_ready(struct service *service);

/** The daemon begins to end. */
void service_stopping(struct service *service);

/** Legal when not open. Workers do not run any more. */
void service_close(struct service *service);

#endif
