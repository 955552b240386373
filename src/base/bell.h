// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * bell.h - signal eventfds that somebody else has too, without ever waiting.
 *
 * Theory of operation: a write to an eventfd blocks when its counter is full,
 * unless O_NONBLOCK is set. That flag belongs to the file description, which is
 * shared with the process that passed it: a hostile one fills the counter and
 * clears the flag whenever it likes, and the writer hangs. The kernel's own way
 * to signal an eventfd never waits, and completions of asynchronous I/O use it.
 * So a bell is rung by an empty asynchronous write to /dev/null, which completes
 * at once, with the eventfd as the one to notify. It costs what a write() does,
 * and several cost one system call.
 * What is no eventfd (a pipe, a socket, a file of a FUSE server) is refused by
 * the kernel before anything of it is called.
 */
#ifndef BASE_BELL_H
#define BASE_BELL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

#define BELL_MAX_FDS 4 /* rung at once */

struct bell {
	unsigned long context; /* of asynchronous I/O; 0: there is none */
	int sink;              /* /dev/null */
};

/**
 * bell_open() - Prepare a bell
 *
 * Return: 0, or -errno: the kernel has no asynchronous I/O, or no more of it.
 * The bell can be used then too, but trusts in O_NONBLOCK.
 * Context: start-up; opens /dev/null
 */
int bell_open(struct bell *bell) must_use;

/** Legal after bell_open() failed. */
void bell_close(struct bell *bell);

/** Add 1 to the counter of each of @count <= BELL_MAX_FDS eventfds; anything else is left
 *  alone. Any thread. */
void bell_ring(const struct bell *bell, const int *fds, size_t count);

/**
 * bell_fits() - Whether @fd is an eventfd; it is rung once to find out
 *
 * Without asynchronous I/O the answer is always yes, and nothing is rung.
 */
bool bell_fits(const struct bell *bell, int fd) must_use;

#endif
