// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * main.c - the start-up sequence and the exit code, nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "confine/sandbox.h"
#include "daemon/config.h"
#include "daemon/serve.h"

#define EXIT_CANNOT_SERVE 1 /* the environment refuses: a socket, memory, a limit */
#define EXIT_BAD_CONFIG 2   /* what the operator wrote */

/* Descriptors that systemd passes, which are the first after stderr. */
static unsigned int passed_descriptors(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *fds = getenv("LISTEN_FDS");

	if (pid == NULL || fds == NULL || strtoul(pid, NULL, 10) != (unsigned long)getpid())
		return 0;
	return (unsigned int)strtoul(fds, NULL, 10);
}

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

static void close_strays(const struct config *config)
{
	unsigned int from = STDERR_FILENO + 1 + passed_descriptors();
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
	struct config config;
	enum config_result result;
	int err = sandbox_early();

	if (err < 0)
		log_warning(NULL, "cannot give up gaining privileges: %s", strerror(-err));
	result = config_load(&config, argc, argv, stdout, stderr);
	if (result == CONFIG_ERROR)
		return EXIT_BAD_CONFIG;
	if (result == CONFIG_DONE)
		return 0;
	log_set_level(config.log_level);
	log_set_rate(config.log_rate);
	if (config.security.sandbox != SANDBOX_NONE)
		close_strays(&config);
	err = serve(&config, argc, argv);
	config_free(&config);
	return err < 0 ? EXIT_CANNOT_SERVE : 0;
}
