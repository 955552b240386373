// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_state.c - the device's state in a migration's stream: written for the
 * front-end, and read from it.
 *
 * May not judge what the device is; that a driver comes from elsewhere is told
 * by vu_session_take_continued().
 *
 * Theory of operation: connections do not move with a guest, so the state is a
 * few numbers: VU_SAVED_BYTES, in little-endian order
 *
 *	 0  8 bytes  "VDVSTATE"
 *	 8  u32      version, 1
 *	12  u32      flags: 1 the driver has used the rings
 *	16  u64      features that were acknowledged
 *	24  8 bytes  configuration space, for the one who reads a dump
 *
 * The channel is the front-end's: a pipe or a socket, made non-blocking. What is
 * saved fits any pipe, so it is written at once or not at all. What is loaded is
 * read as it comes, and judged when the front-end asks how it went; it must have
 * closed its end by then, and within VU_STATE_TIMEOUT_MS: then the channel is
 * closed and the answer is an error. More than VU_SAVED_BYTES are not read.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/le.h"
#include "vhost_user/vu_internal.h"

#define VERSION_AT 8
#define FLAGS_AT 12
#define FEATURES_AT 16
#define CONFIG_AT 24
#define STATE_VERSION 1u
#define FLAG_USED 1u
#define NO_FD bit64(8)

static const uint8_t magic[VERSION_AT] = { 'V', 'D', 'V', 'S', 'T', 'A', 'T', 'E' };

static void drop_channel(struct vu_session *session)
{
	loop_disarm(session->loop, &session->state.deadline);
	loop_del(session->loop, &session->state.source);
	fd_close(&session->state.fd);
}

/* Read what is there. Return: whether the channel is at its end, or of no more use. */
static bool read_some(struct vu_state *state)
{
	while (state->have < sizeof(state->bytes)) {
		ssize_t got = read(state->fd, state->bytes + state->have,
				   sizeof(state->bytes) - state->have);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return false;
		if (got <= 0) {
			state->ended = got == 0;
			return true;
		}
		state->have += (size_t)got;
	}
	return true;
}

static void on_channel(struct loop_source *source, uint32_t events)
{
	struct vu_session *session = container_of(source, struct vu_session, state.source);

	(void)events;
	if (read_some(&session->state))
		drop_channel(session);
}

static void on_deadline(struct timer *timer)
{
	struct vu_session *session = container_of(timer, struct vu_session, state.deadline);

	session->state.late = true;
	drop_channel(session);
}

void vu_state_init(struct vu_session *session)
{
	session->state.fd = -1;
	session->state.source.fd = -1;
	session->state.source.on_event = on_channel;
	session->state.deadline.on_expire = on_deadline;
}

void vu_state_fini(struct vu_session *session)
{
	drop_channel(session);
}

static void save(struct vu_session *session, uint8_t bytes[VU_SAVED_BYTES])
{
	uint32_t flags = 0;

	for (unsigned int i = 0; i < VU_EVENT_RING; i++)
		flags |= session->rings[i].ran ? FLAG_USED : 0;
	memcpy(bytes, magic, sizeof(magic));
	le32_store(bytes + VERSION_AT, STATE_VERSION);
	le32_store(bytes + FLAGS_AT, flags);
	le64_store(bytes + FEATURES_AT, session->features & ~bit64(VU_F_LOG_ALL_BIT));
	session->ops->config_read(session->ctx, bytes + CONFIG_AT, 0, VU_SAVED_BYTES - CONFIG_AT);
}

/* Return: NULL and all of it in force, or what is wrong with it. */
static const char *load(struct vu_session *session)
{
	const struct vu_state *state = &session->state;
	const uint8_t *bytes = state->bytes;

	if (state->late)
		return "it did not end in time";
	if (!state->ended || state->have != VU_SAVED_BYTES)
		return "it has another length, or no end";
	if (memcmp(bytes, magic, sizeof(magic)) != 0)
		return "it is no state of this device";
	if (le32_load(bytes + VERSION_AT) != STATE_VERSION)
		return "its version is not known";
	if ((le32_load(bytes + FLAGS_AT) & ~FLAG_USED) != 0)
		return "it has flags that are not known";
	if ((le64_load(bytes + FEATURES_AT) & ~vu_acceptable(session)) != 0)
		return "it has features that are not offered here";
	vu_new_driver(session);
	session->continued = (le32_load(bytes + FLAGS_AT) & FLAG_USED) != 0;
	return NULL;
}

static bool is_stopped(const struct vu_session *session)
{
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		if (session->rings[i].ready)
			return false;
	}
	return true;
}

/* A file system's server could make us wait: only what the kernel itself provides. */
static int check_channel(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return -errno;
	if (!S_ISFIFO(st.stx_mode) && !S_ISSOCK(st.stx_mode))
		return -ENODEV;
	return fd_set_nonblocking(fd);
}

static const char *begin(struct vu_session *session, uint64_t how)
{
	uint8_t bytes[VU_SAVED_BYTES];

	if (how > 1) /* direction in the lower half; phase 0, stopped, in the upper one */
		return "a direction or phase that is not known";
	if (!is_stopped(session))
		return "a ring is running";
	if (check_channel(session->fds[0]) < 0)
		return "the channel is neither pipe nor socket";
	drop_channel(session);
	session->state.have = 0;
	session->state.ended = false;
	session->state.late = false;
	session->state.loading = how == 1;
	session->state.saved = false;
	if (how == 0) {
		save(session, bytes);
		if (write(session->fds[0], bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes))
			return "the channel takes no bytes";
		session->state.saved = true;
		return NULL; /* the descriptor is closed after the message: that is the end */
	}
	if (loop_arm(session->loop, &session->state.deadline, VU_STATE_TIMEOUT_MS) < 0)
		return "no memory for a deadline";
	if (loop_add(session->loop, &session->state.source, session->fds[0], EPOLLIN) < 0) {
		loop_disarm(session->loop, &session->state.deadline);
		return "the channel cannot be waited for";
	}
	session->state.fd = fd_take(&session->fds[0]);
	return NULL;
}

static enum vu_outcome answer(struct vu_session *session, const struct vu_msg *msg, uint64_t value,
			      const char *wrong)
{
	uint8_t reply[VU_MAX_REPLY];

	if (wrong != NULL && session->ops->refusals != NULL)
		log_limited(session->ops->refusals, loop_now_ms(session->loop), LOG_WARNING,
			    session->tag, "%s: %s", vu_request_name(msg->request), wrong);
	return vu_send(session, reply,
		       vu_reply_u64(reply, msg->request, value | (wrong != NULL ? 1 : 0)));
}

enum vu_outcome vu_set_device_state_fd(struct vu_session *session, const struct vu_msg *msg)
{
	return answer(session, msg, NO_FD, begin(session, msg->value));
}

enum vu_outcome vu_check_device_state(struct vu_session *session, const struct vu_msg *msg)
{
	const char *wrong = session->state.saved ? NULL : "nothing was transferred";

	if (session->state.loading) {
		if (session->state.fd >= 0)
			(void)read_some(&session->state);
		drop_channel(session);
		wrong = is_stopped(session) ? load(session) : "a ring is running";
	}
	session->state.loading = false;
	return answer(session, msg, 0, wrong);
}
