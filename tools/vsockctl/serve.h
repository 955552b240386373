// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * serve.h - accepts connections until a signal ends it, and has a process of
 * its own look after each.
 *
 * Theory of operation: a process per connection needs no states, and one that
 * hangs or dies takes nothing with it. Their number is bounded; at the bound
 * new connections wait in the backlog. The listener belongs to the caller, who
 * removes it when serve_run() returns.
 */
#ifndef VSOCKCTL_SERVE_H
#define VSOCKCTL_SERVE_H

#include <stdbool.h>

#include "base/compiler.h"

/** Most connections at a time. */
#define SERVE_MAX_CHILDREN 1024u

/**
 * serve_run() - Until SIGINT, SIGTERM or SIGHUP
 * @listener: non-blocking listening socket
 * @handler:  called in a child with the connection, which it owns; its return
 *            value is the child's exit status
 * @arg:      for @handler
 * @bound:    whether the children end when this process does
 *
 * Return: exit status
 */
int serve_run(int listener, int (*handler)(int fd, void *arg), void *arg, bool bound) must_use;

/**
 * serve_one() - Wait for one connection
 *
 * Return: a blocking descriptor; -EINTR after one of the signals; -errno
 */
int serve_one(int listener) must_use;

#endif
