// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * show.c - see show.h. Prints whatever members there are, so that a newer
 * daemon may tell more.
 */
#include "vsockctl/show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_SIZE 256

void show_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	putchar('\n');
	fflush(stdout);
}

json_int_t show_number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

const char *show_string(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "-";
}

/* Lists in lists end where the text does, whose depth jansson bounds. */
/* NOLINTBEGIN(misc-no-recursion) */
static void show_list(const json_t *list, char text[SHOW_VALUE_SIZE])
{
	char item[SHOW_VALUE_SIZE];
	size_t len = 0;
	size_t i;
	json_t *value;

	text[0] = '\0';
	if (json_array_size(list) == 0)
		snprintf(text, SHOW_VALUE_SIZE, "-");
	json_array_foreach (list, i, value) {
		show_value(value, item);
		snprintf(text + len, SHOW_VALUE_SIZE - len, "%s%s", i > 0 ? "+" : "", item);
		len = strlen(text);
	}
}

const char *show_value(const json_t *value, char text[SHOW_VALUE_SIZE])
{
	char *dumped;

	if (value == NULL || json_is_null(value)) {
		snprintf(text, SHOW_VALUE_SIZE, "-");
	} else if (json_is_string(value)) {
		snprintf(text, SHOW_VALUE_SIZE, "%s", json_string_value(value));
	} else if (json_is_array(value)) {
		show_list(value, text);
	} else {
		dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
		snprintf(text, SHOW_VALUE_SIZE, "%s", dumped != NULL ? dumped : "-");
		free(dumped);
	}
	for (char *at = text; *at != '\0'; at++)
		if ((unsigned char)*at < ' ' || *at == '\x7f')
			*at = '?';
	return text;
}

/* What an item of a list is called: its CID where it has one. */
static void item_name(char name[NAME_SIZE], const char *list, const json_t *item, size_t i)
{
	if (json_object_get(item, "cid") != NULL)
		snprintf(name, NAME_SIZE, "%s[cid=%lld]", list,
			 (long long)show_number(item, "cid"));
	else
		snprintf(name, NAME_SIZE, "%s[%zu]", list, i);
}

static void show_member(const char *name, const json_t *value);

static void show_members(const char *prefix, const json_t *object)
{
	char name[NAME_SIZE];
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
		snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix != '\0' ? "." : "", key);
		show_member(name, value);
	}
}

static void show_member(const char *name, const json_t *value)
{
	char text[SHOW_VALUE_SIZE];
	char inner[NAME_SIZE];
	size_t i;
	json_t *item;

	if (json_is_object(value)) {
		show_members(name, value);
	} else if (json_is_object(json_array_get(value, 0))) {
		json_array_foreach (value, i, item) {
			item_name(inner, name, item, i);
			show_member(inner, item);
		}
	} else {
		printf("%s: %s\n", name, show_value(value, text));
	}
}

/* NOLINTEND(misc-no-recursion) */

void show_pairs(const json_t *object)
{
	show_members("", object);
}
