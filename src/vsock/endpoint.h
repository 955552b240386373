// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * endpoint.h - what the host side of a connection must be able to do.
 *
 * Implemented in host/; called by the device on its owner thread. None of
 * these may block, and none may call back into the device.
 */
#ifndef VSOCK_ENDPOINT_H
#define VSOCK_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "vsock/conn.h"

struct endpoint_ops {
	/**
	 * open() - Reach the host program for a guest's REQUEST
	 *
	 * Return: 0 connected; -EINPROGRESS: conn_host_connected() or
	 * conn_host_refused() follows in bounded time; other -errno: refused
	 */
	int (*open)(void *ctx, struct conn *conn);

	/** The guest accepted: tell the host program. Return: 0 or -errno. */
	int (*accepted)(void *ctx, struct conn *conn);

	/**
	 * send() - Hand bytes to the host program, gathered
	 *
	 * Return: bytes taken (fewer than offered: the rest would block, and
	 * conn_host_writable() follows once there is room), or -errno with
	 * nothing taken: -EAGAIN likewise, others: the host takes no more
	 */
	ssize_t (*send)(void *ctx, struct conn *conn, const struct iovec *iov, size_t count);

	/**
	 * recv() - Read bytes of the host program, scattered
	 * @count:   pieces, at most ENDPOINT_MAX_PIECES
	 * @drained: output: nothing is left for now; conn_host_readable() follows
	 *
	 * Return: bytes; 0 at end of file; -EAGAIN; other -errno: it is gone
	 */
	ssize_t (*recv)(void *ctx, struct conn *conn, struct iovec *iov, size_t count,
			bool *drained);

	/**
	 * send_message() - The same for one whole message (seqpacket)
	 * @eor: a record ends with it
	 *
	 * Return: 0: it was taken; -EAGAIN, others: as send(); -EMSGSIZE: the
	 * socket will never take so long a message
	 */
	int (*send_message)(void *ctx, struct conn *conn, const struct iovec *iov, size_t count,
			    bool eor);

	/**
	 * next_message() - Size of the next message of the host program
	 *
	 * Return: bytes, or more where the socket cannot tell; 0 at end of file;
	 * -EAGAIN: there is none, conn_host_readable() follows; -EINTR: ask again
	 * later; other -errno: it is gone
	 */
	ssize_t (*next_message)(void *ctx, struct conn *conn);

	/**
	 * recv_message() - Read it, scattered
	 * @eor: output: a record ends with it
	 *
	 * Return: bytes; -EMSGSIZE: there was no room for all of it, it is lost;
	 * others as recv()
	 */
	ssize_t (*recv_message)(void *ctx, struct conn *conn, struct iovec *iov, size_t count,
				bool *eor);

	/** The guest declared VSOCK_SHUTDOWN_* @flags: pass it on. */
	void (*shutdown)(void *ctx, struct conn *conn, uint32_t flags);

	/** Close the host socket; no event for @conn follows. Legal when closed. */
	void (*close)(void *ctx, struct conn *conn);

	/** Call conn_timeout() once after @delay_ms; 0 takes it back. */
	void (*timer)(void *ctx, struct conn *conn, uint32_t delay_ms);
};

#define ENDPOINT_MAX_PIECES 1024u /* Linux: UIO_MAXIOV */

#endif
