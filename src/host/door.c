// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * door.c - see door.h. Answers come in the order of the calls, so a call needs
 * no name: the oldest one is answered. One that was dropped leaves its place.
 *
 * Guests ask for many connections at once, and a message to another process costs
 * more than what it asks for: calls of a turn go in messages of up to
 * BROKER_MAX_DIALS, each of which is answered as a whole.
 */
#include "host/door.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/log.h"
#include "host/broker_private.h"

static void answer(const struct door *door, struct door_caller *caller, int err, int fd)
{
	if (caller == NULL) {
		fd_close(&fd);
		return;
	}
	caller->waits = false;
	door->on_answer(caller, err, fd);
}

static void answer_first(struct door *door, int err, int fd)
{
	struct door_caller *caller = door->calls[door->first].caller;

	door->first = (door->first + 1) % DOOR_MAX_CALLS;
	door->count--;
	answer(door, caller, err, fd);
}

static struct door_call *call_at(struct door *door, unsigned int index)
{
	return &door->calls[(door->first + index) % DOOR_MAX_CALLS];
}

static void fail_unsent(struct door *door, int err)
{
	while (door->unsent > 0) {
		door->unsent--;
		door->count--;
		answer(door, call_at(door, door->count)->caller, err, -1);
	}
}

static void send_calls(struct loop_task *task)
{
	struct door *door = container_of(task, struct door, send);
	struct broker_dial dials[BROKER_MAX_DIALS];

	while (door->unsent > 0) {
		unsigned int n = min_u32(door->unsent, BROKER_MAX_DIALS);
		int err;

		for (unsigned int i = 0; i < n; i++) {
			const struct door_call *call =
				call_at(door, door->count - door->unsent + i);

			dials[i] = (struct broker_dial){ .port = call->port, .type = call->type };
		}
		err = fd_send(door->fd, dials, n * sizeof(*dials), -1);
		if (err < 0)
			fail_unsent(door, err);
		else
			door->unsent -= n;
	}
}

static void give_up(struct door *door)
{
	log_error(NULL, "the broker is gone: guests cannot reach host programs any more");
	loop_del(door->loop, &door->source);
	fd_close(&door->fd);
	door->unsent = 0;
	while (door->count > 0)
		answer_first(door, -EPIPE, -1);
}

/* Whether an answer is one to calls that were sent. @lost: its descriptors are. */
static bool is_answer(const struct door *door, const struct broker_dialled *told, size_t n_fds,
		      bool lost)
{
	size_t connected = 0;

	if (told->count == 0 || told->count > BROKER_MAX_DIALS ||
	    told->count > door->count - door->unsent)
		return false;
	for (uint32_t i = 0; i < told->count; i++) {
		if (told->err[i] > 0)
			return false;
		connected += told->err[i] == 0;
	}
	return lost || connected == n_fds;
}

/* Return: whether there may be another one. */
static bool take_answer(struct door *door)
{
	struct broker_dialled told = { 0 };
	int fds[BROKER_MAX_DIALS];
	size_t n_fds = 0;
	size_t taken = 0;
	ssize_t got = fd_recv(door->fd, &told, sizeof(told), fds, BROKER_MAX_DIALS, &n_fds);
	bool lost = got == -EMFILE; /* no room for them here */

	if (got == -EAGAIN || got == -EINTR)
		return false;
	if ((got != (ssize_t)sizeof(told) && !lost) || !is_answer(door, &told, n_fds, lost)) {
		fd_close_all(fds, n_fds);
		give_up(door);
		return false;
	}
	for (uint32_t i = 0; i < told.count; i++) {
		int err = lost && told.err[i] == 0 ? -EMFILE : told.err[i];

		answer_first(door, err, err == 0 ? fds[taken++] : -1);
	}
	return true;
}

/* Level-triggered: no more answers than there were calls. */
static void on_event(struct loop_source *source, uint32_t events)
{
	struct door *door = container_of(source, struct door, source);

	(void)events;
	/* without a call there is still the end to be taken note of */
	while (take_answer(door) && door->count > door->unsent)
		;
}

int door_open(struct door *door, struct loop *loop, int fd,
	      void (*on_answer)(struct door_caller *caller, int err, int fd))
{
	int err;

	*door = (struct door){
		.loop = loop,
		.on_answer = on_answer,
		.fd = fd,
		.used = fd >= 0,
	};
	door->source.fd = -1;
	door->source.on_event = on_event;
	loop_task_init(&door->send, send_calls);
	if (fd < 0)
		return 0;
	err = loop_add(loop, &door->source, fd, EPOLLIN);
	if (err < 0)
		fd_close(&door->fd);
	return err;
}

void door_close(struct door *door)
{
	if (!door->used)
		return;
	loop_del(door->loop, &door->source);
	loop_cancel(&door->send);
	fd_close(&door->fd);
}

int door_call(struct door *door, struct door_caller *caller, uint32_t port, int type)
{
	if (door->fd < 0)
		return -EPIPE;
	if (door->count == DOOR_MAX_CALLS)
		return -EAGAIN;
	*call_at(door, door->count) =
		(struct door_call){ .caller = caller, .port = port, .type = type };
	door->count++;
	door->unsent++;
	caller->waits = true;
	loop_defer(door->loop, &door->send);
	return 0;
}

void door_cancel(struct door *door, struct door_caller *caller)
{
	if (!caller->waits)
		return;
	caller->waits = false;
	for (unsigned int i = 0; i < door->count; i++) {
		struct door_call *call = call_at(door, i);

		if (call->caller == caller)
			call->caller = NULL;
	}
}
