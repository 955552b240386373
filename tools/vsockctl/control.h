// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * control.h - the client's side of the daemon's control socket: one JSON text
 * per line, a request and its answer, and events after a subscription.
 *
 * Theory of operation: one request is under way at a time. The daemon is not
 * trusted: a line has a bound and an answer a deadline. Functions complain
 * themselves, so that their callers only have to stop.
 */
#ifndef VSOCKCTL_CONTROL_H
#define VSOCKCTL_CONTROL_H

#include <jansson.h>
#include <stddef.h>

#include "base/compiler.h"

/** Longest line that is taken: a list of 65536 connections has room in it. */
#define CONTROL_LINE_MAX (64u << 20)

/** Time for an answer. */
#define CONTROL_TIMEOUT_MS 30000

/** The version of the protocol this program speaks. */
#define CONTROL_PROTOCOL 1

struct control {
	int fd;
	char *data; /* bytes that came */
	size_t len;
	size_t room;
	size_t done; /* of them, those of the last line that was returned */
};

/**
 * control_open() - Connect and see that the daemon speaks our protocol
 *
 * Return: 0, or -1 after a complaint. After 0 control_close() is owed.
 */
int control_open(struct control *control, const char *path) must_use;

/** Disconnect and free. */
void control_close(struct control *control);

/**
 * control_call() - A request and its answer
 * @method: name
 * @params: taken (a reference is stolen); NULL for none
 *
 * Return: the result, to be released by json_decref(); NULL after a complaint
 */
json_t *control_call(struct control *control, const char *method, json_t *params) must_use;

/**
 * control_read() - The next line
 * @timeout_ms: -1 for no end
 *
 * Return: what it says, to be released by json_decref(); NULL after a complaint
 */
json_t *control_read(struct control *control, int timeout_ms) must_use;

/** control_open(), control_call() and control_close() in one. */
json_t *control_ask(const char *path, const char *method, json_t *params) must_use;

/** Parameters of "CID, or all": {"cid": argv[0]} or {}. Return: NULL after a complaint. */
json_t *control_vm_params(int argc, char **argv) must_use;

#endif
