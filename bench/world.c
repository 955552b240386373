// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * world.c - sets up and tears down what a measurement runs in. See world.h.
 */
#include "bench/world.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/hostside.h"

#define START_LIMIT_NS (60 * NS_PER_S)

#define KERNEL_DEVICE "/dev/vhost-vsock"

static void device_path(const struct world *w, uint32_t i, char *path)
{
	if (w->options->guest.kernel)
		snprintf(path, WORLD_PATH_BYTES, KERNEL_DEVICE);
	else
		snprintf(path, WORLD_PATH_BYTES, "%s/%u.vu", w->dir, i);
}

static void start_process(struct world *w)
{
	char **args = must_calloc(w->vms, sizeof(*args));

	for (uint32_t i = 0; i < w->vms; i++) {
		char path[WORLD_PATH_BYTES];

		device_path(w, i, path);
		args[i] = must_calloc(1, 4 * WORLD_PATH_BYTES);
		snprintf(args[i], 4 * WORLD_PATH_BYTES, "guest-cid=%u,socket=%s,uds-path=%s",
			 WORLD_FIRST_CID + i, path, w->uds[i]);
	}
	proc_start(&w->daemon, w->options->daemon, args, w->vms, w->options->log);
	for (uint32_t i = 0; i < w->vms; i++)
		free(args[i]);
	free(args);
}

void world_start_daemon(struct world *w, const struct options *options, uint32_t vms)
{
	bool kernel = options->guest.kernel;

	memset(w, 0, sizeof(*w));
	w->options = options;
	w->vms = vms;
	w->uds = must_calloc(vms, sizeof(*w->uds));
	w->guests = must_calloc(vms, sizeof(struct guest *));
	snprintf(w->dir, sizeof(w->dir), "/tmp/vsock-bench-XXXXXX");
	if (mkdtemp(w->dir) == NULL)
		die("%s: %s", w->dir, strerror(errno));
	for (uint32_t i = 0; i < vms; i++) {
		if (kernel)
			snprintf(w->uds[i], WORLD_PATH_BYTES, HOST_VSOCK "%u", WORLD_FIRST_CID + i);
		else
			snprintf(w->uds[i], WORLD_PATH_BYTES, "%s/%u", w->dir, i);
	}
	if (!kernel)
		start_process(w);
}

void world_start_guests(struct world *w)
{
	for (uint32_t i = 0; i < w->vms; i++) {
		char path[WORLD_PATH_BYTES];

		device_path(w, i, path);
		w->guests[i] = guest_new(&w->options->guest, WORLD_FIRST_CID + i, path,
					 now_ns() + START_LIMIT_NS);
	}
	if (w->options->count_syscalls)
		proc_count_syscalls(&w->daemon);
}

void world_start(struct world *w, const struct options *options, uint32_t vms)
{
	world_start_daemon(w, options, vms);
	world_start_guests(w);
}

static void remove_directory(const char *dir)
{
	DIR *d = opendir(dir);

	if (d == NULL)
		return;
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		char path[2 * WORLD_PATH_BYTES + 256];

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		(void)unlink(path);
	}
	closedir(d);
	(void)rmdir(dir);
}

void world_stop(struct world *w)
{
	bool kernel = w->options->guest.kernel;
	int ended;

	if (!kernel && !proc_alive(&w->daemon))
		die("the daemon died (%d)", proc_stop(&w->daemon));
	for (uint32_t i = 0; i < w->vms; i++) {
		if (w->guests[i] != NULL)
			guest_free(w->guests[i]);
	}
	ended = kernel ? 0 : proc_stop(&w->daemon);
	remove_directory(w->dir);
	free(w->guests);
	free(w->uds);
	if (ended != 0)
		die("the daemon died (%d)", ended);
}

void world_describe(const struct options *options, struct result *r)
{
	static const char *const shapes[] = { "44+4096", "4140", "3776" };

	result_number(r, "ring", options->guest.ring);
	result_string(r, "rx", shapes[options->guest.shape]);
	result_number(r, "tx_pieces", options->guest.tx_pieces);
	result_number(r, "packet", options->guest.max_packet);
	result_number(r, "host_io", options->host_io);
	result_number(r, "verify", options->guest.verify);
}

void world_report_usage(const struct usage *from, const struct usage *to, double gib,
			struct result *r)
{
	double cpu = (double)(to->cpu_ns - from->cpu_ns) / 1e9;
	double seconds = (double)(to->when_ns - from->when_ns) / 1e9;

	if (cpu <= 0) /* the kernel's device: nobody to ask */
		return;
	result_number(r, "cpu_share", cpu / seconds);
	if (gib > 0)
		result_number(r, "cpu_s_per_gib", cpu / gib);
	if (to->syscalls >= 0 && gib > 0)
		result_number(r, "syscalls_per_mib", (to->syscalls - from->syscalls) / gib / 1024);
	if (to->syscalls >= 0)
		result_number(r, "syscalls_per_s", (to->syscalls - from->syscalls) / seconds);
}
