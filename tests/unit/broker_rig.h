// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * broker_rig.h - a real broker process under test, confined as the daemon's is, and a
 * directory for its sockets. Each test gets a fresh one.
 */
#ifndef TESTS_BROKER_RIG_H
#define TESTS_BROKER_RIG_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"

#include "confine/sandbox.h"
#include "host/broker.h"

struct broker_rig {
	char dir[32];
	char path[64]; /* of a VM, in dir */
	struct broker broker;
	struct unix_access access;
};

static inline int rig_confine(void *ctx)
{
	static const struct sandbox_plan plan = {
		.mode = SANDBOX_AUTO,
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.socket_group = (gid_t)-1,
	};

	(void)ctx;
	return sandbox_early() < 0 ? -EPERM : sandbox_broker(&plan);
}

static inline void rig_start(struct broker_rig *rig)
{
	const struct broker_params params = {
		.separate = true,
		.access = rig->access,
		.confine = rig_confine,
	};

	assert_int_equal(broker_start(&rig->broker, &params), 0);
}

static inline int rig_set_up(void **state)
{
	struct broker_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	memcpy(rig->dir, "/tmp/vdv-broker.XXXXXX", sizeof("/tmp/vdv-broker.XXXXXX"));
	assert_non_null(mkdtemp(rig->dir));
	(void)snprintf(rig->path, sizeof(rig->path), "%s/vm", rig->dir);
	rig->access = (struct unix_access){ .mode = -1, .group = (gid_t)-1 };
	rig->broker.channel = -1;
	rig_start(rig);
	*state = rig;
	return 0;
}

static inline int rig_tear_down(void **state)
{
	struct broker_rig *rig = *state;

	broker_stop(&rig->broker);
	(void)rmdir(rig->dir); /* fails when a test left something */
	free(rig);
	return 0;
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_set_up, rig_tear_down)

#endif
