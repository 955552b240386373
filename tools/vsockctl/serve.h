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

#include <signal.h>
#include <stdbool.h>

#include "base/compiler.h"

/** Most connections at a time. */
#define SERVE_MAX_CHILDREN 1024u

/**
 * serve_hold_signals() - From now on signals wait for serve_run() or serve_one()
 * @before: output: the mask to pass to it, which is what its children have
 *
 * To be called before there is a socket to be removed at the end.
 */
void serve_hold_signals(sigset_t *before);

/**
 * serve_run() - Until SIGINT, SIGTERM or SIGHUP
 * @before:   of serve_hold_signals()
 * @listener: non-blocking listening socket
 * @handler:  called in a child with the connection, which it owns; its return
 *            value is the child's exit status
 * @arg:      for @handler
 * @bound:    whether the children end when this process does
 *
 * Return: exit status
 */
int serve_run(const sigset_t *before, int listener, int (*handler)(int fd, void *arg), void *arg,
	      bool bound) must_use;

/**
 * serve_one() - Wait for one connection
 *
 * Return: a blocking descriptor; -EINTR after one of the signals; -errno
 */
int serve_one(const sigset_t *before, int listener) must_use;

#endif
