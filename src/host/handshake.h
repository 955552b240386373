// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * handshake.h - the CONNECT line of a host program, and its answer. Pure.
 *
 * As Firecracker's hybrid vsock: "CONNECT <port>\n" is answered by
 * "OK <host port>\n"; the word is accepted in any case, as Kata sends it.
 */
#ifndef HOST_HANDSHAKE_H
#define HOST_HANDSHAKE_H

#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

#define HANDSHAKE_MAX_BYTES 64u /* longest line accepted, newline included */
#define HANDSHAKE_REPLY_BYTES 16u

enum handshake_result {
	HANDSHAKE_MORE, /* no complete line yet, nothing wrong so far */
	HANDSHAKE_DONE,
	HANDSHAKE_BAD,
};

/**
 * handshake_parse() - Look for a complete CONNECT line
 * @text:     what the client has sent so far, not terminated
 * @len:      bytes; with HANDSHAKE_MAX_BYTES and no newline the line is bad
 * @port:     output on DONE: the guest port
 * @consumed: output on DONE: bytes of the line; the rest is the first data
 */
enum handshake_result handshake_parse(const char *text, size_t len, uint32_t *port,
				      size_t *consumed) must_use;

/** Write "OK <port>\n" without terminator. Return: its length. */
size_t handshake_reply(char reply[HANDSHAKE_REPLY_BYTES], uint32_t host_port) must_use;

#endif
