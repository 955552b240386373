// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hostside.c - AF_UNIX ends of vsock connections. See hostside.h.
 */
#include "bench/hostside.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench/util.h"

#define BACKLOG 4096
#define REPLY_BYTES 32u

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		die("path too long for a socket: %s", path);
	memcpy(address.sun_path, path, strlen(path) + 1);
	return address;
}

static int new_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	return fd;
}

int host_dial(const char *path, uint64_t deadline_ns)
{
	struct sockaddr_un address = address_of(path);

	for (;;) {
		int fd = new_socket();

		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
		if (errno != ENOENT && errno != ECONNREFUSED)
			die("connect %s: %s", path, strerror(errno));
		close(fd);
		if (now_ns() > deadline_ns)
			die_hung("the daemon does not listen");
		pause_ms(1);
	}
}

int host_listen(const char *uds, uint32_t port)
{
	struct sockaddr_un address;
	char path[sizeof(address.sun_path)];
	int fd = new_socket();

	snprintf(path, sizeof(path), "%s_%u", uds, port);
	address = address_of(path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
		die("listen %s: %s", path, strerror(errno));
	return fd;
}

int host_accept(int listener)
{
	int fd;

	if (!wait_fd(listener, POLLIN, now_ns() + HOST_LIMIT_NS))
		die_hung("no connection arrived at the host");
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		die("accept: %s", strerror(errno));
	return fd;
}

int host_connect(const char *uds, uint32_t port)
{
	char text[REPLY_BYTES];
	int fd = host_dial(uds, now_ns() + HOST_LIMIT_NS);
	int len = snprintf(text, sizeof(text), "CONNECT %u\n", port);
	size_t got = 0;

	if (send(fd, text, (size_t)len, MSG_NOSIGNAL) != len)
		goto refused;
	do { /* our guests do not speak first: nothing follows the line */
		ssize_t n;

		if (!wait_fd(fd, POLLIN, now_ns() + HOST_LIMIT_NS))
			die_hung("no answer to CONNECT");
		n = recv(fd, text + got, sizeof(text) - got, 0);
		if (n <= 0)
			goto refused;
		got += (size_t)n;
	} while (text[got - 1] != '\n');
	if (strncmp(text, "OK ", 3) == 0)
		return fd;

refused:
	close(fd);
	return -1;
}
