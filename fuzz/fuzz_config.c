// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fuzz_config.c - libFuzzer harness for the command line and the file.
 *
 * Input: 'a' and arguments separated by newlines, or any other byte and the
 * text of a file. Checked: an error is exactly one printable line; what is
 * accepted keeps every promise of config/config.h.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "config/config.h"

#define MAX_ARGS 32
#define MAX_PATH 107
#define LINE_ROOM 4096

static void check_line(const char *line)
{
	size_t len = strlen(line);

	check(len > 1 && len < LINE_ROOM - 1 && line[len - 1] == '\n');
	for (size_t i = 0; i + 1 < len; i++)
		check((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
}

static void check_vm(const struct vm_config *vm)
{
	check(vm->guest_cid >= CONFIG_MIN_GUEST_CID && vm->guest_cid <= CONFIG_MAX_GUEST_CID);
	check((vm->fd == 0) == (vm->socket != NULL) && !(vm->fd != 0 && vm->dials));
	check(!vm->socket || (*vm->socket && strlen(vm->socket) <= MAX_PATH));
	check((vm->uds_path != NULL) == (vm->forward_cid == 0));
	check(!vm->uds_path || strlen(vm->uds_path) + strlen("_4294967295") <= MAX_PATH);
	check(vm->forward_cid != 0 || vm->forward_listen_count == 0);
	check(vm->forward_listen_count <= CONFIG_MAX_LIST);
	check(vm->tx_buffer_size >= CONFIG_MIN_TX_BUFFER_SIZE);
	check(vm->tx_buffer_size <= CONFIG_MAX_TX_BUFFER_SIZE);
	check(vm->queue_size > 0 && vm->queue_size <= CONFIG_MAX_QUEUE_SIZE);
	check((vm->queue_size & (vm->queue_size - 1)) == 0);
	check(vm->group_count > 0 && vm->group_count <= CONFIG_MAX_LIST);
	for (size_t i = 0; i < vm->group_count; i++)
		check(*vm->groups[i] != '\0');
}

static void check_config(const struct config *config)
{
	check(config->vm_count > 0 && config->vm_count <= CONFIG_MAX_VMS);
	check(config->threads > 0 && config->threads <= config->vm_count);
	check(config->log_level < LOG_LEVEL_COUNT);
	for (size_t i = 0; i < config->vm_count; i++) {
		check_vm(&config->vms[i]);
		check(config_share_group(&config->vms[i], &config->vms[i]));
		if (i > 0)
			check(config->vms[i].guest_cid != config->vms[i - 1].guest_cid);
	}
}

static void load(int argc, char **argv)
{
	static FILE *out;
	char line[LINE_ROOM] = "";
	FILE *err = fmemopen(line, sizeof(line), "w");
	struct config config;
	enum config_result result;

	if (!out)
		out = fopen("/dev/null", "we");
	check(out && err);
	result = config_load(&config, argc, argv, out, err);
	(void)fclose(err);
	if (result == CONFIG_ERROR)
		check_line(line);
	else
		check(line[0] == '\0');
	if (result == CONFIG_RUN)
		check_config(&config);
	else
		check(config.vm_count == 0 && !config.vms);
	config_free(&config);
}

static void load_args(const char *text, size_t size)
{
	char *copy = strndup(text, size);
	char *rest = copy;
	char *argv[MAX_ARGS + 1] = { copy };
	int argc = 1;

	check(copy);
	while (rest && argc < MAX_ARGS)
		argv[argc++] = strsep(&rest, "\n");
	/* It could name a device or a pipe of this machine. */
	if (!memmem(text, size, "--config", strlen("--config")))
		load(argc, argv);
	free(copy);
}

static void load_file(const uint8_t *data, size_t size)
{
	static int fd = -1;
	char name[64];
	char *argv[] = { name, name, NULL };

	if (fd < 0)
		fd = memfd_create("config", MFD_CLOEXEC);
	check(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	(void)snprintf(name, sizeof(name), "--config=/proc/self/fd/%d", fd);
	load(2, argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] == 'a')
		load_args((const char *)data + 1, size - 1);
	else
		load_file(data + 1, size - 1);
	return 0;
}
