// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_listen.c - "listen": a guest that connects to a port of its host gets a
 * program, or standard input and output. The socket is removed at the end.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/unix_listener.h"
#include "vsockctl/guest.h"
#include "vsockctl/relay.h"
#include "vsockctl/serve.h"
#include "vsockctl/vsockctl.h"

/* In the child of a connection: become the user's program. */
static int become(int fd, void *arg)
{
	char **argv = arg;

	signal(SIGPIPE, SIG_DFL);
	if (dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
		return STATUS_FAILED;
	execvp(argv[0], argv);
	complain("cannot run '%s': %s", argv[0], strerror(errno));
	return STATUS_FAILED;
}

static int serve_terminal(struct unix_listener *listener)
{
	struct relay_end terminal = { .in = STDIN_FILENO, .out = STDOUT_FILENO };
	int fd = serve_one(listener->fd);
	int err;

	/* The next guest is refused, and the port is free for another program. */
	unix_listener_close(listener);
	if (fd == -EINTR)
		return STATUS_OK;
	err = fd < 0 ? fd : relay_run(terminal, (struct relay_end){ .in = fd, .out = fd });
	if (err == 0)
		return STATUS_OK;
	complain("connection of the guest: %s", strerror(-err));
	return STATUS_FAILED;
}

int cmd_listen(const struct options *options, int argc, char **argv)
{
	struct unix_listener listener;
	char path[GUEST_PATH_SIZE];
	struct guest guest;
	uint32_t port;
	int err;
	int status = guest_arguments(options, &argc, &argv, &guest, &port);

	if (status != STATUS_OK)
		return status;
	guest_port_path(&guest, port, path);
	err = unix_listener_open(&listener, path, SOCK_STREAM, &unix_access_default);
	if (err < 0) {
		complain("cannot listen at '%s': %s", path, strerror(-err));
		return STATUS_FAILED;
	}
	if (argc == 0)
		return serve_terminal(&listener);
	status = serve_run(listener.fd, become, argv, false);
	unix_listener_close(&listener);
	return status;
}
