// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * config.c - from argc and argv to a validated struct config.
 *
 * Order: the command line is read completely, then the file it names, then the
 * VMs are judged together; only then is anything handed out. Opens nothing but
 * that file, prints only to the streams it was given.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "config/private.h"

void config_clear_vm(struct vm_config *vm)
{
	free(vm->socket);
	free(vm->uds_path);
	free(vm->forward_listen);
	for (size_t i = 0; i < vm->group_count; i++)
		free(vm->groups[i]);
	free(vm->groups);
}

static void draft_free(struct config_draft *draft)
{
	for (size_t i = 0; i < draft->vm_count; i++)
		config_clear_vm(&draft->vms[i].vm);
	free(draft->vms);
	free(draft->by_option.control);
	free(draft->by_file.control);
	free(draft->by_option.metrics);
	free(draft->by_file.metrics);
}

int config_add_vm(struct config_draft *draft, struct vm_draft **vm)
{
	struct vm_draft *grown = draft->vms;

	if (draft->vm_count >= CONFIG_MAX_VMS)
		return -E2BIG;
	if (draft->vm_count == draft->vm_room) {
		size_t room = draft->vm_room ? 2 * draft->vm_room : 4;

		grown = reallocarray(draft->vms, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		draft->vms = grown;
		draft->vm_room = room;
	}
	grown += draft->vm_count++;
	*grown = (struct vm_draft){
		.vm.guest_cid = CONFIG_DEFAULT_GUEST_CID,
		.vm.tx_buffer_size = CONFIG_DEFAULT_TX_BUFFER_SIZE,
		.vm.queue_size = CONFIG_DEFAULT_QUEUE_SIZE,
		.vm.max_connections = CONFIG_MAX_CONNECTIONS,
		.vm.max_half_open = CONFIG_DEFAULT_MAX_HALF_OPEN,
		.vm.max_buffered = CONFIG_DEFAULT_MAX_BUFFERED,
	};
	*vm = grown;
	return 0;
}

/* More than fit a cpu_set_t are counted as the kernel does. */
uint32_t config_usable_cpus(void)
{
	cpu_set_t set;
	long online = 0;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (uint32_t)CPU_COUNT(&set);
	online = sysconf(_SC_NPROCESSORS_ONLN);
	if (online < 1)
		return 1;
	return online < (long)CONFIG_MAX_THREADS ? (uint32_t)online : CONFIG_MAX_THREADS;
}

/* The globals that hold the value of a key: an option overrides the file. */
static const struct config_globals *globals_of(const struct config_draft *draft,
					       enum config_key_id key)
{
	return draft->by_option.marks.given[key] ? &draft->by_option : &draft->by_file;
}

static uint32_t thread_count(const struct config_draft *draft)
{
	uint32_t threads = globals_of(draft, KEY_THREADS)->threads;

	if (threads == 0)
		threads = min_u32(config_usable_cpus(), CONFIG_MAX_THREADS);
	if (draft->by_option.control || draft->by_file.control) /* more VMs may come */
		return threads;
	return min_u32(threads, (uint32_t)draft->vm_count);
}

int config_default_group(struct vm_draft *draft)
{
	const struct config_where where = { 0 };
	const struct config_target target = { .fields = &draft->vm, .marks = &draft->marks };

	if (draft->vm.group_count > 0)
		return 0;
	return config_key_add(&target, &where, KEY_GROUPS, CONFIG_DEFAULT_GROUP);
}

/* The option's text, or else the file's. */
static char *take_text(char **by_option, char **by_file)
{
	char **from = *by_option ? by_option : by_file;
	char *text = *from;

	*from = NULL;
	return text;
}

/* Moves what a checked draft holds into the result. */
static int finish(struct config_draft *draft, struct config *config)
{
	struct vm_config *vms = NULL;

	for (size_t i = 0; i < draft->vm_count; i++) {
		int ret = config_default_group(&draft->vms[i]);

		if (ret)
			return ret;
	}
	vms = calloc(draft->vm_count + 1, sizeof(*vms));
	if (!vms)
		return -ENOMEM;
	for (size_t i = 0; i < draft->vm_count; i++) {
		vms[i] = draft->vms[i].vm;
		draft->vms[i].vm = (struct vm_config){ 0 };
	}
	*config = (struct config){
		.vms = vms,
		.vm_count = draft->vm_count,
		.threads = thread_count(draft),
		.poll_us = globals_of(draft, KEY_POLL_US)->poll_us,
		.log_level = globals_of(draft, KEY_LOG_LEVEL)->log_level,
		.log_json = globals_of(draft, KEY_LOG_FORMAT)->log_json,
		.log_rate = globals_of(draft, KEY_LOG_RATE)->log_rate,
		.total_connections = globals_of(draft, KEY_TOTAL_CONNECTIONS)->total_connections,
		.total_buffered = globals_of(draft, KEY_TOTAL_BUFFERED)->total_buffered,
		.security = draft->by_option.security,
		.control = take_text(&draft->by_option.control, &draft->by_file.control),
		.metrics = take_text(&draft->by_option.metrics, &draft->by_file.metrics),
		.file = draft->file,
	};
	return 0;
}

static int read_and_check(struct config_draft *draft, struct config *config, int argc, char **argv,
			  FILE *out)
{
	int ret = config_read_args(draft, argc, argv, out);

	if (ret)
		return ret;
	if (draft->file) {
		ret = config_read_file(draft);
		if (ret)
			return ret;
	}
	ret = config_check(draft);
	if (ret == 0 && !draft->again && !draft->check_only)
		ret = config_check_fds(draft);
	if (ret)
		return ret;
	ret = finish(draft, config);
	if (ret || !draft->check_only)
		return ret;
	(void)fprintf(out, "%s: the configuration is correct: VMs: %zu\n", CONFIG_PROGRAM,
		      config->vm_count);
	config_free(config);
	return fflush(out) == EOF ? -EIO : 1;
}

static enum config_result load(struct config *config, struct config_draft *draft, int argc,
			       char **argv, FILE *out)
{
	static const struct config_globals defaults = {
		.total_buffered = CONFIG_DEFAULT_TOTAL_BUFFERED,
		.log_level = LOG_NOTICE,
		.log_rate = LOG_DEFAULT_RATE,
		.security = { .sandbox = SANDBOX_AUTO,
			      .user = (uid_t)-1,
			      .group = (gid_t)-1,
			      .socket_group = (gid_t)-1,
			      .socket_mode = -1 },
	};
	int ret = 0;

	draft->by_option = defaults;
	draft->by_file = defaults;
	*config = (struct config){ 0 };
	ret = read_and_check(draft, config, argc, argv, out);
	draft_free(draft);
	if (ret < 0 && ret != -EINVAL)
		(void)fprintf(draft->err, "%s: %s\n", CONFIG_PROGRAM, strerrordesc_np(-ret));
	if (ret < 0)
		return CONFIG_ERROR;
	return ret > 0 ? CONFIG_DONE : CONFIG_RUN;
}

enum config_result config_load(struct config *config, int argc, char **argv, FILE *out, FILE *err)
{
	struct config_draft draft = { .err = err };

	return load(config, &draft, argc, argv, out);
}

enum config_result config_load_again(struct config *config, int argc, char **argv, int fd,
				     FILE *err)
{
	struct config_draft draft = { .err = err, .again = true, .fd = fd };

	return load(config, &draft, argc, argv, err);
}

void config_free(struct config *config)
{
	for (size_t i = 0; i < config->vm_count; i++)
		config_clear_vm(&config->vms[i]);
	free(config->vms);
	free(config->control);
	free(config->metrics);
	*config = (struct config){ 0 };
}
