// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * confine_attempts.h - what a confined process tries in test_confine.c. Each
 * returns 0 or more when it worked, and a negative number when it did not.
 */
#ifndef TESTS_UNIT_CONFINE_ATTEMPTS_H
#define TESTS_UNIT_CONFINE_ATTEMPTS_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOME_FILE "/etc/passwd"

static inline long open_file(void)
{
	return open(SOME_FILE, O_RDONLY | O_CLOEXEC);
}

static inline long open_root(void)
{
	return syscall(SYS_open, "/", O_RDONLY | O_CLOEXEC);
}

static inline long open_above(void)
{
	return open("../../../../../../etc/passwd", O_RDONLY | O_CLOEXEC);
}

static inline long open_own(void)
{
	return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

static inline long create_file(void)
{
	return open("/tmp/test-confine", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static inline long make_directory(void)
{
	return mkdir("/test-confine", 0700);
}

static inline long list_directory(void)
{
	char buf[1024];
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? fd : syscall(SYS_getdents64, fd, buf, sizeof(buf));
}

static inline long remove_file(void)
{
	return unlink("/tmp/test-confine-none") < 0 && errno != ENOENT ? -1 : 0;
}

static inline long change_directory(void)
{
	return chdir("/etc");
}

static inline long inet_socket(void)
{
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline long inet6_socket(void)
{
	return socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static inline long netlink_socket(void)
{
	return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
}

static inline long unix_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline long vsock_socket(void)
{
	return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static inline long execute(void)
{
	char *const argv[] = { NULL };

	return execve("/proc/self/exe", argv, argv);
}

static inline long execute_fd(void)
{
	char *const argv[] = { NULL };

	return syscall(SYS_execveat, STDIN_FILENO, "", argv, argv, AT_EMPTY_PATH);
}

static inline long make_process(void)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static inline long make_vfork(void)
{
	return syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
}

static inline long trace_parent(void)
{
	return ptrace(PTRACE_SEIZE, getppid(), 0, 0);
}

static inline long read_parent(void)
{
	return syscall(SYS_process_vm_readv, getppid(), 0, 0, 0, 0, 0);
}

static inline long signal_parent(void)
{
	return kill(getppid(), 0);
}

static inline long signal_thread_of_parent(void)
{
	return syscall(SYS_tgkill, getppid(), getppid(), 0);
}

static inline long map_executable(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0) == MAP_FAILED
		       ? -1
		       : 0;
}

static inline long make_executable(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static inline long mount_something(void)
{
	return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}

static inline long raise_limit(void)
{
	const struct rlimit limit = { 16, 16 };

	return setrlimit(RLIMIT_NOFILE, &limit);
}

static inline long become_root(void)
{
	return setuid(0);
}

static inline long load_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0);
}

static inline long use_uring(void)
{
	char params[256] = { 0 };

	return syscall(SYS_io_uring_setup, 1, params);
}

#endif
