// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * show.h - results of the daemon as JSON or as lines for people.
 */
#ifndef VSOCKCTL_SHOW_H
#define VSOCKCTL_SHOW_H

#include <jansson.h>

#include "base/compiler.h"

/** Room for a scalar as text; longer ones are cut. */
#define SHOW_VALUE_SIZE 512

/** Print a value as one line of JSON, at once. */
void show_json(const json_t *value);

/** Print "name: value" for everything in an object, with "outer.inner" for objects in it. */
void show_pairs(const json_t *object);

/**
 * show_value() - A value as text
 * @value: scalars as they are, null as "-", lists of scalars joined by '+'
 * @text:  output
 *
 * Return: @text
 */
const char *show_value(const json_t *value, char text[SHOW_VALUE_SIZE]);

/** A member as a number, 0 when there is none. */
json_int_t show_number(const json_t *object, const char *name) must_use;

/** A member as a string, "-" when there is none. */
const char *show_string(const json_t *object, const char *name) must_use;

#endif
