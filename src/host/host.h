// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * host.h - the host side of one guest: listening sockets for host programs and
 * the sockets behind its connections.
 *
 * Context: open and close by the one who makes the VM; everything else on the
 * owning loop's thread.
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/compiler.h"
#include "base/log.h"
#include "host/broker.h"
#include "host/door.h"
#include "host/peer.h"
#include "host/unix_listener.h"
#include "loop/loop.h"
#include "vsock/device.h"

/** One listening socket. */
struct host_listener {
	struct loop_source source;
	struct timer resume; /* armed while descriptors are short */
	struct host *host;
	uint32_t guest_port; /* forwarding: where its connections go */
	bool seqpacket;
	int fd;
};

struct host {
	struct loop *loop;
	struct device *device;
	const char *tag; /* for the log */
	struct log_limit scarcity;
	struct sockaddr_un dial; /* uds-path and '_', the port is appended */
	size_t dial_prefix;      /* length up to and including '_' */
	uint32_t forward_cid;    /* 0: Unix sockets */
	bool silent;             /* clients get no OK */
	const struct peer_list *peers;
	struct log_limit refusals;
	struct broker *broker;
	struct door door; /* to dial by, if there is a broker */
	int door_fd;      /* for it, until host_start(); -1 otherwise */
	struct unix_listener uds;
	struct unix_listener uds_seqpacket;
	struct host_listener *listeners;
	size_t listener_count;
};

/** An AF_VSOCK port of the host that leads to the same port of the guest. */
struct forward_port {
	uint32_t port;
	bool seqpacket;
};

struct host_params {
	struct loop *loop;
	struct broker *broker;         /* outlives the host */
	const struct peer_list *peers; /* outlives the host */
	struct device *device;         /* stays valid until host_close() */
	const char *tag;
	const char *uds_path; /* NULL when forwarding */
	bool silent;          /* no OK for its clients */
	uint32_t forward_cid;
	const struct forward_port *forward_listen;
	size_t forward_listen_count;
};

/** How the device reaches host programs; its ctx is the struct host. */
extern const struct endpoint_ops host_endpoint;

/** Size of a connection with its socket, for device_params.conn_bytes. */
size_t host_conn_bytes(void) must_use;

/**
 * host_open() - Listen; nobody is accepted yet
 * @culprit: output on failure: what could not be listened on, room for
 *           HOST_CULPRIT_BYTES
 *
 * Return: 0 or -errno as unix_listener_open()
 */
int host_open(struct host *host, const struct host_params *params, char *culprit) must_use;

#define HOST_CULPRIT_BYTES 160u
#define HOST_SEQPACKET_SUFFIX "_seqpacket" /* not longer than '_' and a port */

/** Begin to accept clients; owner. Return: 0, or -errno of epoll: stop and close. */
int host_start(struct host *host) must_use;

/** Accept no more; legal when it does not. Owner. */
void host_stop(struct host *host);

/** Close the listening sockets; connections belong to the device. */
void host_close(struct host *host);

/** A listener's new client; @fd is taken. @peer_port: of an AF_VSOCK client. */
void host_conn_accepted(struct host *host, int fd, const struct host_listener *from,
			uint32_t peer_port);

/** For door_open(): the broker has dialled for a connection, or could not. */
void host_conn_dialled(struct door_caller *caller, int err, int fd);

#endif
