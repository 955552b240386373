// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * server.h - a Unix socket that answers requests: one JSON object a line, both
 * ways. Knows who may ask and how much, not what about.
 *
 * The protocol is in docs/control.md. Clients are root or the daemon's own user,
 * so they are trusted to ask for anything, but not to be well-behaved: what a
 * client can hold is bounded, and nobody waits for one.
 *
 * Context: one loop's thread.
 */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"
#include "base/list.h"
#include "base/log.h"
#include "host/broker.h"
#include "host/unix_listener.h"
#include "loop/loop.h"

#define CONTROL_PROTOCOL 1
#define CONTROL_MAX_CLIENTS 64u
#define CONTROL_MAX_LINE (64u * 1024u)           /* of a request, its newline included */
#define CONTROL_MAX_OUTPUT (16u * 1024u * 1024u) /* answers that a client has not read */
#define CONTROL_MAX_EVENT_OUTPUT (256u * 1024u)  /* beyond it a subscriber loses events */
#define CONTROL_STALL_MS 10000u                  /* without one byte read: dropped */

#define CONTROL_MESSAGE_BYTES 512u

/** Why a request failed. */
struct control_error {
	const char *code; /* static: "invalid" and so on, see docs/control.md */
	char message[CONTROL_MESSAGE_BYTES];
};

/** Fill @error. Return: NULL, for the caller to pass on. */
json_t *control_fail(struct control_error *error, const char *code, const char *fmt, ...)
	printf_like(3, 4);

struct control_client;

struct control_ops {
	/**
	 * call() - Carry out a request
	 * @params: an object; borrowed
	 * Return: the result, a new reference; or NULL with @error filled
	 */
	json_t *(*call)(void *ctx, struct control_client *client, const char *method,
			json_t *params, struct control_error *error);
	/** There are subscribers now, or no more. */
	void (*subscribed)(void *ctx, bool any);
};

/** Where clients come, and who is welcome. */
struct control_place {
	struct broker *broker; /* makes the socket; outlives the server */
	const char *path;
	uid_t owner; /* who may ask, beside root */
};

/** Zero-initialised is closed. */
struct control_server {
	struct loop *loop;
	struct broker *broker;
	uid_t owner;
	const struct control_ops *ops;
	void *ctx;
	struct unix_listener listener;
	struct loop_source accept;
	struct timer accept_resume;
	struct list clients;
	uint32_t client_count;
	uint32_t subscriber_count;
	struct log_limit refusals;
};

/**
 * control_open() - Make the socket, mode 0600, and serve
 *
 * Return: 0 or -errno as unix_listener_open(); closed then
 * Context: before there are workers
 */
int control_open(struct control_server *server, struct loop *loop,
		 const struct control_place *place, const struct control_ops *ops, void *ctx)
	must_use;

/** Drop all clients and remove the socket; legal when closed. */
void control_close(struct control_server *server);

/**
 * control_take() - Have the client's connection when it has read the answer
 * @taken: gets the descriptor for its own; -1: the client went away before
 *
 * Called from call(). No further request of this client is read.
 */
void control_take(struct control_client *client, void (*taken)(void *ctx, int fd), void *ctx);

/** Send @client events from now on. Called from call(). */
void control_subscribe(struct control_client *client);

/** Send an event to all subscribers; @event stays the caller's. */
void control_publish(struct control_server *server, json_t *event);

/** Tell all subscribers that events were lost before they got here. */
void control_publish_lost(struct control_server *server, uint32_t count);

#endif
