// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_handshake.c - host/handshake.c: what is a CONNECT line, in every
 * fragmentation.
 */
#include <string.h>

#include "unit.h"

#include "base/compiler.h"
#include "host/handshake.h"

struct example {
	const char *text;
	enum handshake_result result;
	uint32_t port;
	size_t consumed;
};

static const struct example examples[] = {
	{ "CONNECT 1234\n", HANDSHAKE_DONE, 1234, 13 },
	{ "connect 0\n", HANDSHAKE_DONE, 0, 10 },
	{ "Connect\t 4294967295 \r\n", HANDSHAKE_DONE, UINT32_MAX, 22 },
	{ "CONNECT 22\nSSH-2.0-x\r\nCONNECT 1\n", HANDSHAKE_DONE, 22, 11 },
	{ "CONNECT 0000000022\n", HANDSHAKE_DONE, 22, 19 },
	{ "CONNECT 4294967296\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT 99999999999999999999999999\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT -1\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT +1\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT 0x10\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT 1 2\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT 1\r\r\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT \n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECT1\n", HANDSHAKE_BAD, 0, 0 },
	{ "CONNECTED 1\n", HANDSHAKE_BAD, 0, 0 },
	{ "\n", HANDSHAKE_BAD, 0, 0 },
	{ " CONNECT 1\n", HANDSHAKE_BAD, 0, 0 },
	{ "GET / HTTP/1.1\r\n", HANDSHAKE_BAD, 0, 0 },
};

static void test_lines(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(examples); i++) {
		const struct example *e = &examples[i];
		uint32_t port = 0;
		size_t consumed = 0;

		if (handshake_parse(e->text, strlen(e->text), &port, &consumed) != e->result)
			fail_msg("wrong result for %s", e->text);
		assert_int_equal(port, e->port);
		assert_int_equal(consumed, e->consumed);
	}
}

/* Every proper prefix of a good line asks for more; outputs are untouched. */
static void test_fragments(void **state)
{
	static const char line[] = "CONNECT 65536 \r\n";
	uint32_t port = 7;
	size_t consumed = 7;

	(void)state;
	for (size_t len = 1; len < sizeof(line) - 1; len++) {
		assert_int_equal(handshake_parse(line, len, &port, &consumed), HANDSHAKE_MORE);
		assert_int_equal(port, 7);
	}
	assert_int_equal(handshake_parse(line, sizeof(line) - 1, &port, &consumed), HANDSHAKE_DONE);
}

static void test_endless(void **state)
{
	char line[HANDSHAKE_MAX_BYTES + 1];
	uint32_t port;
	size_t consumed;

	(void)state;
	memset(line, ' ', sizeof(line));
	memcpy(line, "CONNECT", 7);
	assert_int_equal(handshake_parse(line, HANDSHAKE_MAX_BYTES - 1, &port, &consumed),
			 HANDSHAKE_MORE);
	assert_int_equal(handshake_parse(line, HANDSHAKE_MAX_BYTES, &port, &consumed),
			 HANDSHAKE_BAD);
}

static void test_embedded_nul(void **state)
{
	uint32_t port;
	size_t consumed;

	(void)state;
	assert_int_equal(handshake_parse("CONN\0CT 1\n", 10, &port, &consumed), HANDSHAKE_BAD);
	assert_int_equal(handshake_parse("CONNECT 1\0\n", 11, &port, &consumed), HANDSHAKE_BAD);
}

static void test_reply(void **state)
{
	char reply[HANDSHAKE_REPLY_BYTES];

	(void)state;
	assert_int_equal(handshake_reply(reply, UINT32_MAX), 14);
	assert_memory_equal(reply, "OK 4294967295\n", 14);
	assert_int_equal(handshake_reply(reply, 1u << 30), 14);
	assert_memory_equal(reply, "OK 1073741824\n", 14);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),   cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_endless), cmocka_unit_test(test_embedded_nul),
		cmocka_unit_test(test_reply),
	};

	return cmocka_run_group_tests_name("handshake", tests, NULL, NULL);
}
