// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_capture.c - libFuzzer harness for tools/vsockctl/capture.c.
 *
 * Input: what the daemon has sent of a capture's stream. Checked: no byte beyond
 * it is read or given out, and a record is the same whatever follows it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "vsockctl/capture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size + !size);
	size_t at = 0;
	ssize_t got = 1;

	check(exact);
	memcpy(exact, data, size);
	while (got > 0) {
		struct capture_record record;
		struct capture_record again;
		uint8_t sum = 0;

		got = capture_next(exact + at, size - at, &record);
		if (got <= 0)
			break;
		check((size_t)got == CAPTURE_RECORD_BYTES + record.kept);
		check((size_t)got <= size - at && record.kept <= record.length);
		for (uint32_t i = 0; i < record.kept; i++)
			sum ^= record.packet[i];
		check(capture_next(exact + at, (size_t)got, &again) == got);
		check(again.packet == record.packet && again.lost == record.lost && sum <= 255);
		check(capture_next(exact + at, (size_t)got - 1, &again) == 0);
		at += (size_t)got;
	}
	free(exact);
	return 0;
}
