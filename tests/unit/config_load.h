// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * config_load.h - config_load() for tests: from arguments or the text of a file
 * to a result that is compared as text.
 *
 * Files are memory files behind a fixed descriptor number, so that their names
 * in messages are always the same and nothing is left on a disk.
 */
#ifndef TESTS_UNIT_CONFIG_LOAD_H
#define TESTS_UNIT_CONFIG_LOAD_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "unit.h"

#include "base/compiler.h"
#include "config/config.h"

#define MAX_ARGS 12
#define FILE_FD 100
#define FILE_NAME "/proc/self/fd/100"

struct outcome {
	enum config_result result;
	struct config config;
	char *out;
	char *err;
};

/* @args ends with NULL and does not hold argv[0]. */
static inline struct outcome load(const char *const *args)
{
	char *argv[MAX_ARGS + 1] = { strdup("program") };
	struct outcome outcome = { 0 };
	size_t size = 0;
	int argc = 1;
	FILE *out = open_memstream(&outcome.out, &size);
	FILE *err = open_memstream(&outcome.err, &size);

	for (; args[argc - 1]; argc++) {
		assert_in_range(argc, 1, MAX_ARGS - 1);
		argv[argc] = strdup(args[argc - 1]);
	}
	outcome.result = config_load(&outcome.config, argc, argv, out, err);
	fclose(out);
	fclose(err);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return outcome;
}

static inline void release(struct outcome *outcome)
{
	config_free(&outcome->config);
	free(outcome->out);
	free(outcome->err);
}

static inline void write_file(const void *data, size_t len)
{
	int fd = memfd_create("config", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(dup3(fd, FILE_FD, O_CLOEXEC), FILE_FD);
	close(fd);
}

static inline struct outcome load_file(const char *text, size_t len)
{
	const char *const args[] = { "--config", FILE_NAME, NULL };

	write_file(text, len);
	return load(args);
}

/* A configuration as one line of text, to compare with. */
static inline char *describe(const struct config *config)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	for (size_t i = 0; i < config->vm_count; i++) {
		const struct vm_config *vm = &config->vms[i];

		fprintf(f, "%s%u %s %s", i > 0 ? "; " : "", vm->guest_cid, vm->socket,
			vm->uds_path ? vm->uds_path : "-");
		fprintf(f, " %u:", vm->forward_cid);
		for (size_t j = 0; j < vm->forward_listen_count; j++)
			fprintf(f, "%s%u%s", j > 0 ? "+" : "", vm->forward_listen[j].port,
				vm->forward_listen[j].seqpacket ? "/seqpacket" : "");
		fprintf(f, " %u %u ", vm->tx_buffer_size, vm->queue_size);
		for (size_t j = 0; j < vm->group_count; j++)
			fprintf(f, "%s%s", j > 0 ? "+" : "", vm->groups[j]);
	}
	fclose(f);
	return text;
}

static inline void expect_config(struct outcome *outcome, const char *expected)
{
	char *text = NULL;

	assert_string_equal(outcome->err, "");
	assert_int_equal(outcome->result, CONFIG_RUN);
	text = describe(&outcome->config);
	assert_string_equal(text, expected);
	free(text);
	release(outcome);
}

static inline void expect_error(struct outcome *outcome, const char *expected)
{
	char line[1024];

	snprintf(line, sizeof(line), "vhost-device-vsock: %s\n", expected);
	assert_string_equal(outcome->err, line);
	assert_string_equal(outcome->out, "");
	assert_int_equal(outcome->result, CONFIG_ERROR);
	assert_int_equal(outcome->config.vm_count, 0);
	assert_null(outcome->config.vms);
	release(outcome);
}

#endif
