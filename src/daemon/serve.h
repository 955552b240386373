// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * serve.h - workers and guests, from start to the signal that ends them.
 */
#ifndef DAEMON_SERVE_H
#define DAEMON_SERVE_H

#include "base/compiler.h"
#include "config/config.h"
#include "host/passed.h"

/**
 * serve() - Open every guest's sockets, run the workers until SIGINT or SIGTERM
 * @passed: sockets that need not be made
 * @argc, @argv: what @config was made of, for reading the file again
 *
 * Return: 0 after a signal; -errno when it could not start (logged; nothing is
 *         left behind)
 */
int serve(const struct config *config, struct passed_sockets *passed, int argc, char **argv)
	must_use;

#endif
