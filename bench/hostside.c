// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hostside.c - the host's ends of vsock connections. See hostside.h.
 */
#include "bench/hostside.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
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

static int new_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket: %s", strerror(errno));
	return fd;
}

/* Whether @address names a guest of the kernel's; then *@cid is it. */
static bool is_kernel(const char *address, uint32_t *cid)
{
	size_t len = strlen(HOST_VSOCK);

	if (strncmp(address, HOST_VSOCK, len) != 0)
		return false;
	*cid = (uint32_t)strtoul(address + len, NULL, 10);
	return true;
}

int host_dial(const char *path, uint64_t deadline_ns)
{
	struct sockaddr_un address = address_of(path);

	for (;;) {
		int fd = new_socket(AF_UNIX);

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

static int kernel_listen(uint32_t port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port,
	};
	int fd = new_socket(AF_VSOCK);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
		die("listen at AF_VSOCK port %u: %s", port, strerror(errno));
	return fd;
}

static int kernel_connect(uint32_t cid, uint32_t port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = cid,
		.svm_port = port,
	};
	int fd = new_socket(AF_VSOCK);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

int host_listen(const char *uds, uint32_t port)
{
	struct sockaddr_un address;
	char path[sizeof(address.sun_path)];
	uint32_t cid;
	int fd;

	if (is_kernel(uds, &cid))
		return kernel_listen(port);
	fd = new_socket(AF_UNIX);
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

/* Say the line on a connection of ours. Return: false when the guest refuses. */
static bool say_connect(int fd, uint32_t port)
{
	char text[REPLY_BYTES];
	int len = snprintf(text, sizeof(text), "CONNECT %u\n", port);
	size_t got = 0;

	if (send(fd, text, (size_t)len, MSG_NOSIGNAL) != len)
		return false;
	do { /* our guests do not speak first: nothing follows the line */
		ssize_t n;

		if (!wait_fd(fd, POLLIN, now_ns() + HOST_LIMIT_NS))
			die_hung("no answer to CONNECT");
		n = recv(fd, text + got, sizeof(text) - got, 0);
		if (n <= 0)
			return false;
		got += (size_t)n;
	} while (text[got - 1] != '\n');
	return strncmp(text, "OK ", 3) == 0;
}

int host_connect(const char *uds, uint32_t port)
{
	uint32_t cid;
	int fd;

	if (is_kernel(uds, &cid))
		return kernel_connect(cid, port);
	fd = host_dial(uds, now_ns() + HOST_LIMIT_NS);
	if (say_connect(fd, port))
		return fd;
	close(fd);
	return -1;
}
