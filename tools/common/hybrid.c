// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hybrid.c - see hybrid.h. Never waits without a deadline; writes nothing to
 * any log.
 */
#include "common/hybrid.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "common/number.h"
#include "host/unix_listener.h"

/* How long a full backlog is left alone before it is tried again. */
#define BACKLOG_RETRY_MS 5

int64_t hybrid_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int left_ms(int64_t deadline)
{
	int64_t left = deadline - hybrid_now_ms();

	return left > 0 ? (int)left : 0;
}

/* connect(2) on a non-blocking socket, while the backlog is full again and again. */
static int reach(int fd, const char *path, int64_t deadline)
{
	struct sockaddr_un address;
	int err = unix_address(&address, path);

	if (err < 0)
		return err;
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (left_ms(deadline) == 0)
			return -ETIMEDOUT;
		(void)poll(NULL, 0, BACKLOG_RETRY_MS);
	}
	return 0;
}

/* Take what is there of the line, and not a byte behind it. */
static int read_some(int fd, char *line, size_t *len, bool *complete)
{
	size_t room = HYBRID_ANSWER_MAX - *len;
	ssize_t seen = recv(fd, line + *len, room, MSG_PEEK | MSG_DONTWAIT);
	const char *newline;
	size_t take;

	if (seen < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (seen == 0)
		return -ECONNRESET;
	newline = memchr(line + *len, '\n', (size_t)seen);
	take = newline != NULL ? (size_t)(newline - line) + 1 - *len : (size_t)seen;
	if (recv(fd, line + *len, take, MSG_DONTWAIT) != (ssize_t)take)
		return -EPROTO;
	*len += take;
	*complete = newline != NULL;
	return *complete || *len < HYBRID_ANSWER_MAX ? 0 : -EPROTO;
}

static int read_answer(int fd, int64_t deadline, uint32_t *host_port)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	char line[HYBRID_ANSWER_MAX];
	bool complete = false;
	size_t len = 0;

	while (!complete) {
		int err;

		if (left_ms(deadline) == 0)
			return -ETIMEDOUT;
		if (poll(&wait, 1, left_ms(deadline)) < 0 && errno != EINTR)
			return -errno;
		err = read_some(fd, line, &len, &complete);
		if (err < 0)
			return err;
	}
	line[len - 1] = '\0';
	if (strncmp(line, "OK ", 3) != 0)
		return -EPROTO;
	return number_u32(line + 3, UINT32_MAX, host_port) < 0 ? -EPROTO : 0;
}

static int ask(int fd, const char *path, uint32_t port, int64_t deadline, uint32_t *host_port)
{
	char line[sizeof("CONNECT 4294967295\n")];
	int len = snprintf(line, sizeof(line), "CONNECT %u\n", port);
	int err = reach(fd, path, deadline);

	if (err < 0)
		return err;
	/* A fresh socket has room for it. */
	if (send(fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return host_port != NULL ? read_answer(fd, deadline, host_port) : 0;
}

int hybrid_connect(int fd, const char *path, uint32_t port, int timeout_ms, uint32_t *host_port)
{
	int64_t deadline = hybrid_now_ms() + timeout_ms;
	int flags = fcntl(fd, F_GETFL);
	int err;

	if (flags < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	err = ask(fd, path, port, deadline, host_port);
	if (fcntl(fd, F_SETFL, flags) < 0 && err == 0)
		err = -errno;
	return err;
}

int hybrid_dial(const char *path, uint32_t port, uint32_t *host_port)
{
	int fd scoped_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = hybrid_connect(fd, path, port, HYBRID_TIMEOUT_MS, host_port);
	return err < 0 ? err : fd_take(&fd);
}
