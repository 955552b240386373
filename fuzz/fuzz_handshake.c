// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_handshake.c - libFuzzer harness for host/handshake.c.
 *
 * Input: what a client has sent. Checked: the parser reads no byte beyond it, a
 * verdict on a part stands when more bytes follow (or was "more"), DONE names a
 * line that ends in a newline within the bound and a port that was written
 * there in decimal, and the reply parses back to its port.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "check.h"
#include "host/handshake.h"

#define UNTOUCHED_PORT 0xdeadbeefu
#define UNTOUCHED_LINE 12345u

static enum handshake_result parse(const uint8_t *data, size_t len, uint32_t *port, size_t *line)
{
	char *exact = malloc(len + !len);
	enum handshake_result result;

	check(exact);
	memcpy(exact, data, len);
	*port = UNTOUCHED_PORT;
	*line = UNTOUCHED_LINE;
	result = handshake_parse(exact, len, port, line);
	free(exact);
	return result;
}

/* Whether @data is a line that a reader of the contract would accept. */
static bool is_right(const uint8_t *data, size_t line, uint32_t port)
{
	char text[HANDSHAKE_MAX_BYTES + 1] = "";
	char *end;
	char *at = text + strlen("connect");

	memcpy(text, data, line);
	if (strncasecmp(text, "connect", strlen("connect")) != 0 || (*at != ' ' && *at != '\t'))
		return false;
	while (*at == ' ' || *at == '\t')
		at++;
	if (!isdigit((unsigned char)*at) || strtoull(at, &end, 10) != port)
		return false;
	while (*end == ' ' || *end == '\t')
		end++;
	return strcmp(end, "\n") == 0 || strcmp(end, "\r\n") == 0;
}

static void check_reply(uint32_t port)
{
	char reply[HANDSHAKE_REPLY_BYTES];
	char text[HANDSHAKE_REPLY_BYTES + 1] = "";
	size_t len = handshake_reply(reply, port);
	char *end;

	check(len > 4 && len < sizeof(reply));
	memcpy(text, reply, len);
	check(memcmp(text, "OK ", 3) == 0 && isdigit((unsigned char)text[3]));
	check(strtoull(text + 3, &end, 10) == port && strcmp(end, "\n") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum handshake_result last = HANDSHAKE_MORE;
	uint32_t last_port = 0;
	size_t last_line = 0;

	size = min_size(size, HANDSHAKE_MAX_BYTES);
	for (size_t len = 0; len <= size; len++) {
		uint32_t port;
		size_t line;
		enum handshake_result result = parse(data, len, &port, &line);

		check(last == HANDSHAKE_MORE || result == last);
		check(result != HANDSHAKE_MORE || len < HANDSHAKE_MAX_BYTES);
		if (result != HANDSHAKE_DONE) {
			check(port == UNTOUCHED_PORT && line == UNTOUCHED_LINE);
		} else if (last != HANDSHAKE_DONE) {
			check(line == len && is_right(data, line, port));
			check_reply(port);
		} else {
			check(line == last_line && port == last_port);
		}
		last = result;
		last_port = port;
		last_line = line;
	}
	return 0;
}
