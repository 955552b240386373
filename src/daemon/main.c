// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * main.c - the start-up sequence and the exit code, nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "confine/sandbox.h"
#include "daemon/activation.h"
#include "daemon/log_json.h"
#include "daemon/serve.h"

#define EXIT_CANNOT_SERVE 1 /* the environment refuses: a socket, memory, a limit */
#define EXIT_BAD_CONFIG 2   /* what the operator wrote */

/* The next descriptor that a VM is to have. */
static unsigned int next_lent(const struct config *config, unsigned int from)
{
	unsigned int next = ~0u;

	for (size_t i = 0; i < config->vm_count; i++) {
		if (config->vms[i].fd >= from && config->vms[i].fd < next)
			next = config->vms[i].fd;
	}
	return next;
}

static void close_strays(const struct config *config, unsigned int passed_count)
{
	unsigned int from = STDERR_FILENO + 1 + passed_count;
	unsigned int lent = next_lent(config, from);

	for (; lent != ~0u; lent = next_lent(config, from)) {
		if (lent > from)
			sandbox_close_strays(from, lent - 1);
		from = lent + 1;
	}
	sandbox_close_strays(from, ~0u);
}

int main(int argc, char **argv)
{
	const unsigned int passed_count = activation_count();
	struct passed_sockets passed;
	struct config config;
	enum config_result result;
	int exit_code = 0;
	int err = sandbox_early();

	if (err < 0)
		log_warning(NULL, "cannot give up gaining privileges: %s", strerror(-err));
	result = config_load(&config, argc, argv, stdout, stderr);
	if (result == CONFIG_ERROR)
		return EXIT_BAD_CONFIG;
	if (result == CONFIG_DONE)
		return 0;
	log_set_level(config.log_level);
	if (config.log_json)
		log_json_use();
	log_set_rate(config.log_rate);
	if (config.security.sandbox != SANDBOX_NONE)
		close_strays(&config, passed_count);
	err = activation_load(&passed, &config, passed_count, getenv("LISTEN_FDNAMES"));
	if (err < 0)
		exit_code = EXIT_BAD_CONFIG;
	else if (serve(&config, &passed, argc, argv) < 0)
		exit_code = EXIT_CANNOT_SERVE;
	passed_close(&passed);
	config_free(&config);
	return exit_code;
}
