// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * serve.c - see serve.h. Does not read or write a byte of any connection.
 */
#include "vsockctl/serve.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "vsockctl/vsockctl.h"

/* Time to leave a shortage of descriptors or processes alone. */
#define SHORTAGE_MS 100

struct server {
	int listener;
	int signals;
	sigset_t before;
	unsigned int children;
	bool over;
	bool short_of; /* do not accept in the next turn */
	bool bound;
	int (*handler)(int fd, void *arg);
	void *arg;
};

/* The signals come by a descriptor until signals_leave(). Return: 0 or -errno. */
static int signals_enter(struct server *server)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, &server->before) < 0)
		return -errno;
	server->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return server->signals < 0 ? -errno : 0;
}

static void signals_leave(struct server *server)
{
	fd_close(&server->signals);
	sigprocmask(SIG_SETMASK, &server->before, NULL);
}

static void take_signals(struct server *server)
{
	struct signalfd_siginfo info;

	while (read(server->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			server->over = true;
	while (server->children > 0 && waitpid(-1, NULL, WNOHANG) > 0)
		server->children--;
}

/* In the child: become what looks after one connection. Does not return. */
static void run_child(struct server *server, int fd, pid_t parent)
{
	fd_close(&server->listener);
	signals_leave(server);
	if (server->bound) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(STATUS_FAILED);
	}
	_exit(server->handler(fd, server->arg));
}

static void accept_one(struct server *server)
{
	int fd scoped_fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
	pid_t parent = getpid();
	pid_t child;

	if (fd < 0) {
		server->short_of = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
		return;
	}
	child = fork();
	if (child == 0)
		run_child(server, fd_take(&fd), parent);
	if (child < 0) {
		complain("cannot serve a connection: %s", strerror(errno));
		server->short_of = true;
		return;
	}
	server->children++;
}

static void serve_turn(struct server *server)
{
	bool full = server->short_of || server->children >= SERVE_MAX_CHILDREN;
	struct pollfd polls[] = {
		{ .fd = server->signals, .events = POLLIN },
		{ .fd = full ? -1 : server->listener, .events = POLLIN },
	};

	if (poll(polls, array_size(polls), server->short_of ? SHORTAGE_MS : -1) < 0)
		return; /* EINTR */
	server->short_of = false;
	if (polls[0].revents != 0)
		take_signals(server);
	if (polls[1].revents != 0 && !server->over)
		accept_one(server);
}

int serve_run(int listener, int (*handler)(int fd, void *arg), void *arg, bool bound)
{
	struct server server = {
		.listener = listener,
		.signals = -1,
		.bound = bound,
		.handler = handler,
		.arg = arg,
	};
	int err = signals_enter(&server);

	if (err < 0) {
		complain("cannot watch for signals: %s", strerror(-err));
		return STATUS_FAILED;
	}
	/* Nothing of ours may be printed twice by a child. */
	fflush(NULL);
	while (!server.over)
		serve_turn(&server);
	signals_leave(&server);
	return STATUS_OK;
}

int serve_one(int listener)
{
	struct server server = { .listener = listener, .signals = -1 };
	int err = signals_enter(&server);
	int fd = -EINTR;

	if (err < 0)
		return err;
	while (!server.over) {
		struct pollfd polls[] = {
			{ .fd = server.signals, .events = POLLIN },
			{ .fd = listener, .events = POLLIN },
		};

		if (poll(polls, array_size(polls), -1) < 0)
			continue;
		take_signals(&server);
		if (polls[1].revents == 0)
			continue;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		if (fd != -EAGAIN)
			break;
		fd = -EINTR;
	}
	signals_leave(&server);
	return fd;
}
