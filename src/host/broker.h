// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * broker.h - everything that needs a path, done by a small process of its own.
 *
 * The daemon proper has no file system once it is confined. What still needs
 * one is asked of the broker: a process forked before, which holds no guest's
 * data and no guest's descriptor. It makes and removes listening sockets, dials
 * the sockets of host programs, and opens the configuration file again.
 *
 * Without such a process (--sandbox=none) the same calls do it themselves.
 */
#ifndef HOST_BROKER_H
#define HOST_BROKER_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "host/passed.h"
#include "host/unix_listener.h"

struct broker_params {
	bool separate;             /* fork a process; false: this one does it */
	struct unix_access access; /* of every socket made */
	const char *config_file;   /* for broker_open_config(); may be NULL; outlives it */
	const struct passed_sockets *passed; /* need not be made; may be NULL; outlives it */
	/* Before the first request, in the new process if there is one. Return: 0 or -errno */
	int (*confine)(void *ctx);
	void *ctx;
};

/** A handle; embed it, use it through these functions. */
struct broker {
	struct broker_params params;
	pthread_mutex_t lock; /* one request at a time */
	int channel;          /* -1: no process, or it is gone */
	pid_t pid;            /* 0: no process */
};

/**
 * broker_start() - Fork the broker and wait until it is confined
 *
 * Return: 0; -errno: @params->confine failed in it, or it could not be made
 * Context: no other thread exists
 */
int broker_start(struct broker *broker, const struct broker_params *params) must_use;

/** End it; sockets that were not closed stay where they are. Legal when not started. */
void broker_stop(struct broker *broker);

/**
 * broker_listen() - As unix_listener_open(), with broker_params.access
 *
 * Return: the same; -EPERM after broker_seal(); -EPIPE: the broker is gone
 * Context: any thread, waits for the broker for 5 s at most
 */
int broker_listen(struct broker *broker, struct unix_listener *listener, const char *path, int type)
	must_use;

/** As broker_listen() for a stream socket, with permissions for its own user only. */
int broker_listen_private(struct broker *broker, struct unix_listener *listener, const char *path)
	must_use;

/** Close a listener of broker_listen*() and remove its node. Legal when closed. */
void broker_unlisten(struct broker *broker, struct unix_listener *listener);

/**
 * broker_open_door() - A channel that can dial PATH_PORT and nothing else
 * @path: a VM's uds-path; its directory is the one it is now, for good
 *
 * Return: the descriptor for door_open(), -1 when there is no process and the
 *         caller dials itself, other -errno as broker_listen()
 */
int broker_open_door(struct broker *broker, const char *path, int *fd) must_use;

/** As broker_open_door(), for a channel that can dial a VMM at PATH and nothing else. */
int broker_open_vmm_door(struct broker *broker, const char *path, int *fd) must_use;

/**
 * broker_open_config() - The file of --config, as it is now
 *
 * Return: a descriptor to read from, or -errno; -ENOENT: there was no --config
 */
int broker_open_config(struct broker *broker) must_use;

/**
 * broker_seal() - From now on only dial, and remove what was made
 *
 * For a daemon whose set of VMs does not change after its start.
 *
 * Return: 0 or -errno
 */
int broker_seal(struct broker *broker) must_use;

#endif
