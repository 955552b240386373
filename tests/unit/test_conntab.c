// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_conntab.c - vsock/conntab.c against a naive list, and pkt.c's round trip.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"

#include "base/compiler.h"
#include "rng.h"
#include "vsock/conntab.h"
#include "vsock/pkt.h"

#define MAX 500u
#define KEYS 37u /* few, so that the same keys come again and again */

struct element {
	struct conn conn;
	uint32_t number;
};

static void test_bound(void **state)
{
	struct conntab tab;
	struct conn *all[5];

	(void)state;
	conntab_init(&tab, sizeof(struct element), 5, 1);
	assert_null(conntab_find(&tab, 1, 2, 3));
	for (size_t i = 0; i < 5; i++) {
		all[i] = conntab_alloc(&tab);
		assert_non_null(all[i]);
		assert_int_equal(all[i]->state, CONN_FREE);
	}
	assert_null(conntab_alloc(&tab));
	conntab_release(&tab, all[2]);
	all[2] = conntab_alloc(&tab);
	assert_non_null(all[2]);
	for (size_t i = 0; i < 5; i++)
		conntab_release(&tab, all[i]);
	conntab_fini(&tab);
}

/* A released element comes back zeroed and in no list or hash. */
static void test_recycled(void **state)
{
	struct conntab tab;
	struct conn *conn;

	(void)state;
	conntab_init(&tab, sizeof(struct element), 5, 1);
	conn = conntab_alloc(&tab);
	conn->guest_port = 7;
	conn->state = CONN_ESTABLISHED;
	conn->owes = 0xff;
	container_of(conn, struct element, conn)->number = 9;
	assert_int_equal(buf_append(&conn->spill, "x", 1, 10), 0);
	assert_int_equal(conntab_insert(&tab, conn), 0);
	conntab_release(&tab, conn);
	assert_null(conntab_find(&tab, 7, 0, 0));
	conn = conntab_alloc(&tab);
	assert_int_equal(container_of(conn, struct element, conn)->number, 0);
	assert_int_equal(conn->owes, 0);
	assert_false(conn->in_table);
	assert_true(list_empty(&conn->ctl));
	assert_int_equal(buf_length(&conn->spill), 0);
	conntab_release(&tab, conn);
	conntab_fini(&tab);
}

struct model {
	struct conn *conn[KEYS * KEYS];
	uint32_t count;
};

static void key_of(uint32_t key, uint32_t *guest, uint32_t *host, uint32_t *cid)
{
	*guest = key % KEYS;
	*host = key / KEYS;
	*cid = 2 + key % 3;
}

static void step(struct conntab *tab, struct model *model, uint32_t key)
{
	uint32_t guest;
	uint32_t host;
	uint32_t cid;

	key_of(key, &guest, &host, &cid);
	assert_ptr_equal(conntab_find(tab, guest, host, cid), model->conn[key]);
	if (model->conn[key] != NULL) {
		conntab_release(tab, model->conn[key]);
		model->conn[key] = NULL;
		model->count--;
		return;
	}
	model->conn[key] = conntab_alloc(tab);
	if (model->conn[key] == NULL) {
		assert_int_equal(model->count, MAX);
		return;
	}
	model->count++;
	model->conn[key]->guest_port = guest;
	model->conn[key]->host_port = host;
	model->conn[key]->host_cid = cid;
	model->conn[key]->state = CONN_ESTABLISHED;
	assert_int_equal(conntab_insert(tab, model->conn[key]), 0);
}

static void count_one(void *ctx, struct conn *conn)
{
	(void)conn;
	(*(uint32_t *)ctx)++;
}

static void test_model(void **state)
{
	struct rng rng = rng_new();
	static struct model model;
	struct conntab tab;
	uint32_t seen = 0;

	(void)state;
	memset(&model, 0, sizeof(model));
	conntab_init(&tab, sizeof(struct element), MAX, rng_next(&rng));
	for (uint32_t i = 0; i < 200000; i++)
		step(&tab, &model, (uint32_t)(rng_next(&rng) % (KEYS * KEYS)));
	figure(200000, "steps");
	conntab_each(&tab, count_one, &seen);
	assert_int_equal(seen, model.count);
	for (uint32_t key = 0; key < KEYS * KEYS; key++) {
		if (model.conn[key] != NULL)
			conntab_release(&tab, model.conn[key]);
	}
	assert_int_equal(tab.used, 0);
	conntab_fini(&tab);
}

static void test_pkt(void **state)
{
	const struct pkt pkt = {
		.src_cid = UINT64_C(0x0102030405060708),
		.dst_cid = UINT64_C(0x1112131415161718),
		.src_port = 0x21222324,
		.dst_port = 0x31323334,
		.len = 0x41424344,
		.type = 0x5152,
		.op = 0x6162,
		.flags = 0x71727374,
		.buf_alloc = 0x81828384,
		.fwd_cnt = 0x91929394,
	};
	static const uint8_t wire[VSOCK_HDR_BYTES] = {
		8,    7,    6,    5,    4,    3,    2,    1,    0x18, 0x17, 0x16,
		0x15, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21, 0x34, 0x33,
		0x32, 0x31, 0x44, 0x43, 0x42, 0x41, 0x52, 0x51, 0x62, 0x61, 0x74,
		0x73, 0x72, 0x71, 0x84, 0x83, 0x82, 0x81, 0x94, 0x93, 0x92, 0x91,
	};
	uint8_t bytes[VSOCK_HDR_BYTES];
	struct pkt back;

	(void)state;
	pkt_encode(bytes, &pkt);
	assert_memory_equal(bytes, wire, sizeof(wire));
	pkt_decode(&back, bytes);
	assert_int_equal(back.src_cid, pkt.src_cid);
	assert_int_equal(back.dst_cid, pkt.dst_cid);
	assert_int_equal(back.src_port, pkt.src_port);
	assert_int_equal(back.dst_port, pkt.dst_port);
	assert_int_equal(back.len, pkt.len);
	assert_int_equal(back.type, pkt.type);
	assert_int_equal(back.op, pkt.op);
	assert_int_equal(back.flags, pkt.flags);
	assert_int_equal(back.buf_alloc, pkt.buf_alloc);
	assert_int_equal(back.fwd_cnt, pkt.fwd_cnt);
	pkt_patch_len(bytes, 5);
	pkt_decode(&back, bytes);
	assert_int_equal(back.len, 5);
	assert_int_equal(back.type, pkt.type);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_recycled),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_pkt),
	};

	return cmocka_run_group_tests_name("conntab", tests, NULL, NULL);
}
