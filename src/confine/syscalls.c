// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * syscalls.c - which system calls each process may make; any other ends it.
 *
 * Theory of operation
 *
 * Lists of rules by libseccomp, which knows the numbers of each architecture.
 * Where an argument decides how dangerous a call is, it is compared; pointers
 * cannot be. What makes many calls a second has no comparison: the kernel
 * answers such calls from a bitmap.
 *
 * Neither process can open for writing, start a program, trace, signal others,
 * or map memory that is executable. The workers can make no Unix or network
 * socket either, so no address leads anywhere: descriptors come from the VMM,
 * from accept4() and from the broker.
 *
 * A call that is missing here ends the daemon: an addition to the code that
 * makes a new one has its line here.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "confine/stages.h"

struct rule {
	int number;
	unsigned int comparisons; /* 0 or 1 */
	struct scmp_arg_cmp when;
};

#define ALWAYS(name)                     \
	{                                \
		.number = SCMP_SYS(name) \
	}
#define WHEN_EQUAL(name, n, value)                                    \
	{                                                             \
		.number = SCMP_SYS(name), .comparisons = 1, .when = { \
			.arg = (n),                                   \
			.op = SCMP_CMP_EQ,                            \
			.datum_a = (value)                            \
		}                                                     \
	}
#define WHEN_BITS(name, n, mask, value)                               \
	{                                                             \
		.number = SCMP_SYS(name), .comparisons = 1, .when = { \
			.arg = (n),                                   \
			.op = SCMP_CMP_MASKED_EQ,                     \
			.datum_a = (mask),                            \
			.datum_b = (value)                            \
		}                                                     \
	}

#ifdef __s390x__
#define CLONE_FLAGS_ARG 1
#else
#define CLONE_FLAGS_ARG 0
#endif

/* What libc needs for memory, locks, time, errors and the end. */
static const struct rule common[] = {
	ALWAYS(brk),                          /* malloc() */
	ALWAYS(munmap),                       /* free(), guest memory that goes */
	ALWAYS(mremap),                       /* realloc() */
	ALWAYS(madvise),                      /* free(), buf.c, a thread's stack */
	WHEN_BITS(mmap, 2, PROT_EXEC, 0),     /* malloc(), guest memory, fault.c */
	WHEN_BITS(mprotect, 2, PROT_EXEC, 0), /* malloc() of a thread, stack guards */
	ALWAYS(futex),                        /* locks; a thread's end */
	ALWAYS(clock_gettime),                /* where the vDSO cannot */
	ALWAYS(gettimeofday),                 /* likewise */
	ALWAYS(write),                        /* the log, eventfds */
	ALWAYS(writev),                       /* libc's last words about a damaged heap */
	ALWAYS(close),
	ALWAYS(fcntl),           /* fd_set_nonblocking() */
	ALWAYS(fstat),           /* log.c: is stderr the journal? */
	ALWAYS(newfstatat),      /* likewise; the broker: whose node */
	ALWAYS(getrandom),       /* malloc(), the seed of a VM's hash */
	ALWAYS(getpid),          /* abort() */
	ALWAYS(gettid),          /* abort() */
	ALWAYS(rt_sigaction),    /* fault.c gives a signal back; abort() */
	ALWAYS(rt_sigprocmask),  /* abort(), a thread's start and end */
	ALWAYS(rt_sigreturn),    /* the SIGBUS handler returns */
	ALWAYS(restart_syscall), /* SIGCONT after SIGSTOP */
	ALWAYS(exit),            /* a thread */
	ALWAYS(exit_group),
	ALWAYS(epoll_wait),
	ALWAYS(epoll_pwait), /* epoll_wait() where there is none */
	ALWAYS(epoll_ctl),
	ALWAYS(setsockopt), /* SO_SNDBUF, SO_PASSRIGHTS */
	ALWAYS(recvmsg),
	ALWAYS(recvfrom),
	ALWAYS(sendmsg),
};

/* Memory, rings and sockets of guests. */
static const struct rule worker[] = {
	ALWAYS(read),                   /* eventfds, the signalfd */
	ALWAYS(sendto),                 /* the OK line; service.c */
	ALWAYS(accept4),                /* VMMs and host programs */
	ALWAYS(shutdown),               /* a guest's half close */
	ALWAYS(getsockopt),             /* SO_ERROR, SO_PEERCRED */
	ALWAYS(poll),                   /* vu_session: hung up? broker.c waits */
	ALWAYS(ppoll),                  /* poll() where there is none */
	ALWAYS(wait4),                  /* the broker's end */
	WHEN_EQUAL(ioctl, 1, FIONREAD), /* host_messages.c */
	ALWAYS(statx),                  /* vu_mem.c: what kind of file guest memory is */
	ALWAYS(io_submit),              /* bell.c: eventfds of the VMM */
	ALWAYS(io_getevents),           /* likewise */
	ALWAYS(io_destroy),             /* a loop's end */
	ALWAYS(sched_getaffinity),      /* malloc(): how many arenas */
	ALWAYS(sysinfo),                /* qsort(): how much memory */
	WHEN_EQUAL(prlimit64, 2, 0),    /* getrlimit() of the descriptors */
	/* a thread, which is no process */
	WHEN_BITS(clone, CLONE_FLAGS_ARG, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
	ALWAYS(set_robust_list),
	ALWAYS(rseq),
	ALWAYS(set_tid_address),
};

/* forward-cid: these sockets reach AF_VSOCK addresses only. */
static const struct rule worker_vsock[] = {
	WHEN_EQUAL(socket, 0, AF_VSOCK),
	ALWAYS(connect),
	ALWAYS(bind),
	ALWAYS(listen),
};

/* process.c: of this process, by descriptors that were opened at the start. */
static const struct rule worker_figures[] = {
	ALWAYS(getdents64), /* how many descriptors there are */
	ALWAYS(lseek),      /* from the first one on */
	ALWAYS(pread64),    /* how much memory is in use */
	ALWAYS(getrusage),  /* time that was used */
};

/* libmicrohttpd, on sockets it accepted. */
static const struct rule worker_http[] = {
	ALWAYS(accept4), /* clients */
	ALWAYS(time),    /* the date of an answer, where the vDSO cannot */
};

/* Paths: as little with them as there is to do. */
static const struct rule broker[] = {
	WHEN_EQUAL(socket, 0, AF_UNIX),
	WHEN_EQUAL(socketpair, 0, AF_UNIX), /* a door */
	ALWAYS(bind),
	ALWAYS(listen),
	ALWAYS(connect),
	/* directories of sockets and the file of --config: never to be written */
	WHEN_BITS(openat, 2, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND, O_RDONLY),
	ALWAYS(fchdir),
	ALWAYS(umask),
	ALWAYS(fchownat), /* --socket-group */
	ALWAYS(unlink),   /* a socket nobody listens on */
	ALWAYS(unlinkat), /* a socket it made */
	ALWAYS(lstat),
	ALWAYS(epoll_create1),
};

static int add(scmp_filter_ctx ctx, const struct rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rules[i].number,
						 rules[i].comparisons, &rules[i].when);

		if (err < 0)
			return err;
	}
	return 0;
}

/*
 * What libc tries and can do without: clone3(), whose flags cannot be compared,
 * and the file of the overcommit mode, which free() looks at in a thread.
 */
static int add_refusals(scmp_filter_ctx ctx, enum syscalls_role role)
{
	/* abort(): to this process only */
	const struct scmp_arg_cmp own = {
		.arg = 0,
		.op = SCMP_CMP_EQ,
		.datum_a = (scmp_datum_t)getpid(),
	};
	int err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	if (err == 0 && role != SYSCALLS_BROKER)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
	if (err == 0)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &own);
	return err;
}

static int add_extras(scmp_filter_ctx ctx, unsigned int extras)
{
	int err = 0;

	if ((extras & SYSCALLS_VSOCK) != 0)
		err = add(ctx, worker_vsock, array_size(worker_vsock));
	if (err == 0 && (extras & SYSCALLS_FIGURES) != 0)
		err = add(ctx, worker_figures, array_size(worker_figures));
	if (err == 0 && (extras & SYSCALLS_HTTP) != 0)
		err = add(ctx, worker_http, array_size(worker_http));
	return err;
}

static int add_role(scmp_filter_ctx ctx, enum syscalls_role role, unsigned int extras)
{
	int err = add(ctx, common, array_size(common));

	if (err == 0)
		err = add_refusals(ctx, role);
	if (err == 0 && role == SYSCALLS_BROKER)
		return add(ctx, broker, array_size(broker));
	if (err == 0)
		err = add(ctx, worker, array_size(worker));
	return err == 0 ? add_extras(ctx, extras) : err;
}

int stage_syscalls(enum syscalls_role role, unsigned int extras)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err;

	if (ctx == NULL)
		return -ENOMEM;
	err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (err == 0)
		err = add_role(ctx, role, extras);
	/* a search tree; and no slower speculation, as no foreign code runs here */
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
	if (err == 0)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	return err;
}
