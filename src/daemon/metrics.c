// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * metrics.c - where metrics are served: a Unix socket or the loopback interface.
 */
#include "daemon/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define BACKLOG 16

static char *page(void *ctx, bool openmetrics, size_t *length)
{
	return metrics_text(ctx, openmetrics, length);
}

static int listen_inet(struct metrics *metrics, const struct config_endpoint *endpoint)
{
	const int on = 1;
	int fd scoped_fd = passed_take(metrics->manager->set.broker->params.passed, &endpoint->sa,
				       SOCK_STREAM);

	if (fd != -ENOENT)
		return fd_take(&fd);
	fd = socket(endpoint->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, &endpoint->sa, endpoint->length) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return fd_take(&fd);
}

/* A descriptor for the library to own; the listener keeps the node. */
static int listen_unix(struct metrics *metrics, const struct config_endpoint *endpoint)
{
	int err = broker_listen(metrics->manager->set.broker, &metrics->listener,
				endpoint->un.sun_path, SOCK_STREAM);
	int fd;

	if (err < 0)
		return err;
	fd = fcntl(metrics->listener.fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

int metrics_open(struct metrics *metrics, struct manager *manager, struct loop *loop,
		 const struct config_endpoint *endpoint)
{
	static const struct exporter_ops ops = { .page = page };
	int err;
	int fd;

	metrics->listener.fd = -1;
	metrics->manager = manager;
	fd = endpoint->sa.sa_family == AF_UNIX ? listen_unix(metrics, endpoint)
					       : listen_inet(metrics, endpoint);
	err = fd < 0 ? fd : exporter_open(&metrics->exporter, loop, fd, &ops, metrics);
	if (err < 0) {
		broker_unlisten(metrics->manager->set.broker, &metrics->listener);
		return err;
	}
	process_open(&metrics->process);
	metrics->open = true;
	return 0;
}

void metrics_close(struct metrics *metrics)
{
	if (!metrics->open)
		return;
	exporter_close(&metrics->exporter);
	broker_unlisten(metrics->manager->set.broker, &metrics->listener);
	process_close(&metrics->process);
	metrics->open = false;
}
