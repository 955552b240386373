// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * security.c - the values of the options that protect the host: modes,
 * users and groups. Asks the system's user database, and nothing else.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

#define MAX_MODE 0777u

int config_set_sandbox(maybe_unused const struct config_key *key, void *field, const char *text)
{
	static const char *const names[SANDBOX_MODE_COUNT] = {
		[SANDBOX_AUTO] = "auto",
		[SANDBOX_STRICT] = "strict",
		[SANDBOX_NONE] = "none",
	};

	for (unsigned int i = 0; i < SANDBOX_MODE_COUNT; i++) {
		if (strcmp(text, names[i]) == 0) {
			*(enum sandbox_mode *)field = (enum sandbox_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Digits of a base only; -1 is no id. */
static int parse_digits(const char *text, unsigned int base, uint32_t max, uint32_t *number)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (const char *p = text; *p != '\0'; p++) {
		if (*p < '0' || *p >= '0' + (char)base)
			return -EINVAL;
		value = value * base + (uint64_t)(*p - '0');
		if (value > max)
			return -EINVAL;
	}
	*number = (uint32_t)value;
	return 0;
}

/* A name also gives its group; a number is taken as it is. */
int config_set_user(maybe_unused const struct config_key *key, void *field, const char *text)
{
	struct security_config *security = field;
	const struct passwd *user = getpwnam(text);
	uint32_t uid = 0;

	if (user == NULL && parse_digits(text, 10, UINT32_MAX - 1, &uid) < 0)
		return -EINVAL;
	if (user == NULL)
		user = getpwuid(uid);
	security->user = user != NULL ? user->pw_uid : uid;
	if (security->group == (gid_t)-1)
		security->group = user != NULL ? user->pw_gid : uid;
	return 0;
}

int config_set_group(maybe_unused const struct config_key *key, void *field, const char *text)
{
	const struct group *group = getgrnam(text);
	uint32_t gid = 0;

	if (group == NULL && parse_digits(text, 10, UINT32_MAX - 1, &gid) < 0)
		return -EINVAL;
	*(gid_t *)field = group != NULL ? group->gr_gid : gid;
	return 0;
}

int config_set_mode(maybe_unused const struct config_key *key, void *field, const char *text)
{
	uint32_t mode = 0;

	if (parse_digits(text, 8, MAX_MODE, &mode) < 0)
		return -EINVAL;
	*(int *)field = (int)mode;
	return 0;
}

int config_set_uids(maybe_unused const struct config_key *key, void *field, const char *text)
{
	struct security_config *security = field;
	char *copy = strdup(text);
	char *rest = copy;
	char *piece = NULL;
	int err = 0;

	if (copy == NULL)
		return -ENOMEM;
	while (err == 0 && (piece = strsep(&rest, ",")) != NULL) {
		uint32_t uid = 0;

		err = parse_digits(piece, 10, UINT32_MAX - 1, &uid);
		if (err == 0 && security->allow_uid_count == CONFIG_MAX_UIDS)
			err = -EINVAL;
		if (err == 0)
			security->allow_uids[security->allow_uid_count++] = uid;
	}
	free(copy);
	return err;
}
