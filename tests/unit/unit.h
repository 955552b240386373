// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * unit.h - cmocka with the headers it needs first.
 */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/** figure() - Say how much the running test has tried; see scripts/reliability. */
#define figure(count, what) \
	printf("# figure %s %" PRIu64 " %s\n", __func__, (uint64_t)(count), what)

#endif
