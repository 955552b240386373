// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * number.c - see number.h. Has no state and makes no system call.
 */
#include "common/number.h"

#include <errno.h>

int number_u32(const char *text, uint32_t max, uint32_t *value)
{
	uint64_t n = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		n = n * 10 + (uint64_t)(*text - '0');
		if (n > max)
			return -ERANGE;
	}
	*value = (uint32_t)n;
	return 0;
}
