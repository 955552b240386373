// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * values.c - parsers of names and of numbers with a suffix.
 * Makes no system call.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

/* What stands behind the digits: nothing or one of K, M, G. Return: its power of two, or -1. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "KMG";
	const char *found = strchr(letters, suffix[0]);

	if (suffix[0] == '\0')
		return 0;
	return found != NULL && suffix[1] == '\0' ? 10 * (int)(found - letters + 1) : -1;
}

int config_set_rate(const struct config_key *key, void *field, const char *text)
{
	size_t digits = strspn(text, "0123456789");
	int shift = suffix_shift(text + digits);
	uint64_t value = 0;

	if (digits == 0 || shift < 0)
		return -EINVAL;
	for (size_t i = 0; i < digits; i++) {
		value = value * 10 + (uint64_t)(text[i] - '0');
		if (value > key->max)
			return -EINVAL;
	}
	value <<= shift;
	if (value > key->max || (value != 0 && value < key->min))
		return -EINVAL;
	*(uint32_t *)field = (uint32_t)value;
	return 0;
}

int config_add_group(maybe_unused const struct config_key *key, void *field, const char *text)
{
	struct vm_config *vm = field;
	char **grown = NULL;
	char *copy = NULL;

	if (*text == '\0' || vm->group_count >= CONFIG_MAX_LIST)
		return -EINVAL;
	grown = reallocarray(vm->groups, vm->group_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	vm->groups = grown;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	grown[vm->group_count++] = copy;
	return 0;
}

int config_set_level(maybe_unused const struct config_key *key, void *field, const char *text)
{
	return log_level_parse(text, field);
}

int config_set_log_format(maybe_unused const struct config_key *key, void *field, const char *text)
{
	*(bool *)field = strcmp(text, "json") == 0;
	return *(bool *)field || strcmp(text, "text") == 0 ? 0 : -EINVAL;
}
