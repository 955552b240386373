// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * relay.c - see relay.h. Does not change the flags of a descriptor it was
 * given, since a terminal or a pipe is shared with other programs.
 */
#include "vsockctl/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

enum kind {
	KIND_SOCKET, /* each call can be told not to block */
	KIND_FREE,   /* never blocks: a file, or opened anew as non-blocking */
	KIND_OTHER,  /* takes a page without blocking when poll() says so */
};

struct channel {
	int fd;
	enum kind kind;
};

struct flow {
	struct channel from;
	struct channel to;
	size_t start;
	size_t end;
	bool eof;  /* nothing more comes in */
	bool over; /* and nothing more goes out */
	uint8_t data[RELAY_BUFFER_BYTES];
};

struct relay {
	struct flow flows[2];
	int err;
};

/*
 * A pipe opened a second time has flags of its own. Where that is not allowed
 * the descriptor stays as it is.
 */
static void open_channel(struct channel *channel, int fd, int access)
{
	char path[sizeof("/proc/self/fd/-2147483648")];
	struct stat st;
	int again;

	channel->fd = fd;
	channel->kind = KIND_OTHER;
	if (fstat(fd, &st) < 0)
		return;
	if (S_ISSOCK(st.st_mode)) {
		channel->kind = KIND_SOCKET;
	} else if (S_ISREG(st.st_mode)) {
		channel->kind = KIND_FREE;
	} else if (S_ISFIFO(st.st_mode)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path, access | O_NONBLOCK | O_CLOEXEC);
		if (again < 0)
			return;
		close(fd);
		channel->fd = again;
		channel->kind = KIND_FREE;
	}
}

static ssize_t channel_read(const struct channel *channel, void *data, size_t room)
{
	if (channel->kind == KIND_SOCKET)
		return recv(channel->fd, data, room, MSG_DONTWAIT);
	return read(channel->fd, data, room);
}

static ssize_t channel_write(const struct channel *channel, const void *data, size_t len)
{
	if (channel->kind == KIND_SOCKET)
		return send(channel->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (channel->kind == KIND_OTHER)
		len = min_size(len, PIPE_BUF);
	return write(channel->fd, data, len);
}

static bool is_for_later(int err)
{
	return err == EAGAIN || err == EINTR;
}

/* No byte can go out any more: whoever still writes to us is to know. */
static void flow_break(struct relay *relay, struct flow *flow, int err)
{
	bool lost = flow->end > flow->start || (err != EPIPE && err != ECONNRESET);

	if (lost && relay->err == 0)
		relay->err = -err;
	flow->over = true;
	if (flow->from.kind == KIND_SOCKET)
		shutdown(flow->from.fd, SHUT_RD);
}

static void flow_end(struct flow *flow)
{
	flow->over = true;
	if (flow->to.kind == KIND_SOCKET)
		shutdown(flow->to.fd, SHUT_WR);
	else
		fd_close(&flow->to.fd);
}

static void flow_fill(struct relay *relay, struct flow *flow)
{
	ssize_t n =
		channel_read(&flow->from, flow->data + flow->end, RELAY_BUFFER_BYTES - flow->end);

	if (n > 0) {
		flow->end += (size_t)n;
		return;
	}
	if (n < 0 && is_for_later(errno))
		return;
	if (n < 0 && relay->err == 0)
		relay->err = -errno;
	flow->eof = true;
}

static void flow_drain(struct relay *relay, struct flow *flow)
{
	ssize_t n;

	if (flow->end > flow->start) {
		n = channel_write(&flow->to, flow->data + flow->start, flow->end - flow->start);
		if (n < 0 && !is_for_later(errno)) {
			flow_break(relay, flow, errno);
			return;
		}
		flow->start += n > 0 ? (size_t)n : 0;
	}
	if (flow->start == flow->end) {
		flow->start = 0;
		flow->end = 0;
	}
	if (flow->eof && flow->end == 0)
		flow_end(flow);
}

/* What to wait for; -1 keeps poll() from telling what cannot be acted on yet. */
static void flow_watch(const struct flow *flow, struct pollfd *polls)
{
	bool wants_in = !flow->over && !flow->eof && flow->end < RELAY_BUFFER_BYTES;

	polls[0] = (struct pollfd){ .fd = wants_in ? flow->from.fd : -1, .events = POLLIN };
	polls[1] = (struct pollfd){ .fd = flow->over ? -1 : flow->to.fd };
	if (flow->end > flow->start)
		polls[1].events = POLLOUT;
}

static void flow_step(struct relay *relay, struct flow *flow, const struct pollfd *polls)
{
	if (flow->over)
		return;
	if (polls[0].revents != 0)
		flow_fill(relay, flow);
	if ((polls[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
		flow_break(relay, flow, EPIPE);
	else if (flow->end > flow->start || flow->eof)
		flow_drain(relay, flow);
}

/* Without standard output there is nobody left to work for. */
static bool is_over(const struct relay *relay)
{
	const struct flow *a = &relay->flows[0];
	const struct flow *b = &relay->flows[1];
	bool deaf = (a->over && !a->eof && a->to.kind != KIND_SOCKET) ||
		    (b->over && !b->eof && b->to.kind != KIND_SOCKET);

	return deaf || (a->over && b->over);
}

static void relay_loop(struct relay *relay)
{
	struct pollfd polls[4];

	while (!is_over(relay)) {
		flow_watch(&relay->flows[0], polls);
		flow_watch(&relay->flows[1], polls + 2);
		if (poll(polls, array_size(polls), -1) < 0) {
			if (errno == EINTR)
				continue;
			relay->err = -errno;
			return;
		}
		flow_step(relay, &relay->flows[0], polls);
		flow_step(relay, &relay->flows[1], polls + 2);
	}
}

static void close_end(int in, int out)
{
	fd_close(&in);
	if (out != in)
		fd_close(&out);
}

/* A socket in both directions stays one descriptor. */
static void open_end(const struct relay_end *end, struct channel *in, struct channel *out)
{
	open_channel(in, end->in, O_RDONLY);
	if (end->out == end->in)
		*out = *in;
	else
		open_channel(out, end->out, O_WRONLY);
}

int relay_run(struct relay_end a, struct relay_end b)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	struct flow *there;
	struct flow *back;
	bool a_is_one = a.in == a.out;
	bool b_is_one = b.in == b.out;
	int err;

	if (relay == NULL)
		return -ENOMEM;
	there = &relay->flows[0];
	back = &relay->flows[1];
	open_end(&a, &there->from, &back->to);
	open_end(&b, &back->from, &there->to);
	relay_loop(relay);
	err = relay->err;
	close_end(there->from.fd, a_is_one ? -1 : back->to.fd);
	close_end(back->from.fd, b_is_one ? -1 : there->to.fd);
	free(relay);
	return err;
}
