// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fd.c - owned file descriptors: close, send and receive with SCM_RIGHTS, limits.
 *
 * Opens nothing itself and never blocks. A descriptor that a peer passed is
 * either handed to the caller or closed here, on every path.
 */
#include "base/fd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Control data of one message; the union aligns it as a cmsghdr must be. */
union fd_control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(FD_RECV_MAX * sizeof(int))];
};

#ifndef SO_PASSRIGHTS /* Linux 6.16 */
#define SO_PASSRIGHTS 83
#endif

void fd_refuse_rights(int sock)
{
	int pass = 0;

	(void)setsockopt(sock, SOL_SOCKET, SO_PASSRIGHTS, &pass, sizeof(pass));
}

void fd_close(int *fd)
{
	int saved_errno = errno;

	if (*fd < 0)
		return;
	/* Linux has released the descriptor whatever close() returns. */
	(void)close(*fd);
	*fd = -1;
	errno = saved_errno;
}

void fd_close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fd_close(&fds[i]);
}

int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/* Collect the descriptors of a received message; @fds has FD_RECV_MAX slots. */
static size_t fd_collect(struct msghdr *msg, int *fds)
{
	size_t count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		/* The control buffer has no room for more. */
		assert(n <= FD_RECV_MAX - count);
		memcpy(fds + count, CMSG_DATA(c), n * sizeof(int));
		count += n;
	}
	return count;
}

/*
 * What the truncation of control data means. The kernel sets the flag when our
 * buffer was too small, and also when it could not install a descriptor, which
 * is our shortage and not the peer's fault.
 */
static int fd_check_count(const struct msghdr *msg, size_t count, size_t max_fds)
{
	if ((msg->msg_flags & MSG_CTRUNC) != 0 && count < FD_RECV_MAX)
		return -EMFILE;
	if ((msg->msg_flags & MSG_CTRUNC) != 0 || count > max_fds)
		return -EPROTO;
	return 0;
}

ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t max_fds, size_t *n_fds)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	union fd_control control;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int received[FD_RECV_MAX];
	ssize_t bytes;
	size_t count;
	int ret;

	*n_fds = 0;
	do {
		bytes = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (bytes < 0 && errno == EINTR);
	if (bytes < 0)
		return -errno;

	count = fd_collect(&msg, received);
	ret = fd_check_count(&msg, count, max_fds);
	if (ret < 0) {
		fd_close_all(received, count);
		return ret;
	}
	if (count > 0)
		memcpy(fds, received, count * sizeof(int));
	*n_fds = count;
	return bytes;
}

int fd_send_several(int sock, const void *buf, size_t len, const int *fds, size_t count)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	union fd_control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	assert(count <= FD_RECV_MAX);
	if (count > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	}
	do
		sent = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	return (size_t)sent == len ? 0 : -EIO;
}

int fd_send(int sock, const void *buf, size_t len, int fd)
{
	return fd_send_several(sock, buf, len, &fd, fd >= 0 ? 1 : 0);
}

int fd_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	if (limit.rlim_cur == limit.rlim_max)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	return 0;
}
