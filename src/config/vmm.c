// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vmm.c - values that are about the VMM: on which side it is, what it is
 * offered, and the descriptors that the parent handed over. Looks at those and
 * changes nothing.
 *
 * They are looked at before the daemon opens anything, so that a number that
 * the parent did not hand over is not one of the daemon's own by then.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "config/private.h"

/* @no, @yes: the two words; the field is whether it was the second. */
static int set_choice(const char *text, const char *no, const char *yes, bool *field)
{
	if (strcmp(text, no) != 0 && strcmp(text, yes) != 0)
		return -EINVAL;
	*field = strcmp(text, yes) == 0;
	return 0;
}

int config_set_dials(maybe_unused const struct config_key *key, void *field, const char *text)
{
	return set_choice(text, "server", "client", field);
}

int config_set_off(maybe_unused const struct config_key *key, void *field, const char *text)
{
	return set_choice(text, "on", "off", field);
}

int config_set_on(maybe_unused const struct config_key *key, void *field, const char *text)
{
	return set_choice(text, "off", "on", field);
}

static bool is_unix_stream(uint32_t fd)
{
	socklen_t len = sizeof(int);
	int domain = 0;
	int type = 0;

	return getsockopt((int)fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
	       getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && domain == AF_UNIX &&
	       type == SOCK_STREAM;
}

static bool is_taken(const struct config_draft *draft, size_t before, uint32_t fd)
{
	for (size_t i = 0; i < before; i++) {
		if (draft->vms[i].vm.fd == fd)
			return true;
	}
	return false;
}

int config_check_fds(const struct config_draft *draft)
{
	for (size_t i = 0; i < draft->vm_count; i++) {
		uint32_t fd = draft->vms[i].vm.fd;
		struct config_where where;
		char value[sizeof("4294967295")];

		if (fd == 0)
			continue;
		where = config_where_of(draft, &draft->vms[i], KEY_FD);
		(void)snprintf(value, sizeof(value), "%u", fd);
		if (is_taken(draft, i, fd))
			return config_report(draft->err, &where, value,
					     "expected a descriptor of its own");
		if (!is_unix_stream(fd))
			return config_report(draft->err, &where, value,
					     "expected a Unix stream socket from the parent");
	}
	return 0;
}
