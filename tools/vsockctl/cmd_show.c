// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_show.c - the commands that only look: list, show, connections, stats.
 */
#include <stdint.h>
#include <string.h>

#include "vsockctl/control.h"
#include "vsockctl/show.h"
#include "vsockctl/table.h"
#include "vsockctl/vsockctl.h"

/* Ask, print JSON or by @print, forget. Takes @params. */
static int ask_and_print(const struct options *options, const char *method, json_t *params,
			 void (*print)(const json_t *result))
{
	json_t *result = control_ask(options->control, method, params);

	if (result == NULL)
		return STATUS_FAILED;
	if (options->json)
		show_json(result);
	else
		print(result);
	json_decref(result);
	return STATUS_OK;
}

static void print_vms(const json_t *result)
{
	static const struct table_column columns[] = {
		{ "CID", true },        { "STATE", false },  { "CONNS", true },
		{ "WORKER", true },     { "GROUPS", false }, { "SOCKET", false },
		{ "HOST SIDE", false },
	};
	char groups[SHOW_VALUE_SIZE];
	struct table table;
	size_t i;
	json_t *vm;

	table_init(&table, columns, array_size(columns));
	json_array_foreach (json_object_get(result, "vms"), i, vm) {
		const json_t *forward = json_object_get(vm, "forward_cid");

		table_add(&table, "%lld", (long long)show_number(vm, "cid"));
		table_add(&table, "%s%s", show_string(vm, "state"),
			  json_is_true(json_object_get(vm, "draining")) ? ", draining" : "");
		table_add(&table, "%lld", (long long)show_number(vm, "connections"));
		table_add(&table, "%lld", (long long)show_number(vm, "worker"));
		table_add(&table, "%s", show_value(json_object_get(vm, "groups"), groups));
		table_add(&table, "%s", show_string(vm, "socket"));
		if (json_is_integer(forward))
			table_add(&table, "AF_VSOCK, CID %lld",
				  (long long)json_integer_value(forward));
		else
			table_add(&table, "%s", show_string(vm, "uds_path"));
	}
	table_print(&table, stdout, 0, SIZE_MAX);
	table_fini(&table);
}

/* "host", or the CID of a sibling. */
static void print_other(struct table *table, const json_t *conn)
{
	const char *with = show_string(conn, "with");

	if (strcmp(with, "sibling") == 0)
		table_add(table, "%lld", (long long)show_number(conn, "host_cid"));
	else
		table_add(table, "%s", with);
}

static void print_connections(const json_t *result)
{
	static const struct table_column columns[] = {
		{ "CID", true },        { "GUEST PORT", true }, { "WITH", false },
		{ "PORT", true },       { "STATE", false },     { "BY", false },
		{ "FROM GUEST", true }, { "TO GUEST", true },   { "HELD", true },
	};
	struct table table;
	size_t i;
	json_t *conn;

	table_init(&table, columns, array_size(columns));
	json_array_foreach (json_object_get(result, "connections"), i, conn) {
		table_add(&table, "%lld", (long long)show_number(conn, "cid"));
		table_add(&table, "%lld", (long long)show_number(conn, "guest_port"));
		print_other(&table, conn);
		table_add(&table, "%lld", (long long)show_number(conn, "host_port"));
		table_add(&table, "%s", show_string(conn, "state"));
		table_add(&table, "%s", show_string(conn, "initiator"));
		table_add(&table, "%lld", (long long)show_number(conn, "tx_bytes"));
		table_add(&table, "%lld", (long long)show_number(conn, "rx_bytes"));
		table_add(&table, "%lld", (long long)show_number(conn, "held_bytes"));
	}
	table_print(&table, stdout, 0, SIZE_MAX);
	table_fini(&table);
	if (json_is_true(json_object_get(result, "truncated")))
		printf("(and more)\n");
}

int cmd_list(const struct options *options, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return ask_and_print(options, "list", NULL, print_vms);
}

int cmd_show(const struct options *options, int argc, char **argv)
{
	uint32_t cid;

	(void)argc;
	if (argument_u32("CID", argv[0], UINT32_MAX, &cid) < 0)
		return STATUS_USAGE;
	return ask_and_print(options, "show", json_pack("{s:I}", "cid", (json_int_t)cid),
			     show_pairs);
}

int cmd_connections(const struct options *options, int argc, char **argv)
{
	json_t *params = control_vm_params(argc, argv);

	if (params == NULL)
		return STATUS_USAGE;
	if (options->limit > 0)
		json_object_set_new(params, "limit", json_integer(options->limit));
	return ask_and_print(options, "connections", params, print_connections);
}

int cmd_stats(const struct options *options, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return ask_and_print(options, "stats", NULL, show_pairs);
}
