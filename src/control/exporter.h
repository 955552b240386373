// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * exporter.h - one page of text over HTTP, for programs that collect metrics.
 *
 * The HTTP is libmicrohttpd's, driven by our loop: it has no thread. Its clients
 * are bounded in number, memory and time.
 *
 * Context: one loop's thread.
 */
#ifndef CONTROL_EXPORTER_H
#define CONTROL_EXPORTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"
#include "loop/loop.h"

#define EXPORTER_MAX_CLIENTS 16u
#define EXPORTER_TIMEOUT_S 10u
#define EXPORTER_CLIENT_BYTES (32u * 1024u) /* for a request's head */

struct MHD_Daemon;

struct exporter_ops {
	/** The page's text: allocated, *@length bytes; or NULL. @openmetrics: the client
	 *  prefers OpenMetrics to Prometheus' own format. */
	char *(*page)(void *ctx, bool openmetrics, size_t *length);
};

/** Zero-initialised is closed. */
struct exporter {
	struct MHD_Daemon *http;
	int listen_fd; /* the library's */
	struct loop *loop;
	struct loop_source source;
	struct timer timeout;
	const struct exporter_ops *ops;
	void *ctx;
};

/**
 * exporter_open() - Serve GET /metrics
 * @fd: a listening stream socket; owned from then on, also on failure
 *
 * Return: 0 or -errno
 */
int exporter_open(struct exporter *exporter, struct loop *loop, int fd,
		  const struct exporter_ops *ops, void *ctx) must_use;

/** Legal when closed. */
void exporter_close(struct exporter *exporter);

#endif
