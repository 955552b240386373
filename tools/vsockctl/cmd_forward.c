// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_forward.c - "forward": a TCP port of the host leads to a port of a
 * guest, or a port of the host, as the guest sees it, leads to a TCP port.
 *
 * An end is HOST:PORT or CID:PORT. What stands before the last colon is a CID
 * when it is a number, and "guest" stands for the guest of --uds.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "common/number.h"
#include "host/unix_listener.h"
#include "vsockctl/guest.h"
#include "vsockctl/relay.h"
#include "vsockctl/serve.h"
#include "vsockctl/vsockctl.h"

#define TCP_BACKLOG 128
#define HOST_SIZE 256

/* One side of the command line. */
struct place {
	bool is_guest;
	char host[HOST_SIZE]; /* or the CID */
	uint32_t port;
};

struct forward {
	struct guest guest;
	struct place to;
};

static int parse_place(const char *text, struct place *place)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon != NULL ? (size_t)(colon - text) : 0;
	uint32_t cid;
	int err;

	if (len == 0 || len >= HOST_SIZE) {
		complain("'%s': expected CID:PORT or HOST:PORT", text);
		return -1;
	}
	/* An IPv6 address stands in brackets. */
	if (text[0] == '[' && colon[-1] == ']' && len > 2)
		memcpy(place->host, text + 1, len - 2);
	else
		memcpy(place->host, text, len);
	err = number_u32(place->host, UINT32_MAX - 1, &cid);
	place->is_guest = err == 0 || strcmp(place->host, "guest") == 0;
	return argument_u32("port", colon + 1, place->is_guest ? UINT32_MAX - 1 : 65535,
			    &place->port);
}

/* The addresses of a place. Return: a list for freeaddrinfo(), or NULL after a complaint. */
static struct addrinfo *resolve(const struct place *place, int flags)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = flags };
	struct addrinfo *list = NULL;
	char service[sizeof("4294967295")];
	int err;

	snprintf(service, sizeof(service), "%u", place->port);
	err = getaddrinfo(place->host, service, &hints, &list);
	if (err == 0)
		return list;
	complain("%s: %s", place->host, gai_strerror(err));
	return NULL;
}

static int bind_tcp(const struct addrinfo *at)
{
	int fd scoped_fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, TCP_BACKLOG) < 0)
		return -errno;
	return fd_take(&fd);
}

static int connect_tcp(const struct addrinfo *at)
{
	int fd scoped_fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	return connect(fd, at->ai_addr, at->ai_addrlen) < 0 ? -errno : fd_take(&fd);
}

/* The first address with which it works. Return: descriptor, or -1 after a complaint. */
static int open_tcp(const struct place *place, int flags, int (*open_one)(const struct addrinfo *))
{
	struct addrinfo *list = resolve(place, flags);
	int fd = -1;

	if (list == NULL)
		return -1;
	for (const struct addrinfo *at = list; at != NULL && fd < 0; at = at->ai_next)
		fd = open_one(at);
	freeaddrinfo(list);
	if (fd >= 0)
		return fd;
	complain("%s:%u: %s", place->host, place->port, strerror(-fd));
	return -1;
}

/* In the child of a connection. */
static int join(int from, int to)
{
	if (to < 0)
		return STATUS_FAILED;
	return relay_run((struct relay_end){ from, from }, (struct relay_end){ to, to }) < 0
		       ? STATUS_FAILED
		       : STATUS_OK;
}

static int to_guest(int fd, void *arg)
{
	const struct forward *forward = arg;

	return join(fd, guest_dial(&forward->guest, forward->to.port));
}

static int to_tcp(int fd, void *arg)
{
	const struct forward *forward = arg;

	return join(fd, open_tcp(&forward->to, 0, connect_tcp));
}

/* With port 0 the kernel has chosen one. */
static uint32_t bound_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char service[NI_MAXSERV];
	uint32_t port = 0;

	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&address, len, NULL, 0, service, sizeof(service),
			NI_NUMERICSERV) != 0)
		return 0;
	return number_u32(service, 65535, &port) < 0 ? 0 : port;
}

static int serve_tcp(const struct place *from, struct forward *forward)
{
	int fd scoped_fd = open_tcp(from, AI_PASSIVE, bind_tcp);

	if (fd < 0)
		return STATUS_FAILED;
	complain("%s:%u leads to port %u of %s", from->host, bound_port(fd), forward->to.port,
		 forward->guest.name);
	return serve_run(fd, to_guest, forward, true);
}

static int serve_guest(const struct place *from, struct forward *forward)
{
	struct unix_listener listener;
	char path[GUEST_PATH_SIZE];
	int status;
	int err;

	guest_port_path(&forward->guest, from->port, path);
	err = unix_listener_open(&listener, path, SOCK_STREAM, &unix_access_default);
	if (err < 0) {
		complain("cannot listen at '%s': %s", path, strerror(-err));
		return STATUS_FAILED;
	}
	complain("port %u of the host of %s leads to %s:%u", from->port, forward->guest.name,
		 forward->to.host, forward->to.port);
	status = serve_run(listener.fd, to_tcp, forward, true);
	unix_listener_close(&listener);
	return status;
}

int cmd_forward(const struct options *options, int argc, char **argv)
{
	struct forward forward = { 0 };
	struct place from = { 0 };
	const struct place *guest;
	int status;

	(void)argc;
	if (parse_place(argv[0], &from) < 0 || parse_place(argv[1], &forward.to) < 0)
		return STATUS_USAGE;
	if (from.is_guest == forward.to.is_guest) {
		complain(
			"forward: expected one CID:PORT (guest:PORT with --uds) and one HOST:PORT");
		return STATUS_USAGE;
	}
	guest = from.is_guest ? &from : &forward.to;
	if (strcmp(guest->host, "guest") == 0 && options->n_uds == 0) {
		complain("forward: 'guest' needs --uds PATH");
		return STATUS_USAGE;
	}
	status = guest_find(options, guest->host, &forward.guest);
	if (status != STATUS_OK)
		return status;
	return from.is_guest ? serve_guest(&from, &forward) : serve_tcp(&from, &forward);
}
