// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * check.h - what every harness has: its entry, and a condition that must hold
 * whatever the input. For harnesses only.
 */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/** What libFuzzer calls for each input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define check(condition)          \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

#endif
