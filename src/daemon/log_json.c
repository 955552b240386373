// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * log_json.c - log lines as JSON objects, made by jansson. Opens nothing: what libc
 * and jansson read once, the time zone and a seed, is read by log_json_use().
 *
 * Lines are rare or limited (log_limited()), so an allocation each is affordable; one
 * that there is no memory for is written as text.
 */
#include "daemon/log_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "daemon/report.h"

#define MAX_NUMBER_DIGITS 10u
#define MAX_CONTINUATIONS 3u /* of a character in UTF-8 */

static json_t *time_text(void)
{
	struct timespec now;
	struct tm parts;
	char text[64];

	/* Cannot fail with this clock and valid pointers. */
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &parts);
	(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ",
		       parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
		       parts.tm_min, parts.tm_sec, now.tv_nsec / 1000000);
	return json_string(text);
}

static json_t *tag_value(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	if (digits > 0 && digits <= MAX_NUMBER_DIGITS && text[digits] == '\0')
		return json_integer(strtoll(text, NULL, 10));
	return report_text(text);
}

/* "vm=3 conn=3:1024>2:80" is two members; a word without "=" is the object's name. */
static void add_tag(json_t *line, const char *tag)
{
	char *copy = strdup(tag);
	char *rest = copy;
	char *word;

	while ((word = strsep(&rest, " ")) != NULL) {
		char *value = strchr(word, '=');

		if (value != NULL)
			*value++ = '\0';
		if (value != NULL)
			(void)json_object_set_new(line, word, tag_value(value));
		else if (*word != '\0')
			(void)json_object_set_new(line, "object", report_text(word));
	}
	free(copy);
}

static bool is_continuation(char byte)
{
	return ((unsigned char)byte & 0xc0) == 0x80;
}

/* At most @length bytes of a message, no half character, and a mark if there are more. */
static json_t *beginning(const char *message, size_t length)
{
	json_t *value = NULL;
	size_t kept = length;
	char *text;

	while (kept > 0 && length - kept < MAX_CONTINUATIONS && is_continuation(message[kept]))
		kept--;
	if (asprintf(&text, "%.*s%s", (int)kept, message, message[kept] != '\0' ? "..." : "") < 0)
		return NULL;
	value = report_text(text);
	free(text);
	return value;
}

/* Dump it, with less of the message each time until it fits. Return: bytes, or 0. */
static size_t dump(json_t *line, char *out, size_t room, const char *message)
{
	size_t bytes;

	for (size_t length = strlen(message); length > 0; length = length * 3 / 4) {
		if (json_object_set_new(line, "message", beginning(message, length)) < 0)
			return 0;
		bytes = json_dumpb(line, out, room, JSON_COMPACT);
		if (bytes > 0 && bytes < room)
			return bytes;
	}
	return 0;
}

static size_t format(char *line, size_t room, const char *level, const char *tag,
		     const char *message)
{
	json_t *object = json_pack("{s:o, s:s}", "time", time_text(), "level", level);
	size_t bytes = 0;

	if (object == NULL)
		return 0;
	if (tag != NULL)
		add_tag(object, tag);
	bytes = dump(object, line, room - 1, message);
	json_decref(object);
	if (bytes == 0)
		return 0;
	line[bytes] = '\n';
	return bytes + 1;
}

void log_json_use(void)
{
	tzset();
	json_object_seed(0);
	log_set_format(format);
}
