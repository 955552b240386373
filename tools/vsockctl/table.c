// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * table.c - see table.h. Knows nothing of what is in the cells.
 */
#include "vsockctl/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define GAP 2 /* spaces between two columns */

/* A line that is being put together, so that it can be cut. */
struct line {
	char *text;
	size_t len;
};

void table_init(struct table *table, const struct table_column *columns, size_t n_columns)
{
	*table = (struct table){ .columns = columns, .n_columns = n_columns };
}

/* Control characters, which a path may have, become '?'. */
static void make_plain(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < ' ' || *text == '\x7f')
			*text = '?';
}

void table_add(struct table *table, const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	if (table->count == table->room) {
		size_t room = table->room == 0 ? 64 : 2 * table->room;
		char **cells = reallocarray(table->cells, room, sizeof(*cells));

		if (cells == NULL)
			return;
		table->cells = cells;
		table->room = room;
	}
	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		text = NULL;
	va_end(args);
	if (text != NULL)
		make_plain(text);
	table->cells[table->count++] = text;
}

static const char *cell(const struct table *table, size_t row, size_t column)
{
	const char *text = table->cells[row * table->n_columns + column];

	return text != NULL ? text : "";
}

static void measure(const struct table *table, size_t rows, size_t *widths)
{
	for (size_t c = 0; c < table->n_columns; c++) {
		widths[c] = strlen(table->columns[c].title);
		for (size_t r = 0; r < rows; r++) {
			size_t len = strlen(cell(table, r, c));

			widths[c] = len > widths[c] ? len : widths[c];
		}
	}
}

static void add_text(struct line *line, const char *text, size_t width, bool right)
{
	size_t len = strlen(text);
	size_t pad = width > len ? width - len : 0;

	if (right) {
		memset(line->text + line->len, ' ', pad);
		line->len += pad;
	}
	memcpy(line->text + line->len, text, len);
	line->len += len;
	if (!right) {
		memset(line->text + line->len, ' ', pad);
		line->len += pad;
	}
	memset(line->text + line->len, ' ', GAP);
	line->len += GAP;
}

static void print_line(struct line *line, FILE *out, size_t width)
{
	if (width != 0 && line->len > width)
		line->len = width;
	while (line->len > 0 && line->text[line->len - 1] == ' ')
		line->len--;
	fprintf(out, "%.*s\n", (int)line->len, line->text);
	line->len = 0;
}

void table_print(const struct table *table, FILE *out, size_t width, size_t rows)
{
	size_t widths[TABLE_MAX_COLUMNS];
	struct line line = { 0 };
	size_t total = 0;

	rows = min_size(rows, table->count / table->n_columns);
	measure(table, rows, widths);
	for (size_t c = 0; c < table->n_columns; c++)
		total += widths[c] + GAP;
	line.text = malloc(total);
	if (line.text == NULL)
		return;
	for (size_t c = 0; c < table->n_columns; c++)
		add_text(&line, table->columns[c].title, widths[c], table->columns[c].number);
	print_line(&line, out, width);
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c < table->n_columns; c++)
			add_text(&line, cell(table, r, c), widths[c], table->columns[c].number);
		print_line(&line, out, width);
	}
	free(line.text);
}

void table_fini(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){ 0 };
}
