// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * prove_handshake.c - for every text of up to TEXT_BYTES: the parser of the CONNECT
 * line stays within it, and takes a line only if it ends where it says.
 *
 * @source src/host/handshake.c
 * @unwind 17
 * @mutant src/host/handshake.c s/ \|\| at == word_len//
 * @mutant src/host/handshake.c s/end \+ 1;/end + 2;/
 * @mutant src/host/handshake.c s/if \(at != end\)/if (at > end)/
 */
#include "host/handshake.h"

#include <stdbool.h>

#define TEXT_BYTES 15u /* "CONNECT ", three digits, and room for blanks and more data */

size_t nondet_size(void);

int main(void)
{
	char text[TEXT_BYTES];
	size_t len = nondet_size();
	const char *start = text + (TEXT_BYTES - len);
	size_t consumed = 0;
	uint32_t port = 0;
	enum handshake_result result;

	__CPROVER_assume(len <= TEXT_BYTES);
	/* the end of the array is the end of what was sent: nothing behind it may be read */
	result = handshake_parse(start, len, &port, &consumed);
	if (result != HANDSHAKE_DONE)
		return 0;
	__CPROVER_assert(consumed >= sizeof("CONNECT 1"), "a line has a word and a port");
	__CPROVER_assert(consumed <= len, "no more is taken than there is");
	for (size_t i = 0; i < TEXT_BYTES && i < consumed; i++) {
		bool last = i + 1 == consumed;

		__CPROVER_assert((start[i] == '\n') == last, "it ends at the first newline");
		__CPROVER_assert(i < 8 || last || start[i] == ' ' || start[i] == '\t' ||
					 start[i] == '\r' || (start[i] >= '0' && start[i] <= '9'),
				 "there is nothing else in it");
	}
	return 0;
}
