// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * backend_user.c - the VMM's end of vhost-user. See backend.h.
 */
#include "bench/backend.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/le.h"
#include "bench/hostside.h"
#include "bench/util.h"
#include "vhost_user/vu_spec.h"

#define REPLY_LIMIT_NS (20 * NS_PER_S)
#define MAX_PAYLOAD 256u

static void send_message(struct backend *b, uint32_t request, const void *payload, uint32_t len,
			 int fd)
{
	uint8_t bytes[VU_HEADER_BYTES + MAX_PAYLOAD];
	struct iovec iov = { .iov_base = bytes, .iov_len = VU_HEADER_BYTES + len };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	le32_store(bytes, request);
	le32_store(bytes + 4, VU_FLAG_VERSION);
	le32_store(bytes + 8, len);
	memcpy(bytes + VU_HEADER_BYTES, payload, len);
	if (fd >= 0) {
		struct cmsghdr *c = &control.align;

		c->cmsg_len = CMSG_LEN(sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
	}
	if (sendmsg(b->fd, &msg, MSG_NOSIGNAL) != (ssize_t)iov.iov_len)
		die("vhost-user request %u: %s", request, strerror(errno));
}

static void set_u64(struct backend *b, uint32_t request, uint64_t value, int fd)
{
	uint8_t payload[8];

	le64_store(payload, value);
	send_message(b, request, payload, sizeof(payload), fd);
}

static uint64_t get_u64(struct backend *b, uint32_t request)
{
	uint8_t reply[VU_HEADER_BYTES + 8];

	send_message(b, request, "", 0, -1);
	if (!wait_fd(b->fd, POLLIN, now_ns() + REPLY_LIMIT_NS))
		die_hung("no reply to a vhost-user request");
	if (recv(b->fd, reply, sizeof(reply), MSG_WAITALL) != (ssize_t)sizeof(reply) ||
	    le32_load(reply) != request)
		die("bad reply to vhost-user request %u", request);
	return le64_load(reply + VU_HEADER_BYTES);
}

static void open_socket(struct backend *b, const char *path, uint64_t wanted, uint64_t deadline_ns)
{
	uint64_t protocol;

	b->fd = host_dial(path, deadline_ns);
	b->features = get_u64(b, VU_GET_FEATURES) & (wanted | bit64(VU_F_PROTOCOL_FEATURES_BIT));
	if ((b->features & bit64(VU_F_PROTOCOL_FEATURES_BIT)) != 0) {
		protocol = get_u64(b, VU_GET_PROTOCOL_FEATURES);
		set_u64(b, VU_SET_PROTOCOL_FEATURES, protocol & bit64(VU_PROTOCOL_F_CONFIG_BIT),
			-1);
	}
	send_message(b, VU_SET_OWNER, "", 0, -1);
	set_u64(b, VU_SET_FEATURES, b->features, -1);
}

static void share_memory(struct backend *b, int memfd, const void *base, uint64_t gpa,
			 uint64_t bytes)
{
	uint8_t payload[VU_TABLE_HEADER_BYTES + VU_REGION_BYTES] = { 0 };
	uint8_t *region = payload + VU_TABLE_HEADER_BYTES;

	le32_store(payload, 1);
	le64_store(region, gpa);
	le64_store(region + 8, bytes);
	le64_store(region + 16, (uintptr_t)base);
	send_message(b, VU_SET_MEM_TABLE, payload, sizeof(payload), memfd);
}

static void set_state(struct backend *b, uint32_t request, uint32_t index, uint32_t value)
{
	uint8_t payload[VU_STATE_BYTES];

	le32_store(payload, index);
	le32_store(payload + 4, value);
	send_message(b, request, payload, sizeof(payload), -1);
}

static void start_ring(struct backend *b, const struct ring_setup *ring)
{
	uint8_t addr[VU_ADDR_BYTES] = { 0 };

	le32_store(addr, ring->index);
	le64_store(addr + 8, ring->desc);
	le64_store(addr + 16, ring->used);
	le64_store(addr + 24, ring->avail);
	set_state(b, VU_SET_VRING_NUM, ring->index, ring->size);
	set_state(b, VU_SET_VRING_BASE, ring->index, 0);
	send_message(b, VU_SET_VRING_ADDR, addr, sizeof(addr), -1);
	set_u64(b, VU_SET_VRING_CALL, ring->index, ring->call_fd);
	set_u64(b, VU_SET_VRING_KICK, ring->index, ring->kick_fd);
	if ((b->features & bit64(VU_F_PROTOCOL_FEATURES_BIT)) != 0)
		set_state(b, VU_SET_VRING_ENABLE, ring->index, 1);
}

/* The reply says that what was sent before has been handled. */
static void finish(struct backend *b, uint32_t cid)
{
	(void)cid; /* the daemon was told by its command line */
	(void)get_u64(b, VU_GET_FEATURES);
}

const struct backend_ops backend_user = {
	.open = open_socket,
	.share_memory = share_memory,
	.start_ring = start_ring,
	.finish = finish,
};
