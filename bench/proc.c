// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * proc.c - starts, observes and ends the daemon under test.
 */
#include "bench/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/util.h"

#define STOP_LIMIT_MS 3000u
#define TRACEPOINT_ID "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id"

/* The words of a command as an argument list that points into it. */
static char **split(char *words, char *const *vms, size_t vm_count)
{
	char **argv = must_calloc(strlen(words) + 2 * vm_count + 2, sizeof(*argv));
	size_t n = 0;
	char *save = NULL;

	for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (strcmp(w, "{vms}") != 0) {
			argv[n++] = w;
			continue;
		}
		for (size_t i = 0; i < vm_count; i++) {
			argv[n++] = (char *)(uintptr_t) "--vm";
			argv[n++] = vms[i];
		}
	}
	if (n == 0)
		die("the daemon's command is empty");
	return argv;
}

static _Noreturn void become_daemon(char **argv, const char *log)
{
	int fd = open(log ? log : "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0644);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd >= 0) {
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
	}
	execvp(argv[0], argv);
	_exit(127);
}

void proc_start(struct proc *proc, const char *command, char *const *vms, size_t vm_count,
		const char *log)
{
	char *words = strdup(command);
	char **argv;

	if (words == NULL)
		die("no memory");
	argv = split(words, vms, vm_count);
	memset(proc, 0, sizeof(*proc));
	proc->pid = fork();
	if (proc->pid < 0)
		die("fork: %s", strerror(errno));
	if (proc->pid == 0)
		become_daemon(argv, log);
	free(argv);
	free(words);
}

bool proc_alive(const struct proc *proc)
{
	siginfo_t info = { .si_pid = 0 };

	return waitid(P_PID, (id_t)proc->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

int proc_stop(struct proc *proc)
{
	uint64_t deadline = now_ns() + STOP_LIMIT_MS * NS_PER_MS;
	bool alive = proc_alive(proc);
	int status = 0;

	for (size_t i = 0; i < proc->counter_count; i++)
		close(proc->counters[i]);
	free(proc->counters);
	if (alive)
		kill(proc->pid, SIGTERM);
	while (alive && proc_alive(proc)) {
		if (now_ns() > deadline)
			kill(proc->pid, SIGKILL);
		pause_ms(2);
	}
	waitpid(proc->pid, &status, 0);
	if (alive)
		return 0;
	return WIFSIGNALED(status) ? WTERMSIG(status) : 128 + WEXITSTATUS(status);
}

static void file_path(char *path, size_t size, pid_t pid, const char *name)
{
	snprintf(path, size, "/proc/%d/%s", (int)pid, name);
}

/* The first process that the daemon started, or 0: its work is the daemon's too. */
static pid_t child_of(const struct proc *proc)
{
	char path[64];
	char text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)proc->pid, (int)proc->pid);
	f = fopen(path, "re");
	if (f == NULL)
		return 0;
	if (fgets(text, sizeof(text), f) == NULL)
		text[0] = 0;
	fclose(f);
	return (pid_t)strtol(text, NULL, 10);
}

/* The number behind "KEY:" in a status file. */
static uint64_t status_field(const char *path, const char *key)
{
	char line[256];
	uint64_t value = 0;
	size_t len = strlen(key);
	FILE *f = fopen(path, "re");

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, key, len) == 0 && line[len] == ':')
			value = strtoull(line + len + 1, NULL, 10);
	}
	if (f != NULL)
		fclose(f);
	return value;
}

/* Call @visit for the number of each entry of a /proc directory. */
static size_t each_entry(const char *path, void (*visit)(void *ctx, long number), void *ctx)
{
	DIR *dir = opendir(path);
	size_t count = 0;

	if (dir == NULL)
		return 0;
	/* one directory stream per thread of ours: readdir() is safe so */
	for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
		if (e->d_name[0] == '.')
			continue;
		count++;
		if (visit != NULL)
			visit(ctx, strtol(e->d_name, NULL, 10));
	}
	closedir(dir);
	return count;
}

static uint64_t tracepoint_id(void)
{
	char text[32] = "";
	FILE *f = fopen(TRACEPOINT_ID, "re");

	if (f == NULL)
		return 0;
	if (fgets(text, sizeof(text), f) == NULL)
		text[0] = 0;
	fclose(f);
	return strtoull(text, NULL, 10);
}

static void count_thread(void *ctx, long tid)
{
	struct proc *proc = ctx;
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = tracepoint_id(),
	};
	int fd;

	if (attr.config == 0 || proc->counter_count == PROC_MAX_COUNTERS)
		return;
	fd = (int)syscall(SYS_perf_event_open, &attr, (pid_t)tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd >= 0)
		proc->counters[proc->counter_count++] = fd;
}

void proc_count_syscalls(struct proc *proc)
{
	pid_t child = child_of(proc);
	char path[64];

	proc->counters = must_calloc(PROC_MAX_COUNTERS, sizeof(*proc->counters));
	file_path(path, sizeof(path), proc->pid, "task");
	each_entry(path, count_thread, proc);
	if (child == 0)
		return;
	file_path(path, sizeof(path), child, "task");
	each_entry(path, count_thread, proc);
}

static double syscalls_so_far(const struct proc *proc)
{
	double sum = proc->counter_count > 0 ? 0 : -1;

	for (size_t i = 0; i < proc->counter_count; i++) {
		uint64_t n = 0;

		if (read(proc->counters[i], &n, sizeof(n)) == sizeof(n))
			sum += (double)n;
	}
	return sum;
}

static uint64_t cpu_time_ns(pid_t pid)
{
	clockid_t clock;
	struct timespec ts = { 0 };

	if (pid > 0 && clock_getcpuclockid(pid, &clock) == 0)
		clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

void proc_usage_quick(const struct proc *proc, struct usage *usage)
{
	usage->cpu_ns = cpu_time_ns(proc->pid) + cpu_time_ns(child_of(proc));
	usage->syscalls = syscalls_so_far(proc);
	usage->when_ns = now_ns();
}

struct thread_sum {
	pid_t pid;
	uint64_t switches;
};

static void sum_thread(void *ctx, long tid)
{
	struct thread_sum *sum = ctx;
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/task/%ld/status", (int)sum->pid, tid);
	sum->switches += status_field(path, "voluntary_ctxt_switches");
}

static void add_process(pid_t pid, struct usage *usage)
{
	struct thread_sum sum = { .pid = pid };
	char path[64];

	file_path(path, sizeof(path), pid, "task");
	usage->threads += each_entry(path, sum_thread, &sum);
	usage->switches += sum.switches;
	file_path(path, sizeof(path), pid, "fd");
	usage->fds += each_entry(path, NULL, NULL);
	file_path(path, sizeof(path), pid, "status");
	usage->anon_kib += status_field(path, "RssAnon");
}

void proc_usage(const struct proc *proc, struct usage *usage)
{
	pid_t child = child_of(proc);

	*usage = (struct usage){ 0 };
	add_process(proc->pid, usage);
	if (child > 0)
		add_process(child, usage);
	proc_usage_quick(proc, usage);
}

static void explain_thread(void *ctx, long tid)
{
	const struct proc *proc = ctx;
	char path[96];
	char line[256] = "?";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%ld/stack", (int)proc->pid, tid);
	f = fopen(path, "re");
	fprintf(stderr, "thread %ld waits in:\n", tid);
	while (f != NULL && fgets(line, sizeof(line), f) != NULL)
		fprintf(stderr, "  %s", line);
	if (f != NULL)
		fclose(f);
}

void proc_explain(const struct proc *proc)
{
	struct proc copy = *proc;
	char path[64];

	file_path(path, sizeof(path), proc->pid, "task");
	each_entry(path, explain_thread, &copy);
}
