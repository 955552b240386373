// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * config_values.c - parsers of values that are neither plain numbers nor paths.
 * Makes no system call.
 */
#include <errno.h>
#include <string.h>

#include "daemon/config_private.h"

int config_set_switch(maybe_unused const struct config_key *key, void *field, const char *text)
{
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
		return -EINVAL;
	*(bool *)field = strcmp(text, "on") == 0;
	return 0;
}
