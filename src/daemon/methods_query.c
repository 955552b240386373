// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * methods_query.c - requests that ask. What belongs to a worker is read there.
 */
#include <stdlib.h>

#include "daemon/methods_private.h"
#include "daemon/report.h"

static unsigned int worker_number(const struct call *call, const struct vm *vm)
{
	return (unsigned int)(vm_worker(vm) - call->methods->manager->workers);
}

static void get_info(struct vm *vm, size_t index, void *arg)
{
	struct vm_info *infos = arg;

	vm_get_info(vm, &infos[index]);
}

/* For a call without parameters: of all VMs in the order of the table; free()
 * it. NULL: the call was answered by an error. */
static struct vm_info *all_infos(const struct call *call)
{
	struct manager *manager = call->methods->manager;
	struct vm_info *infos;

	if (!method_parse(call, "{!}"))
		return NULL;
	infos = calloc(manager_count(manager) + 1, sizeof(*infos));
	if (infos == NULL)
		(void)method_no_memory(call);
	else
		manager_each(manager, get_info, infos);
	return infos;
}

json_t *method_list(const struct call *call)
{
	const struct vm_table *table = vm_set_table(&call->methods->manager->set);
	struct vm_info *infos;
	json_t *vms;

	infos = all_infos(call);
	if (infos == NULL)
		return NULL;
	vms = json_array();
	for (size_t i = 0; table != NULL && i < table->count; i++) {
		struct vm *vm = table->vms[i];

		(void)json_array_append_new(
			vms, report_vm(vm_config(vm), &infos[i], worker_number(call, vm)));
	}
	free(infos);
	return json_pack("{s:o}", "vms", vms);
}

json_t *method_stats(const struct call *call)
{
	size_t count = manager_count(call->methods->manager);
	struct process_usage usage;
	struct vm_info *infos;
	json_t *vms;

	infos = all_infos(call);
	if (infos == NULL)
		return NULL;
	vms = json_array();
	for (size_t i = 0; i < count; i++)
		(void)json_array_append_new(vms, report_stats(&infos[i]));
	free(infos);
	process_get_usage(&call->methods->process, &usage);
	return json_pack("{s:o, s:o}", "vms", vms, "process", report_process(&usage));
}

static void get_details(struct vm *vm, void *arg)
{
	vm_get_details(vm, arg);
}

json_t *method_show(const struct call *call)
{
	struct vm_details *details;
	json_int_t cid = 0;
	struct vm *vm;
	json_t *result;

	if (!method_parse(call, "{s:I!}", "cid", &cid))
		return NULL;
	vm = method_find(call, cid);
	if (vm == NULL)
		return NULL;
	details = malloc(sizeof(*details));
	if (details == NULL)
		return method_no_memory(call);
	manager_call(vm, get_details, details);
	result = report_details(vm_config(vm), details, worker_number(call, vm));
	free(details);
	return result;
}

/** Connections being collected. */
struct conn_list {
	struct vm_conn *conns;
	size_t max;
	size_t count;
	bool truncated;
};

static void get_conns(struct vm *vm, void *arg)
{
	struct conn_list *list = arg;
	size_t room = list->max - list->count;
	size_t found = vm_get_conns(vm, list->conns + list->count, room);

	list->truncated |= found > room;
	list->count += found < room ? found : room;
}

static json_t *report_conns(const struct conn_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++)
		(void)json_array_append_new(array, report_conn(&list->conns[i]));
	return json_pack("{s:o, s:b}", "connections", array, "truncated", (int)list->truncated);
}

json_t *method_connections(const struct call *call)
{
	const struct vm_table *table = vm_set_table(&call->methods->manager->set);
	json_int_t limit = METHODS_DEFAULT_CONNECTIONS;
	struct conn_list list = { .count = 0 };
	struct vm *only = NULL;
	json_int_t cid = -1;
	json_t *result;

	if (!method_parse(call, "{s?I, s?I!}", "cid", &cid, "limit", &limit))
		return NULL;
	if (limit < 1 || limit > METHODS_MAX_CONNECTIONS)
		return control_fail(call->error, "invalid", "limit: expected 1 to %u",
				    METHODS_MAX_CONNECTIONS);
	if (json_object_get(call->params, "cid") != NULL) {
		only = method_find(call, cid);
		if (only == NULL)
			return NULL;
	}
	list.max = (size_t)limit;
	list.conns = calloc(list.max, sizeof(*list.conns));
	if (list.conns == NULL)
		return method_no_memory(call);
	for (size_t i = 0; table != NULL && i < table->count; i++) {
		if (only == NULL || table->vms[i] == only)
			manager_call(table->vms[i], get_conns, &list);
	}
	result = report_conns(&list);
	free(list.conns);
	return result;
}
