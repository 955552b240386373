// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hybrid.h - the host program's side of the CONNECT convention: a Unix socket
 * is connected to a VM's uds-path, a line asks for a port, a line answers.
 *
 * Theory of operation: works on a socket that somebody else made, so that the
 * preload library can use the very descriptor of the program. Whatever the
 * peer does, a call ends by its deadline, reads nothing behind the newline of
 * the answer, and leaves the descriptor's flags as they were.
 */
#ifndef COMMON_HYBRID_H
#define COMMON_HYBRID_H

#include <stdint.h>

#include "base/compiler.h"

/** The daemon gives up on a guest after 2 s; the rest is for a busy machine. */
#define HYBRID_TIMEOUT_MS 10000

/** Longest answer, newline included. */
#define HYBRID_ANSWER_MAX 64u

/** Monotonic clock in milliseconds. */
int64_t hybrid_now_ms(void);

/**
 * hybrid_connect() - Connect a Unix socket and ask for a port of the guest
 * @fd:         Unix socket, not connected; blocking or not
 * @path:       uds-path of the VM; with its suffix for a SOCK_SEQPACKET socket
 * @port:       port of the guest
 * @timeout_ms: for all of it
 * @host_port:  output: the number behind OK; NULL: the VM answers nothing (ack=off), so
 *              that a refusal is seen as an end
 *
 * Return: 0; -ECONNRESET: refused; -ETIMEDOUT; -EPROTO: the answer is none;
 *         other -errno of connect(2). After a failure the socket is of no use.
 */
int hybrid_connect(int fd, const char *path, uint32_t port, int timeout_ms, uint32_t *host_port)
	must_use;

/**
 * hybrid_dial() - The same with a new socket
 *
 * Return: a blocking, close-on-exec descriptor, owned by the caller; or -errno
 */
int hybrid_dial(const char *path, uint32_t port, uint32_t *host_port) must_use;

#endif
