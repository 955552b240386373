// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_session.c - a front-end's connection: receiving messages, replying,
 * deciding whether a refusal costs a NACK or the session, and the end.
 *
 * May not know what a request means (vu_request.c) or how a ring runs
 * (vu_ring.c).
 *
 * Theory of operation: the socket is watched level-triggered, so stopping
 * after VU_MESSAGES_PER_TURN messages lets other sources have their turn and
 * the rest is reported again. A message is read in two parts, never beyond its
 * end: the descriptors that arrive are its own. They wait in session->fds, a
 * handler takes those it keeps, the rest is closed after the message.
 *
 * Bounds: one message of VU_MAX_PAYLOAD bytes and FD_RECV_MAX descriptors is
 * all that is held; from its first byte it has VU_MESSAGE_DEADLINE_MS to
 * arrive. A front-end that does not read its replies is not waited for.
 *
 * The end: closed() is the last thing that happens in a dispatch, because its
 * receiver may free the session.
 */
#include "vhost_user/vu_session.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "vhost_user/vu_internal.h"

_Static_assert(VU_MAX_RINGS <= LOOP_MAX_SIGNALS, "all rings are signalled at once");

/* Whether the header of the message being received has arrived. */
static bool vu_has_header(const struct vu_session *session)
{
	return session->received >= VU_HEADER_BYTES;
}

/* The reason for what happens next, with the request it happens to. */
static printf_like(2, 0)
void vu_set_reason(struct vu_session *session, const char *fmt, va_list args)
{
	size_t room = sizeof(session->reason);
	const char *name;
	uint32_t request;
	int used = 0;

	if (vu_has_header(session)) {
		memcpy(&request, session->buffer, sizeof(request));
		name = vu_request_name(request);
		if (name != NULL)
			used = snprintf(session->reason, room, "%s: ", name);
		else
			used = snprintf(session->reason, room, "request %" PRIu32 ": ", request);
	}
	/* A prefix always fits; a text that does not is cut. */
	(void)vsnprintf(session->reason + used, room - (size_t)used, fmt, args);
}

enum vu_outcome vu_refuse(struct vu_session *session, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vu_set_reason(session, fmt, args);
	va_end(args);
	return VU_REFUSED;
}

/* Stop everything and tell; @session may be gone afterwards. The reason is set. */
static void vu_end(struct vu_session *session)
{
	session->over = true;
	loop_del(session->loop, &session->source);
	loop_disarm(session->loop, &session->deadline);
	loop_disarm(session->loop, &session->misses);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_ring_stop(&session->rings[i]);
	fd_close_all(session->fds, session->n_fds);
	session->n_fds = 0;
	fd_close(&session->fd);
	session->ops->closed(session->ctx, session->reason);
}

enum vu_outcome vu_send(struct vu_session *session, const uint8_t *reply, size_t bytes)
{
	ssize_t sent = send(session->fd, reply, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent >= 0 && (size_t)sent == bytes)
		return VU_REPLIED;
	(void)vu_refuse(session, "reply: %s", sent < 0 ? strerror(errno) : "sent in part only");
	return VU_FATAL;
}

/* One read. Return: 1 bytes came, 0 none there, -EPROTO or other: the end. */
static int vu_read(struct vu_session *session, uint32_t want)
{
	size_t n_fds;
	ssize_t bytes =
		fd_recv(session->fd, session->buffer + session->received, want - session->received,
			session->fds + session->n_fds, FD_RECV_MAX - session->n_fds, &n_fds);

	session->n_fds += n_fds;
	if (bytes > 0) {
		session->received += (uint32_t)bytes;
		return 1;
	}
	if (bytes == -EAGAIN || bytes == -EINTR)
		return 0;
	if (bytes == 0 || bytes == -ECONNRESET)
		(void)vu_refuse(session, session->received == 0
						 ? "front-end hung up"
						 : "front-end hung up in the middle of a message");
	else if (bytes == -EPROTO)
		(void)vu_refuse(session, "more descriptors than any message has");
	else
		(void)vu_refuse(session, "receive: %s", strerror((int)-bytes));
	return bytes == 0 ? -ECONNRESET : (int)bytes;
}

/* Go on with the message being received. Return: 1 complete, 0 incomplete, -errno. */
static int vu_receive(struct vu_session *session)
{
	uint32_t want =
		vu_has_header(session) ? VU_HEADER_BYTES + session->header.size : VU_HEADER_BYTES;

	while (session->received < want) {
		enum vu_verdict verdict;
		int ret = vu_read(session, want);

		if (ret <= 0)
			return ret;
		if (session->received < VU_HEADER_BYTES || want > VU_HEADER_BYTES)
			continue;
		verdict = vu_msg_header(session->buffer, &session->header);
		if (verdict != VU_MSG_OK) {
			(void)vu_refuse(session, "%s", vu_verdict_text(verdict));
			return -EPROTO;
		}
		want = VU_HEADER_BYTES + session->header.size;
	}
	return 1;
}

static enum vu_outcome vu_carry_out(struct vu_session *session)
{
	const struct vu_header *header = &session->header;
	struct vu_msg msg;
	enum vu_verdict verdict = vu_msg_parse(header, session->buffer + VU_HEADER_BYTES,
					       session->n_fds, VU_MAX_RINGS, &msg);

	if (verdict != VU_MSG_OK)
		return vu_refuse(session, "%s (%" PRIu32 " bytes, %zu descriptors)",
				 vu_verdict_text(verdict), header->size, session->n_fds);
	log_debug(session->tag, "%s ring=%" PRIu32 " num=%" PRIu32 " value=0x%" PRIx64 "%s",
		  vu_request_name(msg.request), msg.ring, msg.num, msg.value,
		  msg.need_reply ? " need_reply" : "");
	return vu_handle(session, &msg);
}

static void vu_log_refusal(const struct vu_session *session)
{
	if (session->ops->refusals != NULL)
		log_limited(session->ops->refusals, loop_now_ms(session->loop), LOG_WARNING,
			    session->tag, "refused %s", session->reason);
}

/* Acknowledge as far as wanted. Return: whether the session goes on. */
static bool vu_conclude(struct vu_session *session, enum vu_outcome outcome)
{
	bool refused = outcome == VU_REFUSED;
	uint8_t reply[VU_MAX_REPLY];

	if (outcome == VU_REPLIED)
		return true;
	if (outcome == VU_FATAL)
		return false;
	if (!vu_msg_wants_ack(&session->header))
		return !refused;
	if (refused)
		vu_log_refusal(session);
	return vu_send(session, reply, vu_reply_u64(reply, session->header.request, refused)) ==
	       VU_REPLIED;
}

/* Handle the message that has arrived. Return: whether the session goes on. */
static bool vu_serve(struct vu_session *session)
{
	enum vu_outcome outcome;
	bool goes_on;

	loop_disarm(session->loop, &session->deadline);
	session->spoken = true;
	outcome = vu_carry_out(session);
	if (outcome != VU_FATAL) {
		for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
			vu_ring_settle(&session->rings[i]);
		vu_session_ask(session);
	}
	goes_on = vu_conclude(session, outcome);
	fd_close_all(session->fds, session->n_fds);
	session->n_fds = 0;
	session->received = 0;
	return goes_on;
}

/* Half a message is there: the rest must come in time. */
static int vu_await_rest(struct vu_session *session)
{
	int ret;

	if (session->received == 0 || timer_is_armed(&session->deadline))
		return 0;
	ret = loop_arm(session->loop, &session->deadline, VU_MESSAGE_DEADLINE_MS);
	if (ret < 0)
		(void)vu_refuse(session, "deadline: %s", strerror(-ret));
	return ret;
}

static void vu_on_socket(struct loop_source *source, uint32_t events)
{
	struct vu_session *session = container_of(source, struct vu_session, source);

	(void)events; /* end of file and errors are what reading says */
	for (unsigned int i = 0; i < VU_MESSAGES_PER_TURN; i++) {
		int ret = vu_receive(session);

		if (ret == 0 && vu_await_rest(session) == 0)
			return;
		if (ret <= 0 || !vu_serve(session)) {
			vu_end(session);
			return;
		}
	}
}

static void vu_on_deadline(struct timer *timer)
{
	struct vu_session *session = container_of(timer, struct vu_session, deadline);

	(void)vu_refuse(session, "only %" PRIu32 " bytes of the message came in %u ms",
			session->received, VU_MESSAGE_DEADLINE_MS);
	vu_end(session);
}

struct vu_session *vu_session_new(struct loop *loop, int fd, const struct vu_device_ops *ops,
				  void *ctx, const char *tag)
{
	struct vu_session *session = calloc(1, sizeof(*session));
	int ret;

	if (session == NULL) {
		fd_close(&fd);
		return NULL;
	}
	session->loop = loop;
	session->ops = ops;
	session->ctx = ctx;
	session->tag = tag;
	session->fd = fd;
	session->log_fd = -1;
	vu_state_init(session);
	session->source.on_event = vu_on_socket;
	session->source.fd = -1;
	session->deadline.on_expire = vu_on_deadline;
	vu_iotlb_init(session);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_ring_init(&session->rings[i], session, i);

	ret = fd_set_nonblocking(fd);
	if (ret == 0)
		ret = loop_add(loop, &session->source, fd, EPOLLIN);
	if (ret < 0) {
		vu_session_free(session);
		errno = -ret;
		return NULL;
	}
	return session;
}

void vu_session_free(struct vu_session *session)
{
	if (session == NULL)
		return;
	loop_del(session->loop, &session->source);
	loop_disarm(session->loop, &session->deadline);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_ring_fini(&session->rings[i]);
	vu_log_fini(session);
	vu_state_fini(session);
	vu_iotlb_fini(session);
	vu_mem_fini(&session->mem);
	fd_close_all(session->fds, session->n_fds);
	fd_close(&session->fd);
	free(session);
}

struct vring *vu_session_ring(struct vu_session *session, unsigned int index)
{
	return &session->rings[index].vring;
}

bool vu_session_ring_ready(const struct vu_session *session, unsigned int index)
{
	return session->rings[index].ready;
}

uint64_t vu_session_features(const struct vu_session *session)
{
	return session->features;
}

const struct gmem *vu_session_memory(const struct vu_session *session)
{
	return &session->mem.gmem;
}

void vu_session_notify(struct vu_session *session, uint32_t rings)
{
	int fds[VU_MAX_RINGS];
	size_t count = 0;

	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		if ((rings >> i & 1u) != 0 && session->rings[i].call_fd >= 0)
			fds[count++] = session->rings[i].call_fd;
	}
	if (count > 0)
		loop_signal_all(session->loop, fds, count);
	if (unlikely(session->log_fd >= 0))
		vu_session_signal_log(session);
}

void vu_session_ring_error(struct vu_session *session, unsigned int index)
{
	int fd = session->rings[index].err_fd;

	if (fd >= 0)
		loop_signal(session->loop, fd);
}

bool vu_session_take_continued(struct vu_session *session)
{
	bool continued = session->continued;

	session->continued = false;
	return continued;
}

bool vu_session_has_spoken(const struct vu_session *session)
{
	return session->spoken;
}

bool vu_session_memory_lost(const struct vu_session *session)
{
	return vu_mem_is_lost(&session->mem) ||
	       (session->log_memory.base != NULL && fault_is_lost(session->log_memory.guard));
}

bool vu_session_hung_up(const struct vu_session *session)
{
	struct pollfd poll_fd = { .fd = session->fd, .events = POLLRDHUP };

	if (session->over)
		return true;
	return poll(&poll_fd, 1, 0) > 0;
}
