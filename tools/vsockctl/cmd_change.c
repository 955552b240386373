// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_change.c - the commands that change the daemon: add, remove, set,
 * reload, log-level, drain. They print nothing when there is nothing to tell.
 */
#include <string.h>

#include "vsockctl/control.h"
#include "vsockctl/show.h"
#include "vsockctl/vsockctl.h"

/* Takes @params. */
static int change(const struct options *options, const char *method, json_t *params)
{
	json_t *result = control_ask(options->control, method, params);

	if (result == NULL)
		return STATUS_FAILED;
	if (options->json)
		show_json(result);
	else if (json_is_object(result))
		show_pairs(result);
	json_decref(result);
	return STATUS_OK;
}

int cmd_add(const struct options *options, int argc, char **argv)
{
	(void)argc;
	return change(options, "add", json_pack("{s:s}", "vm", argv[0]));
}

int cmd_remove(const struct options *options, int argc, char **argv)
{
	uint32_t cid;

	(void)argc;
	if (argument_u32("CID", argv[0], UINT32_MAX, &cid) < 0)
		return STATUS_USAGE;
	return change(options, "remove", json_pack("{s:I}", "cid", (json_int_t)cid));
}

/* "a+b" as a list. */
static json_t *split_groups(const char *names)
{
	json_t *list = json_array();

	for (;;) {
		size_t len = strcspn(names, "+");

		json_array_append_new(list, json_stringn(names, len));
		if (names[len] == '\0')
			return list;
		names += len + 1;
	}
}

int cmd_set(const struct options *options, int argc, char **argv)
{
	json_t *params;
	uint32_t cid;

	(void)argc;
	if (argument_u32("CID", argv[0], UINT32_MAX, &cid) < 0)
		return STATUS_USAGE;
	if (options->groups == NULL && options->limits == NULL) {
		complain("set: expected --groups NAMES or --limits KEY=VALUE,...");
		return STATUS_USAGE;
	}
	params = json_pack("{s:I}", "cid", (json_int_t)cid);
	if (options->groups != NULL)
		json_object_set_new(params, "groups", split_groups(options->groups));
	if (options->limits != NULL)
		json_object_set_new(params, "limits", json_string(options->limits));
	return change(options, "set", params);
}

int cmd_reload(const struct options *options, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return change(options, "reload", NULL);
}

int cmd_log_level(const struct options *options, int argc, char **argv)
{
	(void)argc;
	return change(options, "log-level", json_pack("{s:s}", "level", argv[0]));
}

int cmd_drain(const struct options *options, int argc, char **argv)
{
	json_t *params = control_vm_params(argc, argv);

	if (params == NULL)
		return STATUS_USAGE;
	if (options->off)
		json_object_set_new(params, "off", json_true());
	return change(options, "drain", params);
}
