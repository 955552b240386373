// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_connect.c - "connect": standard input and output joined to a port of a
 * guest, as a ProxyCommand of ssh wants it. Writes nothing of its own there.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vsockctl/guest.h"
#include "vsockctl/relay.h"
#include "vsockctl/vsockctl.h"

int cmd_connect(const struct options *options, int argc, char **argv)
{
	struct relay_end terminal = { .in = STDIN_FILENO, .out = STDOUT_FILENO };
	struct guest guest;
	uint32_t port;
	int fd;
	int err;
	int status = guest_arguments(options, &argc, &argv, &guest, &port);

	if (status != STATUS_OK)
		return status;
	if (argc > 0) {
		complain("connect: '%s': expected nothing behind the port", argv[0]);
		return STATUS_USAGE;
	}
	fd = guest_dial(&guest, port);
	if (fd < 0)
		return STATUS_FAILED;
	err = relay_run(terminal, (struct relay_end){ .in = fd, .out = fd });
	if (err == 0)
		return STATUS_OK;
	complain("port %u of %s: %s", port, guest.name, strerror(-err));
	return STATUS_FAILED;
}
