// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * args.c - reads the command line into a draft, judging one value at a
 * time. Touches no file: it only notes the name that --config gives.
 *
 * The forms are those the users of rust-vmm's program know: "--key value",
 * "--key=value", "-h", "-V", a final "--". A value of its own may not begin
 * with '-', so that a forgotten value is not taken from the next option.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

struct args {
	struct config_draft *draft;
	FILE *out;
	char **argv;
	int argc;
	int next;                   /* index in argv of the next argument */
	const char *way;            /* the first option that chose how VMs are given */
	enum config_key_id way_key; /* KEY_VM, KEY_CONFIG, or KEY_SOCKET for single options */
};

/* The three ways to name VMs exclude each other. */
static int choose_way(struct args *args, enum config_key_id id, const char *value)
{
	const struct config_key *key = config_key(id);
	const struct config_where where = { .key = key->name };
	enum config_key_id way = key->scope & CONFIG_IN_VM ? KEY_SOCKET : id;

	if (args->way && args->way_key != way)
		return config_report(args->draft->err, &where, value,
				     "expected no --%s together with --%s", key->name, args->way);
	if (!args->way)
		args->way = key->name;
	args->way_key = way;
	return 0;
}

static int add_vm(struct config_draft *draft, unsigned int number, const char *value,
		  struct vm_draft **vm)
{
	const struct config_where where = { .key = config_key(KEY_VM)->name };
	int ret = config_add_vm(draft, vm);

	if (ret == -E2BIG)
		return config_report(draft->err, &where, value, "expected at most %u VMs",
				     CONFIG_MAX_VMS);
	if (ret == 0)
		(*vm)->number = number;
	return ret;
}

static int read_single(struct args *args, enum config_key_id id, const char *value)
{
	const struct config_where where = { .key = config_key(id)->name };
	struct config_target target = { .err = args->draft->err };
	struct vm_draft *vm = args->draft->vms;
	int ret = choose_way(args, id, value);

	if (ret == 0 && !vm)
		ret = add_vm(args->draft, 0, value, &vm);
	if (ret)
		return ret;
	target.fields = &vm->vm;
	target.marks = &vm->marks;
	ret = config_key_begin(&target, &where, id, value);
	if (ret)
		return ret;
	return config_key_add(&target, &where, id, value);
}

static int read_global(struct args *args, enum config_key_id id, const char *value)
{
	const struct config_where where = { .key = config_key(id)->name };
	const struct config_target target = {
		.fields = &args->draft->by_option,
		.marks = &args->draft->by_option.marks,
		.err = args->draft->err,
	};
	int ret = config_key_begin(&target, &where, id, value);

	if (ret)
		return ret;
	return config_key_add(&target, &where, id, value);
}

int config_read_pair(FILE *err, struct vm_draft *vm, char *pair, unsigned int scope)
{
	struct config_where where = {
		.vm = vm->number,
		.runs = vm->runs ? vm->vm.guest_cid : 0,
	};
	const struct config_target target = {
		.fields = &vm->vm,
		.marks = &vm->marks,
		.err = err,
	};
	enum config_key_id id = KEY_COUNT;
	char *equals = strchr(pair, '=');
	int ret = 0;

	if (!equals)
		return config_key_refuse(err, &where, KEY_VM, pair);
	if (config_key_find(pair, (size_t)(equals - pair), scope, &id)) {
		*equals = '\0';
		return config_key_unknown(err, &where, pair, scope);
	}
	where.key = config_key(id)->name;
	ret = config_key_begin(&target, &where, id, equals + 1);
	if (ret)
		return ret;
	return config_key_add(&target, &where, id, equals + 1);
}

/* White space around the whole value is no part of it; cut off in place. */
static char *trim(char *text)
{
	size_t len = 0;

	while (isspace((unsigned char)*text))
		text++;
	len = strlen(text);
	while (len > 0 && isspace((unsigned char)text[len - 1]))
		len--;
	text[len] = '\0';
	return text;
}

int config_read_vm(struct config_draft *draft, const char *value)
{
	struct vm_draft *vm = NULL;
	char *copy = NULL;
	char *rest = NULL;
	char *pair = NULL;
	int ret = add_vm(draft, (unsigned int)draft->vm_count + 1, value, &vm);

	if (ret)
		return ret;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	rest = trim(copy);
	while (ret == 0 && (pair = strsep(&rest, ",")))
		ret = config_read_pair(draft->err, vm, pair, CONFIG_IN_VM);
	free(copy);
	return ret;
}

static int read_vm(struct args *args, const char *value)
{
	int ret = choose_way(args, KEY_VM, value);

	return ret ? ret : config_read_vm(args->draft, value);
}

static int read_config(struct args *args, const char *value)
{
	const struct config_where where = { .key = config_key(KEY_CONFIG)->name };
	int ret = choose_way(args, KEY_CONFIG, value);

	if (ret)
		return ret;
	if (args->draft->file)
		return config_report(args->draft->err, &where, value, "expected %s only once",
				     where.key);
	args->draft->file = value;
	return 0;
}

/* --help and --version; 1: done, nothing else is looked at. */
static int print(struct args *args, enum config_key_id id)
{
	if (id == KEY_HELP)
		config_print_help(args->out);
	else
		(void)fprintf(args->out, "%s %s\n", CONFIG_PROGRAM, VERSION);
	if (fflush(args->out) == EOF || ferror(args->out))
		return -EIO;
	return 1;
}

/* Judged at the start, of no use since, and it takes the user database. */
static bool is_settled(const struct args *args, enum config_key_id id)
{
	return args->draft->again && (id == KEY_USER || id == KEY_GROUP || id == KEY_SOCKET_GROUP);
}

static int read_value(struct args *args, enum config_key_id id, const char *value)
{
	if (is_settled(args, id))
		return 0;
	if (id == KEY_VM)
		return read_vm(args, value);
	if (id == KEY_CONFIG)
		return read_config(args, value);
	if (config_key(id)->scope & CONFIG_IN_VM)
		return read_single(args, id, value);
	return read_global(args, id, value);
}

/* The value after '=', or the next argument if it does not look like an option. */
static int read_option(struct args *args, enum config_key_id id, const char *value)
{
	const struct config_where where = { .key = config_key(id)->name };

	if (!config_key(id)->arg) {
		if (value)
			return config_report(args->draft->err, &where, value, "expected no value");
		if (id != KEY_CHECK_CONFIG)
			return print(args, id);
		args->draft->check_only = true;
		return 0;
	}
	if (!value && args->next < args->argc) {
		value = args->argv[args->next++];
		if (value[0] == '-' && value[1] != '\0')
			value = NULL;
	}
	if (!value)
		return config_key_refuse(args->draft->err, &where, id, NULL);
	return read_value(args, id, value);
}

static int find_option(const char *arg, enum config_key_id *id, const char **value)
{
	const char *end = strchrnul(arg, '=');

	*value = NULL;
	if (strcmp(arg, "-h") == 0)
		*id = KEY_HELP;
	else if (strcmp(arg, "-V") == 0)
		*id = KEY_VERSION;
	else if (strncmp(arg, "--", 2) != 0 ||
		 config_key_find(arg + 2, (size_t)(end - arg) - 2, CONFIG_IN_OPTION, id))
		return -ENOENT;
	else if (*end == '=')
		*value = end + 1;
	return 0;
}

#define CAPABILITIES_OPTION "--print-capabilities"

/* What QEMU's conventions ask of a back-end: everything else is ignored then.
 * Return: 1 if it was printed, 0 if nobody asked, -errno */
static int print_capabilities(const struct args *args)
{
	for (int i = 1; i < args->argc; i++) {
		if (strcmp(args->argv[i], CAPABILITIES_OPTION) != 0)
			continue;
		(void)fprintf(args->out, "{\n  \"type\": \"vsock\"\n}\n");
		return fflush(args->out) == EOF || ferror(args->out) ? -EIO : 1;
	}
	return 0;
}

static int read_argument(struct args *args)
{
	const struct config_where nowhere = { 0 };
	const char *arg = args->argv[args->next++];
	enum config_key_id id = KEY_COUNT;
	const char *value = NULL;

	if (strcmp(arg, "--") == 0 && args->next == args->argc)
		return 0;
	if (find_option(arg, &id, &value))
		return config_report(args->draft->err, &nowhere, arg,
				     "expected an option that --help lists");
	return read_option(args, id, value);
}

int config_read_args(struct config_draft *draft, int argc, char **argv, FILE *out)
{
	struct args args = { .draft = draft, .out = out, .argv = argv, .argc = argc, .next = 1 };
	int done = draft->again ? 0 : print_capabilities(&args);

	if (done)
		return done;
	while (args.next < argc) {
		int ret = read_argument(&args);

		if (ret)
			return ret;
	}
	return 0;
}
