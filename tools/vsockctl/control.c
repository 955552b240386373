// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * control.c - see control.h. Knows how messages are framed and answered, and
 * nothing of what any method means.
 */
#include "vsockctl/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "common/hybrid.h"
#include "host/unix_listener.h"
#include "vsockctl/vsockctl.h"

#define READ_BYTES 65536u

/* Room for a further read. Return: 0, or -1 after a complaint. */
static int make_room(struct control *control)
{
	size_t room;
	char *data;

	if (control->room - control->len >= READ_BYTES)
		return 0;
	room = control->room < READ_BYTES ? 2 * READ_BYTES : 2 * control->room;
	if (room > 2 * (size_t)CONTROL_LINE_MAX) {
		complain("the daemon's answer is longer than %u bytes", CONTROL_LINE_MAX);
		return -1;
	}
	data = realloc(control->data, room);
	if (data == NULL) {
		complain("%s", strerror(ENOMEM));
		return -1;
	}
	control->data = data;
	control->room = room;
	return 0;
}

/* Wait for bytes and add them. Return: 0, or -1 after a complaint. */
static int receive(struct control *control, int64_t deadline)
{
	struct pollfd wait = { .fd = control->fd, .events = POLLIN };
	int64_t left = deadline - hybrid_now_ms();
	ssize_t n;
	int ready;

	if (make_room(control) < 0)
		return -1;
	if (deadline == INT64_MAX)
		ready = poll(&wait, 1, -1);
	else
		ready = left > 0 ? poll(&wait, 1, (int)left) : 0;
	if (ready == 0) {
		complain("the daemon does not answer");
		return -1;
	}
	n = recv(control->fd, control->data + control->len, control->room - control->len,
		 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		complain("the daemon ended the control connection%s%s", n < 0 ? ": " : "",
			 n < 0 ? strerror(errno) : "");
		return -1;
	}
	control->len += (size_t)n;
	return 0;
}

static void drop_line(struct control *control)
{
	if (control->done == 0)
		return;
	control->len -= control->done;
	memmove(control->data, control->data + control->done, control->len);
	control->done = 0;
}

json_t *control_read(struct control *control, int timeout_ms)
{
	int64_t deadline = timeout_ms < 0 ? INT64_MAX : hybrid_now_ms() + timeout_ms;
	const char *newline = NULL;
	size_t seen = 0;
	json_t *message;

	drop_line(control);
	while (newline == NULL) {
		if (control->len > seen)
			newline = memchr(control->data + seen, '\n', control->len - seen);
		seen = control->len;
		if (newline == NULL && receive(control, deadline) < 0)
			return NULL;
	}
	control->done = (size_t)(newline - control->data) + 1;
	message = json_loadb(control->data, control->done, 0, NULL);
	if (!json_is_object(message)) {
		complain("the daemon sent a line that is no JSON object");
		json_decref(message);
		return NULL;
	}
	return message;
}

static int send_line(struct control *control, const json_t *message)
{
	char *text = json_dumps(message, JSON_COMPACT);
	size_t len = text != NULL ? strlen(text) : 0;
	size_t done = 0;
	int result = 0;

	if (text == NULL) {
		complain("the request has bytes that are not UTF-8");
		return -1;
	}
	text[len++] = '\n'; /* in the place of its end */
	while (done < len && result == 0) {
		ssize_t n = send(control->fd, text + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR) {
			complain("cannot write to the daemon: %s", strerror(errno));
			result = -1;
		}
		done += n > 0 ? (size_t)n : 0;
	}
	free(text);
	return result;
}

/* What an answer means. Return: the result with a reference, or NULL after a complaint. */
static json_t *judge(const char *method, const json_t *answer)
{
	const json_t *error = json_object_get(answer, "error");
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *code = json_string_value(json_object_get(error, "code"));
	json_t *result = json_object_get(answer, "result");

	if (error != NULL)
		complain("%s: %s (%s)", method, message != NULL ? message : "refused",
			 code != NULL ? code : "no code");
	else if (result == NULL)
		complain("%s: the answer has neither a result nor an error", method);
	else
		return json_incref(result);
	return NULL;
}

json_t *control_call(struct control *control, const char *method, json_t *params)
{
	json_t *request =
		json_pack("{s:i, s:s, s:o*}", "id", 1, "method", method, "params", params);
	json_t *answer;
	json_t *result;
	int sent;

	if (request == NULL) {
		complain("%s: the request has bytes that are not UTF-8", method);
		return NULL;
	}
	sent = send_line(control, request);
	json_decref(request);
	if (sent < 0)
		return NULL;
	answer = control_read(control, CONTROL_TIMEOUT_MS);
	/* Events may stand before the answer. */
	while (answer != NULL && json_object_get(answer, "id") == NULL) {
		json_decref(answer);
		answer = control_read(control, CONTROL_TIMEOUT_MS);
	}
	if (answer == NULL)
		return NULL;
	result = judge(method, answer);
	json_decref(answer);
	return result;
}

static int check_hello(struct control *control)
{
	json_t *message = control_read(control, CONTROL_TIMEOUT_MS);
	const json_t *hello = json_object_get(message, "hello");
	json_int_t protocol = json_integer_value(json_object_get(hello, "protocol"));

	if (message == NULL)
		return -1;
	/* A client that is not welcome gets an error in its place. */
	if (protocol != CONTROL_PROTOCOL && json_object_get(message, "error") != NULL)
		json_decref(judge("control socket", message));
	else if (protocol != CONTROL_PROTOCOL)
		complain("the daemon speaks version %lld of the control protocol, expected %d",
			 (long long)protocol, CONTROL_PROTOCOL);
	json_decref(message);
	return protocol == CONTROL_PROTOCOL ? 0 : -1;
}

int control_open(struct control *control, const char *path)
{
	struct sockaddr_un address;
	int err = unix_address(&address, path);

	*control = (struct control){ .fd = -1 };
	if (err == 0) {
		control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (control->fd < 0 ||
		    connect(control->fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
			err = -errno;
	}
	if (err < 0) {
		complain("no daemon answers at the control socket '%s': %s", path, strerror(-err));
		fd_close(&control->fd);
		return -1;
	}
	if (check_hello(control) < 0) {
		control_close(control);
		return -1;
	}
	return 0;
}

void control_close(struct control *control)
{
	fd_close(&control->fd);
	free(control->data);
	*control = (struct control){ .fd = -1 };
}

json_t *control_ask(const char *path, const char *method, json_t *params)
{
	struct control control;
	json_t *result;

	if (control_open(&control, path) < 0) {
		json_decref(params);
		return NULL;
	}
	result = control_call(&control, method, params);
	control_close(&control);
	return result;
}

json_t *control_vm_params(int argc, char **argv)
{
	uint32_t cid;

	if (argc == 0)
		return json_object();
	if (argument_u32("CID", argv[0], UINT32_MAX, &cid) < 0)
		return NULL;
	return json_pack("{s:I}", "cid", (json_int_t)cid);
}
