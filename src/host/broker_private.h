// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * broker_private.h - what the two ends of the broker's channels agree on.
 *
 * Both ends are one program, so fields are in host order. Messages keep their
 * boundaries (SOCK_SEQPACKET); each has one reply, in order.
 */
#ifndef HOST_BROKER_PRIVATE_H
#define HOST_BROKER_PRIVATE_H

#include <fcntl.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "host/broker.h"

enum broker_op {
	BROKER_LISTEN,         /* path, type: a reply with the id and the socket */
	BROKER_LISTEN_PRIVATE, /* likewise */
	BROKER_UNLISTEN,       /* id */
	BROKER_DOOR,           /* path: a reply with the door */
	BROKER_VMM_DOOR,       /* likewise, to that path itself */
	BROKER_CONFIG,         /* a reply with the file */
	BROKER_SEAL,
	BROKER_OP_COUNT
};

/* Of broker_listen_private(): only the owner's, whatever was asked for the others. */
#define BROKER_PRIVATE_ACCESS                     \
	(struct unix_access)                      \
	{                                         \
		.mode = 0600, .group = (gid_t)-1, \
	}

/* Of the configuration file: whoever serves does not wait for the writer of a FIFO. */
#define BROKER_CONFIG_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY)

/** On the main channel, of which there is one. */
struct broker_request {
	uint32_t op; /* enum broker_op */
	uint32_t id; /* of a socket it made */
	int32_t type;
	char path[UNIX_PATH_ROOM];
};

#define BROKER_MAX_DIALS 16u /* in a message: as many descriptors can come in one */

/** On a door, of which each VM has one: up to BROKER_MAX_DIALS of them are a message. */
struct broker_dial {
	uint32_t port;
	int32_t type;
};

/** The reply to those; for each that is 0 a descriptor comes along, in order. */
struct broker_dialled {
	uint32_t count; /* as many as were asked for */
	int32_t err[BROKER_MAX_DIALS];
};

/** On the main channel; a descriptor comes along if err is 0 and the request was for one. */
struct broker_reply {
	int32_t err; /* 0 or -errno */
	uint32_t id;
};

_Static_assert(BROKER_MAX_DIALS <= FD_RECV_MAX, "a reply's descriptors are received at once");

/**
 * broker_serve() - The life of the broker's process
 * @channel: its end of the main channel; taken
 *
 * Return: when the other end is closed
 */
void broker_serve(const struct broker_params *params, int channel);

#endif
