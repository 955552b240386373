// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_log_json.c - daemon/log_json.c: each line is an object, whatever the message
 * and the tag are, and however long. stderr becomes a message socket, so that one
 * write is one record.
 */
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"
#include "base/log.h"
#include "daemon/log_json.h"

/* Write a line. Return: what it was, as an object to be put back; @length: its bytes. */
static json_t *written(enum log_level level, const char *tag, const char *message, size_t *length)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	char record[2 * LOG_LINE_MAX];
	json_t *line = NULL;
	ssize_t n = 0;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	assert_true(dup2(sv[1], STDERR_FILENO) >= 0);
	log_line(level, tag, "%s", message);
	n = recv(sv[0], record, sizeof(record), MSG_DONTWAIT);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	fd_close(&saved);
	fd_close(&sv[0]);
	fd_close(&sv[1]);
	assert_true(n > 0 && record[n - 1] == '\n');
	assert_null(memchr(record, '\n', (size_t)n - 1));
	line = json_loadb(record, (size_t)n, 0, NULL);
	assert_non_null(line);
	*length = (size_t)n;
	return line;
}

static const char *text_of(const json_t *line, const char *member)
{
	return json_string_value(json_object_get(line, member));
}

static void test_members(void **state)
{
	size_t length = 0;
	json_t *line = written(LOG_WARNING, "vm=3 conn=3:1024>2:80 broker", "text", &length);

	(void)state;
	assert_string_equal(text_of(line, "level"), "warning");
	assert_int_equal(json_integer_value(json_object_get(line, "vm")), 3);
	assert_string_equal(text_of(line, "conn"), "3:1024>2:80");
	assert_string_equal(text_of(line, "object"), "broker");
	assert_string_equal(text_of(line, "message"), "text");
	assert_int_equal(strlen(text_of(line, "time")), strlen("2026-11-23T10:00:00.123Z"));
	json_decref(line);
}

static void test_any_bytes(void **state)
{
	size_t length = 0;
	json_t *line = written(LOG_ERROR, NULL, "\"\\\n\x01 \xc3\xbc", &length);

	(void)state;
	assert_string_equal(text_of(line, "message"), "\"\\\n\x01 \xc3\xbc");
	json_decref(line);
	line = written(LOG_ERROR, "vm=\xff", "\xff\xc3", &length);
	assert_string_equal(text_of(line, "message"), "??");
	assert_string_equal(text_of(line, "vm"), "?");
	json_decref(line);
	/* what is valid stays: 2, 3 and 4 bytes, a surrogate, one that ends early */
	line = written(LOG_ERROR, NULL,
		       "\xc3\xbc\xff\xe2\x82\xac\xed\xa0\x80\xf0\x9f\x90\xa7\xe2\x82", &length);
	assert_string_equal(text_of(line, "message"), "\xc3\xbc?\xe2\x82\xac???\xf0\x9f\x90\xa7??");
	json_decref(line);
}

static void assert_marked(const char *text, size_t whole)
{
	size_t length = strlen(text);

	if (length < whole)
		assert_string_equal(text + length - 3, "...");
}

/* Each of these bytes takes six in the line. */
static void test_cut(void **state)
{
	char message[LOG_LINE_MAX - 1];
	size_t length = 0;
	json_t *line = NULL;

	(void)state;
	for (size_t n = 1; n < sizeof(message); n += 61) {
		memset(message, '\x01', n);
		message[n] = '\0';
		line = written(LOG_NOTICE, "vm=4294967295", message, &length);
		assert_true(length <= LOG_LINE_MAX);
		assert_true(strlen(text_of(line, "message")) >= (n < 100 ? n : 100));
		assert_marked(text_of(line, "message"), n);
		json_decref(line);
	}
}

/* No half characters: 3 bytes each. */
static void test_cut_between_characters(void **state)
{
	char message[LOG_LINE_MAX - 1];

	(void)state;
	for (size_t n = 900; n + 3 < sizeof(message); n += 3) {
		size_t length = 0;
		json_t *line = NULL;
		const char *text;

		for (size_t i = 0; i < n; i += 3)
			memcpy(message + i, "\xe2\x82\xac", 4);
		line = written(LOG_NOTICE, "vm=3", message, &length);
		text = text_of(line, "message");
		assert_null(strchr(text, '?'));
		assert_marked(text, n);
		json_decref(line);
	}
}

/* Bytes that continue nothing, to the last. */
static void test_cut_among_continuations(void **state)
{
	char message[LOG_LINE_MAX];
	size_t length = 0;
	json_t *line = NULL;

	(void)state;
	memset(message, '\x80', sizeof(message) - 1);
	message[sizeof(message) - 1] = '\0';
	line = written(LOG_NOTICE, NULL, message, &length);
	assert_true(strlen(text_of(line, "message")) >= 100);
	assert_marked(text_of(line, "message"), sizeof(message) - 1);
	json_decref(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_any_bytes),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_cut_between_characters),
		cmocka_unit_test(test_cut_among_continuations),
	};

	log_json_use();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
