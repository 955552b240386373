// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_vu_scripts.c - the orders in which known front-ends send their requests,
 * each played from its first message through a reboot of its guest.
 */
#include "vu_rig.h"

#define PROTOCOL_ALL \
	(bit64(0) | bit64(1) | bit64(3) | bit64(9) | bit64(13) | bit64(15) | bit64(16) | bit64(19))

static void ack(struct rig *rig, uint32_t request)
{
	assert_int_equal(rig_reply_u64(rig, request), 0);
}

static void state_ack(struct rig *rig, uint32_t request, uint32_t ring, uint32_t num)
{
	uint32_t words[2] = { ring, num };

	rig_send(rig, request, NEED_REPLY, words, sizeof(words), NULL, 0);
	ack(rig, request);
}

static void ring_fd_ack(struct rig *rig, uint32_t request, uint64_t ring, int fd)
{
	rig_send(rig, request, NEED_REPLY, &ring, sizeof(ring), &fd, 1);
	ack(rig, request);
}

static void owner(struct rig *rig)
{
	rig_send(rig, VU_SET_OWNER, 0, NULL, 0, NULL, 0);
}

static void read_config(struct rig *rig)
{
	uint32_t words[5] = { 0, 8, 0, 0, 0 };

	rig_send(rig, VU_GET_CONFIG, 0, words, sizeof(words), NULL, 0);
	assert_int_equal(rig_reply(rig, VU_GET_CONFIG, words, sizeof(words)), sizeof(words));
	assert_int_equal(words[3], 3);
}

/* Two rings, position @n each, their guest's memory wiped: a reboot. */
static void use_and_wipe(struct rig *rig, uint16_t n)
{
	rig_use_ring(rig, 0, n);
	rig_use_ring(rig, 1, n);
	memset(rig->mem, 0, RIG_MEM_BYTES);
}

/* QEMU 7.2: everything up to the guest's driver. */
static void qemu_realize(struct rig *rig)
{
	assert_int_equal(rig_get(rig, VU_GET_FEATURES),
			 F_OFFERED | F_PACKED | F_PROTOCOL | F_LOG_ALL);
	assert_int_equal(rig_get(rig, VU_GET_PROTOCOL_FEATURES), PROTOCOL_ALL);
	rig_u64(rig, VU_SET_PROTOCOL_FEATURES, PROTOCOL_ALL);
	assert_int_equal(rig_get(rig, VU_GET_QUEUE_NUM), 3);
	assert_int_equal(rig_get(rig, VU_GET_MAX_MEM_SLOTS), 509);
	owner(rig);
	assert_int_equal(rig_get(rig, VU_GET_FEATURES),
			 F_OFFERED | F_PACKED | F_PROTOCOL | F_LOG_ALL);
	for (unsigned int i = 0; i < 2; i++) {
		rig_call(rig, i);
		rig_ring_fd(rig, VU_SET_VRING_ERR, i, rig->call[2]);
	}
	read_config(rig);
}

static void qemu_start(struct rig *rig, uint32_t base0, uint32_t base1)
{
	rig_call(rig, 0);
	rig_call(rig, 1);
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	if (rig->session->mem.gmem.count == 0)
		assert_int_equal(rig_region(rig, VU_ADD_MEM_REG, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0,
					    rig->memory),
				 0);
	rig_describe(rig, 0, base0);
	rig_describe(rig, 1, base1);
	rig_sync(rig);
	rig_expect_ready(rig, false, false, false);
	rig_enable(rig, 0, 1);
	rig_enable(rig, 1, 1);
	rig_call(rig, 0);
	rig_call(rig, 1);
	rig_sync(rig);
	rig_expect_ready(rig, true, true, false);
}

static void qemu_stop(struct rig *rig, uint32_t base0, uint32_t base1)
{
	rig_enable(rig, 0, 0);
	rig_enable(rig, 1, 0);
	assert_int_equal(rig_get_base(rig, 0), base0);
	assert_int_equal(rig_get_base(rig, 1), base1);
	rig_call(rig, 0);
	rig_call(rig, 1);
}

static void test_qemu_7(void **state)
{
	struct rig *rig = *state;

	qemu_realize(rig);
	qemu_start(rig, 0, 0);
	rig_use_ring(rig, 0, 6);
	rig_use_ring(rig, 1, 2);
	qemu_stop(rig, 6, 2); /* stop, cont */
	qemu_start(rig, 6, 2);
	assert_int_equal(rig->resets, 0);
	memset(rig->mem, 0, RIG_MEM_BYTES);
	qemu_stop(rig, 6, 2); /* reboot */
	qemu_start(rig, 0, 0);
	assert_int_equal(rig->resets, 1);
	qemu_stop(rig, 0, 0);
	shutdown(rig->sock, SHUT_RDWR);
	rig_expect_closed(rig, "front-end hung up");
}

/* QEMU 8.2 and later: RESET_DEVICE at every reset of the guest's device. */
static void test_qemu_reset_device(void **state)
{
	struct rig *rig = *state;

	qemu_realize(rig);
	for (unsigned int i = 1; i <= 3; i++) {
		qemu_start(rig, 0, 0);
		use_and_wipe(rig, 5);
		qemu_stop(rig, 5, 5);
		rig_send(rig, VU_RESET_DEVICE, 0, NULL, 0, NULL, 0);
		rig_sync(rig);
		assert_int_equal(rig->resets, i);
	}
	qemu_start(rig, 0, 0);
	assert_int_equal(rig->resets, 3);
}

/* QEMU that comes back after the daemon was restarted negotiates nothing, but
 * wants the acknowledgements of its first connection. */
static void test_qemu_reconnect(void **state)
{
	uint64_t table[5] = { 1, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0 };
	struct rig *rig = *state;

	state_ack(rig, VU_SET_VRING_ENABLE, 0, 0);
	state_ack(rig, VU_SET_VRING_ENABLE, 1, 0);
	assert_int_equal(rig_get_base(rig, 0), 0);
	assert_int_equal(rig_get_base(rig, 1), 0);
	for (unsigned int i = 0; i < 4; i++)
		ring_fd_ack(rig, VU_SET_VRING_CALL, i % 2, rig->call[i % 2]);
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_send(rig, VU_SET_MEM_TABLE, NEED_REPLY, table, sizeof(table), &rig->memory, 1);
	ack(rig, VU_SET_MEM_TABLE);
	for (unsigned int i = 0; i < 2; i++) {
		rig_state(rig, VU_SET_VRING_NUM, i, RIG_QUEUE_SIZE);
		rig_state(rig, VU_SET_VRING_BASE, i, 0);
		rig_addr(rig, i);
		ring_fd_ack(rig, VU_SET_VRING_KICK, i, rig->kick[i]);
		state_ack(rig, VU_SET_VRING_ENABLE, i, 1);
	}
	rig_expect_ready(rig, true, true, false);
	assert_int_equal(rig->resets, 0);
}

static void crosvm_activate(struct rig *rig)
{
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_mem_table(rig, rig->memory);
	for (unsigned int i = 0; i < 3; i++) {
		rig_state(rig, VU_SET_VRING_NUM, i, RIG_QUEUE_SIZE);
		rig_addr(rig, i);
		rig_state(rig, VU_SET_VRING_BASE, i, 0);
		rig_call(rig, i);
		rig_kick(rig, i);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
	rig_expect_ready(rig, true, true, true);
}

static void test_crosvm(void **state)
{
	struct rig *rig = *state;

	owner(rig);
	(void)rig_get(rig, VU_GET_FEATURES);
	(void)rig_get(rig, VU_GET_PROTOCOL_FEATURES);
	rig_u64(rig, VU_SET_PROTOCOL_FEATURES, bit64(0) | bit64(3) | bit64(9));
	assert_int_equal(rig_get(rig, VU_GET_QUEUE_NUM), 3);
	read_config(rig);
	crosvm_activate(rig);
	use_and_wipe(rig, 3);
	for (unsigned int i = 0; i < 3; i++) {
		rig_enable(rig, i, 0);
		assert_int_equal(rig_get_base(rig, i), i < 2 ? 3 : 0);
	}
	crosvm_activate(rig);
	assert_int_equal(rig->resets, 1);
}

/* Cloud Hypervisor: need_reply on everything, first base not 0. */
static void cloud_hypervisor_activate(struct rig *rig, uint32_t base)
{
	uint64_t table[5] = { 1, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0 };
	uint64_t features = F_OFFERED | F_PROTOCOL;

	rig_send(rig, VU_SET_FEATURES, NEED_REPLY, &features, 8, NULL, 0);
	ack(rig, VU_SET_FEATURES);
	rig_send(rig, VU_SET_MEM_TABLE, NEED_REPLY, table, sizeof(table), &rig->memory, 1);
	ack(rig, VU_SET_MEM_TABLE);
	for (unsigned int i = 0; i < 3; i++)
		state_ack(rig, VU_SET_VRING_NUM, i, RIG_QUEUE_SIZE);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t addr[5] = { i, rig_ring_uva(i), rig_ring_uva(i) + 0x2000,
				     rig_ring_uva(i) + 0x1000, 0 };

		rig_send(rig, VU_SET_VRING_ADDR, NEED_REPLY, addr, sizeof(addr), NULL, 0);
		ack(rig, VU_SET_VRING_ADDR);
		state_ack(rig, VU_SET_VRING_BASE, i, base);
		ring_fd_ack(rig, VU_SET_VRING_CALL, i, rig->call[i]);
		ring_fd_ack(rig, VU_SET_VRING_KICK, i, rig->kick[i]);
	}
	for (unsigned int i = 0; i < 3; i++)
		state_ack(rig, VU_SET_VRING_ENABLE, i, 1);
	rig_expect_ready(rig, true, true, true);
}

static void test_cloud_hypervisor(void **state)
{
	struct rig *rig = *state;

	owner(rig);
	(void)rig_get(rig, VU_GET_FEATURES);
	(void)rig_get(rig, VU_GET_PROTOCOL_FEATURES);
	rig_u64(rig, VU_SET_PROTOCOL_FEATURES, bit64(0) | bit64(3) | bit64(9) | bit64(15));
	(void)rig_get(rig, VU_GET_QUEUE_NUM);
	cloud_hypervisor_activate(rig, 64);
	assert_int_equal(vu_session_ring(rig->session, 0)->next_avail, 64);
	/* Snapshot: the same connection is set up again with the bases it was told. */
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(rig_get_base(rig, i), 64);
	cloud_hypervisor_activate(rig, 64);
	assert_int_equal(rig->resets, 0);
	/* Memory is plugged in while the rings run. */
	assert_int_equal(
		rig_region(rig, VU_ADD_MEM_REG, 0x10000000, 0x1000, 0x10000000, 0, rig->memory), 0);
	rig_expect_ready(rig, true, true, true);
	assert_int_equal(rig->stopping[0], 1);
}

static void libkrun_activate(struct rig *rig)
{
	owner(rig);
	rig_mem_table(rig, rig->memory);
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	for (unsigned int i = 0; i < 3; i++) {
		rig_state(rig, VU_SET_VRING_NUM, i, RIG_QUEUE_SIZE);
		rig_state(rig, VU_SET_VRING_BASE, i, 0);
		rig_addr(rig, i);
		rig_kick(rig, i);
		rig_ring_fd(rig, VU_SET_VRING_CALL, i, rig->call[0]);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
	rig_expect_ready(rig, true, true, true);
}

/* libkrun: owner set again and again, no GET_VRING_BASE at a reset. */
static void test_libkrun(void **state)
{
	struct rig *rig = *state;

	(void)rig_get(rig, VU_GET_FEATURES);
	(void)rig_get(rig, VU_GET_PROTOCOL_FEATURES);
	rig_u64(rig, VU_SET_PROTOCOL_FEATURES, bit64(0) | bit64(9));
	(void)rig_get(rig, VU_GET_QUEUE_NUM);
	for (unsigned int i = 1; i <= 3; i++) {
		libkrun_activate(rig);
		assert_int_equal(rig->resets, i - 1);
		use_and_wipe(rig, 3);
		for (unsigned int ring = 0; ring < 3; ring++)
			rig_enable(rig, ring, 0);
	}
}

static void openvmm_activate(struct rig *rig)
{
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	for (unsigned int i = 0; i < 3; i++) {
		rig_state(rig, VU_SET_VRING_NUM, i, RIG_QUEUE_SIZE);
		rig_addr(rig, i);
		rig_state(rig, VU_SET_VRING_BASE, i, 0);
		rig_kick(rig, i);
		rig_call(rig, i);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
	rig_expect_ready(rig, true, true, true);
}

/* OpenVMM: the memory table once per connection, RESET_DEVICE at a reset. */
static void test_openvmm(void **state)
{
	struct rig *rig = *state;

	owner(rig);
	rig_mem_table(rig, rig->memory);
	openvmm_activate(rig);
	use_and_wipe(rig, 4);
	for (unsigned int i = 0; i < 3; i++) {
		rig_enable(rig, i, 0);
		assert_int_equal(rig_get_base(rig, i), i < 2 ? 4 : 0);
	}
	rig_send(rig, VU_RESET_DEVICE, NEED_REPLY, NULL, 0, NULL, 0);
	ack(rig, VU_RESET_DEVICE);
	openvmm_activate(rig);
	assert_int_equal(rig->resets, 1);
}

static void alioth_activate(struct rig *rig)
{
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	for (unsigned int i = 0; i < 3; i++)
		rig_kick(rig, i);
	for (unsigned int i = 0; i < 3; i++) {
		rig_call(rig, i);
		rig_state(rig, VU_SET_VRING_NUM, i, RIG_QUEUE_SIZE);
		rig_state(rig, VU_SET_VRING_BASE, i, 0);
		rig_addr(rig, i);
		rig_enable(rig, i, 1);
	}
	rig_sync(rig);
	rig_expect_ready(rig, true, true, true);
}

/* alioth: memory slots before everything, kicks before sizes and addresses,
 * a reset is ENABLE 0 alone. */
static void test_alioth(void **state)
{
	struct rig *rig = *state;

	(void)rig_get(rig, VU_GET_FEATURES);
	(void)rig_get(rig, VU_GET_PROTOCOL_FEATURES);
	rig_u64(rig, VU_SET_PROTOCOL_FEATURES, bit64(0) | bit64(3) | bit64(9) | bit64(15));
	for (unsigned int i = 0; i < 3; i++)
		rig_ring_fd(rig, VU_SET_VRING_ERR, i, rig->call[2]);
	owner(rig);
	assert_int_equal(
		rig_region(rig, VU_ADD_MEM_REG, RIG_GPA, RIG_MEM_BYTES, RIG_UVA, 0, rig->memory),
		0);
	alioth_activate(rig);
	use_and_wipe(rig, 2);
	for (unsigned int i = 0; i < 3; i++)
		rig_enable(rig, i, 0);
	alioth_activate(rig);
	assert_int_equal(rig->resets, 1);
}

/* Everything about rings and memory first, SET_FEATURES last. */
static void test_features_last(void **state)
{
	struct rig *rig = *state;

	rig_describe(rig, 0, 0);
	rig_enable(rig, 0, 1);
	rig_mem_table(rig, rig->memory);
	rig_sync(rig);
	rig_expect_ready(rig, false, false, false);
	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PROTOCOL);
	rig_sync(rig);
	rig_expect_ready(rig, true, false, false);
	assert_true(vu_session_ring(rig->session, 0)->event_idx);
}

/* Describe, use and stop a packed ring of 12, which is no power of two. */
static void run_packed(struct rig *rig, uint32_t base, uint32_t n, uint32_t end)
{
	struct vring *vr = vu_session_ring(rig->session, 1);
	struct vring_chain chain;
	struct iovec iov;

	rig_state(rig, VU_SET_VRING_NUM, 1, 12);
	rig_state(rig, VU_SET_VRING_BASE, 1, base);
	rig_addr(rig, 1);
	rig_kick(rig, 1);
	rig_enable(rig, 1, 1);
	rig_sync(rig);
	rig_expect_ready(rig, false, true, false);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = ((base & 0x7fff) + i) % 12;
		bool wrap = ((base & 0x8000) != 0) == ((base & 0x7fff) + i < 12);
		uint8_t *desc = rig->mem + RIG_RING_BYTES + at * (size_t)VRING_DESC_BYTES;

		le64_store(desc, RIG_GPA + 0x20000);
		le32_store(desc + 8, 1);
		le16_store(desc + 14, wrap ? 0x80 : 0x8000);
		assert_int_equal(vring_pop(vr, &chain, &iov, 1), 1);
		vring_push(vr, chain.head, 0);
	}
	if (vring_publish(vr))
		vu_session_notify(rig->session, 2);
	assert_int_equal(rig_get_base(rig, 1), end);
}

/* Both halves of the base go round; sizes and NOTIFICATION_DATA are accepted. */
static void test_packed(void **state)
{
	struct rig *rig = *state;

	rig_u64(rig, VU_SET_FEATURES, F_OFFERED | F_PACKED | F_PROTOCOL | bit64(38));
	rig_mem_table(rig, rig->memory);
	run_packed(rig, 0x80008000, 5, 0x80058005);
	run_packed(rig, 0x80058005, 9, 0x00020002);
	run_packed(rig, 0x00020002, 0, 0x00020002);
	assert_int_equal(rig->resets, 0);
	memset(rig->mem, 0, RIG_MEM_BYTES);
	run_packed(rig, 0x80008000, 1, 0x80018001);
	assert_int_equal(rig->resets, 1);
	/* An impossible base: the ring does not run. */
	rig_state(rig, VU_SET_VRING_BASE, 1, 0x800c800c);
	rig_kick(rig, 1);
	rig_sync(rig);
	rig_expect_ready(rig, false, false, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_qemu_7),           rig_test(test_qemu_reset_device),
		rig_test(test_qemu_reconnect),   rig_test(test_crosvm),
		rig_test(test_cloud_hypervisor), rig_test(test_libkrun),
		rig_test(test_openvmm),          rig_test(test_alioth),
		rig_test(test_features_last),    rig_test(test_packed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
