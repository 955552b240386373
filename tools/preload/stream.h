// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * stream.h - sockets that a program takes for AF_VSOCK ones and that are Unix
 * sockets of the same type: SOCK_STREAM, or SOCK_SEQPACKET.
 *
 * Theory of operation: what is known about a socket lies in the socket, and
 * not in a table of ours, so that dup, fork, exec and passing it to another
 * process need nothing from us. Each has a mark (a socket option that Unix
 * sockets accept and do not use). Its own name, as getsockname(2) of the Unix
 * socket tells it, says the rest:
 *
 *   none                               new
 *   "\0vsockctl/b/PORT/..."            bound; unique, so a port is bound once
 *   "\0vsockctl/c/PORT/CID/PORT/..."   connected: own port, peer's CID and port
 *   "UDS-PATH_PORT"                    accepted: the path of the listener
 *
 * An accepted socket cannot tell the guest's port, which the convention does
 * not carry: its number is made from the socket's cookie, so that it is unique
 * and stays the same.
 */
#ifndef PRELOAD_STREAM_H
#define PRELOAD_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

#include "base/compiler.h"
#include "common/guests.h"

/** What Linux answers for SO_VM_SOCKETS_BUFFER_SIZE, and the longest record. */
#define STREAM_BUFFER_BYTES 262144

enum stream_state {
	STREAM_OTHER, /* none of ours */
	STREAM_NEW,
	STREAM_BOUND,
	STREAM_CONNECTED,
	STREAM_ACCEPTED,
};

struct stream {
	enum stream_state state;
	struct sockaddr_vm local;
	struct sockaddr_vm peer; /* connected and accepted ones */
};

/** The guests of this process; read from the environment once. */
const struct guests *stream_guests(void) must_use;

/** Look at a descriptor. errno is preserved. */
void stream_look(int fd, struct stream *stream);

/** SOCK_STREAM or SOCK_SEQPACKET, of a socket of ours. */
int stream_type(int fd) must_use;

/** Mark an accepted socket as one of ours. */
void stream_mark(int fd);

/**
 * socket(2), connect(2) and bind(2) for AF_VSOCK
 *
 * Connecting waits for the guest's answer also when the socket is non-blocking,
 * at most HYBRID_TIMEOUT_MS, since bytes of the answer must not be seen.
 *
 * Return: as libc's, with errno
 */
int stream_socket(int type, int protocol) must_use;
int stream_connect(int fd, const struct sockaddr_vm *to) must_use;
int stream_bind(int fd, const struct sockaddr_vm *at) must_use;

#endif
