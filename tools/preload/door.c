// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * door.c - see door.h. Never waits but in door_accept(), where the program
 * asked for it.
 */
#include "preload/door.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "common/guests.h"
#include "host/unix_listener.h"
#include "preload/real.h"
#include "preload/stream.h"

struct door {
	int fds[DOOR_MAX_FDS]; /* descriptors + 1, so that 0 is none; atomic */
	pid_t owner;
	uint32_t port;
	int holder; /* the socket that was bound, so that the port stays taken */
	struct unix_listener *listeners; /* one per guest; NULL: a free slot */
	size_t count;
};

static struct door doors[DOOR_MAX];
static unsigned int doors_open; /* most programs have none, and call close() often; atomic */
static pid_t doors_pid;         /* whose memory this is; not that of its vfork(2) children */
static pthread_mutex_t doors_lock = PTHREAD_MUTEX_INITIALIZER; /* for changes */

/* A child has a table of its own, and only the thread that forked. */
static void begin_child(void)
{
	doors_pid = getpid();
	doors_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void begin(void)
{
	doors_pid = getpid();
	/* Without it, children leave their copies of the listeners open. */
	(void)pthread_atfork(NULL, NULL, begin_child);
}

static struct door *find(int fd, size_t *at)
{
	if (__atomic_load_n(&doors_open, __ATOMIC_RELAXED) == 0)
		return NULL;
	for (size_t i = 0; i < DOOR_MAX; i++) {
		for (size_t j = 0; j < DOOR_MAX_FDS; j++) {
			if (__atomic_load_n(&doors[i].fds[j], __ATOMIC_RELAXED) != fd + 1)
				continue;
			*at = j;
			return &doors[i];
		}
	}
	return NULL;
}

bool door_find(int fd, uint32_t *port)
{
	size_t at;
	const struct door *door = fd >= 0 ? find(fd, &at) : NULL;

	if (door != NULL && port != NULL)
		*port = door->port;
	return door != NULL;
}

int door_type(int fd)
{
	size_t at;
	const struct door *door = find(fd, &at);

	return stream_type(door != NULL ? door->holder : fd);
}

/* The paths are those of the process that made them. */
static void close_listeners(struct unix_listener *listeners, size_t count, bool owned)
{
	for (size_t i = 0; i < count; i++) {
		if (owned)
			unix_listener_close(&listeners[i]);
		fd_close(&listeners[i].fd);
		fd_close(&listeners[i].dir_fd);
	}
	free(listeners);
}

/* A listener for each guest, in a set. Return: the set's descriptor or -errno. */
static int open_set(int type, uint32_t port, struct unix_listener *listeners, size_t *count)
{
	const struct guests *guests = stream_guests();
	char path[GUESTS_PATH_MAX + sizeof("_4294967295")];
	int set scoped_fd = epoll_create1(EPOLL_CLOEXEC);

	if (set < 0)
		return -errno;
	for (*count = 0; *count < guests->count; (*count)++) {
		struct unix_listener *listener = &listeners[*count];
		struct epoll_event event = { .events = EPOLLIN };
		int err;

		snprintf(path, sizeof(path), "%s_%u", guests->list[*count].path, port);
		err = unix_listener_open(listener, path, type, &unix_access_default);
		if (err < 0)
			return err == -EEXIST ? -EADDRINUSE : err;
		event.data.fd = listener->fd;
		if (epoll_ctl(set, EPOLL_CTL_ADD, listener->fd, &event) < 0) {
			err = -errno;
			unix_listener_close(listener);
			return err;
		}
	}
	return fd_take(&set);
}

/* Put the set in the place of the program's socket, with its flags. Return: 0 or -errno. */
static int take_place(int fd, int set)
{
	int flags = REAL(fcntl)(fd, F_GETFL);
	int cloexec = REAL(fcntl)(fd, F_GETFD);

	if (flags < 0 || cloexec < 0)
		return -errno;
	if (REAL(fcntl)(set, F_SETFL, flags & O_NONBLOCK) < 0)
		return -errno;
	return REAL(dup3)(set, fd, (cloexec & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) < 0 ? -errno : 0;
}

/* Note a door. Return: 0, or -ENOBUFS */
static int enter(int fd, const struct door *made)
{
	int err = -ENOBUFS;

	pthread_mutex_lock(&doors_lock);
	for (size_t i = 0; i < DOOR_MAX && err < 0; i++) {
		struct door *door = &doors[i];

		if (door->listeners != NULL)
			continue;
		door->owner = made->owner;
		door->port = made->port;
		door->holder = made->holder;
		door->listeners = made->listeners;
		door->count = made->count;
		__atomic_store_n(&door->fds[0], fd + 1, __ATOMIC_RELEASE);
		__atomic_fetch_add(&doors_open, 1, __ATOMIC_RELEASE);
		err = 0;
	}
	pthread_mutex_unlock(&doors_lock);
	return err;
}

static int replace(int fd, struct door *door)
{
	int type = stream_type(fd);
	int set scoped_fd = open_set(type, door->port, door->listeners, &door->count);
	int err;

	if (set < 0)
		return set;
	door->holder = REAL(fcntl)(fd, F_DUPFD_CLOEXEC, 0);
	if (door->holder < 0)
		return -errno;
	err = take_place(fd, set);
	if (err < 0)
		return err;
	err = enter(fd, door);
	if (err < 0)
		(void)take_place(fd, door->holder); /* it is what it was */
	return err;
}

int door_open(int fd, uint32_t port)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct door door = { .owner = getpid(), .port = port, .holder = -1 };
	int err;

	pthread_once(&once, begin);
	if (stream_guests()->count == 0)
		return -ENODEV;
	door.listeners = calloc(stream_guests()->count, sizeof(*door.listeners));
	if (door.listeners == NULL)
		return -ENOMEM;
	err = replace(fd, &door);
	if (err < 0) {
		fd_close(&door.holder);
		close_listeners(door.listeners, door.count, true);
	}
	/* The slot has them. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	return err;
}

int door_accept(int fd, int flags)
{
	int status = REAL(fcntl)(fd, F_GETFL);
	bool now = status < 0 || (status & O_NONBLOCK) != 0;
	struct epoll_event event;
	int accepted;
	int n;

	for (;;) {
		n = epoll_wait(fd, &event, 1, now ? 0 : -1);
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EAGAIN;
		accepted = REAL(accept4)(event.data.fd, NULL, NULL, flags);
		if (accepted >= 0)
			return accepted;
		/* Another thread or process was faster. */
		if (errno != EAGAIN && errno != ECONNABORTED)
			return -errno;
	}
}

void door_copied(int fd, int copy)
{
	size_t at;
	struct door *door = find(fd, &at);

	if (door == NULL || doors_pid != getpid())
		return;
	pthread_mutex_lock(&doors_lock);
	for (size_t i = 0; i < DOOR_MAX_FDS; i++) {
		if (door->fds[i] != 0)
			continue;
		__atomic_store_n(&door->fds[i], copy + 1, __ATOMIC_RELAXED);
		break;
	}
	pthread_mutex_unlock(&doors_lock);
}

static bool is_unused(const struct door *door)
{
	for (size_t i = 0; i < DOOR_MAX_FDS; i++)
		if (door->fds[i] != 0)
			return false;
	return true;
}

void door_closing(int fd)
{
	struct unix_listener *listeners = NULL;
	int saved_errno = errno;
	int holder = -1;
	size_t count = 0;
	size_t at;
	struct door *door = fd >= 0 ? find(fd, &at) : NULL;
	bool owned;

	if (door == NULL || doors_pid != getpid())
		return;
	pthread_mutex_lock(&doors_lock);
	owned = door->owner == doors_pid;
	__atomic_store_n(&door->fds[at], 0, __ATOMIC_RELAXED);
	if (is_unused(door)) {
		listeners = door->listeners;
		count = door->count;
		holder = door->holder;
		door->listeners = NULL;
		__atomic_fetch_sub(&doors_open, 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&doors_lock);
	fd_close(&holder);
	if (listeners != NULL)
		close_listeners(listeners, count, owned);
	errno = saved_errno;
}

void door_closing_range(unsigned int first, unsigned int last)
{
	for (size_t i = 0; i < DOOR_MAX; i++) {
		for (size_t j = 0; j < DOOR_MAX_FDS; j++) {
			int fd = __atomic_load_n(&doors[i].fds[j], __ATOMIC_RELAXED) - 1;

			if (fd >= 0 && (unsigned int)fd >= first && (unsigned int)fd <= last)
				door_closing(fd);
		}
	}
}

static void take_lower(unsigned int *lowest, int fd, unsigned int from)
{
	if (fd >= 0 && (unsigned int)fd >= from && (unsigned int)fd < *lowest)
		*lowest = (unsigned int)fd;
}

unsigned int door_next_own(unsigned int from)
{
	unsigned int lowest = UINT_MAX;
	/* the child of vfork(2) has the lock of its parent, whose thread may hold it */
	bool shared = doors_pid != getpid();

	if (__atomic_load_n(&doors_open, __ATOMIC_RELAXED) == 0 || shared)
		return lowest;
	pthread_mutex_lock(&doors_lock);
	for (size_t i = 0; i < DOOR_MAX; i++) {
		const struct door *door = &doors[i];

		if (door->listeners == NULL)
			continue;
		take_lower(&lowest, door->holder, from);
		for (size_t j = 0; j < door->count; j++) {
			take_lower(&lowest, door->listeners[j].fd, from);
			take_lower(&lowest, door->listeners[j].dir_fd, from);
		}
	}
	pthread_mutex_unlock(&doors_lock);
	return lowest;
}

/* The program ends without having closed them. */
__attribute__((destructor)) static void remove_paths(void)
{
	for (size_t i = 0; i < DOOR_MAX; i++) {
		struct door *door = &doors[i];

		if (door->listeners == NULL || door->owner != getpid())
			continue;
		for (size_t j = 0; j < door->count; j++)
			unix_listener_close(&door->listeners[j]);
	}
}
