// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * table.h - columns of text for people: as wide as what is in them, numbers to
 * the right. What came from elsewhere cannot move the cursor.
 */
#ifndef VSOCKCTL_TABLE_H
#define VSOCKCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/compiler.h"

#define TABLE_MAX_COLUMNS 16u

struct table_column {
	const char *title;
	bool number;
};

/** Cells are filled row by row; the table frees them. */
struct table {
	const struct table_column *columns;
	size_t n_columns;
	char **cells;
	size_t count;
	size_t room;
};

/** Begin a table without rows. */
void table_init(struct table *table, const struct table_column *columns, size_t n_columns);

/** Add the next cell. Without memory it stays empty. */
void table_add(struct table *table, const char *fmt, ...) printf_like(2, 3);

/** Print titles and rows, each cut to @width columns unless that is 0; at most @rows of them. */
void table_print(const struct table *table, FILE *out, size_t width, size_t rows);

/** Free the cells. */
void table_fini(struct table *table);

#endif
