// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * methods_change.c - requests that change something. What is done is the
 * manager's; here parameters are judged and results told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/methods_private.h"
#include "daemon/report.h"

/** A stream whose text becomes an error's message. */
struct complaint {
	char *text;
	size_t size;
	FILE *stream;
};

static bool begin_complaint(struct complaint *complaint)
{
	complaint->stream = open_memstream(&complaint->text, &complaint->size);
	return complaint->stream != NULL;
}

static const char *code_of(int err)
{
	if (err == -EEXIST)
		return "exists";
	return err == -EINVAL ? "invalid" : "internal";
}

/* The line without the name of the program and its end. */
static json_t *end_complaint(struct complaint *complaint, const struct call *call, int err)
{
	static const char prefix[] = CONFIG_PROGRAM ": ";
	const char *text;

	(void)fclose(complaint->stream);
	text = complaint->text != NULL ? complaint->text : "";
	if (strncmp(text, prefix, strlen(prefix)) == 0)
		text += strlen(prefix);
	if (*text == '\0' && err < 0)
		text = strerrordesc_np(-err);
	if (err < 0)
		(void)control_fail(call->error, code_of(err), "%.*s", (int)strcspn(text, "\n"),
				   text);
	free(complaint->text);
	return NULL;
}

static json_t *add_parsed(const struct call *call, const struct vm_config *config)
{
	struct manager *manager = call->methods->manager;
	char why[VM_WHY_BYTES];
	int err;

	if (manager_count(manager) >= CONFIG_MAX_VMS)
		return control_fail(call->error, "limit", "there are %u VMs already",
				    CONFIG_MAX_VMS);
	err = manager_add(manager, config, false, why);
	if (err == -EEXIST || err == -EADDRINUSE)
		return control_fail(call->error, "exists", "%s", why);
	if (err == -ENOENT || err == -ENOTDIR || err == -EACCES || err == -EROFS)
		return control_fail(call->error, "invalid", "%s", why);
	if (err == -ENFILE || err == -EMFILE || err == -ENOSPC)
		return control_fail(call->error, "limit", "%s", why);
	if (err == -EPERM && config->forward_cid != 0)
		return control_fail(call->error, "forbidden", "%s", why);
	if (err < 0)
		return control_fail(call->error, "internal", "%s", why);
	return json_pack("{s:I}", "cid", (json_int_t)config->guest_cid);
}

json_t *method_add(const struct call *call)
{
	struct manager *manager = call->methods->manager;
	struct vm_config *config = NULL;
	struct complaint complaint;
	const char *text = NULL;
	json_t *result = NULL;
	int err;

	if (!method_parse(call, "{s:s!}", "vm", &text))
		return NULL;
	if (!begin_complaint(&complaint))
		return method_no_memory(call);
	err = manager_parse(manager, text, &config, complaint.stream);
	(void)end_complaint(&complaint, call, err);
	if (err == 0)
		result = add_parsed(call, config);
	config_free_vm(config);
	return result;
}

json_t *method_remove(const struct call *call)
{
	char tag[VM_TAG_BYTES];
	json_int_t cid = 0;
	struct vm *vm;

	if (!method_parse(call, "{s:I!}", "cid", &cid))
		return NULL;
	vm = method_find(call, cid);
	if (vm == NULL)
		return NULL;
	log_notice(vm_tag(tag, vm_cid(vm)), "removed by a request");
	if (manager_remove(call->methods->manager, vm) < 0)
		return method_no_memory(call);
	return json_object();
}

/* A copy of the VM's configuration with these groups; NULL: its own. Return: NULL with the
 * error filled. */
static struct vm_config *with_groups(const struct call *call, const struct vm *vm, json_t *groups)
{
	size_t count = json_array_size(groups);
	const char **names = calloc(count + 1, sizeof(*names));
	struct vm_config *config = NULL;
	int err = names != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; err == 0 && i < count; i++) {
		names[i] = json_string_value(json_array_get(groups, i));
		if (names[i] == NULL)
			err = -EINVAL;
	}
	if (err == 0 && groups != NULL)
		err = config_regroup_vm(&config, vm_config(vm), names, count);
	else if (err == 0)
		config = config_copy_vm(vm_config(vm));
	free(names);
	if (err == -EINVAL)
		(void)control_fail(call->error, "invalid",
				   "groups: expected 1 to %d names without '+', none of them empty",
				   CONFIG_MAX_LIST);
	else if (config == NULL)
		(void)method_no_memory(call);
	return config;
}

/* Return: whether @config has them; otherwise the error is filled. */
static bool add_limits(const struct call *call, struct vm_config *config, const char *text)
{
	struct vm_config *wanted = NULL;
	struct complaint complaint;
	int err;

	if (!begin_complaint(&complaint)) {
		(void)method_no_memory(call);
		return false;
	}
	err = config_parse_limits(&wanted, config, text, complaint.stream);
	(void)end_complaint(&complaint, call, err);
	if (err < 0)
		return false;
	config_take_limits(config, wanted);
	config_free_vm(wanted);
	return true;
}

json_t *method_set(const struct call *call)
{
	struct vm_config *config = NULL;
	const char *limits = NULL;
	json_t *groups = NULL;
	json_int_t cid = 0;
	struct vm *vm;

	if (!method_parse(call, "{s:I, s?o, s?s!}", "cid", &cid, "groups", &groups, "limits",
			  &limits))
		return NULL;
	vm = method_find(call, cid);
	if (vm == NULL)
		return NULL;
	if (groups == NULL && limits == NULL)
		return control_fail(call->error, "invalid",
				    "nothing to set: expected groups or limits");
	config = with_groups(call, vm, groups);
	if (config == NULL)
		return NULL;
	if (limits != NULL && !add_limits(call, config, limits)) {
		config_free_vm(config);
		return NULL;
	}
	manager_change(call->methods->manager, vm, config);
	return json_object();
}

static const char *const change_names[] = {
	[RELOAD_ADDED] = "added",     [RELOAD_REMOVED] = "removed",
	[RELOAD_CHANGED] = "changed", [RELOAD_UNCHANGED] = "unchanged",
	[RELOAD_FAILED] = "failed",
};

static void note_reloaded(void *ctx, uint32_t cid, enum reload_change change, const char *why)
{
	json_t *array = json_object_get(ctx, change_names[change]);
	json_t *value = json_integer(cid);

	if (change == RELOAD_FAILED)
		value = json_pack("{s:o, s:o}", "cid", value, "message", report_text(why));
	(void)json_array_append_new(array, value);
}

json_t *method_reload(const struct call *call)
{
	struct reload_report report = { .vm = note_reloaded };
	struct complaint complaint;
	json_t *result = NULL;
	int err;

	if (!method_parse(call, "{!}"))
		return NULL;
	result = json_pack("{s:[], s:[], s:[], s:[], s:[]}", "added", "removed", "changed",
			   "unchanged", "failed");
	report.ctx = result;
	if (result == NULL || !begin_complaint(&complaint)) {
		json_decref(result);
		return method_no_memory(call);
	}
	err = manager_reload(call->methods->manager, &report, complaint.stream);
	(void)end_complaint(&complaint, call, err);
	if (err == -ENOENT)
		(void)control_fail(call->error, "invalid", "started without a configuration file");
	if (err < 0)
		json_decref(result);
	return err < 0 ? NULL : result;
}

json_t *method_log_level(const struct call *call)
{
	const char *name = NULL;
	enum log_level level;

	if (!method_parse(call, "{s:s!}", "level", &name))
		return NULL;
	if (log_level_parse(name, &level) < 0)
		return control_fail(call->error, "invalid", "level: expected %s",
				    "error, warning, notice, info, debug or trace");
	log_set_level(level);
	return json_object();
}

static void drain_one(struct vm *vm, void *arg)
{
	vm_drain(vm, *(const bool *)arg);
}

static void drain_each(struct vm *vm, size_t index, void *arg)
{
	(void)index;
	drain_one(vm, arg);
}

json_t *method_drain(const struct call *call)
{
	json_int_t cid = 0;
	struct vm *vm;
	int off = 0;
	bool on;

	if (!method_parse(call, "{s?I, s?b!}", "cid", &cid, "off", &off))
		return NULL;
	on = off == 0;
	if (json_object_get(call->params, "cid") == NULL) {
		manager_each(call->methods->manager, drain_each, &on);
		return json_object();
	}
	vm = method_find(call, cid);
	if (vm == NULL)
		return NULL;
	manager_call(vm, drain_one, &on);
	return json_object();
}

static void log_reloaded(void *ctx, uint32_t cid, enum reload_change change, const char *why)
{
	char tag[VM_TAG_BYTES];

	(void)ctx;
	if (change == RELOAD_FAILED)
		log_error(vm_tag(tag, cid), "reload: %s", why);
	else if (change != RELOAD_UNCHANGED)
		log_notice(vm_tag(tag, cid), "reload: %s", change_names[change]);
}

void method_reload_and_log(struct manager *manager)
{
	const struct reload_report report = { .vm = log_reloaded };
	struct complaint complaint;
	int err;

	if (!begin_complaint(&complaint))
		return;
	err = manager_reload(manager, &report, complaint.stream);
	(void)fclose(complaint.stream);
	if (err == -ENOENT)
		log_notice(NULL, "reload: started without a configuration file");
	else if (err < 0)
		log_error(NULL, "reload: nothing was changed: %.*s",
			  (int)strcspn(complaint.text, "\n"), complaint.text);
	else
		log_notice(NULL, "reload: the configuration file is in force");
	free(complaint.text);
}
