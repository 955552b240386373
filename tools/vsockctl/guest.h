// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * guest.h - which Unix socket leads to a guest: the one that the user names by
 * --uds, or the one that the daemon has for a CID.
 */
#ifndef VSOCKCTL_GUEST_H
#define VSOCKCTL_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vsockctl/vsockctl.h"

/** Room for the path of a port's socket. */
#define GUEST_PATH_SIZE 108

/** A guest, and how messages call it. */
struct guest {
	bool ack; /* its daemon answers CONNECT */
	char uds[GUEST_PATH_SIZE];
	char name[GUEST_PATH_SIZE + 8];
};

/**
 * guest_find() - The guest a command is about
 * @cid:   its CID as text, or NULL when only --uds can tell
 * @guest: output
 *
 * Return: STATUS_OK, or the exit status after a complaint
 */
int guest_find(const struct options *options, const char *cid, struct guest *guest) must_use;

/**
 * guest_arguments() - The same from "[CID] PORT"
 * @argc, @argv: the arguments; moved behind the port
 * @port:        output
 *
 * Return: STATUS_OK, or the exit status after a complaint
 */
int guest_arguments(const struct options *options, int *argc, char ***argv, struct guest *guest,
		    uint32_t *port) must_use;

/** Connect to a port of the guest. Return: a blocking descriptor, or -1 after a complaint. */
int guest_dial(const struct guest *guest, uint32_t port) must_use;

/** The path where connections of the guest to a port of the host arrive. */
void guest_port_path(const struct guest *guest, uint32_t port, char path[GUEST_PATH_SIZE]);

#endif
