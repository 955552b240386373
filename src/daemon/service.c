// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * service.c - messages to the service manager. Knows nothing of what a VM does.
 *
 * The socket is made before the sandbox takes sockets and paths away, and kept:
 * libsystemd would make another one for each message, which the sandbox forbids.
 * The protocol is a few lines of text (docs/adr/0009-service-manager.md).
 *
 * Theory of operation of the watchdog
 *
 * Every half interval the main thread looks whether each worker has taken the
 * message that was posted to it half an interval before. If so it gives the sign
 * and posts the next ones. So a worker that hangs costs the sign, and so does a
 * main thread that hangs. While one is missing it looks more often, as a worker
 * that goes on in time is no reason to be killed. Between two looks nobody is
 * woken: an idle daemon has one wake-up of each thread per half interval.
 */
#include "daemon/service.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

#define MESSAGE_ROOM 256u
#define SEND_TIMEOUT_S 1 /* of a manager that is busy; then the message is lost */
#define LOOKS_WHILE_LATE 8u

/** To one worker. */
struct service_ping {
	struct loop_msg msg;
	bool taken; /* written by the worker */
};

static void tell(const struct service *service, const char *fmt, ...) printf_like(2, 3);

static void tell(const struct service *service, const char *fmt, ...)
{
	char text[MESSAGE_ROOM];
	va_list args;

	if (service->fd < 0)
		return;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (send(service->fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		log_warning(NULL, "cannot notify the service manager: %s", strerror(errno));
}

/* --- what happens to VMs --- */

static void tell_status(struct loop_task *task)
{
	const struct service *service = container_of(task, struct service, status);
	const struct manager *manager = service->manager;

	tell(service, "STATUS=Serving %zu VMs with %u workers", manager_count(manager),
	     manager->worker_count);
}

/* Many changes of a turn make one message. */
static void vms_changed(void *ctx)
{
	struct service *service = ctx;

	loop_defer(service->loop, &service->status);
}

static void reloading(void *ctx)
{
	struct timespec now;

	/* cannot fail with this clock and a valid pointer */
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	tell(ctx, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reading the configuration file",
	     (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
}

static void reloaded(void *ctx)
{
	struct service *service = ctx;

	tell(service, "READY=1");
	vms_changed(service);
}

static const struct manager_watch watch = {
	.changed = vms_changed,
	.reloading = reloading,
	.reloaded = reloaded,
};

/* --- the watchdog --- */

static void take_ping(struct loop_msg *msg)
{
	struct service_ping *ping = container_of(msg, struct service_ping, msg);

	/* release: the message is not used any more, the main thread may post it again */
	__atomic_store_n(&ping->taken, true, __ATOMIC_RELEASE);
}

/* Return: a worker that has not ended a turn, or -1. */
static int late_worker(const struct service *service)
{
	for (uint32_t i = 0; i < service->manager->worker_count; i++) {
		if (!__atomic_load_n(&service->pings[i].taken, __ATOMIC_ACQUIRE))
			return (int)i;
	}
	return -1;
}

static void give_sign(struct service *service)
{
	const struct manager *manager = service->manager;

	tell(service, "WATCHDOG=1");
	service->told_hang = false;
	for (uint32_t i = 0; i < manager->worker_count; i++) {
		struct service_ping *ping = &service->pings[i];

		ping->taken = false;
		ping->msg.deliver = take_ping;
		loop_post(manager->workers[i].loop, &ping->msg);
	}
}

static void look(struct timer *timer)
{
	struct service *service = container_of(timer, struct service, tick);
	int late = late_worker(service);

	if (late < 0)
		give_sign(service);
	else if (!service->told_hang)
		log_warning(NULL, "worker %d hangs: the watchdog gets no sign", late);
	service->told_hang = late >= 0;
	/* cannot fail: the timer's place is not given up while it expires */
	(void)!loop_arm(service->loop, timer,
			service->watchdog_ms / (late < 0 ? 2 : LOOKS_WHILE_LATE));
}

/* In milliseconds; 0: no sign is expected of this process. */
static uint32_t watchdog_interval(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	unsigned long long ms = usec != NULL ? strtoull(usec, NULL, 10) / 1000 : 0;

	if (pid != NULL && strtoul(pid, NULL, 10) != (unsigned long)getpid())
		return 0;
	return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

/* --- life --- */

/* Return: a connected socket, or -errno. */
static int connect_to(const char *where)
{
	const struct timeval limit = { .tv_sec = SEND_TIMEOUT_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = strlen(where);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	int fd scoped_fd = -1;

	if ((where[0] != '/' && where[0] != '@') || len >= sizeof(address.sun_path))
		return -EAFNOSUPPORT;
	memcpy(address.sun_path, where, len);
	if (where[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, size) < 0)
		return -errno;
	return fd_take(&fd);
}

int service_open(struct service *service, struct loop *loop, struct manager *manager)
{
	const char *where = getenv("NOTIFY_SOCKET");
	int fd;

	if (where == NULL)
		return 0;
	fd = connect_to(where);
	if (fd < 0)
		return fd;
	service->pings = calloc(manager->worker_count + 1, sizeof(*service->pings));
	if (service->pings == NULL) {
		fd_close(&fd);
		return -ENOMEM;
	}
	service->fd = fd;
	service->loop = loop;
	service->manager = manager;
	service->watchdog_ms = watchdog_interval();
	service->tick.on_expire = look;
	loop_task_init(&service->status, tell_status);
	manager->watch = &watch;
	manager->watch_ctx = service;
	return 0;
}

void service_ready(struct service *service)
{
	if (service->fd < 0)
		return;
	tell(service, "READY=1");
	vms_changed(service);
	if (service->watchdog_ms == 0)
		return;
	give_sign(service);
	if (loop_arm(service->loop, &service->tick, service->watchdog_ms / 2) < 0)
		log_warning(NULL, "no memory for the watchdog: it gets no sign");
}

void service_stopping(struct service *service)
{
	tell(service, "STOPPING=1\nSTATUS=Stopping");
}

void service_close(struct service *service)
{
	if (service->fd < 0)
		return;
	service->manager->watch = NULL;
	loop_cancel(&service->status);
	loop_disarm(service->loop, &service->tick);
	free(service->pings);
	service->pings = NULL;
	fd_close(&service->fd);
}
