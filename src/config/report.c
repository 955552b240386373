// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * report.c - the one line about an operator's mistake.
 *
 * Everything the operator wrote passes escape() on its way out: whatever a file
 * holds, the result is one line that cannot drive a terminal.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config/private.h"

/* Longest piece of what the operator wrote that is shown; the rest becomes "...". */
#define SHOWN_BYTES 160u
/* A byte becomes at most the four characters of "\xNN". */
#define SHOWN_ROOM (4u * SHOWN_BYTES + sizeof("..."))
#define MESSAGE_ROOM 512u
/* "FILE:LINE: " or "--vm N: " */
#define PLACE_ROOM (SHOWN_ROOM + 32u)

/* Length of a UTF-8 sequence by its first byte, 0 if it is not shown as it is. */
static size_t sequence_length(unsigned char first)
{
	if (first < 0x80)
		return first >= 0x20 && first != 0x7f && first != '\'' && first != '\\';
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe1 && first <= 0xec)
		return 3;
	return 0;
}

/* Bytes of the character at @s if it may be shown as it is, else 0. */
static size_t printable_length(const unsigned char *s)
{
	size_t len = sequence_length(s[0]);

	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if (s[0] == 0xc2 && s[1] < 0xa0)
		return 0; /* C1 control characters */
	if (s[0] == 0xe2 && (s[1] == 0x80 || s[1] == 0x81))
		return 0; /* line separators and changes of direction live here */
	return len;
}

static void escape(char shown[SHOWN_ROOM], const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t used = 0;
	size_t i = 0;

	while (i < SHOWN_BYTES && s[i] != '\0') {
		size_t len = printable_length(s + i);

		if (len == 0) {
			(void)snprintf(shown + used, SHOWN_ROOM - used, "\\x%02x", s[i]);
			used += 4;
			i++;
			continue;
		}
		memcpy(shown + used, s + i, len);
		used += len;
		i += len;
	}
	(void)snprintf(shown + used, SHOWN_ROOM - used, "%s", s[i] != '\0' ? "..." : "");
}

/* "VM CID: ", "FILE:LINE: ", "--vm N: " or nothing. */
static void place(char text[PLACE_ROOM], const struct config_where *where)
{
	char file[SHOWN_ROOM];

	text[0] = '\0';
	if (where->runs > 0) {
		(void)snprintf(text, PLACE_ROOM, "VM %u: ", where->runs);
	} else if (where->file) {
		escape(file, where->file);
		(void)snprintf(text, PLACE_ROOM, "%s:%zu: ", file, where->line);
	} else if (where->vm > 0) {
		(void)snprintf(text, PLACE_ROOM, "--vm %u: ", where->vm);
	}
}

int config_report(FILE *err, const struct config_where *where, const char *value, const char *fmt,
		  ...)
{
	bool is_option = !where->file && where->vm == 0 && where->runs == 0;
	char front[PLACE_ROOM];
	char key[SHOWN_ROOM] = "";
	char shown[SHOWN_ROOM] = "";
	char message[MESSAGE_ROOM];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	place(front, where);
	if (where->key)
		escape(key, where->key);
	if (value)
		escape(shown, value);
	(void)fprintf(err, "%s: %s%s%s%s%s%s%s%s\n", CONFIG_PROGRAM, front,
		      where->key && is_option ? "--" : "", key, where->key ? ": " : "",
		      value ? "'" : "", shown, value ? "': " : "", message);
	return -EINVAL;
}

void config_where_name(const struct config_where *where, char *name, size_t room)
{
	if (where->runs > 0)
		(void)snprintf(name, room, "VM %u", where->runs);
	else if (where->file)
		(void)snprintf(name, room, "line %zu", where->line);
	else if (where->vm > 0)
		(void)snprintf(name, room, "--vm %u", where->vm);
	else
		(void)snprintf(name, room, "--%s", where->key ? where->key : "");
}

struct config_where config_where_of(const struct config_draft *draft, const struct vm_draft *vm,
				    enum config_key_id key)
{
	struct config_where where = {
		.file = draft->file,
		.line = vm->marks.line[key] > 0 ? vm->marks.line[key] : vm->line,
		.vm = vm->number,
		.runs = vm->runs ? vm->vm.guest_cid : 0,
		.key = config_key(key)->name,
	};

	return where;
}
