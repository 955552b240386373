// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * echo.c - a host program with many connections. See echo.h.
 */
#include "bench/echo.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/compiler.h"
#include "bench/util.h"

#define BATCH 64
#define WAIT_MS 50
#define LISTENER_BIT 32 /* marks a listener in epoll's data */

static void watch(struct echo *echo, int fd, uint64_t mark)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = (uint32_t)fd | mark };

	if (epoll_ctl(echo->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl: %s", strerror(errno));
}

static void accept_all(struct echo *echo, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && errno != EAGAIN)
		die("accept: %s", strerror(errno));
	if (fd < 0)
		return;
	watch(echo, fd, 0);
	__atomic_fetch_add(&echo->accepted, 1, __ATOMIC_RELEASE);
}

static void send_back(int fd)
{
	char bytes[4096];
	ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

	if (n > 0)
		n = send(fd, bytes, (size_t)n, MSG_NOSIGNAL);
	if (n <= 0)
		close(fd);
}

static void *serve(void *arg)
{
	struct echo *echo = arg;
	struct epoll_event events[BATCH];

	while (!__atomic_load_n(&echo->stop, __ATOMIC_RELAXED)) {
		int n = epoll_wait(echo->epoll_fd, events, BATCH, WAIT_MS);

		for (int i = 0; i < n; i++) {
			int fd = (int)(uint32_t)events[i].data.u64;

			if ((events[i].data.u64 & bit64(LISTENER_BIT)) != 0)
				accept_all(echo, fd);
			else
				send_back(fd);
		}
	}
	return NULL;
}

void echo_start(struct echo *echo)
{
	memset(echo, 0, sizeof(*echo));
	echo->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (echo->epoll_fd < 0 || pthread_create(&echo->thread, NULL, serve, echo) != 0)
		die("no host program: %s", strerror(errno));
}

void echo_add(struct echo *echo, int listener)
{
	watch(echo, listener, bit64(LISTENER_BIT));
}

void echo_stop(struct echo *echo)
{
	__atomic_store_n(&echo->stop, true, __ATOMIC_RELAXED);
	pthread_join(echo->thread, NULL);
	close(echo->epoll_fd);
}
