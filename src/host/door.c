// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * door.c - see door.h. Answers come in the order of the calls, so a call needs
 * no name: the oldest one is answered. One that was dropped leaves its place.
 */
#include "host/door.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/log.h"
#include "host/broker_private.h"

static void answer_first(struct door *door, int err, int fd)
{
	struct door_caller *caller = door->calls[door->first];

	door->first = (door->first + 1) % DOOR_MAX_CALLS;
	door->count--;
	if (caller == NULL) {
		fd_close(&fd);
		return;
	}
	caller->waits = false;
	door->on_answer(caller, err, fd);
}

static void give_up(struct door *door)
{
	log_error(NULL, "the broker is gone: guests cannot reach host programs any more");
	loop_del(door->loop, &door->source);
	fd_close(&door->fd);
	while (door->count > 0)
		answer_first(door, -EPIPE, -1);
}

/* Return: whether there may be another answer. */
static bool take_answer(struct door *door)
{
	struct broker_reply reply;
	size_t n_fds = 0;
	int fd = -1;
	ssize_t got = fd_recv(door->fd, &reply, sizeof(reply), &fd, 1, &n_fds);

	if (got == -EAGAIN || got == -EINTR)
		return false;
	if (got == -EMFILE && door->count > 0) { /* no room for it here */
		answer_first(door, -EMFILE, -1);
		return true;
	}
	if (got != (ssize_t)sizeof(reply) || door->count == 0 || (reply.err == 0) != (fd >= 0)) {
		fd_close(&fd);
		give_up(door);
		return false;
	}
	answer_first(door, reply.err, fd);
	return true;
}

/* Level-triggered: no more answers than there were calls. */
static void on_event(struct loop_source *source, uint32_t events)
{
	struct door *door = container_of(source, struct door, source);
	unsigned int calls = door->count;

	(void)events;
	/* without a call there is still the end to be taken note of */
	while (take_answer(door) && --calls > 0)
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
	fd_close(&door->fd);
}

int door_call(struct door *door, struct door_caller *caller, uint32_t port, int type)
{
	const struct broker_dial request = { .port = port, .type = type };
	int err;

	if (door->fd < 0)
		return -EPIPE;
	if (door->count == DOOR_MAX_CALLS)
		return -EAGAIN;
	err = fd_send(door->fd, &request, sizeof(request), -1);
	if (err < 0)
		return err;
	door->calls[(door->first + door->count++) % DOOR_MAX_CALLS] = caller;
	caller->waits = true;
	return 0;
}

void door_cancel(struct door *door, struct door_caller *caller)
{
	if (!caller->waits)
		return;
	caller->waits = false;
	for (unsigned int i = 0; i < door->count; i++) {
		struct door_caller **call = &door->calls[(door->first + i) % DOOR_MAX_CALLS];

		if (*call == caller)
			*call = NULL;
	}
}
