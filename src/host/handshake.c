// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * handshake.c - parser of the CONNECT line. Pure, keeps nothing between calls:
 * the client's bytes stay in its socket until the line is complete.
 */
#include "host/handshake.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static size_t skip_blanks(const char *text, size_t at, size_t end)
{
	while (at < end && is_blank(text[at]))
		at++;
	return at;
}

/* Strict decimal, at most 32 bits. Return: position behind it, or 0. */
static size_t parse_port(const char *text, size_t at, size_t end, uint32_t *port)
{
	uint64_t value = 0;
	size_t start = at;

	for (; at < end && text[at] >= '0' && text[at] <= '9'; at++) {
		value = value * 10 + (uint64_t)(text[at] - '0');
		if (value > UINT32_MAX)
			return 0;
	}
	if (at == start)
		return 0;
	*port = (uint32_t)value;
	return at;
}

enum handshake_result handshake_parse(const char *text, size_t len, uint32_t *port,
				      size_t *consumed)
{
	static const char word[] = "connect";
	const size_t word_len = sizeof(word) - 1;
	const char *newline = memchr(text, '\n', len);
	uint32_t value;
	size_t end;
	size_t at;

	if (strncasecmp(text, word, len < word_len ? len : word_len) != 0)
		return HANDSHAKE_BAD;
	if (newline == NULL)
		return len < HANDSHAKE_MAX_BYTES ? HANDSHAKE_MORE : HANDSHAKE_BAD;
	end = (size_t)(newline - text);
	at = skip_blanks(text, word_len, end);
	if (end <= word_len || at == word_len)
		return HANDSHAKE_BAD;
	at = parse_port(text, at, end, &value);
	if (at == 0)
		return HANDSHAKE_BAD;
	at = skip_blanks(text, at, end);
	if (at < end && text[at] == '\r')
		at++;
	if (at != end)
		return HANDSHAKE_BAD;
	*port = value;
	*consumed = end + 1;
	return HANDSHAKE_DONE;
}

size_t handshake_reply(char reply[HANDSHAKE_REPLY_BYTES], uint32_t host_port)
{
	int len = snprintf(reply, HANDSHAKE_REPLY_BYTES, "OK %u\n", host_port);

	return len > 0 ? (size_t)len : 0;
}
