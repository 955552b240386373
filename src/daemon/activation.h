// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * activation.h - sockets that the service manager made before the daemon was
 * started (systemd.socket(5)).
 */
#ifndef DAEMON_ACTIVATION_H
#define DAEMON_ACTIVATION_H

#include "base/compiler.h"
#include "config/config.h"
#include "host/passed.h"

#define ACTIVATION_FIRST_FD 3 /* the sockets lie from here on */

/** How many descriptors were passed to this process; 0 outside a service manager.
 *  Reads $LISTEN_PID and $LISTEN_FDS. */
unsigned int activation_count(void) must_use;

/**
 * activation_load() - Take the passed sockets, each checked against the configuration
 * @count: as activation_count() said
 * @names: of $LISTEN_FDNAMES, separated by ':'; NULL: none were given
 *
 * A socket is named after what it is for: "vm-CID", "control" or "metrics". Its
 * type and its address must be those that the configuration has for that.
 *
 * Return: 0; -EINVAL: one does not fit, logged with what to do; -ENOMEM, logged
 * Context: start-up, before other threads exist
 */
int activation_load(struct passed_sockets *passed, const struct config *config, unsigned int count,
		    const char *names) must_use;

#endif
