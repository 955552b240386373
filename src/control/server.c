// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * server.c - clients of the control socket: who they are, their lines, what they
 * have not read yet.
 *
 * Theory of operation
 *
 * A client's requests are answered in order, one at a time: while an answer is
 * not read completely no further request of this client is read, so its output
 * is bounded by one answer, and that by CONTROL_MAX_OUTPUT. Events are the
 * exception: they are added to what waits up to CONTROL_MAX_EVENT_OUTPUT, beyond
 * which they are counted, and the count is told when there is room again.
 *
 * A client is freed only in a dispatch of its own, or by control_close().
 */
#include "control/server.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"

#define ACCEPT_PAUSE_MS 100u

struct control_client {
	struct control_server *server;
	struct list node;
	struct loop_source source;
	struct timer stall;
	struct buf out;
	void (*taken)(void *ctx, int fd); /* NULL: nobody wants its connection */
	void *taker;
	bool subscribed;
	bool ended;    /* it sends no more, or nothing more is read from it */
	bool broken;   /* cannot be served any more */
	uint32_t lost; /* events it was not told of */
	size_t length; /* of what is in line */
	char line[CONTROL_MAX_LINE];
};

json_t *control_fail(struct control_error *error, const char *code, const char *fmt, ...)
{
	va_list args;

	error->code = code;
	va_start(args, fmt);
	(void)vsnprintf(error->message, sizeof(error->message), fmt, args);
	va_end(args);
	return NULL;
}

/* --- output --- */

static void put(struct control_client *client, json_t *value, uint32_t max)
{
	char *text = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;

	if (text == NULL || buf_append(&client->out, text, strlen(text), max) < 0 ||
	    buf_append(&client->out, "\n", 1, max) < 0)
		client->broken = true;
	free(text);
}

/* Tell a subscriber that it was not told of everything. */
static void put_lost(struct control_client *client)
{
	json_t *line = json_pack("{s:s, s:I}", "event", "lost", "count", (json_int_t)client->lost);

	put(client, line, CONTROL_MAX_OUTPUT);
	json_decref(line);
	client->lost = 0;
}

/* Give the client what it takes. Afterwards it is broken, or what is left waits. */
static void flush(struct control_client *client)
{
	struct iovec spans[2];

	while (buf_length(&client->out) > 0 && !client->broken) {
		struct msghdr msg = { .msg_iov = spans };
		ssize_t sent;

		msg.msg_iovlen = buf_spans(&client->out, spans);
		sent = sendmsg(client->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN)
			return;
		if (sent < 0 && errno != EINTR)
			client->broken = true;
		if (sent <= 0)
			continue;
		buf_consume(&client->out, (size_t)sent);
		loop_disarm(client->server->loop, &client->stall);
	}
}

static void drop(struct control_client *client)
{
	/* What was freed is off the list. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	struct control_server *server = client->server;
	int fd = client->source.fd;

	list_remove(&client->node);
	loop_del(server->loop, &client->source);
	loop_disarm(server->loop, &client->stall);
	if (client->taken != NULL)
		client->taken(client->taker, client->broken ? -1 : fd_take(&fd));
	fd_close(&fd);
	server->client_count--;
	if (client->subscribed && --server->subscriber_count == 0)
		server->ops->subscribed(server->ctx, false);
	buf_fini(&client->out);
	free(client);
}

static void on_stall(struct timer *timer)
{
	struct control_client *client = container_of(timer, struct control_client, stall);

	log_warning(NULL, "control: a client that does not read was dropped");
	client->broken = true;
	drop(client);
}

/* Wait for what comes next. A subscriber may be slow: it loses events. */
static void watch(struct control_client *client)
{
	struct loop *loop = client->server->loop;
	bool waits = buf_length(&client->out) > 0;

	if (!waits)
		loop_disarm(loop, &client->stall);
	else if (!client->subscribed && !timer_is_armed(&client->stall) &&
		 loop_arm(loop, &client->stall, CONTROL_STALL_MS) < 0)
		client->broken = true;
	if (loop_modify(loop, &client->source, waits ? EPOLLOUT : EPOLLIN) < 0)
		client->broken = true;
}

/* --- requests --- */

static void answer(struct control_client *client, json_t *id, json_t *result,
		   const struct control_error *error)
{
	json_t *line;

	if (result != NULL)
		line = json_pack("{s:O?, s:o}", "id", id, "result", result);
	else
		line = json_pack("{s:O?, s:{s:s, s:s%}}", "id", id, "error", "code", error->code,
				 "message", error->message, strlen(error->message));
	put(client, line, CONTROL_MAX_OUTPUT);
	json_decref(line);
}

/* Cut text that was cut in the middle of a character, or never was UTF-8, for JSON's sake. */
static void make_ascii(char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text >= 0x7f || (unsigned char)*text < 0x20)
			*text = '?';
	}
}

static const char *wrong_member(json_t *request)
{
	const char *key;
	json_t *value;

	json_object_foreach (request, key, value) {
		if (strcmp(key, "id") != 0 && strcmp(key, "method") != 0 &&
		    strcmp(key, "params") != 0)
			return key;
	}
	return NULL;
}

static json_t *carry_out(struct control_client *client, json_t *request,
			 struct control_error *error)
{
	const struct control_server *server = client->server;
	json_t *params = json_object_get(request, "params");
	const char *method = json_string_value(json_object_get(request, "method"));
	const char *wrong = wrong_member(request);
	json_t *none = NULL;
	json_t *result = NULL;

	if (method == NULL)
		return control_fail(error, "invalid", "expected a method, a string");
	if (wrong != NULL)
		return control_fail(error, "invalid", "%s: no member of a request", wrong);
	if (params == NULL || json_is_null(params))
		params = none = json_object();
	if (!json_is_object(params))
		return control_fail(error, "invalid", "params: expected an object");
	result = server->ops->call(server->ctx, client, method, params, error);
	json_decref(none);
	return result;
}

static void serve_line(struct control_client *client, const char *line, size_t length)
{
	struct control_error error = { .code = "internal" };
	json_error_t where;
	json_t *request = NULL;
	json_t *result = NULL;

	if (length == 0 || (length == 1 && line[0] == '\r'))
		return;
	request = json_loadb(line, length, JSON_REJECT_DUPLICATES, &where);
	if (request == NULL)
		(void)control_fail(&error, "invalid", "not JSON: %s", where.text);
	else if (!json_is_object(request))
		(void)control_fail(&error, "invalid", "expected an object");
	else
		result = carry_out(client, request, &error);
	make_ascii(error.message);
	answer(client, json_object_get(request, "id"), result, &error);
	json_decref(request);
}

/* Serve one line of those received. Return: false when none is complete. */
static bool serve_received(struct control_client *client)
{
	char *end = memchr(client->line, '\n', client->length);
	size_t length;

	if (end == NULL)
		return false;
	length = (size_t)(end - client->line);
	serve_line(client, client->line, length);
	client->length -= length + 1;
	memmove(client->line, end + 1, client->length);
	return true;
}

static void refuse_long_line(struct control_client *client)
{
	struct control_error error;

	(void)control_fail(&error, "invalid", "a line of more than %u bytes", CONTROL_MAX_LINE);
	answer(client, NULL, NULL, &error);
	client->ended = true;
	client->length = 0;
}

static void receive(struct control_client *client)
{
	ssize_t got;

	if (client->length == sizeof(client->line)) {
		refuse_long_line(client);
		return;
	}
	got = recv(client->source.fd, client->line + client->length,
		   sizeof(client->line) - client->length, MSG_DONTWAIT);
	if (got > 0)
		client->length += (size_t)got;
	else if (got == 0)
		client->ended = true;
	else if (errno != EAGAIN && errno != EINTR)
		client->broken = true;
}

/* All complete lines, as long as the answers are taken. */
static void serve(struct control_client *client)
{
	flush(client);
	if (client->lost > 0 && buf_length(&client->out) == 0) {
		put_lost(client);
		flush(client);
	}
	while (buf_length(&client->out) == 0 && !client->broken && client->taken == NULL &&
	       serve_received(client))
		flush(client);
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct control_client *client = container_of(source, struct control_client, source);

	serve(client);
	if ((events & EPOLLIN) != 0 && buf_length(&client->out) == 0 && !client->ended &&
	    client->taken == NULL) {
		receive(client);
		serve(client);
	}
	if ((events & EPOLLERR) != 0 ||
	    ((events & EPOLLHUP) != 0 && (client->ended || (events & EPOLLIN) == 0)))
		client->broken = true;
	if (!client->broken)
		watch(client);
	if (client->broken ||
	    ((client->ended || client->taken != NULL) && buf_length(&client->out) == 0))
		drop(client);
}

/* --- clients --- */

static bool may_ask(int fd, uid_t uid)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return false;
	return peer.uid == 0 || peer.uid == uid;
}

/* One line, if it can be had, and good-bye. */
static void turn_away(struct control_server *server, int fd, const char *code, const char *message)
{
	json_t *line =
		json_pack("{s:n, s:{s:s, s:s}}", "id", "error", "code", code, "message", message);
	char *text = line != NULL ? json_dumps(line, JSON_COMPACT) : NULL;
	char newline[] = "\n";
	struct iovec pieces[] = { { text, text != NULL ? strlen(text) : 0 }, { newline, 1 } };
	struct msghdr msg = { .msg_iov = pieces, .msg_iovlen = array_size(pieces) };

	if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug(NULL, "control: %s", strerrordesc_np(errno));
	log_limited(&server->refusals, loop_now_ms(server->loop), LOG_WARNING, NULL,
		    "control: refused a client: %s", message);
	free(text);
	json_decref(line);
	fd_close(&fd);
}

static void greet(struct control_client *client)
{
	json_t *hello = json_pack("{s:{s:s, s:s, s:i}}", "hello", "program", "vhost-device-vsock",
				  "version", VERSION, "protocol", CONTROL_PROTOCOL);

	put(client, hello, CONTROL_MAX_OUTPUT);
	json_decref(hello);
	flush(client);
}

static void welcome(struct control_server *server, int fd)
{
	struct control_client *client = calloc(1, sizeof(*client));

	if (client == NULL) {
		fd_close(&fd);
		return;
	}
	client->server = server;
	client->source.on_event = on_client;
	client->stall.on_expire = on_stall;
	if (loop_add(server->loop, &client->source, fd, EPOLLIN) < 0) {
		fd_close(&fd);
		free(client);
		return;
	}
	list_append(&server->clients, &client->node);
	server->client_count++;
	greet(client);
	if (!client->broken)
		watch(client);
	if (client->broken)
		drop(client);
}

static void resume_accepting(struct timer *timer)
{
	struct control_server *server = container_of(timer, struct control_server, accept_resume);

	if (loop_modify(server->loop, &server->accept, EPOLLIN) < 0)
		(void)!loop_arm(server->loop, timer, ACCEPT_PAUSE_MS);
}

static void on_accept(struct loop_source *source, uint32_t events)
{
	struct control_server *server = container_of(source, struct control_server, accept);
	int fd = accept4(server->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
		/* the timer first: a listener that nothing would wake again were lost */
		if (loop_arm(server->loop, &server->accept_resume, ACCEPT_PAUSE_MS) == 0)
			(void)!loop_modify(server->loop, &server->accept, 0);
	}
	if (fd < 0)
		return;
	if (!may_ask(fd, server->owner))
		turn_away(server, fd, "forbidden", "only root and the daemon's user may ask");
	else if (server->client_count >= CONTROL_MAX_CLIENTS)
		turn_away(server, fd, "limit", "too many clients");
	else
		welcome(server, fd);
}

int control_open(struct control_server *server, struct loop *loop,
		 const struct control_place *place, const struct control_ops *ops, void *ctx)
{
	int err = broker_listen_private(place->broker, &server->listener, place->path);

	server->broker = place->broker;
	server->owner = place->owner;
	server->loop = loop;
	server->ops = ops;
	server->ctx = ctx;
	server->accept.on_event = on_accept;
	server->accept.fd = -1;
	server->accept_resume.on_expire = resume_accepting;
	list_init(&server->clients);
	if (err == 0)
		err = loop_add(loop, &server->accept, server->listener.fd, EPOLLIN);
	if (err < 0)
		control_close(server);
	return err;
}

void control_close(struct control_server *server)
{
	if (server->loop == NULL)
		return;
	while (!list_empty(&server->clients))
		drop(list_first(&server->clients, struct control_client, node));
	loop_del(server->loop, &server->accept);
	loop_disarm(server->loop, &server->accept_resume);
	broker_unlisten(server->broker, &server->listener);
	server->loop = NULL;
}

void control_take(struct control_client *client, void (*taken)(void *ctx, int fd), void *ctx)
{
	client->taken = taken;
	client->taker = ctx;
}

/* --- events --- */

void control_subscribe(struct control_client *client)
{
	struct control_server *server = client->server;

	if (client->subscribed)
		return;
	client->subscribed = true;
	if (server->subscriber_count++ == 0)
		server->ops->subscribed(server->ctx, true);
}

static void tell(struct control_client *client, const char *text, size_t length)
{
	if (buf_length(&client->out) + length > CONTROL_MAX_EVENT_OUTPUT) {
		client->lost++;
		return;
	}
	if (client->lost > 0)
		put_lost(client);
	if (buf_append(&client->out, text, length, CONTROL_MAX_OUTPUT) < 0)
		client->lost++;
	watch(client);
}

void control_publish(struct control_server *server, json_t *event)
{
	char *text = json_dumps(event, JSON_COMPACT);
	size_t length = text != NULL ? strlen(text) : 0;
	struct list *pos;
	struct list *tmp;

	if (text == NULL)
		return;
	text[length] = '\n'; /* in the place of the terminator */
	list_for_each_safe (pos, tmp, &server->clients) {
		struct control_client *client = container_of(pos, struct control_client, node);

		if (client->subscribed)
			tell(client, text, length + 1);
	}
	free(text);
}

void control_publish_lost(struct control_server *server, uint32_t count)
{
	struct list *pos;
	struct list *tmp;

	list_for_each_safe (pos, tmp, &server->clients) {
		struct control_client *client = container_of(pos, struct control_client, node);

		if (!client->subscribed || count == 0)
			continue;
		client->lost += count;
		if (buf_length(&client->out) == 0)
			put_lost(client);
		watch(client);
	}
}
