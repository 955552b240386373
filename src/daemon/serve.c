// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * serve.c - the daemon's threads: worker 0 is the main thread, the others are
 * started for it. Knows nothing of what a VM does.
 */
#include "daemon/serve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "confine/sandbox.h"
#include "daemon/vm.h"
#include "host/broker.h"
#include "loop/loop.h"
#include "vsock/device.h"

#define VM_DESCRIPTORS 24u /* listeners, front-end, rings, messages in flight */
#define WORKER_DESCRIPTORS 4u
#define OWN_DESCRIPTORS 8u /* standard streams, signals */
#define MIN_CONNS 16u

struct worker {
	struct loop *loop;
	struct scratch *scratch;
	pthread_t thread;
	bool running;
};

struct server {
	const struct config *config;
	struct worker *workers;
	struct vm_set set;
	struct quota open;     /* for set.open */
	struct quota buffered; /* for set.buffered */
	struct sandbox_plan plan;
	struct broker broker;
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

static void make_plan(struct server *server)
{
	const struct security_config *security = &server->config->security;
	bool forwards = false;

	for (size_t i = 0; i < server->config->vm_count; i++)
		forwards = forwards || server->config->vms[i].forward_cid != 0;
	server->plan = (struct sandbox_plan){
		.mode = security->sandbox,
		.uid = security->user,
		.gid = security->group,
		.socket_group = security->socket_group,
		.sees_peers = security->allow_uid_count > 0,
		.vsock = forwards,
	};
}

static int confine_broker(void *ctx)
{
	return sandbox_broker(ctx);
}

/* Before there is anything in this process that it could take along. */
static int start_broker(struct server *server)
{
	const struct security_config *security = &server->config->security;
	struct broker_params params = {
		.separate = security->sandbox != SANDBOX_NONE,
		.access = { .mode = security->socket_mode, .group = security->socket_group },
		.config_file = server->config->file,
		.confine = confine_broker,
		.ctx = &server->plan,
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

/* The set of VMs is final: nothing needs a path again but dials and the end. */
static int confine(struct server *server)
{
	int err = broker_seal(&server->broker);

	return err < 0 ? err : sandbox_worker(&server->plan);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	int err = loop_run(worker->loop);

	if (err < 0)
		log_error(NULL, "a worker ended: %s", strerror(-err));
	return NULL;
}

static void on_signal(struct loop_source *source, uint32_t events)
{
	struct server *server = container_of(source, struct server, signals);
	struct signalfd_siginfo info;

	(void)events;
	if (read(server->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	log_notice(NULL, "signal %u: stopping", info.ssi_signo);
	for (uint32_t i = 0; i < server->config->threads; i++)
		loop_stop(server->workers[i].loop);
}

/* Signals come to worker 0's loop; the mask is inherited by the other workers. */
static int watch_signals(struct server *server)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	server->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (server->signal_fd < 0)
		return -errno;
	server->signals.on_event = on_signal;
	return loop_add(server->workers[0].loop, &server->signals, server->signal_fd, EPOLLIN);
}

static int make_workers(struct server *server)
{
	server->workers = calloc(server->config->threads, sizeof(*server->workers));
	if (server->workers == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < server->config->threads; i++) {
		server->workers[i].loop = loop_new();
		if (server->workers[i].loop == NULL)
			return -errno;
		if (i == 0 && !loop_signals_safely(server->workers[i].loop))
			log_warning(NULL, "no asynchronous I/O: a hostile VMM can stop a worker");
		server->workers[i].scratch = calloc(1, sizeof(struct scratch));
		if (server->workers[i].scratch == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* Connections there are descriptors for, beside what VMs need themselves. */
static uint64_t affordable_conns(const struct config *config)
{
	uint64_t needed = OWN_DESCRIPTORS + WORKER_DESCRIPTORS * (uint64_t)config->threads;
	uint64_t floor = MIN_CONNS * (uint64_t)config->vm_count;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return UINT32_MAX;
	for (size_t i = 0; i < config->vm_count; i++)
		needed += VM_DESCRIPTORS + config->vms[i].forward_listen_count;
	return limit.rlim_cur < needed + floor ? floor : limit.rlim_cur - needed;
}

/* Half of it in equal shares that nobody else can take, the rest for who comes first. */
static struct vm_share divide(struct quota *all, const char *name, uint64_t total, size_t vms)
{
	uint64_t reserved = total / 2 / vms;

	*all = (struct quota){ .name = name, .max = total - reserved * vms };
	return (struct vm_share){ .all = all, .reserved = reserved };
}

static void set_bounds(struct server *server)
{
	const struct config *config = server->config;
	uint64_t conns = affordable_conns(config);
	const char *name = "open files";

	if (config->total_connections != 0 && config->total_connections <= conns) {
		conns = config->total_connections;
		name = "total-connections";
	}
	server->set.open = divide(&server->open, name, conns, config->vm_count);
	server->set.buffered = divide(&server->buffered, "total-buffered", config->total_buffered,
				      config->vm_count);
	server->set.max_half_open = (uint32_t)(server->set.open.reserved / 2);
	if (server->set.max_half_open == 0)
		server->set.max_half_open = 1;
}

static int make_vms(struct server *server)
{
	const struct config *config = server->config;

	set_bounds(server);
	server->set.broker = &server->broker;
	server->set.peers.uids = config->security.allow_uids;
	server->set.peers.count = config->security.allow_uid_count;
	server->set.vms = calloc(config->vm_count, sizeof(struct vm *));
	if (server->set.vms == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < config->vm_count; i++) {
		struct worker *worker = &server->workers[i % config->threads];
		struct vm *vm =
			vm_new(&config->vms[i], &server->set, worker->loop, worker->scratch);

		if (vm == NULL)
			return -ECANCELED; /* it has said why */
		server->set.vms[server->set.count++] = vm;
	}
	qsort(server->set.vms, server->set.count, sizeof(struct vm *), vm_compare);
	return 0;
}

static int start_workers(struct server *server)
{
	for (uint32_t i = 1; i < server->config->threads; i++) {
		struct worker *worker = &server->workers[i];
		int err = pthread_create(&worker->thread, NULL, work, worker);

		if (err != 0)
			return -err;
		worker->running = true;
	}
	return 0;
}

static int run_worker_0(struct server *server)
{
	log_notice(NULL, "serving %zu VMs with %u workers", server->config->vm_count,
		   server->config->threads);
	return loop_run(server->workers[0].loop);
}

static void stop_workers(struct server *server)
{
	for (uint32_t i = 1; server->workers != NULL && i < server->config->threads; i++) {
		if (!server->workers[i].running)
			continue;
		loop_stop(server->workers[i].loop);
		pthread_join(server->workers[i].thread, NULL);
	}
}

static void clean_up(struct server *server)
{
	stop_workers(server);
	for (size_t i = 0; i < server->set.count; i++)
		vm_stop(server->set.vms[i]);
	for (size_t i = 0; i < server->set.count; i++)
		vm_free(server->set.vms[i]);
	free(server->set.vms);
	if (server->workers != NULL && server->workers[0].loop != NULL)
		loop_del(server->workers[0].loop, &server->signals);
	fd_close(&server->signal_fd);
	for (uint32_t i = 0; server->workers != NULL && i < server->config->threads; i++) {
		loop_free(server->workers[i].loop);
		free(server->workers[i].scratch);
	}
	free(server->workers);
	broker_stop(&server->broker);
}

int serve(const struct config *config)
{
	static int (*const steps[])(struct server *) = {
		raise_limits, guard_memory, start_broker,  make_workers, watch_signals,
		make_vms,     confine,      start_workers, run_worker_0,
	};
	struct server server = {
		.config = config, .signal_fd = -1, .signals = { .fd = -1 }, .broker.channel = -1
	};
	int err = 0;

	for (size_t i = 0; i < array_size(steps) && err == 0; i++)
		err = steps[i](&server);
	if (err < 0 && err != -ECANCELED)
		log_error(NULL, "cannot serve: %s", strerror(-err));
	clean_up(&server);
	return err;
}
