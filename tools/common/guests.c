// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * guests.c - see guests.h. Makes no system call and does not look at files.
 */
#include "common/guests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/number.h"

/* One line of @len bytes. */
static int parse_line(const char *line, size_t len, struct guests_entry *entry)
{
	char number[sizeof("4294967295-")];
	const char *equals = memchr(line, '=', len);
	size_t digits = equals != NULL ? (size_t)(equals - line) : len;
	size_t path_len = equals != NULL ? len - digits - 1 : 0;

	if (path_len == 0 || path_len > GUESTS_PATH_MAX || digits >= sizeof(number))
		return -EINVAL;
	entry->ack = digits == 0 || line[digits - 1] != '-';
	if (!entry->ack)
		digits--;
	memcpy(number, line, digits);
	number[digits] = '\0';
	memcpy(entry->path, equals + 1, path_len);
	entry->path[path_len] = '\0';
	return number_u32(number, UINT32_MAX - 1, &entry->cid);
}

int guests_parse(const char *text, struct guests *guests)
{
	size_t count = 0;
	struct guests_entry *list = calloc(GUESTS_MAX, sizeof(*list));

	if (list == NULL)
		return -ENOMEM;
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");
		int err = count < GUESTS_MAX ? parse_line(text, len, &list[count]) : -E2BIG;

		if (err < 0) {
			free(list);
			return err;
		}
		count++;
		text += len + (text[len] == '\n' ? 1 : 0);
	}
	guests->list = list;
	guests->count = count;
	return 0;
}

const struct guests_entry *guests_find(const struct guests *guests, uint32_t cid)
{
	for (size_t i = 0; i < guests->count; i++)
		if (guests->list[i].cid == cid)
			return &guests->list[i];
	return NULL;
}

const struct guests_entry *guests_find_path(const struct guests *guests, const char *path,
					    uint32_t *port)
{
	for (size_t i = 0; i < guests->count; i++) {
		const struct guests_entry *entry = &guests->list[i];
		size_t len = strlen(entry->path);

		if (strncmp(path, entry->path, len) == 0 && path[len] == '_' &&
		    number_u32(path + len + 1, UINT32_MAX, port) == 0)
			return entry;
	}
	return NULL;
}

void guests_fini(struct guests *guests)
{
	free(guests->list);
	*guests = (struct guests){ 0 };
}
