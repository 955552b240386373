// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * serve.c - the daemon's threads: the main thread takes signals and requests and
 * manages the VMs, the workers serve them. Knows nothing of what a VM does.
 */
#include "daemon/serve.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "confine/sandbox.h"
#include "daemon/manager.h"
#include "daemon/methods.h"
#include "daemon/methods_private.h"
#include "daemon/metrics.h"
#include "daemon/service.h"
#include "host/broker.h"
#include "host/unix_listener.h"
#include "loop/loop.h"

struct server {
	const struct config *config;
	struct passed_sockets *passed;
	struct loop *loop; /* of the main thread */
	struct manager manager;
	struct methods methods;
	struct metrics metrics;
	struct service service;
	struct sandbox_plan plan;
	struct broker broker;
	struct vm_rest rest;
	struct loop_source signals;
	int signal_fd;
};

/* A low limit only means fewer connections. */
static int raise_limits(struct server *server)
{
	int err = fd_raise_limit();

	(void)server;
	if (err < 0)
		log_warning(NULL, "cannot raise the limit of open files: %s", strerror(-err));
	return 0;
}

static int guard_memory(struct server *server)
{
	(void)server;
	return fault_install();
}

/* Whether VMs may come after the start. */
static bool may_grow(const struct config *config)
{
	return config->control != NULL || config->file != NULL;
}

static void make_plan(struct server *server)
{
	const struct config *config = server->config;
	const struct security_config *security = &config->security;
	bool forwards = false;

	for (size_t i = 0; i < config->vm_count; i++)
		forwards = forwards || config->vms[i].forward_cid != 0;
	server->plan = (struct sandbox_plan){
		.mode = security->sandbox,
		.uid = security->user,
		.gid = security->group,
		.socket_group = security->socket_group,
		.sees_peers = security->allow_uid_count > 0 || config->control != NULL,
		.vsock = forwards,
		.figures = config->control != NULL || config->metrics != NULL,
		.http = config->metrics != NULL,
		.reload = config->file != NULL,
		.config_file = config->file,
	};
}

/* A process of its own has no use for sockets that are served. */
static int confine_broker(void *ctx)
{
	struct server *server = ctx;

	if (server->plan.mode != SANDBOX_NONE)
		passed_close(server->passed);
	return sandbox_broker(&server->plan);
}

/* Before there is anything in this process that it could take along. */
static int start_broker(struct server *server)
{
	const struct security_config *security = &server->config->security;
	struct broker_params params = {
		.separate = security->sandbox != SANDBOX_NONE,
		.access = { .mode = security->socket_mode, .group = security->socket_group },
		.config_file = server->config->file,
		.passed = server->passed,
		.confine = confine_broker,
		.ctx = server,
	};
	int err;

	make_plan(server);
	err = broker_start(&server->broker, &params);
	if (err == 0 || err == -ECANCELED || security->sandbox != SANDBOX_AUTO)
		return err;
	log_warning(NULL, "no broker, so no sandbox: %s", strerror(-err));
	server->plan.mode = SANDBOX_NONE;
	params.separate = false;
	return broker_start(&server->broker, &params);
}

/* All that is made by this process itself is made. Where the set of VMs is final
 * nothing needs a path again but dials and the end. */
static int confine(struct server *server)
{
	int err = may_grow(server->config) ? 0 : broker_seal(&server->broker);

	return err < 0 ? err : sandbox_worker(&server->plan);
}

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct server *server = container_of(source, struct server, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(server->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP) {
		method_reload_and_log(&server->manager);
		return;
	}
	log_notice(NULL, "signal %u: stopping", info.ssi_signo);
	loop_stop(server->loop);
}

/* The mask is inherited by the workers, so signals come to the main loop only. */
static int watch_signals(struct server *server)
{
	sigset_t set;

	sigemptyset(&set);
	if (server->config->file != NULL) /* otherwise it ends the program, as ever */
		sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	server->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (server->signal_fd < 0)
		return -errno;
	return loop_add(server->loop, &server->signals, server->signal_fd, EPOLLIN);
}

/* On a single CPU nobody can answer while a worker looks. */
static uint32_t usable_poll_us(const struct config *config)
{
	if (config->poll_us == 0 || config_usable_cpus() > 1)
		return config->poll_us;
	log_notice(NULL, "poll-us is not used: there is one CPU only");
	return 0;
}

static int make_workers(struct server *server)
{
	struct manager *manager = &server->manager;
	uint32_t poll_us = usable_poll_us(server->config);

	server->loop = loop_new();
	if (server->loop == NULL)
		return -errno;
	manager->workers = calloc(server->config->threads, sizeof(*manager->workers));
	if (manager->workers == NULL)
		return -ENOMEM;
	while (manager->worker_count < server->config->threads) {
		int err = worker_init(&manager->workers[manager->worker_count++]);

		if (err < 0)
			return err;
		loop_poll(manager->workers[manager->worker_count - 1].loop, poll_us);
	}
	if (!loop_signals_safely(manager->workers[0].loop))
		log_warning(NULL, "no asynchronous I/O: a hostile VMM can stop a worker");
	return 0;
}

/* Where every VM was given its one connection, the daemon ends with the last of them. */
static void limit_life(struct server *server)
{
	struct vm_set *set = &server->manager.set;
	const struct vm_table *table = vm_set_table(set);

	if (may_grow(server->config))
		return;
	for (size_t i = 0; i < table->count; i++) {
		if (!vm_has_lent_session(table->vms[i]))
			return;
	}
	server->rest.left = (uint32_t)table->count;
	server->rest.loop = server->loop;
	set->rest = &server->rest;
}

/* Whoever asked to be told and cannot be will see a start that takes too long. */
static int open_service(struct server *server)
{
	int err = service_open(&server->service, server->loop, &server->manager);

	if (err < 0)
		log_warning(NULL, "cannot notify the service manager at $NOTIFY_SOCKET: %s",
			    strerror(-err));
	return 0;
}

static int make_vms(struct server *server)
{
	const struct config *config = server->config;
	struct manager *manager = &server->manager;
	char why[VM_WHY_BYTES];
	char tag[VM_TAG_BYTES];

	bounds_init(&manager->bounds, config, may_grow(config));
	manager->may_forward = server->plan.vsock || server->plan.mode == SANDBOX_NONE;
	manager->control = config->control;
	manager->metrics = config->metrics ? config_endpoint_path(config->metrics) : NULL;
	manager->set.broker = &server->broker;
	manager->set.peers.uids = config->security.allow_uids;
	manager->set.peers.count = config->security.allow_uid_count;
	for (size_t i = 0; i < config->vm_count; i++) {
		const struct vm_config *vm = &config->vms[i];
		int err = manager_add(manager, vm, config->file != NULL, why);

		if (err == 0)
			continue;
		log_error(vm_tag(tag, vm->guest_cid), "%s", why);
		return -ECANCELED;
	}
	manager->runs = true;
	limit_life(server);
	return 0;
}

static int open_control(struct server *server)
{
	const char *path = server->config->control;
	uid_t user = server->config->security.user;
	const struct control_place place = {
		.broker = &server->broker,
		.path = path,
		.owner = user != (uid_t)-1 ? user : geteuid(),
	};
	int err;

	if (path == NULL)
		return 0;
	err = methods_open(&server->methods, &server->manager, server->loop, &place);
	if (err == 0)
		return 0;
	log_error(NULL, "control socket %s: %s", path, unix_listener_why(err));
	return -ECANCELED;
}

static int open_metrics(struct server *server)
{
	const char *where = server->config->metrics;
	struct config_endpoint endpoint;
	int err;

	if (where == NULL)
		return 0;
	err = config_parse_endpoint(&endpoint, where);
	if (err == 0)
		err = metrics_open(&server->metrics, &server->manager, server->loop, &endpoint);
	if (err == 0)
		return 0;
	log_error(NULL, "metrics at %s: %s", where,
		  err == -EADDRINUSE || config_endpoint_path(where) ? unix_listener_why(err)
								    : strerror(-err));
	return -ECANCELED;
}

static int start_workers(struct server *server)
{
	struct manager *manager = &server->manager;
	int err = 0;

	for (uint32_t i = 0; i < manager->worker_count && err == 0; i++)
		err = worker_start(&manager->workers[i]);
	return err;
}

static int run(struct server *server)
{
	log_notice(NULL, "serving %zu VMs with %u workers", manager_count(&server->manager),
		   server->manager.worker_count);
	service_ready(&server->service);
	return loop_run(server->loop);
}

static void clean_up(struct server *server)
{
	struct manager *manager = &server->manager;

	service_stopping(&server->service);
	metrics_close(&server->metrics);
	methods_close(&server->methods);
	for (uint32_t i = 0; i < manager->worker_count; i++)
		worker_stop(&manager->workers[i]);
	manager_remove_all(manager);
	service_close(&server->service);
	for (uint32_t i = 0; i < manager->worker_count; i++)
		worker_fini(&manager->workers[i]);
	free(manager->workers);
	if (server->loop != NULL)
		loop_del(server->loop, &server->signals);
	fd_close(&server->signal_fd);
	loop_free(server->loop);
	broker_stop(&server->broker);
}

int serve(const struct config *config, struct passed_sockets *passed, int argc, char **argv)
{
	static const struct {
		int (*run)(struct server *server);
		const char *what;
	} steps[] = {
		{ raise_limits, "limit of open files" },
		{ guard_memory, "handler for truncated memory" },
		{ start_broker, "broker process" },
		{ make_workers, "workers" },
		{ watch_signals, "signals" },
		{ open_service, "service manager" },
		{ make_vms, "VMs" },
		{ open_control, "control socket" },
		{ open_metrics, "metrics" },
		{ confine, "sandbox" },
		{ start_workers, "threads" },
		{ run, "main loop" },
	};
	struct server server = {
		.config = config,
		.passed = passed,
		.service.fd = -1,
		.signal_fd = -1,
		.signals = { .fd = -1, .on_event = on_signal },
		.broker.channel = -1,
		.manager = { .argc = argc,
			     .argv = argv,
			     .has_file = config->file != NULL,
			     .file_level = config->log_level },
	};
	int err = 0;

	for (size_t i = 0; i < array_size(steps) && err == 0; i++) {
		err = steps[i].run(&server);
		if (err < 0 && err != -ECANCELED)
			log_error(NULL, "cannot serve: %s: %s", steps[i].what, strerror(-err));
	}
	clean_up(&server);
	return err;
}
