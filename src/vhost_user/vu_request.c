// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_request.c - what each vhost-user request does to a session.
 *
 * May not receive or parse; what arrives here has the right form. Only the
 * values are judged here, and before anything changes, so that a refused
 * request leaves the session as it was.
 *
 * Theory of operation: no order of requests is assumed, because front-ends
 * differ and one that reconnects repeats only some of them. Requests describe;
 * rings start by themselves when nothing is missing (vu_ring.c). Two rules
 * protect a running ring: its size, addresses and position are fixed while it
 * runs, and memory, features and their like change only while it is paused.
 *
 * A guest that reboots and a VM that is stopped and continued send the same
 * requests but for one number: after a pause SET_VRING_BASE repeats the
 * position we reported, after a reboot it is another one (0). Only the latter,
 * or RESET_DEVICE, is a new driver instance. If the position happened to be
 * the first one, another ring tells.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "vhost_user/vu_internal.h"
#include "virtio/ring_spec.h"

/** All protocol features there are; front-ends acknowledge some of them. */
#define VU_PROTOCOL_FEATURES                                                                    \
	(bit64(VU_PROTOCOL_F_MQ_BIT) | bit64(VU_PROTOCOL_F_LOG_SHMFD_BIT) |                     \
	 bit64(VU_PROTOCOL_F_REPLY_ACK_BIT) | bit64(VU_PROTOCOL_F_CONFIG_BIT) |                 \
	 bit64(VU_PROTOCOL_F_RESET_DEVICE_BIT) | bit64(VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS_BIT) | \
	 bit64(VU_PROTOCOL_F_STATUS_BIT) | bit64(VU_PROTOCOL_F_DEVICE_STATE_BIT))

static uint64_t vu_protocol_offered(const struct vu_session *session)
{
	uint64_t offered = VU_PROTOCOL_FEATURES;

	if (session->ops->no_mem_slots)
		offered &= ~bit64(VU_PROTOCOL_F_CONFIGURE_MEM_SLOTS_BIT);
	if (session->ops->iommu)
		offered |= bit64(VU_PROTOCOL_F_BACKEND_REQ_BIT);
	return offered;
}

static struct vu_ring *vu_ring_of(struct vu_session *session, const struct vu_msg *msg)
{
	return &session->rings[msg->ring];
}

static uint64_t vu_offered(const struct vu_session *session)
{
	return session->ops->features | bit64(VU_F_PROTOCOL_FEATURES_BIT) |
	       bit64(VU_F_LOG_ALL_BIT) |
	       (session->ops->iommu ? bit64(VIRTIO_F_ACCESS_PLATFORM_BIT) : 0);
}

/* NOTIFICATION_DATA is between driver and VMM: the notification's data does not
 * get here. Some front-ends pass it on when they offer it by themselves; if we
 * offered it, drivers would write what a VMM's ioeventfd does not match. */
uint64_t vu_acceptable(const struct vu_session *session)
{
	return vu_offered(session) | bit64(VIRTIO_F_NOTIFICATION_DATA_BIT);
}

static bool vu_is_packed(const struct vu_session *session)
{
	return session->features & bit64(VIRTIO_F_RING_PACKED_BIT);
}

static enum vu_outcome vu_answer_u64(struct vu_session *session, const struct vu_msg *msg,
				     uint64_t value)
{
	uint8_t reply[VU_MAX_REPLY];

	return vu_send(session, reply, vu_reply_u64(reply, msg->request, value));
}

static enum vu_outcome vu_refuse_running(struct vu_session *session, const struct vu_msg *msg)
{
	return vu_refuse(session, "ring %" PRIu32 " is running", msg->ring);
}

/* Requests that need nothing done: SET_OWNER may be repeated, and the
 * deprecated RESET_OWNER is best ignored (the specification says so). */
static enum vu_outcome vu_do_nothing(struct vu_session *session, const struct vu_msg *msg)
{
	(void)session;
	(void)msg;
	return VU_DONE;
}

static enum vu_outcome vu_get_features(struct vu_session *session, const struct vu_msg *msg)
{
	return vu_answer_u64(session, msg, vu_offered(session));
}

static enum vu_outcome vu_set_features(struct vu_session *session, const struct vu_msg *msg)
{
	uint64_t alien = msg->value & ~vu_acceptable(session);
	uint64_t changed = msg->value ^ session->features;

	if (alien == bit64(VIRTIO_F_ACCESS_PLATFORM_BIT))
		return vu_refuse(session, "a guest behind a virtual IOMMU needs iommu=on");
	if (alien != 0)
		return vu_refuse(session, "bits 0x%" PRIx64 " were not offered", alien);
	/* Logging is switched while rings run; it is no matter of the driver's. */
	if (!session->features_set || (changed & ~bit64(VU_F_LOG_ALL_BIT)) != 0)
		vu_rings_pause(session);
	session->ops->lock(session->ctx);
	session->features = msg->value;
	session->features_set = true;
	session->ops->unlock(session->ctx);
	vu_iotlb_renew(session);
	vu_log_settle(session);
	return VU_DONE;
}

static enum vu_outcome vu_get_protocol_features(struct vu_session *session,
						const struct vu_msg *msg)
{
	return vu_answer_u64(session, msg, vu_protocol_offered(session));
}

static enum vu_outcome vu_set_protocol_features(struct vu_session *session,
						const struct vu_msg *msg)
{
	uint64_t alien = msg->value & ~vu_protocol_offered(session);

	if (alien != 0)
		return vu_refuse(session, "bits 0x%" PRIx64 " were not offered", alien);
	session->protocol_features = msg->value;
	return VU_DONE;
}

static enum vu_outcome vu_get_queue_num(struct vu_session *session, const struct vu_msg *msg)
{
	return vu_answer_u64(session, msg, VU_MAX_RINGS);
}

static enum vu_outcome vu_get_max_mem_slots(struct vu_session *session, const struct vu_msg *msg)
{
	return vu_answer_u64(session, msg, GMEM_MAX_REGIONS);
}

static enum vu_outcome vu_refuse_region(struct vu_session *session, const struct vu_region *wire,
					int err)
{
	const char *what;

	switch (err) {
	case -EINVAL:
		what = "is empty or wraps around";
		break;
	case -ENODEV:
		what = "lies in no regular file";
		break;
	case -ENOTBLK:
		what = "lies in no memfd, tmpfs, hugetlbfs or local disk";
		break;
	case -EFBIG:
		what = "reaches beyond the end of its file";
		break;
	case -EEXIST:
		what = "overlaps another";
		break;
	case -ENOSPC:
		what = "is one too many";
		break;
	case -ENOENT:
		what = "is not in the table";
		break;
	default:
		what = strerror(-err);
		break;
	}
	return vu_refuse(session, "region at 0x%" PRIx64 " of 0x%" PRIx64 " bytes: %s", wire->gpa,
			 wire->size, what);
}

/* Map a region into a table nobody uses yet. */
static int vu_load_region(struct vu_mem *mem, const struct vu_region *wire, int fd)
{
	struct vu_mapping mapping;
	int ret;

	ret = vu_mem_map(wire, fd, &mapping);
	if (ret < 0)
		return ret;
	ret = vu_mem_insert(mem, &mapping);
	if (ret < 0)
		vu_mem_unmap(&mapping);
	return ret;
}

static enum vu_outcome vu_set_mem_table(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_mem mem = { 0 };
	struct vu_mem old;

	for (uint32_t i = 0; i < msg->n_regions; i++) {
		int ret = vu_load_region(&mem, &msg->regions[i], session->fds[i]);

		if (ret < 0) {
			vu_mem_fini(&mem);
			return vu_refuse_region(session, &msg->regions[i], ret);
		}
	}
	vu_rings_pause(session);
	session->ops->lock(session->ctx);
	old = session->mem;
	session->mem = mem;
	iotlb_fini(&session->iotlb);
	session->ops->unlock(session->ctx);
	vu_mem_fini(&old);
	return VU_DONE;
}

static enum vu_outcome vu_rem_mem_reg(struct vu_session *session, const struct vu_msg *msg)
{
	const struct vu_mapping *mapping = vu_mem_find(&session->mem, &msg->regions[0]);
	struct vu_mapping removed;
	int ret;

	if (mapping == NULL)
		return vu_refuse_region(session, &msg->regions[0], -ENOENT);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++) {
		if (vu_ring_uses(&session->rings[i], mapping))
			vu_ring_pause(&session->rings[i]);
	}
	session->ops->lock(session->ctx);
	ret = vu_mem_remove(&session->mem, &msg->regions[0], &removed);
	if (ret == 0)
		iotlb_forget(&session->iotlb, removed.region.uva, removed.region.size);
	session->ops->unlock(session->ctx);
	if (ret < 0)
		return vu_refuse_region(session, &msg->regions[0], ret);
	vu_mem_unmap(&removed);
	return VU_DONE;
}

static enum vu_outcome vu_add_mem_reg(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_mapping mapping;
	bool replaces;
	int ret;

	ret = vu_mem_map(&msg->regions[0], session->fds[0], &mapping);
	if (ret < 0)
		return vu_refuse_region(session, &msg->regions[0], ret);
	/* Some front-ends say all regions again when they resume: the last word counts. */
	replaces = vu_mem_find(&session->mem, &msg->regions[0]) != NULL;
	if (replaces)
		(void)vu_rem_mem_reg(session, msg);
	/* What else is mapped stays where it is: rings may go on running. */
	session->ops->lock(session->ctx);
	ret = vu_mem_insert(&session->mem, &mapping);
	session->ops->unlock(session->ctx);
	if (ret < 0) {
		vu_mem_unmap(&mapping);
		(void)vu_refuse_region(session, &msg->regions[0], ret);
		return replaces ? VU_FATAL : VU_REFUSED; /* its predecessor is gone */
	}
	return VU_DONE;
}

static enum vu_outcome vu_set_vring_num(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_ring *ring = vu_ring_of(session, msg);

	if (!vring_size_is_legal(msg->num, session->features))
		return vu_refuse(session, "%" PRIu32 " entries is no size of a %s ring", msg->num,
				 vu_is_packed(session) ? "packed" : "split");
	if (msg->num > session->ops->max_queue_size)
		return vu_refuse(session, "%" PRIu32 " entries, more than the %" PRIu32 " allowed",
				 msg->num, session->ops->max_queue_size);
	if (ring->ready && ring->size != msg->num)
		return vu_refuse_running(session, msg);
	ring->size = msg->num;
	return VU_DONE;
}

static bool vu_addr_is_aligned(const struct vu_session *session, const struct vu_ring_addr *addr)
{
	return addr->desc % VRING_DESC_ALIGN == 0 && addr->used % VRING_USED_ALIGN == 0 &&
	       addr->avail % vring_extent(1, session->features).avail_align == 0;
}

static enum vu_outcome vu_set_vring_addr(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_ring *ring = vu_ring_of(session, msg);
	bool same = ring->addr.desc == msg->addr.desc && ring->addr.avail == msg->addr.avail &&
		    ring->addr.used == msg->addr.used;

	if (!vu_addr_is_aligned(session, &msg->addr))
		return vu_refuse(session, "ring %" PRIu32 " is not aligned", msg->ring);
	/* Repeated on a running ring when dirty logging is switched. */
	if (ring->ready && !same)
		return vu_refuse_running(session, msg);
	ring->addr = msg->addr;
	ring->addressed = true;
	if (ring->ready)
		vu_log_settle(session);
	return VU_DONE;
}

void vu_new_driver(struct vu_session *session)
{
	vu_rings_pause(session);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		session->rings[i].ran = false;
	session->ops->device_reset(session->ctx);
}

static enum vu_outcome vu_set_vring_base(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_ring *ring = vu_ring_of(session, msg);

	if (msg->num > UINT16_MAX && !vu_is_packed(session))
		return vu_refuse(session, "%" PRIu32 " is no index of a split ring", msg->num);
	if (ring->ready)
		return vu_refuse_running(session, msg);
	if (ring->ran && ring->base != msg->num)
		vu_new_driver(session);
	ring->base = msg->num;
	return VU_DONE;
}

static enum vu_outcome vu_get_vring_base(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_ring *ring = vu_ring_of(session, msg);
	uint8_t reply[VU_MAX_REPLY];

	vu_ring_stop(ring);
	vu_iotlb_renew(session);
	return vu_send(session, reply, vu_reply_state(reply, msg->request, msg->ring, ring->base));
}

static enum vu_outcome vu_set_vring_kick(struct vu_session *session, const struct vu_msg *msg)
{
	int fd = msg->no_fd ? -1 : fd_take(&session->fds[0]);
	int ret = vu_ring_set_kick(vu_ring_of(session, msg), fd);

	if (ret < 0) {
		(void)vu_refuse(session, "ring %" PRIu32 ": cannot be waited for: %s", msg->ring,
				strerror(-ret));
		/* The old descriptor is gone: that is half a state. */
		return VU_FATAL;
	}
	return VU_DONE;
}

static enum vu_outcome vu_set_vring_call(struct vu_session *session, const struct vu_msg *msg)
{
	int fd = msg->no_fd ? -1 : fd_take(&session->fds[0]);
	int ret = vu_ring_set_call(vu_ring_of(session, msg), fd);

	if (ret < 0)
		return vu_refuse(session, "ring %" PRIu32 ": %s", msg->ring, strerror(-ret));
	return VU_DONE;
}

static enum vu_outcome vu_set_vring_err(struct vu_session *session, const struct vu_msg *msg)
{
	int fd = msg->no_fd ? -1 : fd_take(&session->fds[0]);
	int ret = vu_ring_set_err(vu_ring_of(session, msg), fd);

	if (ret < 0)
		return vu_refuse(session, "ring %" PRIu32 ": %s", msg->ring, strerror(-ret));
	return VU_DONE;
}

static enum vu_outcome vu_set_vring_enable(struct vu_session *session, const struct vu_msg *msg)
{
	struct vu_ring *ring = vu_ring_of(session, msg);

	if (msg->num > 1)
		return vu_refuse(session, "%" PRIu32 " is neither 0 nor 1", msg->num);
	ring->enable = msg->num == 1 ? VU_ENABLE_ON : VU_ENABLE_OFF;
	if (ring->enable == VU_ENABLE_OFF)
		vu_ring_pause(ring);
	return VU_DONE;
}

static enum vu_outcome vu_get_config(struct vu_session *session, const struct vu_msg *msg)
{
	uint8_t reply[VU_MAX_REPLY];
	uint8_t *data;
	size_t bytes = vu_reply_config(reply, msg, &data);

	/* Some front-ends panic without an answer: beyond the end there are zeros. */
	if (data != NULL && range_within(msg->offset, msg->length, UINT32_MAX))
		session->ops->config_read(session->ctx, data, msg->offset, msg->length);
	return vu_send(session, reply, bytes);
}

static enum vu_outcome vu_set_config(struct vu_session *session, const struct vu_msg *msg)
{
	/* A guest may write what it wants there; that shall not cost its VM the device. */
	if (!msg->need_reply) {
		log_debug(session->tag, "SET_CONFIG is ignored");
		return VU_DONE;
	}
	return vu_refuse(session, "the configuration space cannot be written");
}

static enum vu_outcome vu_reset_device(struct vu_session *session, const struct vu_msg *msg)
{
	(void)msg;
	/* Memory and negotiated features survive: front-ends do not repeat them. */
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		vu_ring_reset(&session->rings[i]);
	session->status = 0;
	session->ops->device_reset(session->ctx);
	return VU_DONE;
}

/* 0 is no reset: QEMU sends it at each stop, and continues afterwards with the same
 * driver. Another one is told apart as above. */
static enum vu_outcome vu_set_status(struct vu_session *session, const struct vu_msg *msg)
{
	uint64_t status = msg->value;

	if ((status & ~(uint64_t)VU_STATUS_MASK) != 0)
		return vu_refuse(session, "0x%" PRIx64 " is no status", status);
	/* Features that were refused or never named are not agreed upon. */
	if (!session->features_set)
		status &= ~(uint64_t)VU_STATUS_FEATURES_OK;
	session->status = status & ~(uint64_t)VU_STATUS_NEEDS_RESET;
	return VU_DONE;
}

/* Whether the driver broke a ring: it stands still until the device is reset. */
static bool vu_needs_reset(struct vu_session *session)
{
	bool broken = false;

	session->ops->lock(session->ctx);
	for (unsigned int i = 0; i < VU_MAX_RINGS; i++)
		broken |= session->rings[i].vring.broken;
	session->ops->unlock(session->ctx);
	return broken;
}

static enum vu_outcome vu_get_status(struct vu_session *session, const struct vu_msg *msg)
{
	uint64_t needs = vu_needs_reset(session) ? VU_STATUS_NEEDS_RESET : 0;

	return vu_answer_u64(session, msg, session->status | needs);
}

/* One per request that vu_msg.c lets through. */
static enum vu_outcome (*const vu_handlers[VU_REQUEST_COUNT])(struct vu_session *session,
							      const struct vu_msg *msg) = {
	[VU_GET_FEATURES] = vu_get_features,
	[VU_SET_FEATURES] = vu_set_features,
	[VU_SET_OWNER] = vu_do_nothing,
	[VU_RESET_OWNER] = vu_do_nothing,
	[VU_SET_MEM_TABLE] = vu_set_mem_table,
	[VU_SET_LOG_BASE] = vu_set_log_base,
	[VU_SET_LOG_FD] = vu_set_log_fd,
	[VU_SET_VRING_NUM] = vu_set_vring_num,
	[VU_SET_VRING_ADDR] = vu_set_vring_addr,
	[VU_SET_VRING_BASE] = vu_set_vring_base,
	[VU_GET_VRING_BASE] = vu_get_vring_base,
	[VU_SET_VRING_KICK] = vu_set_vring_kick,
	[VU_SET_VRING_CALL] = vu_set_vring_call,
	[VU_SET_VRING_ERR] = vu_set_vring_err,
	[VU_GET_PROTOCOL_FEATURES] = vu_get_protocol_features,
	[VU_SET_PROTOCOL_FEATURES] = vu_set_protocol_features,
	[VU_GET_QUEUE_NUM] = vu_get_queue_num,
	[VU_SET_VRING_ENABLE] = vu_set_vring_enable,
	[VU_SET_BACKEND_REQ_FD] = vu_set_backend_req_fd,
	[VU_IOTLB_MSG] = vu_iotlb_msg,
	[VU_GET_CONFIG] = vu_get_config,
	[VU_SET_CONFIG] = vu_set_config,
	[VU_RESET_DEVICE] = vu_reset_device,
	[VU_GET_MAX_MEM_SLOTS] = vu_get_max_mem_slots,
	[VU_ADD_MEM_REG] = vu_add_mem_reg,
	[VU_REM_MEM_REG] = vu_rem_mem_reg,
	[VU_SET_STATUS] = vu_set_status,
	[VU_GET_STATUS] = vu_get_status,
	[VU_SET_DEVICE_STATE_FD] = vu_set_device_state_fd,
	[VU_CHECK_DEVICE_STATE] = vu_check_device_state,
};

enum vu_outcome vu_handle(struct vu_session *session, const struct vu_msg *msg)
{
	if (msg->request >= VU_REQUEST_COUNT || vu_handlers[msg->request] == NULL)
		return vu_refuse(session, "%s", vu_verdict_text(VU_MSG_NOT_OFFERED));
	return vu_handlers[msg->request](session, msg);
}
