// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_capture.c - how a capture ends, with a VM that has nothing but a tap and
 * a reader whose socket takes all there is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

#include "base/le.h"
#include "daemon/capture.h"
#include "daemon/manager.h"

#define PAYLOAD 65536u
#define SOCKET_BYTES (8 * 1024 * 1024) /* more than the ring */
#define TURNS 20u                      /* more than any end takes */

struct vm {
	struct tap *tap;
};

uint32_t vm_cid(maybe_unused const struct vm *vm)
{
	return 3;
}

const char *vm_tag(char tag[VM_TAG_BYTES], maybe_unused uint32_t cid)
{
	(void)snprintf(tag, VM_TAG_BYTES, "vm=3");
	return tag;
}

void vm_add_tap(struct vm *vm, struct tap *tap)
{
	vm->tap = tap;
}

void vm_remove_tap(struct vm *vm, maybe_unused struct tap *tap)
{
	vm->tap = NULL;
}

void manager_call(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
	fn(vm, arg);
}

struct rig {
	struct vm vm;
	struct loop *loop;
	struct captures captures;
	int reader;
	int writer; /* the capture's */
};

static void begin(struct rig *rig)
{
	const struct capture_wish wish = { .snaplen = CAPTURE_MAX_PACKET };
	struct capture *capture;
	int ends[2];

	*rig = (struct rig){ .loop = loop_new() };
	assert_non_null(rig->loop);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	rig->reader = ends[0];
	rig->writer = ends[1];
	captures_open(&rig->captures, rig->loop);
	assert_int_equal(capture_begin(&rig->captures, &rig->vm, &wish, &capture), 0);
	assert_non_null(rig->vm.tap);
	capture_stream(capture, ends[1]);
}

/* Return: false if this process may not do that. */
static bool widen(const struct rig *rig)
{
	const int bytes = SOCKET_BYTES;

	return setsockopt(rig->writer, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) == 0;
}

static void end(struct rig *rig)
{
	captures_close(&rig->captures);
	loop_free(rig->loop);
	(void)close(rig->reader);
}

static void turns(struct rig *rig)
{
	for (unsigned int i = 0; i < TURNS; i++) {
		loop_stop(rig->loop);
		assert_int_equal(loop_run(rig->loop), 0);
	}
}

static void show(const struct rig *rig, unsigned int packets)
{
	static uint8_t bytes[PAYLOAD];
	const struct iovec piece = { bytes, sizeof(bytes) };
	const struct pkt pkt = { .len = PAYLOAD, .op = VSOCK_OP_RW };
	uint8_t header[VSOCK_HDR_BYTES];

	pkt_encode(header, &pkt);
	for (unsigned int i = 0; i < packets; i++)
		assert_int_equal(rig->vm.tap->packet(rig->vm.tap, header, iov_begin(&piece, 1)),
				 TAP_KEPT);
}

/* Read all there is. Return: whole records, the last of which ends the stream. */
static unsigned int read_records(const struct rig *rig)
{
	uint8_t *stream = malloc(SOCKET_BYTES);
	unsigned int records = 0;
	uint32_t kept = 1;
	size_t have = 0;
	size_t at = 0;
	ssize_t got;

	assert_non_null(stream);
	while ((got = recv(rig->reader, stream + have, SOCKET_BYTES - have, MSG_DONTWAIT)) > 0)
		have += (size_t)got;
	assert_int_equal(got, 0); /* the end of file, not EAGAIN */
	while (at < have) {
		kept = le32_load(stream + at);
		at += CAPTURE_RECORD_BYTES + kept;
		records++;
	}
	assert_int_equal(at, have);
	assert_int_equal(kept, 0);
	free(stream);
	return records;
}

/* The reader has stalled, and takes all of it when it wants the end: a turn that sends as much
 * as it may, and thereby all there is, is not the last one. */
static void test_ends_after_any_number_of_bytes(void **state)
{
	for (unsigned int packets = 0; packets < 60; packets++) {
		struct rig rig;

		begin(&rig);
		show(&rig, packets);
		turns(&rig);
		if (!widen(&rig)) {
			end(&rig);
			skip();
		}
		assert_int_equal(shutdown(rig.reader, SHUT_WR), 0);
		turns(&rig);
		assert_null(rig.vm.tap);
		assert_int_equal(read_records(&rig), packets + 1);
		assert_int_equal(rig.captures.count, 0);
		end(&rig);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_after_any_number_of_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
