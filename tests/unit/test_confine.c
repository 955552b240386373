// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_confine.c - confine/: from inside, a confined process tries what it must
 * not be able to do, each in a process of its own; and what it still needs.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine_attempts.h"
#include "unit.h"

#include "base/fault.h"
#include "base/log.h"
#include "confine/sandbox.h"
#include "confine/stages.h"

/* Not cmocka's skip(), whose lines of TAP are not TAP. */
#define LEAVE(reason)                                      \
	do {                                               \
		print_message("# left out: %s\n", reason); \
		return;                                    \
	} while (0)

#ifdef INSTRUMENTED
#define SKIP_IF_INSTRUMENTED() LEAVE("an instrumented build")
#else
#define SKIP_IF_INSTRUMENTED() (void)0
#endif

/* How an attempt ended. */
enum ending { DONE, REFUSED, KILLED, OTHERWISE };

#define STATUS_UNCONFINED 77

/* Return: 0 or more when it worked, negative with errno when it did not. */
struct attempt {
	const char *name;
	long (*run)(void);
};

static const struct sandbox_plan plan = {
	.mode = SANDBOX_AUTO,
	.uid = (uid_t)-1,
	.gid = (gid_t)-1,
	.socket_group = (gid_t)-1,
};

static enum ending judge(int status)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? KILLED : OTHERWISE;
	if (WEXITSTATUS(status) == STATUS_UNCONFINED)
		fail_msg("the stage could not be had");
	return WEXITSTATUS(status) == 0 ? DONE : REFUSED;
}

/* Run @attempt in a child that @confine has confined. */
static enum ending try(int (*confine)(void), long (*attempt)(void))
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		log_set_level(LOG_ERROR);
		(void)!sandbox_early();
		if (confine() < 0)
			_exit(STATUS_UNCONFINED);
		_exit(attempt() >= 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return judge(status);
}

static int confine_worker(void)
{
	return sandbox_worker(&plan);
}

static int confine_vsock_worker(void)
{
	struct sandbox_plan with = plan;

	with.vsock = true;
	return sandbox_worker(&with);
}

static int confine_broker(void)
{
	return sandbox_broker(&plan);
}

static int only_root(void)
{
	return stage_root(true);
}

static int only_landlock(void)
{
	static const struct landlock_grant nothing = { 0 };

	return stage_landlock(&nothing);
}

static int only_syscalls(void)
{
	return stage_syscalls(SYSCALLS_WORKER, 0);
}

static int unconfined(void)
{
	return 0;
}

static const struct attempt forbidden[] = {
	{ "open a file", open_file },
	{ "open the root", open_root },
	{ "open a file above", open_above },
	{ "open its memory", open_own },
	{ "create a file", create_file },
	{ "make a directory", make_directory },
	{ "list a directory", list_directory },
	{ "remove a file", remove_file },
	{ "change the directory", change_directory },
	{ "make an IPv4 socket", inet_socket },
	{ "make an IPv6 socket", inet6_socket },
	{ "make a netlink socket", netlink_socket },
	{ "make a Unix socket", unix_socket },
	{ "make a vsock socket without forwarding", vsock_socket },
	{ "run a program", execute },
	{ "run a descriptor", execute_fd },
	{ "make a process", make_process },
	{ "make a process by vfork", make_vfork },
	{ "trace the parent", trace_parent },
	{ "read the parent's memory", read_parent },
	{ "signal the parent", signal_parent },
	{ "signal a thread of the parent", signal_thread_of_parent },
	{ "map executable memory", map_executable },
	{ "make memory executable", make_executable },
	{ "mount", mount_something },
	{ "change a limit", raise_limit },
	{ "become root", become_root },
	{ "call bpf()", load_bpf },
	{ "use io_uring", use_uring },
};

/* --- what has to work --- */

static void *use_memory(void *arg)
{
	size_t *sizes = arg;

	for (size_t i = 0; sizes[i] > 0; i++) {
		char *bytes = malloc(sizes[i]);
		char *more = bytes == NULL ? NULL : realloc(bytes, 3 * sizes[i]);

		if (more == NULL) {
			free(bytes);
			return NULL;
		}
		memset(more, 1, 3 * sizes[i]);
		free(more);
	}
	return arg;
}

/* The arena of a thread grows, shrinks and goes, and so does its stack. */
static long use_threads(void)
{
	static size_t sizes[] = { 100, 5000, 100000, 4000000, 40000000, 0 };
	pthread_t threads[4];
	void *done = NULL;

	for (size_t i = 0; i < array_size(threads); i++)
		if (pthread_create(&threads[i], NULL, use_memory, sizes) != 0)
			return -1;
	for (size_t i = 0; i < array_size(threads); i++) {
		if (pthread_join(threads[i], &done) != 0 || done == NULL)
			return -1;
	}
	return use_memory(sizes) == NULL ? -1 : 0;
}

/* For systemd it looks at what stderr is. */
static long write_log(void)
{
	setenv("JOURNAL_STREAM", "1:1", 1);
	log_line(LOG_ERROR, "test", "this line is part of the test: %s", strerror(EIO));
	return 0;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* qsort() asks for the memory there is. */
static long sort_much(void)
{
	static int numbers[100000];

	for (size_t i = 0; i < array_size(numbers); i++)
		numbers[i] = (int)(array_size(numbers) - i);
	qsort(numbers, array_size(numbers), sizeof(int), compare);
	return numbers[0] == 1 ? 0 : -1;
}

static long read_clocks(void)
{
	struct timespec now;
	char random[16];

	if (syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) < 0)
		return -1;
	return syscall(SYS_getrandom, random, sizeof(random), 0);
}

#ifdef SYS_time
static int confine_http_worker(void)
{
	struct sandbox_plan with = plan;

	with.http = true;
	return sandbox_worker(&with);
}

static long read_date(void)
{
	return syscall(SYS_time, NULL);
}
#endif

static uint8_t *shrunk; /* two pages of a file that has one */

static int confine_with_shrunk_file(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 8192) < 0 || fault_install() < 0)
		return -1;
	shrunk = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shrunk == MAP_FAILED || fault_guard(shrunk, 8192) < 0 || ftruncate(fd, 4096) < 0)
		return -1;
	return sandbox_worker(&plan);
}

static long touch_lost_memory(void)
{
	return *(volatile uint8_t *)(shrunk + 5000);
}

static const struct attempt needed[] = {
	{ "use threads and memory", use_threads },
	{ "write to the log", write_log },
	{ "sort", sort_much },
	{ "read clocks", read_clocks },
};

static void test_needed(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(needed); i++) {
		if (try(confine_worker, needed[i].run) != DONE)
			fail_msg("a worker cannot %s", needed[i].name);
	}
#ifdef SYS_time
	assert_int_equal(try(confine_http_worker, read_date), DONE);
#endif
}

static void test_truncated_memory(void **state)
{
	(void)state;
	assert_int_equal(try(confine_with_shrunk_file, touch_lost_memory), DONE);
}

/* What libc does about it needs a call of its own. */
static void damage_heap(void)
{
	void *volatile piece = malloc(100);
	void *volatile same = piece;

	free(piece);
	free(same); /* NOLINT(clang-analyzer-unix.Malloc) */
}

/* An assertion ends the process the usual way, and leaves no core. */
static void assert_aborts(int (*confine)(void), void (*end)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGABRT, SIG_DFL);
		log_set_level(LOG_ERROR);
		if (confine() < 0)
			_exit(STATUS_UNCONFINED);
		end();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_false(WCOREDUMP(status));
}

static void test_abort(void **state)
{
	(void)state;
	SKIP_IF_INSTRUMENTED();
	assert_aborts(confine_worker, abort);
	assert_aborts(confine_broker, abort);
	assert_aborts(confine_worker, damage_heap);
	assert_aborts(confine_broker, damage_heap);
}

/* --- tests --- */

/* Without a sandbox these work, so that the others can fail. */
static void test_unconfined(void **state)
{
	(void)state;
	assert_int_equal(try(unconfined, open_file), DONE);
	assert_int_equal(try(unconfined, open_above), DONE);
	assert_int_equal(try(unconfined, list_directory), DONE);
	assert_int_equal(try(unconfined, change_directory), DONE);
	assert_int_equal(try(unconfined, unix_socket), DONE);
	assert_int_equal(try(unconfined, inet_socket), DONE);
	assert_int_equal(try(unconfined, map_executable), DONE);
	assert_int_equal(try(unconfined, make_executable), DONE);
	assert_int_equal(try(unconfined, signal_parent), DONE);
}

/* Each part stops paths by itself. */
static void test_root_alone(void **state)
{
	(void)state;
	if (try(only_root, change_directory) == DONE)
		LEAVE("not allowed here, as in many containers");
	assert_int_equal(try(only_root, open_file), REFUSED);
	assert_int_equal(try(only_root, open_above), REFUSED);
	assert_int_equal(try(only_root, create_file), REFUSED);
	assert_int_equal(try(only_root, make_directory), REFUSED);
	assert_int_equal(try(only_root, open_own), REFUSED);
}

static void test_landlock_alone(void **state)
{
	static const struct landlock_grant nothing = { 0 };
	pid_t pid = fork();
	int status = 0;

	(void)state;
	if (pid == 0)
		_exit(sandbox_early() < 0 || stage_landlock(&nothing) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		LEAVE("a kernel without it");
	assert_int_equal(try(only_landlock, open_file), REFUSED);
	assert_int_equal(try(only_landlock, open_above), REFUSED);
	assert_int_equal(try(only_landlock, create_file), REFUSED);
	assert_int_equal(try(only_landlock, list_directory), REFUSED);
}

static void test_syscalls_alone(void **state)
{
	(void)state;
	SKIP_IF_INSTRUMENTED();
	assert_int_equal(try(only_syscalls, open_file), REFUSED);
	assert_int_equal(try(only_syscalls, open_root), KILLED);
	assert_int_equal(try(only_syscalls, unix_socket), KILLED);
	assert_int_equal(try(only_syscalls, inet_socket), KILLED);
	assert_int_equal(try(only_syscalls, execute), KILLED);
	assert_int_equal(try(only_syscalls, make_process), KILLED);
	assert_int_equal(try(only_syscalls, trace_parent), KILLED);
	assert_int_equal(try(only_syscalls, map_executable), KILLED);
	assert_int_equal(try(only_syscalls, remove_file), KILLED);
	assert_int_equal(try(only_syscalls, signal_thread_of_parent), KILLED);
}

/* With forwarding: AF_VSOCK, and no other family for it. */
static void test_vsock_worker(void **state)
{
	(void)state;
	SKIP_IF_INSTRUMENTED();
	assert_int_not_equal(try(confine_vsock_worker, vsock_socket), KILLED);
	assert_int_equal(try(confine_vsock_worker, unix_socket), KILLED);
	assert_int_equal(try(confine_vsock_worker, inet_socket), KILLED);
}

static const struct attempt beyond_broker[] = {
	{ "create a file", create_file },
	{ "make a directory", make_directory },
	{ "open its memory", open_own },
	{ "make an IPv4 socket", inet_socket },
	{ "run a program", execute },
	{ "make a process", make_process },
	{ "trace the parent", trace_parent },
	{ "signal the parent", signal_parent },
	{ "map executable memory", map_executable },
	{ "mount", mount_something },
	{ "become root", become_root },
};

static void test_broker(void **state)
{
	(void)state;
	SKIP_IF_INSTRUMENTED();
	for (size_t i = 0; i < array_size(beyond_broker); i++) {
		enum ending ending = try(confine_broker, beyond_broker[i].run);

		if (ending != KILLED && ending != REFUSED)
			fail_msg("the broker can %s (%d)", beyond_broker[i].name, ending);
	}
	assert_int_equal(try(confine_broker, unix_socket), DONE);
}

static int become_nobody(void)
{
	return stage_identity(65534, 65534, (gid_t)-1);
}

static long groups_are_left(void)
{
	return getgroups(0, NULL) == 0 && getuid() == 65534 && getegid() == 65534 ? -1 : 0;
}

static void test_identity(void **state)
{
	(void)state;
	if (geteuid() != 0)
		LEAVE("only root can");
	assert_int_equal(try(become_nobody, become_root), REFUSED);
	assert_int_equal(try(become_nobody, groups_are_left), REFUSED);
}

/* A mode that insists does not take less. */
static void test_strict(void **state)
{
	struct sandbox_plan strict = plan;
	pid_t pid = fork();
	int status = 0;

	(void)state;
	if (pid == 0) {
		strict.mode = SANDBOX_STRICT;
		(void)!sandbox_early();
		_exit(sandbox_worker(&strict) == -ECANCELED ? 3 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (geteuid() == 0)
		assert_int_equal(WEXITSTATUS(status), 3);
}

static void test_forbidden(void **state)
{
	(void)state;
	SKIP_IF_INSTRUMENTED();
	for (size_t i = 0; i < array_size(forbidden); i++) {
		enum ending ending = try(confine_worker, forbidden[i].run);

		if (ending != KILLED && ending != REFUSED)
			fail_msg("a worker can %s (%d)", forbidden[i].name, ending);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unconfined),     cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_needed),         cmocka_unit_test(test_truncated_memory),
		cmocka_unit_test(test_abort),          cmocka_unit_test(test_root_alone),
		cmocka_unit_test(test_landlock_alone), cmocka_unit_test(test_syscalls_alone),
		cmocka_unit_test(test_vsock_worker),   cmocka_unit_test(test_broker),
		cmocka_unit_test(test_identity),       cmocka_unit_test(test_strict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
