// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * libc.c - functions of libc that the checker has no model of, as their manual says.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

_Bool nondet_bool(void);

void *memchr(const void *s, int c, size_t n)
{
	const unsigned char *p = s;

	for (size_t i = 0; i < n; i++) {
		if (p[i] == (unsigned char)c)
			return (void *)(p + i);
	}
	return NULL;
}

void *reallocarray(void *old, size_t n, size_t size)
{
	if (nondet_bool())
		return NULL;
	return realloc(old, n * size);
}
