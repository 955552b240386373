// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * gsock.h - operations on the sockets of an emulated guest; see guest.h for
 * what they are. All on the guest's thread.
 */
#ifndef BENCH_GSOCK_H
#define BENCH_GSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/guest.h"

/** Ask for a connection; @sock is the caller's memory. */
void gsock_connect(struct guest *guest, struct gsock *sock, const struct gsock_ops *ops,
		   uint64_t cid, uint32_t port);

/** Prepare the caller's memory for guest.accept() to return. */
void gsock_init(struct gsock *sock, const struct gsock_ops *ops);

/** Send up to @bytes, as far as credit and ring go. Return: bytes sent. */
uint64_t gsock_send(struct gsock *sock, uint64_t bytes);

/** Call ops->writable() whenever the guest is driven, until told otherwise. */
void gsock_want_write(struct gsock *sock, bool wanted);

/** The application is done: SHUTDOWN, and the RST is awaited. */
void gsock_close(struct gsock *sock);

/** Take it out of the guest's tables without a packet. */
void gsock_forget(struct gsock *sock);

/* --- for guest.c --- */

/** A packet arrived; @in is its header, @payload what that says. */
void gsock_packet(struct guest *g, const uint8_t *in, const uint8_t *payload);

/** The ring was drained: applications have read, tell of their credit. */
void gsock_all_read(struct guest *guest);

/** Send what is owed, let applications send. Return: whether anything was sent. */
bool gsock_push_all(struct guest *guest);

#endif
