// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * host_internal.h - what the files behind host_endpoint share with each other
 * and nobody else may include.
 */
#ifndef HOST_HOST_INTERNAL_H
#define HOST_HOST_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/host.h"

/** A connection and its socket. */
struct host_conn {
	struct conn conn; /* first: the device allocates and frees it */
	struct loop_source source;
	struct timer timer;
	struct host *host;
	uint32_t dial_deadline_ms; /* modulo 2^32 */
	uint16_t dial_delay_ms;
	struct door_caller caller; /* waits while the broker dials */
	bool dialling : 1;         /* a Unix connect() waits to be tried again */
	bool watches_output : 1;
	bool grown : 1;  /* the send buffer was enlarged */
	bool ended : 1;  /* the peer will send no more than what is queued */
	bool urgent : 1; /* it has used MSG_OOB, at whose mark reads stop */
};

/* There may be very many. With its share of the hash one must stay within 256 bytes. */
_Static_assert(sizeof(struct host_conn) <= 232, "a connection has grown");

static inline struct host_conn *host_conn_of(struct conn *conn)
{
	return container_of(conn, struct host_conn, conn);
}

/* --- host_conn.c --- */

/** Watch the socket for room to write, or not any more. */
void host_watch_output(struct host_conn *hc, bool on);

/** Once per connection that needs it: more room makes fewer, larger sends, and
 *  longer messages. Return: whether that changed something */
bool host_grow_send_buffer(struct host_conn *hc);

/** One sendmsg() with MSG_* @flags. Return: bytes or -errno. */
ssize_t host_send_some(const struct host_conn *hc, const struct iovec *iov, size_t count, int flags)
	must_use;

/* --- host_messages.c: see endpoint.h --- */

int host_send_message(void *ctx, struct conn *conn, const struct iovec *iov, size_t count, bool eor)
	must_use;
ssize_t host_next_message(void *ctx, struct conn *conn) must_use;
ssize_t host_recv_message(void *ctx, struct conn *conn, struct iovec *iov, size_t count, bool *eor)
	must_use;

#endif
