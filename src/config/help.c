// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * help.c - --help, made from the table of keys. Prints and does nothing else.
 */
#include <string.h>

#include "config/private.h"

static void print_row(FILE *out, const struct config_key *key)
{
	const char *line = key->help;

	if (key->letter)
		fprintf(out, "  -%c, --%s\n", key->letter, key->name);
	else
		fprintf(out, "      --%s%s%s\n", key->name, key->arg ? " " : "",
			key->arg ? key->arg : "");
	while (line) {
		const char *end = strchrnul(line, '\n');

		fprintf(out, "          %.*s\n", (int)(end - line), line);
		line = *end ? end + 1 : NULL;
	}
	if (key->preset_text)
		fprintf(out, "          [default: %s]\n", key->preset_text);
	else if (key->preset)
		fprintf(out, "          [default: %u]\n", key->preset);
}

static void print_rows(FILE *out, const char *title, bool of_vm)
{
	fprintf(out, "\n%s:\n", title);
	for (unsigned int i = 0; i < KEY_COUNT; i++) {
		const struct config_key *key = config_key((enum config_key_id)i);

		if ((key->scope & CONFIG_IN_OPTION) && ((key->scope & CONFIG_IN_VM) != 0) == of_vm)
			print_row(out, key);
	}
}

void config_print_help(FILE *out)
{
	fprintf(out,
		"Connects virtual machines with their host and each other by vsock sockets.\n"
		"\n"
		"Usage: %1$s --socket PATH --uds-path PATH [OPTION...]\n"
		"       %1$s --socket PATH --forward-cid CID [OPTION...]\n"
		"       %1$s --vm KEY=VALUE,... [--vm KEY=VALUE,...]... [OPTION...]\n"
		"       %1$s --config FILE [OPTION...]\n",
		CONFIG_PROGRAM);
	print_rows(out, "One VM (the same keys, with '-' or '_', are those of --vm and the file)",
		   true);
	print_rows(out, "More VMs, and the whole program", false);
}
