// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * unit.h - cmocka with the headers it needs first.
 */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
