// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * peer.c - see peer.h. The answer is of the time of connect(), and for good.
 */
#include "host/peer.h"

#include <sys/socket.h>

bool peer_allowed(const struct peer_list *list, int fd)
{
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);
	int domain = 0;
	socklen_t domain_len = sizeof(domain);

	if (list->count == 0)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_len) == 0 && domain != AF_UNIX)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	for (size_t i = 0; i < list->count; i++) {
		if (list->uids[i] == peer.uid)
			return true;
	}
	return false;
}
