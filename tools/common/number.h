// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * number.h - decimal numbers of a person or a peer, with a bound.
 */
#ifndef COMMON_NUMBER_H
#define COMMON_NUMBER_H

#include <stdint.h>

#include "base/compiler.h"

/**
 * number_u32() - A whole string as a number
 * @text:  digits only: no sign, no space, nothing behind
 * @max:   the largest one allowed
 * @value: output; untouched on failure
 *
 * Return: 0, -EINVAL or -ERANGE
 */
int number_u32(const char *text, uint32_t max, uint32_t *value) must_use;

#endif
