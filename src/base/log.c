// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * log.c - levelled, object-tagged lines on stderr.
 *
 * Level, rate and format are the only mutable globals, but for fault.c's. A line is built on the
 * stack and leaves in one write(2), so lines of several threads never mix.
 * Changes nothing a caller can see (errno included), and allocates nothing unless a format does.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char log_ellipsis[] = "...";

/* Names as written and parsed; priorities as syslog(3) and the journal number them. */
static const struct {
	const char *name;
	char priority;
} log_levels[] = {
	[LOG_ERROR] = { "error", '3' },   [LOG_WARNING] = { "warning", '4' },
	[LOG_NOTICE] = { "notice", '5' }, [LOG_INFO] = { "info", '6' },
	[LOG_DEBUG] = { "debug", '7' },   [LOG_TRACE] = { "trace", '7' },
};
_Static_assert(array_size(log_levels) == LOG_LEVEL_COUNT, "every level has a name");

static int log_shown_level = LOG_NOTICE;
static uint32_t log_rate = LOG_DEFAULT_RATE;
static size_t (*log_format)(char *line, size_t room, const char *level, const char *tag,
			    const char *message);

void log_set_level(enum log_level level)
{
	__atomic_store_n(&log_shown_level, (int)level, __ATOMIC_RELAXED);
}

void log_set_format(size_t (*format)(char *line, size_t room, const char *level, const char *tag,
				     const char *message))
{
	log_format = format;
}

void log_set_rate(uint32_t lines)
{
	__atomic_store_n(&log_rate, lines, __ATOMIC_RELAXED);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= __atomic_load_n(&log_shown_level, __ATOMIC_RELAXED);
}

int log_level_parse(const char *name, enum log_level *level)
{
	if (strcmp(name, "warn") == 0) {
		*level = LOG_WARNING;
		return 0;
	}
	for (unsigned int i = 0; i < LOG_LEVEL_COUNT; i++) {
		if (strcmp(name, log_levels[i].name) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Text under construction in a caller's array; full once something was cut. */
struct log_text {
	char *bytes;
	size_t length;
	size_t room; /* for text; what ends it is reserved beyond */
	bool full;
};

/* Append @len bytes or none at all, so that an escape is never cut. */
static void log_put(struct log_text *text, const char *bytes, size_t len)
{
	if (text->full || len > text->room - text->length) {
		text->full = true;
		return;
	}
	memcpy(text->bytes + text->length, bytes, len);
	text->length += len;
}

static void log_put_hex(struct log_text *text, unsigned char byte)
{
	static const char digits[] = "0123456789abcdef";
	char escape[4] = { '\\', 'x', digits[byte >> 4], digits[byte & 15] };

	log_put(text, escape, sizeof(escape));
}

/* Our own text: bytes from 0x80 on pass, for paths may be UTF-8. */
static void log_put_text(struct log_text *text, const char *s)
{
	for (; *s != '\0' && !text->full; s++) {
		unsigned char byte = (unsigned char)*s;

		if (byte < 0x20 || byte == 0x7f)
			log_put_hex(text, byte);
		else
			log_put(text, s, 1);
	}
}

const char *log_quote(char *out, size_t size, const void *bytes, size_t len)
{
	const unsigned char *in = bytes;
	struct log_text text = { .bytes = out, .room = size - LOG_QUOTE_SIZE(0) + 1 };

	log_put(&text, "\"", 1);
	for (size_t i = 0; i < len && !text.full; i++) {
		const char c = (char)in[i];

		if (in[i] < 0x20 || in[i] >= 0x7f || c == '"' || c == '\\')
			log_put_hex(&text, in[i]);
		else
			log_put(&text, &c, 1);
	}
	out[text.length++] = '"';
	out[text.length] = '\0';
	if (text.full)
		memcpy(out + text.length, log_ellipsis, sizeof(log_ellipsis));
	return out;
}

/*
 * Whether stderr is the stream systemd made for us. Looked up per line: lines
 * are rare, and a cached answer would be one more global.
 */
static bool log_to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char own[64];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	(void)snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(stream, own) == 0;
}

static void log_put_prefix(struct log_text *text, enum log_level level, const char *tag)
{
	bool journal = log_to_journal();

	if (journal) {
		const char prefix[3] = { '<', log_levels[level].priority, '>' };

		log_put(text, prefix, sizeof(prefix));
	} else {
		log_put_text(text, log_levels[level].name);
	}
	if (tag != NULL) {
		if (!journal)
			log_put(text, " ", 1);
		log_put_text(text, tag);
	}
	if (tag != NULL || !journal)
		log_put(text, ": ", 2);
}

/* "level tag: message\n". Return: its length. */
static size_t log_compose(char line[LOG_LINE_MAX], enum log_level level, const char *tag,
			  const char *message)
{
	struct log_text text = { .bytes = line, .room = LOG_LINE_MAX - sizeof(log_ellipsis) };

	log_put_prefix(&text, level, tag);
	log_put_text(&text, message);
	/* A message that was cut before fills the line too. */
	if (text.full) {
		memcpy(line + text.length, log_ellipsis, sizeof(log_ellipsis) - 1);
		text.length += sizeof(log_ellipsis) - 1;
	}
	line[text.length++] = '\n';
	return text.length;
}

/* As log_compose(), in the format that was set. Return: 0 if it cannot be. */
static size_t log_compose_otherwise(char line[LOG_LINE_MAX], enum log_level level, const char *tag,
				    const char *message)
{
	size_t at = 0;
	size_t length;

	if (log_to_journal()) {
		line[at++] = '<';
		line[at++] = log_levels[level].priority;
		line[at++] = '>';
	}
	length = log_format(line + at, LOG_LINE_MAX - at, log_levels[level].name, tag, message);
	return length != 0 ? at + length : 0;
}

static printf_like(3, 0)
void log_vline(enum log_level level, const char *tag, const char *fmt, va_list args)
{
	int saved_errno = errno;
	char message[LOG_LINE_MAX];
	char line[LOG_LINE_MAX];
	size_t length = 0;
	ssize_t written;

	if (!log_enabled(level))
		return;
	/* Only an encoding error of %ls or a result over 2 GiB fail. */
	if (vsnprintf(message, sizeof(message), fmt, args) < 0)
		(void)snprintf(message, sizeof(message), "(message that cannot be formatted)");
	if (log_format != NULL)
		length = log_compose_otherwise(line, level, tag, message);
	if (length == 0)
		length = log_compose(line, level, tag, message);
	do {
		written = write(STDERR_FILENO, line, length);
	} while (written < 0 && errno == EINTR);
	errno = saved_errno;
}

void log_line(enum log_level level, const char *tag, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	log_vline(level, tag, fmt, args);
	va_end(args);
}

bool log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint32_t *suppressed)
{
	uint64_t burst = (uint64_t)__atomic_load_n(&log_rate, __ATOMIC_RELAXED) *
			 (LOG_LIMIT_INTERVAL_MS / 1000);

	if (now_ms > limit->refilled_ms && now_ms - limit->refilled_ms >= LOG_LIMIT_INTERVAL_MS) {
		limit->refilled_ms = now_ms;
		limit->spent = 0;
	}
	if (limit->spent >= burst) {
		if (limit->suppressed < UINT32_MAX)
			limit->suppressed++;
		return false;
	}
	limit->spent++;
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	return true;
}

void log_limited(struct log_limit *limit, uint64_t now_ms, enum log_level level, const char *tag,
		 const char *fmt, ...)
{
	uint32_t suppressed;
	va_list args;

	if (!log_enabled(level) || !log_limit_pass(limit, now_ms, &suppressed))
		return;
	if (suppressed > 0)
		log_line(level, tag, "%u lines of this kind were not shown", suppressed);
	va_start(args, fmt);
	log_vline(level, tag, fmt, args);
	va_end(args);
}
