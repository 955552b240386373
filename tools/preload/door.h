// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * door.h - what a program takes for a listening AF_VSOCK socket.
 *
 * Theory of operation: a guest's connections arrive at a Unix socket of its
 * VM, so that one port means one Unix listener for each VM. All of them are in
 * an epoll set, and the descriptor of the program becomes that set's: it polls
 * readable when any of them has a connection, alone or inside of other poll,
 * select and epoll calls, and the listener that was ready tells whose guest it
 * is. O_NONBLOCK is a flag of the descriptor as always. What it cannot do as a
 * set (options, names) is answered from a slot of a table here.
 *
 * Only the process that made a door removes its paths; children that have
 * inherited it may accept and close. Lookups take no lock. A slot is reused and
 * never freed. The child of vfork(2) has the memory of its parent, so it changes
 * nothing here; what it inherited goes with its exec(3).
 */
#ifndef PRELOAD_DOOR_H
#define PRELOAD_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

/** Listening sockets of a process. */
#define DOOR_MAX 64u

/** Descriptors of one, by dup(2) and the like. */
#define DOOR_MAX_FDS 16u

/**
 * door_open() - Turn a bound socket into a door, with the same descriptor
 *
 * Return: 0 or -errno: -EADDRINUSE, -ENOBUFS (DOOR_MAX), -ENODEV (no guest)
 */
int door_open(int fd, uint32_t port) must_use;

/** Whether a descriptor is a door; @port may be NULL. errno is preserved. */
bool door_find(int fd, uint32_t *port) must_use;

/** SOCK_STREAM or SOCK_SEQPACKET, of a door. */
int door_type(int fd) must_use;

/** accept4(2) on a door. Return: descriptor or -errno. */
int door_accept(int fd, int flags) must_use;

/** @copy now means the same as @fd, which need not be a door. */
void door_copied(int fd, int copy);

/** @fd is about to be closed; with the last one the listeners go. errno is preserved. */
void door_closing(int fd);

/** The same for all descriptors from @first to @last. */
void door_closing_range(unsigned int first, unsigned int last);

/** The lowest descriptor from @from on that a door has besides the program's, and
 *  that the program knows nothing of; UINT_MAX: none. */
unsigned int door_next_own(unsigned int from) must_use;

#endif
