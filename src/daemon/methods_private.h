// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * methods_private.h - what the files of the methods share: methods.c has the
 * table, methods_query.c asks, methods_capture.c asks for
 * packets, methods_change.c changes.
 */
#ifndef DAEMON_METHODS_PRIVATE_H
#define DAEMON_METHODS_PRIVATE_H

#include "daemon/methods.h"

/** One request. */
struct call {
	struct methods *methods;
	struct control_client *client;
	json_t *params; /* an object */
	struct control_error *error;
};

/**
 * method_parse() - json_unpack() of all parameters
 * @format: ends in "!}", so that what is unknown is refused
 *
 * Return: whether they are as they should; otherwise the error is filled
 */
bool method_parse(const struct call *call, const char *format, ...) must_use;

/** The VM of this CID; or NULL with the error filled. */
struct vm *method_find(const struct call *call, json_int_t cid) must_use;

/** Fill the error. Return: NULL. */
json_t *method_no_memory(const struct call *call);

/* Each returns the result or NULL with the error filled, see docs/control.md. */

json_t *method_list(const struct call *call);
json_t *method_show(const struct call *call);
json_t *method_connections(const struct call *call);
json_t *method_stats(const struct call *call);

json_t *method_capture(const struct call *call);

json_t *method_add(const struct call *call);
json_t *method_remove(const struct call *call);
json_t *method_set(const struct call *call);
json_t *method_reload(const struct call *call);
json_t *method_log_level(const struct call *call);
json_t *method_drain(const struct call *call);

/** Reload for a signal: what would be answered goes to the log. */
void method_reload_and_log(struct manager *manager);

#endif
