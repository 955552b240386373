// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * peer.h - whether the user at the other end of a Unix socket is welcome.
 */
#ifndef HOST_PEER_H
#define HOST_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/compiler.h"

/** Users that may connect; none listed: everybody the file permissions let. */
struct peer_list {
	const uid_t *uids;
	size_t count;
};

/**
 * peer_allowed() - Ask the kernel who connected
 * @fd: from accept(); of another family than AF_UNIX it has no user: allowed
 *
 * Return: false if there is a list without the peer's effective uid
 */
bool peer_allowed(const struct peer_list *list, int fd) must_use;

#endif
