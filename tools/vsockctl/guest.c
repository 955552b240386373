// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * guest.c - see guest.h. Asks the daemon only when --uds does not say.
 */
#include "vsockctl/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/hybrid.h"
#include "vsockctl/control.h"

static int set_path(struct guest *guest, const char *path)
{
	size_t len = strlen(path);

	if (len == 0 || len > MAX_UDS_PATH) {
		complain("uds-path '%s': expected 1 to %u bytes", path, MAX_UDS_PATH);
		return STATUS_USAGE;
	}
	memcpy(guest->uds, path, len + 1);
	return STATUS_OK;
}

static int ask_daemon(const struct options *options, uint32_t cid, struct guest *guest)
{
	json_t *vm =
		control_ask(options->control, "show", json_pack("{s:I}", "cid", (json_int_t)cid));
	const char *path = json_string_value(json_object_get(vm, "uds_path"));
	int status = STATUS_FAILED;

	if (vm == NULL)
		return STATUS_FAILED;
	snprintf(guest->name, sizeof(guest->name), "guest %u", cid);
	guest->ack = !json_is_false(json_object_get(vm, "ack"));
	if (path == NULL)
		complain("%s has no uds-path: it forwards to AF_VSOCK", guest->name);
	else
		status = set_path(guest, path);
	json_decref(vm);
	return status;
}

int guest_find(const struct options *options, const char *cid, struct guest *guest)
{
	uint32_t number;

	if (options->n_uds > 1) {
		complain("--uds '%s': expected one", options->uds[1]);
		return STATUS_USAGE;
	}
	if (options->n_uds == 1) {
		snprintf(guest->name, sizeof(guest->name), "'%s'", options->uds[0]);
		guest->ack = !options->no_ack;
		return set_path(guest, options->uds[0]);
	}
	if (cid == NULL) {
		complain("which guest: expected its CID, or --uds PATH");
		return STATUS_USAGE;
	}
	if (argument_u32("CID", cid, UINT32_MAX - 1, &number) < 0)
		return STATUS_USAGE;
	return ask_daemon(options, number, guest);
}

int guest_arguments(const struct options *options, int *argc, char ***argv, struct guest *guest,
		    uint32_t *port)
{
	int words = options->n_uds > 0 ? 1 : 2;

	if (*argc < words) {
		complain("which guest: expected CID PORT, or --uds PATH and PORT");
		return STATUS_USAGE;
	}
	if (argument_u32("port", (*argv)[words - 1], UINT32_MAX - 1, port) < 0)
		return STATUS_USAGE;
	*argc -= words;
	*argv += words;
	return guest_find(options, words == 2 ? (*argv)[-2] : NULL, guest);
}

int guest_dial(const struct guest *guest, uint32_t port)
{
	uint32_t host_port;
	int fd = hybrid_dial(guest->uds, port, guest->ack ? &host_port : NULL);

	if (fd >= 0)
		return fd;
	if (fd == -ECONNRESET)
		complain("%s refuses port %u, or does not run", guest->name, port);
	else
		complain("cannot reach port %u of %s by '%s': %s", port, guest->name, guest->uds,
			 strerror(-fd));
	return -1;
}

void guest_port_path(const struct guest *guest, uint32_t port, char path[GUEST_PATH_SIZE])
{
	/* MAX_UDS_PATH leaves room for "_4294967295". */
	(void)snprintf(path, GUEST_PATH_SIZE, "%.*s_%u", (int)MAX_UDS_PATH, guest->uds, port);
}
