// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * exporter.c - joins libmicrohttpd to our loop: its epoll descriptor is a source
 * of ours, its next time-out a timer. Knows nothing of what the page says.
 */
#include "control/exporter.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/log.h"

#define ACCEPT_PAUSE_MS 100u

#define TYPE_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define TYPE_PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"

/* The library tells when it has to be called again even if nothing happens. */
static void arm(struct exporter *exporter)
{
	MHD_UNSIGNED_LONG_LONG delay_ms = 0;

	if (MHD_get_timeout(exporter->http, &delay_ms) != MHD_YES) {
		loop_disarm(exporter->loop, &exporter->timeout);
		return;
	}
	if (delay_ms > EXPORTER_TIMEOUT_S * 1000u)
		delay_ms = EXPORTER_TIMEOUT_S * 1000u;
	(void)!loop_arm(exporter->loop, &exporter->timeout, (uint32_t)delay_ms);
}

static unsigned int count_clients(struct exporter *exporter)
{
	const union MHD_DaemonInfo *info =
		MHD_get_daemon_info(exporter->http, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return info != NULL ? info->num_connections : 0;
}

/* Without descriptors the library leaves a client where it is, and watches on if it has
 * no other: its epoll descriptor would wake us for ever. */
static bool cannot_accept(struct exporter *exporter)
{
	struct pollfd listener = { .fd = exporter->listen_fd, .events = POLLIN };

	return count_clients(exporter) == 0 && poll(&listener, 1, 0) == 1;
}

static void pause_accepting(struct exporter *exporter)
{
	/* the timer first: a listener that nothing would wake again were lost */
	if (loop_arm(exporter->loop, &exporter->timeout, ACCEPT_PAUSE_MS) == 0)
		(void)!loop_modify(exporter->loop, &exporter->source, 0);
}

/* At its limit the library does not watch the listening socket, and begins to watch
 * it again only when it is run after a client has gone. */
static void run(struct exporter *exporter)
{
	unsigned int before;

	do {
		before = count_clients(exporter);
		(void)MHD_run(exporter->http);
	} while (count_clients(exporter) < before);
	if (cannot_accept(exporter))
		pause_accepting(exporter);
	else
		arm(exporter);
}

static void on_event(struct loop_source *source, uint32_t events)
{
	(void)events;
	run(container_of(source, struct exporter, source));
}

static void on_timeout(struct timer *timer)
{
	struct exporter *exporter = container_of(timer, struct exporter, timeout);

	if (loop_modify(exporter->loop, &exporter->source, EPOLLIN) < 0)
		(void)!loop_arm(exporter->loop, timer, ACCEPT_PAUSE_MS);
	else
		run(exporter);
}

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned int status,
			      const char *type, char *text, size_t length)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
	enum MHD_Result result;

	if (response == NULL) {
		free(text);
		return MHD_NO;
	}
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned int status,
			      const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		return MHD_NO;
	return answer(connection, status, "text/plain", copy, strlen(copy));
}

/* The parameters are the library's. NOLINTNEXTLINE(readability-function-size) */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_bytes, void **state)
{
	const struct exporter *exporter = ctx;
	const char *accept;
	bool openmetrics;
	size_t length = 0;
	char *text;

	(void)version;
	(void)upload;
	if (*state == NULL) { /* called first with the head alone */
		*state = connection;
		return MHD_YES;
	}
	if (*upload_bytes > 0) {
		*upload_bytes = 0;
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	if (strcmp(url, "/metrics") != 0)
		return refuse(connection, MHD_HTTP_NOT_FOUND, "the page is /metrics\n");
	accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	openmetrics = accept != NULL && strstr(accept, "application/openmetrics-text") != NULL;
	text = exporter->ops->page(exporter->ctx, openmetrics, &length);
	if (text == NULL)
		return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory\n");
	return answer(connection, MHD_HTTP_OK, openmetrics ? TYPE_OPENMETRICS : TYPE_PROMETHEUS,
		      text, length);
}

static void no_log(void *ctx, const char *format, va_list args)
{
	(void)ctx;
	(void)format;
	(void)args;
}

int exporter_open(struct exporter *exporter, struct loop *loop, int fd,
		  const struct exporter_ops *ops, void *ctx)
{
	const union MHD_DaemonInfo *info;
	int err;

	exporter->loop = loop;
	exporter->ops = ops;
	exporter->ctx = ctx;
	exporter->source.on_event = on_event;
	exporter->source.fd = -1;
	exporter->listen_fd = fd;
	exporter->timeout.on_expire = on_timeout;
	exporter->http = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, exporter,
		MHD_OPTION_EXTERNAL_LOGGER, no_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, EXPORTER_MAX_CLIENTS, MHD_OPTION_CONNECTION_TIMEOUT,
		EXPORTER_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)EXPORTER_CLIENT_BYTES, MHD_OPTION_END);
	if (exporter->http == NULL) {
		fd_close(&fd);
		return -EIO;
	}
	info = MHD_get_daemon_info(exporter->http, MHD_DAEMON_INFO_EPOLL_FD);
	err = info != NULL ? loop_add(loop, &exporter->source, info->epoll_fd, EPOLLIN) : -EIO;
	if (err < 0)
		exporter_close(exporter);
	return err;
}

void exporter_close(struct exporter *exporter)
{
	if (exporter->http == NULL)
		return;
	loop_del(exporter->loop, &exporter->source);
	loop_disarm(exporter->loop, &exporter->timeout);
	MHD_stop_daemon(exporter->http); /* closes the listening socket, too */
	exporter->http = NULL;
}
