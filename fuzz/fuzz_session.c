// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_session.c - libFuzzer harness for vhost_user/: a front-end that sends
 * whatever it likes, with any descriptors, to a session on a real loop.
 *
 * Input: messages of four bytes each - request, form, argument, argument - and,
 * when the form says so, a payload of its own. With FORM_SENSE the payload makes
 * sense, more or less, so that rings start and memory is mapped; otherwise it is
 * whatever follows. Each message may arrive in two pieces.
 *
 * Checked: the contract of vu_session.h - the lock is never nested and held
 * whenever the session ends up with a ring, rings are ready exactly between
 * ring_ready() and ring_stopping(), none when the device is reset or the session
 * closed - and that no descriptor is left.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "vhost_user/vu_session.h"
#include "vhost_user/vu_spec.h"
#include "virtio/ring_spec.h"

#define PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED_BIT)
#define FOR_PACKED 0x40u /* in an argument: what only fits a packed ring */
#define MEMORY_BYTES 0x20000u
#define UVA UINT64_C(0x100000)
#define GPA UINT64_C(0x10000)
#define MAX_CHAINS 8
#define MAX_PAYLOAD 512u

#define FORM_SENSE 1u
#define FORM_ACK 2u
#define FORM_CUT 4u   /* in two pieces */
#define FORM_KICK 8u  /* the driver kicks afterwards */
#define FORM_LIES 16u /* header flags and length are not what they should be */

/** A front-end, its descriptors, and the device behind the session. */
struct rig {
	struct loop *loop;
	struct vu_session *session; /* NULL: closed */
	int sock;
	int fds[6]; /* memory, eventfd, both ends of a pipe, of a channel for requests */
	bool locked;
	bool ready[VU_MAX_RINGS];
};

struct message {
	uint8_t bytes[VU_HEADER_BYTES + MAX_PAYLOAD];
	uint32_t len; /* of the payload */
	int fds[8];
	size_t fd_count;
};

/* --- the device --- */

static void config_read(void *ctx, uint8_t *buf, uint32_t offset, uint32_t len)
{
	(void)ctx;
	(void)offset;
	memset(buf, 1, len);
}

static void lock(void *ctx)
{
	struct rig *r = ctx;

	check(!r->locked);
	r->locked = true;
}

static void unlock(void *ctx)
{
	struct rig *r = ctx;

	check(r->locked);
	r->locked = false;
}

/* Take a few chains and give them back, as a device does. */
static void ring_kicked(void *ctx, unsigned int index)
{
	static struct iovec iov[VRING_MAX_PIECES];
	struct rig *r = ctx;
	struct vring *vr = vu_session_ring(r->session, index);
	struct vring_chain chain;

	check(!r->locked && r->ready[index] && vu_session_ring_ready(r->session, index));
	for (int i = 0; i < MAX_CHAINS && vring_pop(vr, &chain, iov, VRING_MAX_PIECES) == 1; i++) {
		for (uint32_t k = 0; k < chain.writable; k++)
			memset(iov[chain.readable + k].iov_base, 0x5a, 1);
		vring_wrote(vr, iov + chain.readable, chain.writable, chain.writable);
		vring_push(vr, chain.head, 0);
	}
	if (vring_publish(vr))
		vu_session_notify(r->session, 1u << index);
	if (vr->broken)
		vu_session_ring_error(r->session, index);
	else
		(void)!vring_enable_kick(vr);
}

static void ring_ready(void *ctx, unsigned int index)
{
	struct rig *r = ctx;

	check(!r->ready[index]);
	r->ready[index] = true;
	ring_kicked(ctx, index);
}

static void ring_stopping(void *ctx, unsigned int index)
{
	struct rig *r = ctx;

	check(!r->locked && r->ready[index] && vu_session_ring_ready(r->session, index));
	r->ready[index] = false;
}

static void device_reset(void *ctx)
{
	struct rig *r = ctx;

	check(!r->locked);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		check(!r->ready[i] && !vu_session_ring_ready(r->session, i));
}

static void closed(void *ctx, const char *reason)
{
	struct rig *r = ctx;

	device_reset(ctx);
	check(reason && *reason && !strchr(reason, '\n'));
	vu_session_free(r->session);
	r->session = NULL;
}

static const struct vu_device_ops ops = {
	.features = UINT64_C(1) << VIRTIO_F_VERSION_1_BIT | UINT64_C(1) << VIRTIO_F_EVENT_IDX_BIT |
		    PACKED,
	.max_queue_size = 256,
	.iommu = true,
	.config_read = config_read,
	.lock = lock,
	.unlock = unlock,
	.ring_ready = ring_ready,
	.ring_stopping = ring_stopping,
	.ring_kicked = ring_kicked,
	.device_reset = device_reset,
	.closed = closed,
};

/* --- the front-end --- */

static void add_fd(const struct rig *r, struct message *m, uint8_t which)
{
	m->fds[m->fd_count++] = r->fds[which % array_size(r->fds)];
}

static void add_u64(struct message *m, uint64_t value)
{
	memcpy(m->bytes + VU_HEADER_BYTES + m->len, &value, sizeof(value));
	m->len += (uint32_t)sizeof(value);
}

static void add_region(struct message *m, uint8_t a)
{
	add_u64(m, GPA + ((uint64_t)(a & 7) << 14));
	add_u64(m, (uint64_t)(1 + (a >> 6)) << 15);
	add_u64(m, UVA + ((uint64_t)(a & 7) << 14));
	add_u64(m, (uint64_t)(a >> 3 & 3) << 12);
}

/* Where ring @ring may be, so that its parts are apart from each other. */
static void add_addresses(struct message *m, uint8_t ring, uint8_t place)
{
	uint64_t base = UVA + ((uint64_t)(place & 7) << 12);

	add_u64(m, ring % VU_MAX_RINGS | (uint64_t)(place >> 7) << 32);
	add_u64(m, base);
	add_u64(m, base + 0x2000 + (place >> 3 & 1) * 2);
	add_u64(m, base + 0x1000);
	add_u64(m, (uint64_t)place << 12);
}

/* Identity, as the rings' addresses are the front-end's. */
static void add_iotlb(struct message *m, uint8_t a, uint8_t b)
{
	add_u64(m, UVA + (uint64_t)(a & 0xfu) * 0x2000);
	add_u64(m, (uint64_t)(b & 0x3fu) << 12);
	add_u64(m, UVA + (uint64_t)(a & 0xfu) * 0x2000);
	add_u64(m, (a >> 4 & 3u) | (uint64_t)(VU_IOTLB_UPDATE + (b >> 7)) << 8);
}

static void add_u64_at(struct message *m, uint8_t index, uint8_t high)
{
	add_u64(m, index % VU_MAX_RINGS | (uint64_t)high << 32);
}

static void add_base(struct message *m, uint8_t a, uint8_t b)
{
	if (a & FOR_PACKED)
		add_u64(m, a % VU_MAX_RINGS | (uint64_t)(0x80008000 | b * 0x10001u) << 32);
	else
		add_u64_at(m, a, b);
}

static void add_table(const struct rig *r, struct message *m, uint8_t a, uint8_t b)
{
	add_u64(m, 1u + (b & 1));
	for (uint8_t i = 0; i <= (b & 1); i++) {
		add_region(m, (uint8_t)(a + i * b));
		add_fd(r, m, 0);
	}
}

/* In the guest's memory: nobody has another file. */
static void add_log(const struct rig *r, struct message *m, uint8_t a, uint8_t b)
{
	add_u64(m, (uint64_t)a << (b & 7));
	add_u64(m, (uint64_t)(b >> 3) << 10);
	add_fd(r, m, 0);
}

/* What the front-end "writes" into the channel comes before its end is passed on. */
static void add_state(const struct rig *r, struct message *m, uint8_t a, uint8_t b)
{
	uint8_t bytes[40] = "VDVSTATE\1\0\0\0\1";

	bytes[b % sizeof(bytes)] ^= a & 0x3e;
	if (a & 1)
		(void)!write(r->fds[3], bytes, a & 64 ? sizeof(bytes) : 32);
	add_u64(m, a & 1);
	add_fd(r, m, a & 1 ? 2 : 3);
}

static void add_features(struct message *m, uint8_t a)
{
	add_u64(m, (a & FOR_PACKED ? ops.features : ops.features & ~PACKED) |
			   (uint64_t)(a & 1) << VU_F_PROTOCOL_FEATURES_BIT |
			   (uint64_t)(a >> 1 & 1) << VU_F_LOG_ALL_BIT |
			   (uint64_t)(a >> 2 & 1) << VIRTIO_F_ACCESS_PLATFORM_BIT);
}

static void add_ring_fd(const struct rig *r, struct message *m, uint8_t a, uint8_t b)
{
	add_u64(m, (a & 3u) | (b & 1u) << VU_RING_FD_NONE_BIT);
	if ((b & 1) == 0)
		add_fd(r, m, 1 + (b >> 1) % 7 / 5);
}

/* A payload that is about right for its request. */
static void make_sense(const struct rig *r, struct message *m, uint32_t request, uint8_t a,
		       uint8_t b)
{
	switch (request) {
	case VU_SET_MEM_TABLE:
		add_table(r, m, a, b);
		break;
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		add_u64(m, 0);
		add_region(m, a);
		if (request == VU_ADD_MEM_REG)
			add_fd(r, m, 0);
		break;
	case VU_SET_VRING_ADDR:
		add_addresses(m, a, b);
		break;
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
		add_ring_fd(r, m, a, b);
		break;
	case VU_SET_VRING_NUM:
		add_u64(m, a % VU_MAX_RINGS | (a & FOR_PACKED ? (uint64_t)b << 32
							      : (uint64_t)1 << (32 + b % 10)));
		break;
	case VU_SET_DEVICE_STATE_FD:
		add_state(r, m, a, b);
		break;
	case VU_SET_VRING_BASE:
		add_base(m, a, b);
		break;
	case VU_GET_VRING_BASE:
	case VU_SET_VRING_ENABLE:
		add_u64_at(m, a, b);
		break;
	case VU_SET_FEATURES:
		add_features(m, a);
		break;
	case VU_SET_PROTOCOL_FEATURES:
		add_u64(m, a & 1 ? 0x8229 : 0);
		break;
	case VU_IOTLB_MSG:
		add_iotlb(m, a, b);
		break;
	case VU_SET_LOG_BASE:
		add_log(r, m, a, b);
		break;
	case VU_SET_LOG_FD:
	case VU_SET_BACKEND_REQ_FD:
		add_fd(r, m, request == VU_SET_BACKEND_REQ_FD && (a & 1) ? 4 : 1);
		break;
	case VU_GET_CONFIG:
		add_u64(m, a | (uint64_t)b << 32);
		m->len = 12 + b;
		break;
	default:
		break;
	}
}

static void send_piece(int sock, const void *bytes, size_t len, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count > 0) {
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
	}
	(void)!sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void one_turn(struct rig *r)
{
	uint8_t replies[4096];

	loop_stop(r->loop);
	check(loop_run(r->loop) == 0);
	check(!r->locked);
	(void)!recv(r->sock, replies, sizeof(replies), MSG_DONTWAIT);
}

static void send_message(struct rig *r, const struct message *m, uint8_t form)
{
	size_t len = VU_HEADER_BYTES + m->len;
	size_t cut = form & FORM_CUT ? 1 + (form >> 5) % (len - 1) : len;

	send_piece(r->sock, m->bytes, cut, m->fds, m->fd_count);
	one_turn(r);
	if (cut < len && r->session) {
		send_piece(r->sock, m->bytes + cut, len - cut, NULL, 0);
		one_turn(r);
	}
	if (form & FORM_KICK && r->session) {
		(void)!eventfd_write(r->fds[1], 1);
		one_turn(r);
	}
}

/* Return: bytes of input used, 0 at its end. */
static size_t step(struct rig *r, const uint8_t *data, size_t size)
{
	struct message m = { .len = 0 };
	uint32_t request;
	uint32_t header[3];
	size_t own = 0;
	uint8_t form;

	if (size < 4)
		return 0;
	request = data[0] % (VU_REQUEST_COUNT + 2);
	form = data[1];
	if (form & FORM_SENSE) {
		make_sense(r, &m, request, data[2], data[3]);
	} else {
		own = min_size(data[2], size - 4);
		memcpy(m.bytes + VU_HEADER_BYTES, data + 4, own);
		m.len = (uint32_t)own;
		for (uint8_t i = 0; i < (data[3] & 7); i++)
			add_fd(r, &m, (uint8_t)((data[3] >> 3) + i));
	}
	header[0] = request;
	header[1] = VU_FLAG_VERSION | (form & FORM_ACK ? VU_FLAG_NEED_REPLY : 0);
	header[2] = m.len;
	if (form & FORM_LIES && !(form & FORM_SENSE)) {
		header[1] ^= data[3] >> 5;
		header[2] += (uint32_t)(data[3] >> 5) << 4 * (data[3] & 7);
	}
	memcpy(m.bytes, header, sizeof(header));
	send_message(r, &m, form);
	return 4 + own;
}

/* --- life --- */

/* A descriptor that would be given out next: the same when none was left. */
static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	check(fd >= 0 && close(fd) == 0);
	return fd;
}

static void rig_init(struct rig *r)
{
	int pair[2];

	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
	r->sock = pair[0];
	r->fds[0] = memfd_create("guest", MFD_CLOEXEC);
	check(r->fds[0] >= 0 && ftruncate(r->fds[0], MEMORY_BYTES) == 0);
	r->fds[1] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	check(r->fds[1] >= 0 && pipe2(r->fds + 2, O_NONBLOCK) == 0);
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, r->fds + 4) == 0);
	r->session = vu_session_new(r->loop, pair[1], &ops, r, "vm");
	check(r->session);
}

static void rig_fini(struct rig *r)
{
	vu_session_free(r->session);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		check(!r->ready[i]);
	check(close(r->sock) == 0);
	for (size_t i = 0; i < array_size(r->fds); i++)
		check(close(r->fds[i]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	struct rig r = { 0 };
	int before;

	if (!loop) {
		log_set_level(LOG_ERROR);
		loop = loop_new();
		check(loop);
	}
	before = next_fd();
	r.loop = loop;
	rig_init(&r);
	while (r.session) {
		size_t used = step(&r, data, size);

		if (used == 0)
			break;
		data += used;
		size -= used;
	}
	rig_fini(&r);
	check(next_fd() == before);
	return 0;
}
