// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_rig.h - a vhost-user session under test: a real loop, a socket pair, a
 * device that records what it is told, and a front-end's words as functions.
 *
 * Each test gets a fresh rig; taking it down checks that neither descriptors
 * nor mappings were leaked and that locking was balanced.
 */
#ifndef TESTS_VU_RIG_H
#define TESTS_VU_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/le.h"
#include "vhost_user/vu_internal.h"
#include "vhost_user/vu_session.h"
#include "virtio/ring_spec.h"

#define RIG_PATIENCE_MS 20000u
#define RIG_QUEUE_SIZE 128u
#define RIG_MEM_BYTES 0x40000u
#define RIG_MEM_NAME "vu-rig-memory"
#define RIG_UVA UINT64_C(0x7f0000000000)
#define RIG_GPA UINT64_C(0x100000)
#define RIG_RING_BYTES 0x4000u /* one ring: desc, avail, used at 0, 0x1000, 0x2000 */

#define F_PROTOCOL bit64(30)
#define F_LOG_ALL bit64(26)
#define F_OFFERED (UINT64_C(1) << VIRTIO_F_VERSION_1_BIT | UINT64_C(1) << VIRTIO_F_EVENT_IDX_BIT)
#define F_PACKED (UINT64_C(1) << VIRTIO_F_RING_PACKED_BIT)
#define NEED_REPLY 8u

struct rig {
	struct loop *loop;
	struct vu_session *session; /* NULL once freed */
	int sock;                   /* the front-end's end */
	int memory;                 /* memfd: the guest's memory, at mem */
	uint8_t *mem;
	int kick[VU_MAX_RINGS];
	int call[VU_MAX_RINGS];
	unsigned int ready[VU_MAX_RINGS];
	unsigned int stopping[VU_MAX_RINGS];
	unsigned int kicked[VU_MAX_RINGS];
	unsigned int resets;
	unsigned int closed;
	bool free_when_closed;
	int locked; /* 0 or 1 */
	char reason[VU_REASON_BYTES];
	size_t fds_before;
	struct loop_task task; /* the pump */
	bool (*done)(struct rig *rig);
	uint64_t give_up_ms;
};

static inline size_t rig_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/** How many mappings of guest memory this process has. */
static inline size_t rig_count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	size_t count = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (strstr(line, RIG_MEM_NAME))
			count++;
	}
	(void)fclose(maps);
	return count;
}

static inline void rig_config_read(void *ctx, uint8_t *buf, uint32_t offset, uint32_t len)
{
	static const uint8_t config[8] = { 3, 0, 0, 0, 0, 0, 0, 0x77 };

	(void)ctx;
	for (uint32_t i = 0; i < len; i++)
		buf[i] = offset + i < sizeof(config) ? config[offset + i] : 0;
}

static inline void rig_lock(void *ctx)
{
	struct rig *rig = ctx;

	assert_int_equal(rig->locked++, 0);
}

static inline void rig_unlock(void *ctx)
{
	struct rig *rig = ctx;

	assert_int_equal(--rig->locked, 0);
}

static inline void rig_ring_ready(void *ctx, unsigned int index)
{
	struct rig *rig = ctx;

	assert_int_equal(rig->locked, 0);
	assert_true(vu_session_ring_ready(rig->session, index));
	assert_true(vu_session_ring(rig->session, index)->format);
	rig->ready[index]++;
}

static inline void rig_ring_stopping(void *ctx, unsigned int index)
{
	struct rig *rig = ctx;

	assert_true(vu_session_ring_ready(rig->session, index));
	assert_true(vu_session_ring(rig->session, index)->format);
	assert_int_equal(rig->locked, 0);
	rig->stopping[index]++;
}

static inline void rig_ring_kicked(void *ctx, unsigned int index)
{
	struct rig *rig = ctx;

	assert_true(vu_session_ring_ready(rig->session, index));
	rig->kicked[index]++;
}

static inline void rig_device_reset(void *ctx)
{
	struct rig *rig = ctx;

	assert_int_equal(rig->locked, 0);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		assert_false(vu_session_ring_ready(rig->session, i));
	rig->resets++;
}

static inline void rig_closed(void *ctx, const char *reason)
{
	struct rig *rig = ctx;

	assert_int_equal(rig->locked, 0);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		assert_false(vu_session_ring_ready(rig->session, i));
	(void)snprintf(rig->reason, sizeof(rig->reason), "%s", reason);
	rig->closed++;
	if (rig->free_when_closed) {
		vu_session_free(rig->session);
		rig->session = NULL;
	}
}

static const struct vu_device_ops rig_ops = {
	.features = F_OFFERED | F_PACKED,
	.max_queue_size = 1024,
	.config_read = rig_config_read,
	.lock = rig_lock,
	.unlock = rig_unlock,
	.ring_ready = rig_ring_ready,
	.ring_stopping = rig_ring_stopping,
	.ring_kicked = rig_ring_kicked,
	.device_reset = rig_device_reset,
	.closed = rig_closed,
};

static inline void rig_pump(struct loop_task *task)
{
	struct rig *rig = container_of(task, struct rig, task);

	if (rig->done(rig) || loop_now_ms(rig->loop) > rig->give_up_ms)
		loop_stop(rig->loop);
	else
		loop_defer(rig->loop, task);
}

/** Run the loop until @done says so; fails the test if that never happens. */
static inline void rig_run_until(struct rig *rig, bool (*done)(struct rig *rig))
{
	rig->done = done;
	rig->give_up_ms = loop_now_ms(rig->loop) + RIG_PATIENCE_MS;
	loop_defer(rig->loop, &rig->task);
	assert_int_equal(loop_run(rig->loop), 0);
	if (!done(rig))
		fail_msg("nothing happened (closed: %u %s)", rig->closed, rig->reason);
}

static inline bool rig_has_reply(struct rig *rig)
{
	struct pollfd fd = { .fd = rig->sock, .events = POLLIN };

	return poll(&fd, 1, 0) == 1 || rig->closed != 0;
}

static inline void rig_send_raw(struct rig *rig, const void *bytes, size_t len, const int *fds,
				size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(64 * sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	memcpy(&iov.iov_base, &bytes, sizeof(bytes)); /* sendmsg() only reads it */
	iov.iov_len = len;
	if (n_fds > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		assert_non_null(cmsg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(rig->sock, &msg, MSG_NOSIGNAL), len);
}

/** @flags are added to the version. */
static inline void rig_send(struct rig *rig, uint32_t request, uint32_t flags, const void *payload,
			    uint32_t len, const int *fds, size_t n_fds)
{
	uint8_t bytes[VU_HEADER_BYTES + VU_MAX_PAYLOAD];
	uint32_t words[3] = { request, 1 | flags, len };

	memcpy(bytes, words, sizeof(words));
	if (len > 0)
		memcpy(bytes + sizeof(words), payload, len);
	rig_send_raw(rig, bytes, sizeof(words) + len, fds, n_fds);
}

/** Wait for a reply to @request; its payload goes to @payload. Return: its size. */
static inline uint32_t rig_reply(struct rig *rig, uint32_t request, void *payload, uint32_t room)
{
	uint32_t words[3];

	rig_run_until(rig, rig_has_reply);
	if (rig->closed != 0)
		fail_msg("closed instead of a reply: %s", rig->reason);
	assert_int_equal(recv(rig->sock, words, sizeof(words), MSG_WAITALL), sizeof(words));
	assert_int_equal(words[0], request);
	assert_int_equal(words[1], 1 | 4);
	assert_true(words[2] <= room);
	if (words[2] > 0)
		assert_int_equal(recv(rig->sock, payload, words[2], MSG_WAITALL), words[2]);
	return words[2];
}

static inline uint64_t rig_reply_u64(struct rig *rig, uint32_t request)
{
	uint64_t value = 0;

	assert_int_equal(rig_reply(rig, request, &value, sizeof(value)), sizeof(value));
	return value;
}

static inline uint64_t rig_get(struct rig *rig, uint32_t request)
{
	rig_send(rig, request, 0, NULL, 0, NULL, 0);
	return rig_reply_u64(rig, request);
}

/** Wait until everything sent so far was handled. */
static inline void rig_sync(struct rig *rig)
{
	assert_int_equal(rig_get(rig, VU_GET_QUEUE_NUM), 3);
}

static inline void rig_u64(struct rig *rig, uint32_t request, uint64_t value)
{
	rig_send(rig, request, 0, &value, sizeof(value), NULL, 0);
}

static inline void rig_state(struct rig *rig, uint32_t request, uint32_t ring, uint32_t num)
{
	uint32_t words[2] = { ring, num };

	rig_send(rig, request, 0, words, sizeof(words), NULL, 0);
}

static inline void rig_ring_fd(struct rig *rig, uint32_t request, uint64_t value, int fd)
{
	rig_send(rig, request, 0, &value, sizeof(value), &fd, fd >= 0 ? 1 : 0);
}

static inline uint64_t rig_ring_uva(unsigned int ring)
{
	return RIG_UVA + (uint64_t)ring * RIG_RING_BYTES;
}

static inline void rig_addr(struct rig *rig, unsigned int ring)
{
	uint64_t uva = rig_ring_uva(ring);
	uint64_t words[5] = { ring, uva, uva + 0x2000, uva + 0x1000, 0 };

	rig_send(rig, VU_SET_VRING_ADDR, 0, words, sizeof(words), NULL, 0);
}

static inline void rig_mem_table(struct rig *rig, int fd)
{
	uint64_t words[5] = { 1, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0 };

	rig_send(rig, VU_SET_MEM_TABLE, 0, words, sizeof(words), &fd, 1);
}

/** ADD_MEM_REG or REM_MEM_REG with need_reply: the acknowledged value. */
static inline uint64_t rig_region(struct rig *rig, uint32_t request, uint64_t gpa, uint64_t size,
				  uint64_t uva, uint64_t offset, int fd)
{
	uint64_t words[5] = { 0, gpa, size, uva, offset };

	rig_send(rig, request, NEED_REPLY, words, sizeof(words), &fd, fd >= 0 ? 1 : 0);
	return rig_reply_u64(rig, request);
}

static inline uint32_t rig_get_base(struct rig *rig, uint32_t ring)
{
	uint32_t words[2] = { 0 };

	rig_state(rig, VU_GET_VRING_BASE, ring, 0);
	assert_int_equal(rig_reply(rig, VU_GET_VRING_BASE, words, sizeof(words)), 8);
	assert_int_equal(words[0], ring);
	return words[1];
}

static inline void rig_kick(struct rig *rig, unsigned int ring)
{
	rig_ring_fd(rig, VU_SET_VRING_KICK, ring, rig->kick[ring]);
}

static inline void rig_call(struct rig *rig, unsigned int ring)
{
	rig_ring_fd(rig, VU_SET_VRING_CALL, ring, rig->call[ring]);
}

/** NUM, BASE, ADDR, KICK as QEMU sends them. */
static inline void rig_describe(struct rig *rig, unsigned int ring, uint32_t base)
{
	rig_state(rig, VU_SET_VRING_NUM, ring, RIG_QUEUE_SIZE);
	rig_state(rig, VU_SET_VRING_BASE, ring, base);
	rig_addr(rig, ring);
	rig_kick(rig, ring);
}

static inline void rig_enable(struct rig *rig, uint32_t ring, uint32_t on)
{
	rig_state(rig, VU_SET_VRING_ENABLE, ring, on);
}

/** Features, memory, and rings 0 and 1 running. */
static inline void rig_start(struct rig *rig)
{
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_mem_table(rig, rig->memory);
	for (unsigned int i = 0; i < 2; i++) {
		rig_call(rig, i);
		rig_describe(rig, i, 0);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
}

static inline void rig_expect_ready(struct rig *rig, bool ring0, bool ring1, bool ring2)
{
	assert_int_equal(vu_session_ring_ready(rig->session, 0), ring0);
	assert_int_equal(vu_session_ring_ready(rig->session, 1), ring1);
	assert_int_equal(vu_session_ring_ready(rig->session, 2), ring2);
}

/** Let the driver make @n one-byte chains available and the device take them. */
static inline void rig_use_ring(struct rig *rig, unsigned int ring, uint16_t n)
{
	uint8_t *parts = rig->mem + (size_t)ring * RIG_RING_BYTES;
	struct vring *vr = vu_session_ring(rig->session, ring);
	struct vring_chain chain;
	struct iovec iov[4];

	le64_store(parts, RIG_GPA + 0x20000);
	le32_store(parts + 8, 1);
	le32_store(parts + 12, 0);
	le16_store(parts + 0x1000 + 2, (uint16_t)(le16_load(parts + 0x1000 + 2) + n));
	while (n-- > 0) {
		assert_int_equal(vring_pop(vr, &chain, iov, 4), 1);
		vring_push(vr, chain.head, 0);
	}
	if (vring_publish(vr))
		vu_session_notify(rig->session, 1u << ring);
}

static inline bool rig_is_closed(struct rig *rig)
{
	return rig->closed != 0;
}

/** Wait for the session's end and check why. */
static inline void rig_expect_closed(struct rig *rig, const char *reason)
{
	rig_run_until(rig, rig_is_closed);
	assert_int_equal(rig->closed, 1);
	if (!strstr(rig->reason, reason))
		fail_msg("closed because \"%s\", not \"%s\"", rig->reason, reason);
	assert_null(strchr(rig->reason, '\n'));
}

static inline int rig_memfd(void)
{
	int fd = memfd_create(RIG_MEM_NAME, MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, RIG_MEM_BYTES), 0);
	return fd;
}

static inline void rig_init(struct rig *rig)
{
	int ends[2];

	memset(rig, 0, sizeof(*rig));
	rig->fds_before = rig_count_fds();
	rig->loop = loop_new();
	assert_non_null(rig->loop);
	loop_task_init(&rig->task, rig_pump);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	rig->sock = ends[0];
	rig->memory = rig_memfd();
	rig->mem = mmap(NULL, RIG_MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, rig->memory, 0);
	assert_true(rig->mem != MAP_FAILED);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		rig->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		rig->call[i] = eventfd(0, EFD_CLOEXEC);
		assert_true(rig->kick[i] >= 0 && rig->call[i] >= 0);
	}
	rig->session = vu_session_new(rig->loop, ends[1], &rig_ops, rig, "vm=3");
	assert_non_null(rig->session);
}

static inline void rig_fini(struct rig *rig)
{
	vu_session_free(rig->session);
	assert_int_equal(rig->locked, 0);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		assert_int_equal(rig->ready[i], rig->stopping[i]);
		close(rig->kick[i]);
		close(rig->call[i]);
	}
	munmap(rig->mem, RIG_MEM_BYTES);
	assert_int_equal(rig_count_mappings(), 0);
	close(rig->memory);
	close(rig->sock);
	loop_free(rig->loop);
	assert_int_equal(rig_count_fds(), rig->fds_before);
}

static inline int rig_setup(void **state)
{
	struct rig *rig = malloc(sizeof(*rig));

	assert_non_null(rig);
	rig_init(rig);
	*state = rig;
	return 0;
}

static inline int rig_teardown(void **state)
{
	rig_fini(*state);
	free(*state);
	return 0;
}

#define rig_test(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)

#endif
