// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * log.h - levelled, object-tagged lines on stderr, with a limiter for lines
 * that an untrusted party can cause.
 *
 * Library layers return errors and do not log above debug; the boundary that
 * decides what dies logs once. Strings from a peer are quoted by log_quote().
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

enum log_level {
	LOG_ERROR,   /* the daemon or a VM cannot serve; somebody must act */
	LOG_WARNING, /* an untrusted party broke a rule and lost something */
	LOG_NOTICE,  /* life cycle: VM up, front-end gone */
	LOG_INFO,    /* configuration echo */
	LOG_DEBUG,   /* per vhost-user message, per connection */
	LOG_TRACE,   /* per packet */
	LOG_LEVEL_COUNT
};

/**
 * log_set_level() - Show lines up to and including @level (default LOG_NOTICE)
 *
 * Context: start-up, or any thread later (one relaxed store).
 */
void log_set_level(enum log_level level);

/** Whether a line of @level would be shown; one relaxed load. */
bool log_enabled(enum log_level level) must_use;

/**
 * log_level_parse() - Level from its name
 * @name:  "error", "warning" (or "warn"), "notice", "info", "debug", "trace"
 * @level: output; untouched on failure
 *
 * Return: 0, or -EINVAL
 */
int log_level_parse(const char *name, enum log_level *level) must_use;

/** Longest line in bytes, its newline included. */
#define LOG_LINE_MAX 1024u

/**
 * log_line() - Write one line: "level tag: message\n", in a single write(2)
 * @level: severity; its name in lower case begins the line
 * @tag:   object, such as "vm=3" or "vm=3 conn=3:1024>2:80"; NULL for none,
 *         the line is then "level: message\n"
 *
 * Longer lines than LOG_LINE_MAX are cut and end in "...". On a standard error
 * that is the journal's, the level is given as a "<N>" prefix instead of its
 * name. Control characters are escaped as \xNN. errno is preserved.
 * Context: any thread; never fails, never blocks longer than stderr does.
 */
void log_line(enum log_level level, const char *tag, const char *fmt, ...) printf_like(3, 4);

#define log_error(tag, ...) log_line(LOG_ERROR, tag, __VA_ARGS__)
#define log_warning(tag, ...) log_line(LOG_WARNING, tag, __VA_ARGS__)
#define log_notice(tag, ...) log_line(LOG_NOTICE, tag, __VA_ARGS__)
#define log_info(tag, ...) log_line(LOG_INFO, tag, __VA_ARGS__)
#define log_debug(tag, ...)                                    \
	do {                                                   \
		if (unlikely(log_enabled(LOG_DEBUG)))          \
			log_line(LOG_DEBUG, tag, __VA_ARGS__); \
	} while (0)

/** Room log_quote() needs to show @n bytes whatever they are. */
#define LOG_QUOTE_SIZE(n) (4 * (size_t)(n) + sizeof("\"\"..."))

/**
 * log_quote() - A peer's bytes as a quoted and escaped string
 * @out:   output: "text" in quotes with everything but printable ASCII, the
 *         quote and the backslash as \xNN; "text"... when it was cut
 * @size:  room at @out, at least LOG_QUOTE_SIZE(0)
 * @bytes: what the peer sent; need not end in 0
 * @len:   how many bytes
 *
 * Return: @out, for use as an argument of log_line()
 */
const char *log_quote(char *out, size_t size, const void *bytes, size_t len);

/**
 * log_set_format() - Let somebody else make lines of their parts
 * @format: writes at most @room bytes of one line to @line, its newline included, and
 *          returns their number; 0: it cannot, the line is then made as without it.
 *          @level is a name, @tag may be NULL. Called by any thread; must not log.
 *
 * On a standard error that is the journal's, a line begins with "<N>" before that.
 * Context: start-up.
 */
void log_set_format(size_t (*format)(char *line, size_t room, const char *level, const char *tag,
				     const char *message));

/** Lines per second and object that peers can cause (default LOG_DEFAULT_RATE).
 *  Context: start-up, or any thread later (one relaxed store). */
void log_set_rate(uint32_t lines);

#define LOG_DEFAULT_RATE 2u

/** Token bucket for the lines one object may cause; zero-initialised is full. */
struct log_limit {
	uint64_t refilled_ms; /* monotonic time of the last refill */
	uint32_t spent;       /* lines since then */
	uint32_t suppressed;  /* lines not shown since the last shown one */
};

#define LOG_LIMIT_INTERVAL_MS 5000u /* what a burst may use up at once is its share of this */

/**
 * log_limit_pass() - Take a token
 * @limit:      the object's bucket; used by one thread
 * @now_ms:     monotonic milliseconds
 * @suppressed: output on true: lines swallowed since the last one shown
 *
 * Return: whether the line may be shown
 */
bool log_limit_pass(struct log_limit *limit, uint64_t now_ms, uint32_t *suppressed) must_use;

/**
 * log_limited() - Write a line that a peer caused, if its object has a token left
 *
 * Says before it how many lines were not shown since the last one. Otherwise
 * like log_limit_pass() and log_line().
 */
void log_limited(struct log_limit *limit, uint64_t now_ms, enum log_level level, const char *tag,
		 const char *fmt, ...) printf_like(5, 6);

#endif
