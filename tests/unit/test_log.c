// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_log.c - base/log.c: format, limits, escaping, levels, rate limit.
 *
 * stderr becomes a message socket, so that one write is one record.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"
#include "base/log.h"

struct capture {
	int saved_stderr;
	int records;
};

static int capture_begin(void **state)
{
	static struct capture capture;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	capture.saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	capture.records = sv[0];
	if (dup2(sv[1], STDERR_FILENO) < 0)
		return -1;
	fd_close(&sv[1]);
	log_set_level(LOG_NOTICE);
	unsetenv("JOURNAL_STREAM");
	*state = &capture;
	return 0;
}

static int capture_end(void **state)
{
	struct capture *capture = *state;

	if (dup2(capture->saved_stderr, STDERR_FILENO) < 0)
		return -1;
	fd_close(&capture->saved_stderr);
	fd_close(&capture->records);
	return 0;
}

/* The next record as a string; "" when nothing was written. */
static const char *next_record(void **state)
{
	static char record[LOG_LINE_MAX * 2];
	const struct capture *capture = *state;
	ssize_t n = recv(capture->records, record, sizeof(record) - 1, MSG_DONTWAIT);

	if (n < 0)
		assert_int_equal(errno, EAGAIN);
	record[n > 0 ? n : 0] = '\0';
	return record;
}

static void test_format(void **state)
{
	log_notice("vm=3", "listening on %s, %d", "/run/x", 5);
	log_error(NULL, "no tag");
	assert_string_equal(next_record(state), "notice vm=3: listening on /run/x, 5\n");
	assert_string_equal(next_record(state), "error: no tag\n");
	assert_string_equal(next_record(state), "");
}

static void test_levels(void **state)
{
	static const char *const names[] = {
		"error", "warning", "notice", "info", "debug", "trace"
	};

	for (unsigned int shown = 0; shown < LOG_LEVEL_COUNT; shown++) {
		log_set_level((enum log_level)shown);
		for (unsigned int level = 0; level < LOG_LEVEL_COUNT; level++) {
			char expected[32] = "";

			assert_int_equal(log_enabled((enum log_level)level), level <= shown);
			log_line((enum log_level)level, NULL, "x");
			if (level <= shown)
				snprintf(expected, sizeof(expected), "%s: x\n", names[level]);
			assert_string_equal(next_record(state), expected);
		}
	}
}

static void test_level_names(void **state)
{
	static const struct {
		const char *name;
		enum log_level level;
	} good[] = { { "error", LOG_ERROR },   { "warning", LOG_WARNING }, { "warn", LOG_WARNING },
		     { "notice", LOG_NOTICE }, { "info", LOG_INFO },       { "debug", LOG_DEBUG },
		     { "trace", LOG_TRACE } };
	static const char *const bad[] = { "", "Error", "warnin", "warnings", "3", " info" };
	enum log_level level;

	(void)state;
	for (size_t i = 0; i < array_size(good); i++) {
		level = LOG_LEVEL_COUNT;
		assert_int_equal(log_level_parse(good[i].name, &level), 0);
		assert_int_equal(level, good[i].level);
	}
	level = LOG_INFO;
	for (size_t i = 0; i < array_size(bad); i++)
		assert_int_equal(log_level_parse(bad[i], &level), -EINVAL);
	assert_int_equal(level, LOG_INFO);
}

static void test_escapes(void **state)
{
	log_error("vm=1\n", "a\nerror: forged\r\x1b[2J\x7f \xc3\xa9 \\ end");
	assert_string_equal(
		next_record(state),
		"error vm=1\\x0a: a\\x0aerror: forged\\x0d\\x1b[2J\\x7f \xc3\xa9 \\ end\n");
}

static void test_long_line_is_cut(void **state)
{
	static const char prefix[] = "error vm=9: ";
	char message[3 * LOG_LINE_MAX];
	const char *record;

	/* Every length around the limit, plain and with an escape at the edge. */
	for (size_t len = LOG_LINE_MAX - 40; len < LOG_LINE_MAX + 10; len++) {
		bool whole = len + sizeof(prefix) - 1 + sizeof("...\n") - 1 <= LOG_LINE_MAX;

		memset(message, 'm', len);
		message[len] = '\0';
		log_error("vm=9", "%s", message);
		record = next_record(state);
		assert_true(strlen(record) <= LOG_LINE_MAX);
		assert_memory_equal(record, prefix, sizeof(prefix) - 1);
		assert_int_equal(strlen(record), whole ? sizeof(prefix) + len : LOG_LINE_MAX);
		assert_int_equal(strcmp(record + strlen(record) - 4, "...\n") == 0, !whole);

		message[len - 1] = '\n';
		log_error("vm=9", "%s", message);
		record = next_record(state);
		assert_true(strlen(record) <= LOG_LINE_MAX);
		if (strstr(record, "...\n") != NULL)
			assert_null(strchr(record, '\\'));
		else
			assert_non_null(strstr(record, "m\\x0a\n"));
	}
	memset(message, 1, sizeof(message) - 1);
	message[sizeof(message) - 1] = '\0';
	log_error(message, "%s", message);
	record = next_record(state);
	assert_true(strlen(record) <= LOG_LINE_MAX);
	assert_non_null(strstr(record, "\\x01...\n"));
}

static void test_journal_prefix(void **state)
{
	struct stat st;
	char stream[64];

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
	log_set_level(LOG_TRACE);
	log_error("vm=3", "a");
	log_line(LOG_TRACE, NULL, "b");
	assert_string_equal(next_record(state), "<3>vm=3: a\n");
	assert_string_equal(next_record(state), "<7>b\n");

	assert_int_equal(setenv("JOURNAL_STREAM", "1:1", 1), 0);
	log_warning("vm=3", "c");
	assert_string_equal(next_record(state), "warning vm=3: c\n");
	unsetenv("JOURNAL_STREAM");
}

static void test_failure_is_silent(void **state)
{
	const struct capture *capture = *state;

	errno = EXDEV;
	log_error(NULL, "kept");
	assert_int_equal(errno, EXDEV);
	close(STDERR_FILENO);
	errno = EXDEV;
	log_error(NULL, "lost");
	assert_int_equal(errno, EXDEV);
	assert_true(dup2(capture->saved_stderr, STDERR_FILENO) >= 0);
}

static void test_quote(void **state)
{
	static const struct {
		const char *in;
		size_t len;
		size_t size;
		const char *out;
	} cases[] = {
		{ "CONNECT 80", 10, 64, "\"CONNECT 80\"" },
		{ "", 0, LOG_QUOTE_SIZE(0), "\"\"" },
		{ "a\"b\\c", 5, 64, "\"a\\x22b\\x5cc\"" },
		{ "\0\n\xff\x7f", 4, 64, "\"\\x00\\x0a\\xff\\x7f\"" },
		{ "\xff\xff", 2, LOG_QUOTE_SIZE(2), "\"\\xff\\xff\"" },
		{ "\xff\xff\xff", 3, LOG_QUOTE_SIZE(2), "\"\\xff\\xff\"..." },
		{ "abc", 3, LOG_QUOTE_SIZE(0) + 2, "\"ab\"..." },
		{ "abc", 3, LOG_QUOTE_SIZE(0), "\"\"..." },
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char *out = malloc(cases[i].size); /* exact, for the sanitizer */

		assert_non_null(out);
		assert_ptr_equal(log_quote(out, cases[i].size, cases[i].in, cases[i].len), out);
		assert_string_equal(out, cases[i].out);
		free(out);
	}
}

static void test_limit(void **state)
{
	struct log_limit limit = { 0 };
	const uint32_t burst = LOG_DEFAULT_RATE * LOG_LIMIT_INTERVAL_MS / 1000;
	const uint64_t start = 1000000;
	uint32_t suppressed = 99;

	(void)state;
	for (uint32_t i = 0; i < burst; i++) {
		assert_true(log_limit_pass(&limit, start + i, &suppressed));
		assert_int_equal(suppressed, 0);
	}
	suppressed = 99;
	for (uint32_t i = 0; i < 7; i++)
		assert_false(
			log_limit_pass(&limit, start + LOG_LIMIT_INTERVAL_MS - 1, &suppressed));
	assert_int_equal(suppressed, 99);
	/* A clock that is behind gives nothing away. */
	assert_false(log_limit_pass(&limit, start - 1, &suppressed));
	assert_true(log_limit_pass(&limit, start + LOG_LIMIT_INTERVAL_MS, &suppressed));
	assert_int_equal(suppressed, 8);
	assert_true(log_limit_pass(&limit, start + LOG_LIMIT_INTERVAL_MS, &suppressed));
	assert_int_equal(suppressed, 0);
}

static void test_limit_early_and_saturated(void **state)
{
	const uint32_t burst = LOG_DEFAULT_RATE * LOG_LIMIT_INTERVAL_MS / 1000;
	struct log_limit limit = { 0 };
	uint32_t suppressed = 99;

	(void)state;
	/* Just after boot the clock is below an interval: the bucket is full. */
	for (uint32_t i = 0; i < burst; i++)
		assert_true(log_limit_pass(&limit, 3, &suppressed));
	limit.suppressed = UINT32_MAX;
	assert_false(log_limit_pass(&limit, 3, &suppressed));
	assert_true(log_limit_pass(&limit, LOG_LIMIT_INTERVAL_MS, &suppressed));
	assert_true(suppressed == UINT32_MAX);
}

/* The rate is the operator's. Resets it. */
static void test_limit_rate(void **state)
{
	struct log_limit limit = { 0 };
	uint32_t suppressed;
	unsigned int shown = 0;

	(void)state;
	log_set_rate(1);
	for (unsigned int i = 0; i < 100; i++)
		shown += log_limit_pass(&limit, 7, &suppressed);
	log_set_rate(LOG_DEFAULT_RATE);
	assert_int_equal(shown, LOG_LIMIT_INTERVAL_MS / 1000);
}

static void test_limited_line(void **state)
{
	const uint32_t burst = LOG_DEFAULT_RATE * LOG_LIMIT_INTERVAL_MS / 1000;
	struct log_limit limit = { 0 };

	for (uint32_t i = 0; i < burst + 3; i++)
		log_limited(&limit, 1000, LOG_WARNING, "vm=3", "line %u", i);
	log_limited(&limit, 1000, LOG_DEBUG, "vm=3", "not enabled, costs nothing");
	for (uint32_t i = 0; i < burst; i++)
		assert_string_not_equal(next_record(state), "");
	assert_string_equal(next_record(state), "");
	log_limited(&limit, 1000 + LOG_LIMIT_INTERVAL_MS, LOG_WARNING, "vm=3", "again");
	assert_string_equal(next_record(state),
			    "warning vm=3: 3 lines of this kind were not shown\n");
	assert_string_equal(next_record(state), "warning vm=3: again\n");
}

#define captured(test) cmocka_unit_test_setup_teardown(test, capture_begin, capture_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		captured(test_format),
		captured(test_levels),
		cmocka_unit_test(test_level_names),
		captured(test_escapes),
		captured(test_long_line_is_cut),
		captured(test_journal_prefix),
		captured(test_failure_is_silent),
		cmocka_unit_test(test_quote),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_early_and_saturated),
		cmocka_unit_test(test_limit_rate),
		captured(test_limited_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
