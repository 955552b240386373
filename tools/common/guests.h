// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * guests.h - how vsockctl tells the preload library which guests there are:
 * a variable of the environment with "CID=uds-path" lines, "CID-=uds-path" if
 * its daemon answers CONNECT by nothing (ack=off).
 */
#ifndef COMMON_GUESTS_H
#define COMMON_GUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/** The variable. */
#define GUESTS_VARIABLE "VSOCKCTL_GUESTS"

/** Most guests of one program; each listening socket has a descriptor per guest. */
#define GUESTS_MAX 256u

/** Longest uds-path. */
#define GUESTS_PATH_MAX 96u

struct guests_entry {
	uint32_t cid;
	bool ack;
	char path[GUESTS_PATH_MAX + 1];
};

struct guests {
	struct guests_entry *list;
	size_t count;
};

/**
 * guests_parse() - The guests of a text
 * @text:   "3=/run/vm3.vsock\n4=/run/vm4.vsock"; empty: none
 * @guests: output; guests_fini() is owed after 0
 *
 * Return: 0, -EINVAL, -E2BIG (more than GUESTS_MAX), -ENOMEM
 */
int guests_parse(const char *text, struct guests *guests) must_use;

/** The guest with this CID, or NULL. */
const struct guests_entry *guests_find(const struct guests *guests, uint32_t cid) must_use;

/**
 * guests_find_path() - The guest to which the socket of a port belongs
 * @path: such as "/run/vm3.vsock_80"
 * @port: output: 80; untouched on failure
 *
 * Return: the guest, or NULL
 */
const struct guests_entry *guests_find_path(const struct guests *guests, const char *path,
					    uint32_t *port) must_use;

/** Free the list. */
void guests_fini(struct guests *guests);

#endif
