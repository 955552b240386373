// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * limits.c - limits of a VM that runs: parsed beside what it has,
 * compared, taken over. Which keys these are the table says (CONFIG_IN_SET).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/private.h"

void config_take_limits(struct vm_config *vm, const struct vm_config *from)
{
	vm->max_connections = from->max_connections;
	vm->max_half_open = from->max_half_open;
	vm->max_buffered = from->max_buffered;
	vm->tx_rate = from->tx_rate;
	vm->rx_rate = from->rx_rate;
	vm->conn_rate = from->conn_rate;
}

bool config_same_limits(const struct vm_config *a, const struct vm_config *b)
{
	return a->max_connections == b->max_connections && a->max_half_open == b->max_half_open &&
	       a->max_buffered == b->max_buffered && a->tx_rate == b->tx_rate &&
	       a->rx_rate == b->rx_rate && a->conn_rate == b->conn_rate;
}

static int read_pairs(FILE *err, struct vm_draft *draft, char *pairs)
{
	char *pair = NULL;

	while ((pair = strsep(&pairs, ","))) {
		int ret = config_read_pair(err, draft, pair, CONFIG_IN_SET);

		if (ret)
			return ret;
	}
	return 0;
}

int config_parse_limits(struct vm_config **copy, const struct vm_config *vm, const char *text,
			FILE *err)
{
	struct vm_draft draft = { .vm = *vm, .runs = true }; /* borrows, and only numbers change */
	const struct vm_config *changed = &draft.vm;
	char *pairs = strdup(text);
	int ret;

	if (!pairs)
		return -ENOMEM;
	ret = read_pairs(err, &draft, pairs);
	free(pairs);
	if (ret == 0)
		ret = config_check_vms(&changed, 1, err);
	if (ret)
		return ret;
	*copy = config_copy_vm(changed);
	return *copy ? 0 : -ENOMEM;
}
