// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * yaml.c - reads the file named by --config into a draft. The only file
 * of the program that knows YAML, and the only one that opens this file.
 *
 * Theory of operation: the document has a fixed shape (a mapping; in it `vms`,
 * a list of mappings; in those, values or lists of values), so libyaml's events
 * are taken one by one by functions that mirror this shape. Whatever else comes
 * is refused at its first event, which bounds nesting; the size of the file
 * bounds everything else. Anchors, aliases and tags are refused: they would let
 * a short file mean a long one, or text mean something else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <yaml.h>

#include "base/fd.h"
#include "config/private.h"

struct reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the current one; owned */
	struct config_draft *draft;
	const char *data; /* the file, for finding a line by its offset */
};

static struct config_where here(const struct reader *reader, const char *key)
{
	struct config_where where = {
		.file = reader->draft->file,
		.line = reader->event.start_mark.line + 1,
		.key = key,
	};

	return where;
}

/* What stands at the current event, for quoting. */
static const char *event_text(const struct reader *reader)
{
	if (reader->event.type == YAML_SCALAR_EVENT)
		return (const char *)reader->event.data.scalar.value;
	if (reader->event.type == YAML_SEQUENCE_START_EVENT)
		return "[...]";
	if (reader->event.type == YAML_MAPPING_START_EVENT)
		return "{...}";
	return NULL;
}

/* Reports that the current event is not what the shape asks for. */
static int refuse_event(const struct reader *reader, const char *key, const char *expected)
{
	const struct config_where where = here(reader, key);

	return config_report(reader->draft->err, &where, event_text(reader), "expected %s",
			     expected);
}

static int refuse_syntax(const struct reader *reader)
{
	const yaml_parser_t *parser = &reader->parser;
	const char *problem = parser->problem ? parser->problem : "it cannot be parsed";
	struct config_where where = {
		.file = reader->draft->file,
		.line = parser->problem_mark.line + 1,
	};

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	if (parser->error == YAML_READER_ERROR) {
		/* Not UTF-8: there is only an offset. */
		where.line = 1;
		for (size_t i = 0; i < parser->problem_offset; i++)
			where.line += reader->data[i] == '\n';
	}
	return config_report(reader->draft->err, &where, NULL, "expected correct YAML: %s",
			     problem);
}

static int refuse_references(const struct reader *reader)
{
	const yaml_event_t *event = &reader->event;
	const yaml_char_t *anchor = NULL;
	const yaml_char_t *tag = NULL;
	struct config_where where = here(reader, NULL);

	if (event->type == YAML_ALIAS_EVENT) {
		anchor = event->data.alias.anchor;
	} else if (event->type == YAML_SCALAR_EVENT) {
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
	}
	if (anchor)
		return config_report(reader->draft->err, &where, (const char *)anchor,
				     "expected no anchors and aliases");
	if (tag)
		return config_report(reader->draft->err, &where, (const char *)tag,
				     "expected no tags");
	return 0;
}

/* Makes the next event the current one. */
static int next_event(struct reader *reader)
{
	const yaml_event_t *event = &reader->event;

	yaml_event_delete(&reader->event);
	if (!yaml_parser_parse(&reader->parser, &reader->event))
		return refuse_syntax(reader);
	if (event->type == YAML_SCALAR_EVENT &&
	    strlen((const char *)event->data.scalar.value) != event->data.scalar.length)
		return refuse_event(reader, NULL, "text without NUL characters");
	return refuse_references(reader);
}

/* "key:", "key: ~" and "key: null" leave the default, as for the users of serde. */
static bool is_null(const struct reader *reader)
{
	static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

	if (reader->event.type != YAML_SCALAR_EVENT ||
	    reader->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	for (size_t i = 0; i < array_size(nulls); i++) {
		if (strcmp((const char *)reader->event.data.scalar.value, nulls[i]) == 0)
			return true;
	}
	return false;
}

/* Takes the current event as a value of @id. */
static int add_scalar(struct reader *reader, const struct config_target *target,
		      enum config_key_id id)
{
	const struct config_where where = here(reader, config_key(id)->name);

	if (reader->event.type != YAML_SCALAR_EVENT || is_null(reader))
		return config_key_refuse(target->err, &where, id, event_text(reader));
	return config_key_add(target, &where, id, event_text(reader));
}

static int read_value_list(struct reader *reader, const struct config_target *target,
			   enum config_key_id id)
{
	size_t count = 0;

	for (;; count++) {
		int ret = next_event(reader);

		if (ret)
			return ret;
		if (reader->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		ret = add_scalar(reader, target, id);
		if (ret)
			return ret;
	}
	if (count == 0) {
		const struct config_where where = here(reader, config_key(id)->name);

		return config_key_refuse(target->err, &where, id, "[]");
	}
	return 0;
}

/* Reads the value that follows the key @id. */
static int read_value(struct reader *reader, const struct config_target *target,
		      enum config_key_id id)
{
	int ret = next_event(reader);

	if (ret)
		return ret;
	if (is_null(reader))
		return 0;
	if (config_key(id)->is_list && reader->event.type == YAML_SEQUENCE_START_EVENT)
		return read_value_list(reader, target, id);
	return add_scalar(reader, target, id);
}

/* Takes the current event as a key that may stand in @scope. */
static int read_key(struct reader *reader, const struct config_target *target, unsigned int scope,
		    enum config_key_id *id)
{
	const char *name = event_text(reader);
	struct config_where where = here(reader, NULL);

	if (reader->event.type != YAML_SCALAR_EVENT)
		return refuse_event(reader, NULL, "a key");
	if (config_key_find(name, strlen(name), scope, id))
		return config_key_unknown(target->err, &where, name, scope);
	return config_key_begin(target, &where, *id, name);
}

/* The current event begins the mapping of one VM. */
static int read_vm(struct reader *reader)
{
	struct config_target target = { .err = reader->draft->err };
	struct vm_draft *vm = NULL;
	int ret = config_add_vm(reader->draft, &vm);

	if (ret == -E2BIG)
		return refuse_event(reader, config_key(KEY_VMS)->name,
				    "fewer VMs, this is one too many");
	if (ret)
		return ret;
	vm->line = reader->event.start_mark.line + 1;
	target.fields = &vm->vm;
	target.marks = &vm->marks;
	for (;;) {
		enum config_key_id id = KEY_COUNT;

		ret = next_event(reader);
		if (ret || reader->event.type == YAML_MAPPING_END_EVENT)
			return ret;
		ret = read_key(reader, &target, CONFIG_IN_VM, &id);
		if (ret == 0)
			ret = read_value(reader, &target, id);
		if (ret)
			return ret;
	}
}

static int read_vms(struct reader *reader)
{
	const char *name = config_key(KEY_VMS)->name;
	int ret = next_event(reader);

	if (ret)
		return ret;
	if (reader->event.type != YAML_SEQUENCE_START_EVENT)
		return refuse_event(reader, name, config_key(KEY_VMS)->what);
	for (;;) {
		ret = next_event(reader);
		if (ret || reader->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		if (reader->event.type != YAML_MAPPING_START_EVENT)
			return refuse_event(reader, name, "a mapping of a VM's keys");
		ret = read_vm(reader);
		if (ret)
			break;
	}
	return ret;
}

/* The current event begins the mapping that is the document. */
static int read_top(struct reader *reader)
{
	struct config_globals *globals = &reader->draft->by_file;
	const struct config_target target = {
		.fields = globals,
		.marks = &globals->marks,
		.err = reader->draft->err,
	};
	const struct config_where start = here(reader, config_key(KEY_VMS)->name);

	for (;;) {
		enum config_key_id id = KEY_COUNT;
		int ret = next_event(reader);

		if (ret)
			return ret;
		if (reader->event.type == YAML_MAPPING_END_EVENT)
			break;
		ret = read_key(reader, &target, CONFIG_IN_FILE, &id);
		if (ret == 0)
			ret = id == KEY_VMS ? read_vms(reader) : read_value(reader, &target, id);
		if (ret)
			return ret;
	}
	if (!globals->marks.given[KEY_VMS])
		return config_key_refuse(target.err, &start, KEY_VMS, NULL);
	return 0;
}

/* The events around the document, of which there is exactly one. */
static int read_stream(struct reader *reader)
{
	int ret = next_event(reader); /* start of the stream */

	if (ret == 0)
		ret = next_event(reader); /* start of the document */
	if (ret == 0 && reader->event.type == YAML_STREAM_END_EVENT) {
		struct config_where where = here(reader, config_key(KEY_VMS)->name);

		where.line = 1; /* there is nothing in any line */
		return config_key_refuse(reader->draft->err, &where, KEY_VMS, NULL);
	}
	if (ret == 0)
		ret = next_event(reader);
	if (ret)
		return ret;
	if (reader->event.type != YAML_MAPPING_START_EVENT)
		return refuse_event(reader, NULL, "a mapping with the key vms");
	ret = read_top(reader);
	if (ret == 0)
		ret = next_event(reader); /* end of the document */
	if (ret == 0)
		ret = next_event(reader);
	if (ret == 0 && reader->event.type != YAML_STREAM_END_EVENT)
		return refuse_event(reader, NULL, "a single document");
	return ret;
}

static int parse(struct config_draft *draft, const char *data, size_t len)
{
	/* Some editors put a byte order mark in front. */
	size_t mark = len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	struct reader reader = { .draft = draft, .data = data + mark };
	int ret = 0;

	if (!yaml_parser_initialize(&reader.parser))
		return -ENOMEM;
	/* Named, so that nothing but UTF-8 is ever looked for. */
	yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&reader.parser, (const unsigned char *)reader.data,
				     len - mark);
	ret = read_stream(&reader);
	yaml_event_delete(&reader.event);
	yaml_parser_delete(&reader.parser);
	return ret;
}

/* Reads until the end of file or until @room is full; bytes read, or -errno. */
static ssize_t read_all(int fd, char *data, size_t room)
{
	size_t len = 0;

	while (len < room) {
		ssize_t n = read(fd, data + len, room - len);

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			len += (size_t)n;
	}
	return (ssize_t)len;
}

static ssize_t load(const struct config_draft *draft, char *data, size_t room)
{
	int fd scoped_fd = -1;

	if (draft->again)
		return draft->fd < 0 ? draft->fd : read_all(draft->fd, data, room);
	fd = open(draft->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : read_all(fd, data, room);
}

int config_read_file(struct config_draft *draft)
{
	const struct config_where where = { .key = config_key(KEY_CONFIG)->name };
	/* One byte more than allowed tells a file that is too long. */
	size_t room = CONFIG_MAX_FILE_BYTES + 1;
	char *data = malloc(room);
	ssize_t len = 0;
	int ret = 0;

	if (!data)
		return -ENOMEM;
	len = load(draft, data, room);
	if (len < 0)
		ret = config_report(draft->err, &where, draft->file,
				    "expected a readable file (%s)", strerrordesc_np((int)-len));
	else if ((size_t)len == room)
		ret = config_report(draft->err, &where, draft->file,
				    "expected a file of at most %u bytes", CONFIG_MAX_FILE_BYTES);
	else
		ret = parse(draft, data, (size_t)len);
	free(data);
	return ret;
}
