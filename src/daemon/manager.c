// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * manager.c - VMs come and go. Owns the set of VMs and each VM in it.
 *
 * Theory of operation
 *
 * To remove a VM while workers run: it is taken out of the table, then every
 * worker ends a dispatch, after which nobody can find it or hold it from an
 * earlier look. Its owner then ends it, which drops its flows in siblings'
 * inboxes. Messages that siblings posted to its owner were posted before, so
 * they were delivered before. What its owner posted to itself, having found the
 * guest's memory truncated, may be behind the first message of the two: so that
 * only ends the session, and the second one the VM. Then nothing refers to it
 * and it is freed.
 *
 * Neighbours keep running: all they do is take one message.
 */
#include "daemon/manager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

size_t manager_count(const struct manager *manager)
{
	const struct vm_table *table = vm_set_table(&manager->set);

	return table != NULL ? table->count : 0;
}

static void tell_changed(const struct manager *manager)
{
	if (manager->watch != NULL)
		manager->watch->changed(manager->watch_ctx);
}

/* --- calls --- */

struct vm_call {
	struct vm *vm;
	void (*fn)(struct vm *vm, void *arg);
	void *arg;
};

static void call_vm(void *arg)
{
	struct vm_call *call = arg;

	call->fn(call->vm, call->arg);
}

void manager_call(struct vm *vm, void (*fn)(struct vm *vm, void *arg), void *arg)
{
	struct vm_call call = { .vm = vm, .fn = fn, .arg = arg };

	worker_call(vm_worker(vm), call_vm, &call);
}

struct each_call {
	const struct vm_table *table;
	const struct worker *worker;
	void (*fn)(struct vm *vm, size_t index, void *arg);
	void *arg;
};

static void call_each(void *arg)
{
	struct each_call *call = arg;

	for (size_t i = 0; i < call->table->count; i++) {
		if (vm_worker(call->table->vms[i]) == call->worker)
			call->fn(call->table->vms[i], i, call->arg);
	}
}

void manager_each(struct manager *manager, void (*fn)(struct vm *vm, size_t index, void *arg),
		  void *arg)
{
	struct each_call call = {
		.table = vm_set_table(&manager->set),
		.fn = fn,
		.arg = arg,
	};

	for (uint32_t i = 0; call.table != NULL && i < manager->worker_count; i++) {
		call.worker = &manager->workers[i];
		worker_call(&manager->workers[i], call_each, &call);
	}
}

static void nothing(void *arg)
{
	(void)arg;
}

/* Afterwards no worker uses what was taken out of sight before. */
static void let_dispatches_end(struct manager *manager)
{
	for (uint32_t i = 0; i < manager->worker_count; i++)
		worker_call(&manager->workers[i], nothing, NULL);
}

/* --- add and remove --- */

static struct worker *least_busy(struct manager *manager)
{
	struct worker *found = &manager->workers[0];

	for (uint32_t i = 1; i < manager->worker_count; i++) {
		if (manager->workers[i].vms < found->vms)
			found = &manager->workers[i];
	}
	return found;
}

struct start_call {
	struct vm *vm;
	int err;
};

static void start(void *arg)
{
	struct start_call *call = arg;

	call->err = vm_start(call->vm);
}

/* Nobody knows of it any more. */
static void bury(struct manager *manager, struct vm *vm)
{
	const struct bounds_grant grant = *vm_grant(vm);

	vm_free(vm);
	bounds_release(&manager->bounds, &grant);
}

static int publish_and_start(struct manager *manager, struct vm *vm, char *why)
{
	struct vm_table *table = vm_set_copy(&manager->set, vm, NULL);
	struct start_call call = { .vm = vm };

	if (table == NULL) {
		snprintf(why, VM_WHY_BYTES, "no memory for a VM");
		bury(manager, vm);
		return -ENOMEM;
	}
	table = vm_set_publish(&manager->set, table);
	vm_worker(vm)->vms++;
	let_dispatches_end(manager);
	free(table);
	worker_call(vm_worker(vm), start, &call);
	if (call.err < 0) {
		snprintf(why, VM_WHY_BYTES, "cannot watch sockets: %s", strerrordesc_np(-call.err));
		(void)manager_remove(manager, vm);
	}
	tell_changed(manager);
	return call.err;
}

/* Guests ask nothing of the daemon itself; of VMs of the start config_check() knows. */
static int check_reach(const struct vm_config *config, const char *path, const char *what,
		       char *why)
{
	if (path == NULL || !config_reaches(config, path))
		return 0;
	snprintf(why, VM_WHY_BYTES, "uds-path with '_PORT' would be the socket of --%s", what);
	return -EEXIST;
}

/* Return: 0, or -errno with @why. */
static int admit(struct manager *manager, const struct vm_config *config,
		 struct bounds_grant *grant, char *why)
{
	int err;

	if (vm_set_find(&manager->set, config->guest_cid) != NULL) {
		snprintf(why, VM_WHY_BYTES, "VM %u exists", config->guest_cid);
		return -EEXIST;
	}
	if (config->forward_cid != 0 && !manager->may_forward) {
		snprintf(why, VM_WHY_BYTES,
			 "forward-cid: the sandbox allows it only if a VM had it at the start");
		return -EPERM;
	}
	err = check_reach(config, manager->control, "control", why);
	if (err == 0)
		err = check_reach(config, manager->metrics, "metrics", why);
	if (err < 0)
		return err;
	if (config->fd != 0 && manager->runs) {
		snprintf(why, VM_WHY_BYTES, "fd: descriptors are taken over at the start only");
		return -EPERM;
	}
	err = bounds_admit(&manager->bounds, config, !manager->runs, grant);
	if (err < 0)
		snprintf(why, VM_WHY_BYTES, "no open files are left for another VM");
	return err;
}

int manager_add(struct manager *manager, const struct vm_config *config, bool from_file, char *why)
{
	struct bounds_grant grant;
	const struct vm_params params = {
		.config = config,
		.set = &manager->set,
		.worker = least_busy(manager),
		.grant = &grant,
		.max_half_open = manager->bounds.max_half_open,
		.from_file = from_file,
	};
	struct vm *vm = NULL;
	int err = admit(manager, config, &grant, why);

	if (err < 0)
		return err;
	err = vm_new(&params, &vm, why);
	if (err < 0) {
		bounds_release(&manager->bounds, &grant);
		return err;
	}
	return publish_and_start(manager, vm, why);
}

static void hang_up(struct vm *vm, void *arg)
{
	(void)arg;
	vm_hang_up(vm);
}

static void stop(struct vm *vm, void *arg)
{
	(void)arg;
	vm_stop(vm);
}

int manager_remove(struct manager *manager, struct vm *vm)
{
	struct vm_table *table = vm_set_copy(&manager->set, NULL, vm);

	if (table == NULL) {
		log_error(NULL, "no memory to remove a VM");
		return -ENOMEM;
	}
	table = vm_set_publish(&manager->set, table);
	let_dispatches_end(manager);
	free(table);
	manager_call(vm, hang_up, NULL);
	manager_call(vm, stop, NULL);
	vm_worker(vm)->vms--;
	bury(manager, vm);
	tell_changed(manager);
	return 0;
}

void manager_remove_all(struct manager *manager)
{
	struct vm_table *table = manager->set.table;

	for (size_t i = 0; table != NULL && i < table->count; i++)
		vm_stop(table->vms[i]);
	for (size_t i = 0; table != NULL && i < table->count; i++)
		vm_free(table->vms[i]);
	manager->set.table = NULL;
	free(table);
}

static void part(struct vm *vm, void *arg)
{
	(void)arg;
	vm_part(vm);
}

static void take_limits(struct vm *vm, void *arg)
{
	(void)arg;
	vm_take_limits(vm);
}

void manager_change(struct manager *manager, struct vm *vm, struct vm_config *config)
{
	bool regrouped = !config_same_groups(config, vm_config(vm));
	bool limited = !config_same_limits(config, vm_config(vm));

	config = vm_swap_config(vm, config);
	let_dispatches_end(manager);
	config_free_vm(config);
	if (regrouped)
		manager_call(vm, part, NULL);
	if (limited)
		manager_call(vm, take_limits, NULL);
}

/* --- descriptions --- */

/* Configurations of all VMs, and room for @more; NULL: no memory. */
static const struct vm_config **list_configs(const struct manager *manager, size_t more,
					     size_t *count)
{
	const struct vm_table *table = vm_set_table(&manager->set);
	const struct vm_config **configs =
		calloc(manager_count(manager) + more + 1, sizeof(struct vm_config *));

	*count = 0;
	for (size_t i = 0; configs != NULL && table != NULL && i < table->count; i++)
		configs[(*count)++] = vm_config(table->vms[i]);
	return configs;
}

int manager_parse(const struct manager *manager, const char *text, struct vm_config **vm, FILE *err)
{
	size_t count = 0;
	const struct vm_config **others = list_configs(manager, 0, &count);
	int ret;

	if (others == NULL)
		return -ENOMEM;
	ret = config_parse_vm(vm, text, NULL, 0, err);
	if (ret == 0) {
		config_free_vm(*vm);
		*vm = NULL;
		ret = config_parse_vm(vm, text, others, count, err);
		if (ret == -EINVAL) /* alone it is right */
			ret = -EEXIST;
	}
	free(others);
	return ret;
}

/* --- reload --- */

static const struct vm_config *find_config(const struct config *config, uint32_t cid)
{
	for (size_t i = 0; i < config->vm_count; i++) {
		if (config->vms[i].guest_cid == cid)
			return &config->vms[i];
	}
	return NULL;
}

/* Whether those that stay and those of the file can exist together. */
static int check_together(const struct manager *manager, const struct config *config, FILE *err)
{
	const struct vm_table *table = vm_set_table(&manager->set);
	size_t count = 0;
	const struct vm_config **all = list_configs(manager, config->vm_count, &count);
	int ret;

	if (all == NULL)
		return -ENOMEM;
	count = 0;
	for (size_t i = 0; table != NULL && i < table->count; i++) {
		struct vm *vm = table->vms[i];

		if (!vm_is_from_file(vm) && find_config(config, vm_cid(vm)) == NULL)
			all[count++] = vm_config(vm);
	}
	for (size_t i = 0; i < config->vm_count; i++)
		all[count++] = &config->vms[i];
	ret = config_check_vms(all, count, err);
	free(all);
	return ret;
}

/* What is not as the file says, and cannot become so, goes first: paths may change hands. */
static void remove_outdated(struct manager *manager, const struct config *config,
			    const struct reload_report *report)
{
	size_t i = 0;

	while (i < manager_count(manager)) {
		struct vm *vm = vm_set_table(&manager->set)->vms[i];
		const struct vm_config *wanted = find_config(config, vm_cid(vm));
		bool outdated = wanted != NULL ? !config_same_vm(wanted, vm_config(vm))
					       : vm_is_from_file(vm);
		uint32_t cid = vm_cid(vm);

		if (!outdated || manager_remove(manager, vm) < 0)
			i++;
		else if (wanted == NULL)
			report->vm(report->ctx, cid, RELOAD_REMOVED, "");
	}
}

/* Give a VM the groups and limits of @wanted. */
static enum reload_change take_over(struct manager *manager, struct vm *vm,
				    const struct vm_config *wanted)
{
	struct vm_config *config = NULL;

	if (config_same_limits(wanted, vm_config(vm)) && config_same_groups(wanted, vm_config(vm)))
		return RELOAD_UNCHANGED;
	if (config_regroup_vm(&config, vm_config(vm), (const char *const *)wanted->groups,
			      wanted->group_count) < 0)
		return RELOAD_FAILED;
	config_take_limits(config, wanted);
	manager_change(manager, vm, config);
	return RELOAD_CHANGED;
}

/* Return: whether it was there already, as far as groups and limits can make it the same. */
static bool adjust(struct manager *manager, const struct vm_config *wanted,
		   const struct reload_report *report)
{
	struct vm *vm = vm_set_find(&manager->set, wanted->guest_cid);
	enum reload_change done;

	if (vm == NULL)
		return false;
	vm_set_from_file(vm, true);
	done = take_over(manager, vm, wanted);
	report->vm(report->ctx, wanted->guest_cid, done,
		   done == RELOAD_FAILED ? "no memory for its groups or limits" : "");
	return true;
}

static void apply(struct manager *manager, const struct config *config,
		  const struct reload_report *report)
{
	bool *existed = calloc(config->vm_count + 1, sizeof(*existed));
	char why[VM_WHY_BYTES];

	for (size_t i = 0; existed != NULL && i < config->vm_count; i++)
		existed[i] = vm_set_find(&manager->set, config->vms[i].guest_cid) != NULL;
	remove_outdated(manager, config, report);
	for (size_t i = 0; i < config->vm_count; i++) {
		const struct vm_config *wanted = &config->vms[i];
		enum reload_change change =
			existed != NULL && existed[i] ? RELOAD_CHANGED : RELOAD_ADDED;

		if (adjust(manager, wanted, report))
			continue;
		if (manager_add(manager, wanted, true, why) < 0)
			change = RELOAD_FAILED;
		report->vm(report->ctx, wanted->guest_cid, change,
			   change == RELOAD_FAILED ? why : "");
	}
	free(existed);
}

static int reload(struct manager *manager, const struct reload_report *report, FILE *err)
{
	struct config config;
	int fd scoped_fd = broker_open_config(manager->set.broker);
	int ret;

	if (fd == -ENOENT && !manager->has_file)
		return -ENOENT;
	if (config_load_again(&config, manager->argc, manager->argv, fd, err) != CONFIG_RUN)
		return -EINVAL;
	ret = check_together(manager, &config, err);
	if (ret == 0) {
		if (config.log_level != manager->file_level)
			log_set_level(config.log_level);
		manager->file_level = config.log_level;
		apply(manager, &config, report);
	}
	config_free(&config);
	return ret;
}

int manager_reload(struct manager *manager, const struct reload_report *report, FILE *err)
{
	const struct manager_watch *watch = manager->watch;
	int ret;

	if (watch != NULL)
		watch->reloading(manager->watch_ctx);
	ret = reload(manager, report, err);
	if (watch != NULL)
		watch->reloaded(manager->watch_ctx);
	return ret;
}
