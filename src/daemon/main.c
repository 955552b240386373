// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * main.c - the start-up sequence and the exit code, nothing else.
 */
#include <stdio.h>

#include "daemon/config.h"
#include "daemon/serve.h"

#define EXIT_CANNOT_SERVE 1 /* the environment refuses: a socket, memory, a limit */
#define EXIT_BAD_CONFIG 2   /* what the operator wrote */

int main(int argc, char **argv)
{
	struct config config;
	enum config_result result = config_load(&config, argc, argv, stdout, stderr);
	int err;

	if (result == CONFIG_ERROR)
		return EXIT_BAD_CONFIG;
	if (result == CONFIG_DONE)
		return 0;
	log_set_level(config.log_level);
	err = serve(&config, argc, argv);
	config_free(&config);
	return err < 0 ? EXIT_CANNOT_SERVE : 0;
}
