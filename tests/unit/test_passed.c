// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * test_passed.c - host/passed.c: passed sockets are found by family, address and
 * type. Whole starts with passed sockets are in tests/cli/test_activation.py.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "unit.h"

#include "base/fd.h"
#include "host/passed.h"

enum { PATH, RECORDS, PORT, LOOPBACK, LOOPBACK6, COUNT };

struct rig {
	struct passed_socket sockets[COUNT];
	struct passed_sockets passed;
};

static void set(struct passed_socket *socket, int type, const void *address, size_t size)
{
	socket->fd = eventfd(0, EFD_CLOEXEC); /* what it is does not matter */
	assert_true(socket->fd >= 0);
	socket->type = type;
	memcpy(&socket->address, address, size);
}

static const struct sockaddr_un path = { .sun_family = AF_UNIX, .sun_path = "/run/vm" };
static const struct sockaddr_vm port = {
	.svm_family = AF_VSOCK,
	.svm_cid = VMADDR_CID_HOST,
	.svm_port = 9001,
};

static struct sockaddr_in inet(uint16_t number)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(number),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static struct sockaddr_in6 inet6(uint16_t number)
{
	return (struct sockaddr_in6){
		.sin6_family = AF_INET6,
		.sin6_port = htons(number),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
}

static void fill(struct rig *rig)
{
	const struct sockaddr_in four = inet(80);
	const struct sockaddr_in6 six = inet6(80);

	memset(rig, 0, sizeof(*rig));
	set(&rig->sockets[PATH], SOCK_STREAM, &path, sizeof(path));
	set(&rig->sockets[RECORDS], SOCK_SEQPACKET, &path, sizeof(path));
	set(&rig->sockets[PORT], SOCK_STREAM, &port, sizeof(port));
	set(&rig->sockets[LOOPBACK], SOCK_STREAM, &four, sizeof(four));
	set(&rig->sockets[LOOPBACK6], SOCK_STREAM, &six, sizeof(six));
	rig->passed.sockets = rig->sockets;
	rig->passed.count = COUNT;
}

static void empty(struct rig *rig)
{
	for (size_t i = 0; i < COUNT; i++)
		fd_close(&rig->sockets[i].fd);
}

/* Whether two descriptors are one open file: a mark on one is seen on the other. */
static bool is_duplicate(int fd, int other)
{
	const eventfd_t mark = 7;
	eventfd_t seen = 0;

	return eventfd_write(fd, mark) == 0 && eventfd_read(other, &seen) == 0 && seen == mark;
}

static void expect(const struct rig *rig, const void *address, int type, size_t index)
{
	int fd = passed_take(&rig->passed, address, type);

	assert_true(fd > STDERR_FILENO);
	assert_int_not_equal(fd, rig->sockets[index].fd);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_true(is_duplicate(fd, rig->sockets[index].fd));
	fd_close(&fd);
}

static void test_found(void **state)
{
	const struct sockaddr_vm any = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = 9001,
	};
	const struct sockaddr_in four = inet(80);
	const struct sockaddr_in6 six = inet6(80);
	struct rig rig;

	(void)state;
	fill(&rig);
	expect(&rig, &path, SOCK_STREAM, PATH);
	expect(&rig, &path, SOCK_SEQPACKET, RECORDS);
	expect(&rig, &any, SOCK_STREAM, PORT);
	expect(&rig, &four, SOCK_STREAM, LOOPBACK);
	expect(&rig, &six, SOCK_STREAM, LOOPBACK6);
	empty(&rig);
}

static void test_not_there(void **state)
{
	const struct sockaddr_in four = inet(81);
	const struct sockaddr_in6 six = inet6(81);
	char longer[200];
	struct rig rig;

	(void)state;
	fill(&rig);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(passed_take_unix(&rig.passed, "/run/v", SOCK_STREAM), -ENOENT);
	assert_int_equal(passed_take_unix(&rig.passed, "/run/vmm", SOCK_STREAM), -ENOENT);
	assert_int_equal(passed_take_unix(&rig.passed, "", SOCK_STREAM), -ENOENT);
	assert_int_equal(passed_take_unix(&rig.passed, longer, SOCK_STREAM), -ENOENT);
	assert_int_equal(passed_take_unix(NULL, "/run/vm", SOCK_STREAM), -ENOENT);
	assert_int_equal(passed_take(&rig.passed, (const struct sockaddr *)&port, SOCK_SEQPACKET),
			 -ENOENT);
	assert_int_equal(passed_take(&rig.passed, (const struct sockaddr *)&four, SOCK_STREAM),
			 -ENOENT);
	assert_int_equal(passed_take(&rig.passed, (const struct sockaddr *)&six, SOCK_STREAM),
			 -ENOENT);
	empty(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_not_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
