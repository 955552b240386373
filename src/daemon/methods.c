// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * methods.c - the table of requests, and what subscribers are told.
 */
#include "daemon/methods.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "daemon/methods_private.h"
#include "daemon/report.h"

bool method_parse(const struct call *call, const char *format, ...)
{
	json_error_t wrong;
	va_list args;
	int err;

	va_start(args, format);
	err = json_vunpack_ex(call->params, &wrong, 0, format, args);
	va_end(args);
	if (err < 0)
		(void)control_fail(call->error, "invalid", "params: %s", wrong.text);
	return err == 0;
}

struct vm *method_find(const struct call *call, json_int_t cid)
{
	struct vm *vm = cid < 0 ? NULL : vm_set_find(&call->methods->manager->set, (uint64_t)cid);

	if (vm == NULL)
		(void)control_fail(call->error, "not-found", "no VM has CID %lld", (long long)cid);
	return vm;
}

json_t *method_no_memory(const struct call *call)
{
	return control_fail(call->error, "internal", "no memory");
}

static json_t *subscribe(const struct call *call)
{
	if (!method_parse(call, "{!}"))
		return NULL;
	control_subscribe(call->client);
	return json_object();
}

/* --- the table --- */

static const struct {
	const char *name;
	json_t *(*run)(const struct call *call);
} table[] = {
	{ "list", method_list },
	{ "show", method_show },
	{ "connections", method_connections },
	{ "stats", method_stats },
	{ "add", method_add },
	{ "remove", method_remove },
	{ "set", method_set },
	{ "reload", method_reload },
	{ "log-level", method_log_level },
	{ "drain", method_drain },
	{ "subscribe", subscribe },
	{ "capture", method_capture },
};

static json_t *on_call(void *ctx, struct control_client *client, const char *method, json_t *params,
		       struct control_error *error)
{
	const struct call call = {
		.methods = ctx,
		.client = client,
		.params = params,
		.error = error,
	};

	for (size_t i = 0; i < array_size(table); i++) {
		if (strcmp(table[i].name, method) == 0)
			/* cppcheck-suppress returnDanglingLifetime ; it returns no part of it */
			return table[i].run(&call);
	}
	return control_fail(error, "unknown-method", "there is no method of this name");
}

/* --- events --- */

static void on_subscribed(void *ctx, bool any)
{
	const struct methods *methods = ctx;

	for (uint32_t i = 0; i < methods->manager->worker_count; i++)
		event_queue_switch(&methods->manager->workers[i].events, any);
}

static void publish_events(struct methods *methods, struct event_queue *queue)
{
	struct event event;

	event_queue_begin(queue);
	while (event_queue_read(queue, &event)) {
		json_t *line = report_event(&event);

		control_publish(&methods->server, line);
		json_decref(line);
	}
	control_publish_lost(&methods->server, event_queue_take_lost(queue));
}

static void on_events(struct loop_msg *msg)
{
	struct event_queue *queue = container_of(msg, struct event_queue, ready);

	publish_events(queue->ctx, queue);
}

/* --- life --- */

int methods_open(struct methods *methods, struct manager *manager, struct loop *loop,
		 const struct control_place *place)
{
	static const struct control_ops ops = { .call = on_call, .subscribed = on_subscribed };
	int err = 0;

	methods->manager = manager;
	for (uint32_t i = 0; i < manager->worker_count && err == 0; i++)
		err = event_queue_init(&manager->workers[i].events, loop, on_events, methods);
	if (err < 0)
		return err;
	err = control_open(&methods->server, loop, place, &ops, methods);
	if (err < 0)
		return err;
	process_open(&methods->process);
	captures_open(&methods->captures, loop);
	methods->open = true;
	return 0;
}

void methods_close(struct methods *methods)
{
	if (!methods->open)
		return;
	control_close(&methods->server);
	captures_close(&methods->captures);
	process_close(&methods->process);
	methods->open = false;
}
