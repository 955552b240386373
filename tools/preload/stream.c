// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * stream.c - see stream.h. Holds no descriptor and remembers nothing but the
 * list of guests.
 */
#include "preload/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>

#include "base/fd.h"
#include "common/hybrid.h"
#include "common/number.h"
#include "host/host.h"
#include "host/unix_listener.h"
#include "preload/real.h"

/*
 * The option is for TCP's pacing; the kernel keeps the number for any socket,
 * and Unix sockets have no use for it.
 */
#define MARK_OPTION SO_MAX_PACING_RATE
#define MARK_VALUE 0x76734f43u

#define NAME_PREFIX "vsockctl/" /* behind the 0 of an abstract name */
#define FIRST_FREE_PORT 1024u
#define PORT_TRIES 64u

/* What the kernel takes of a Unix socket's send buffer, beside the record in it. */
#define RECORD_OVERHEAD 32

/* Of the hash FNV-1a. */
#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static struct guests known; /* written once, before anybody reads it */

static void read_guests(void)
{
	const char *text = getenv(GUESTS_VARIABLE);

	if (text != NULL && guests_parse(text, &known) < 0)
		known = (struct guests){ 0 };
}

const struct guests *stream_guests(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_guests);
	return &known;
}

static struct sockaddr_vm vm_address(uint32_t cid, uint32_t port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}

int stream_type(int fd)
{
	int type = SOCK_STREAM;
	socklen_t len = sizeof(type);

	(void)REAL(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	return type;
}

/* Longer ones than a guest takes at a time fail here by EMSGSIZE, as in the kernel. */
static void bound_records(int fd)
{
	int size = (STREAM_BUFFER_BYTES + RECORD_OVERHEAD) / 2; /* the kernel doubles it */

	(void)REAL(setsockopt)(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

void stream_mark(int fd)
{
	unsigned int mark = MARK_VALUE;

	(void)REAL(setsockopt)(fd, SOL_SOCKET, MARK_OPTION, &mark, sizeof(mark));
	if (stream_type(fd) == SOCK_SEQPACKET)
		bound_records(fd);
}

static bool is_marked(int fd)
{
	unsigned int mark = 0;
	socklen_t len = sizeof(mark);

	return REAL(getsockopt)(fd, SOL_SOCKET, MARK_OPTION, &mark, &len) == 0 &&
	       mark == MARK_VALUE;
}

/* The next number of "1/2/3", and the text behind its slash. Return: NULL when there is none. */
static const char *next_number(const char *text, uint32_t *value)
{
	char digits[sizeof("4294967295")];
	size_t len = text != NULL ? strcspn(text, "/") : sizeof(digits);

	if (len >= sizeof(digits))
		return NULL;
	memcpy(digits, text, len);
	digits[len] = '\0';
	if (number_u32(digits, UINT32_MAX, value) < 0)
		return NULL;
	return text[len] == '/' ? text + len + 1 : text + len;
}

static void read_own_name(const char *name, struct stream *stream)
{
	uint32_t port = 0;
	uint32_t cid = 0;
	uint32_t peer_port = 0;
	const char *at;

	if (strncmp(name, "b/", 2) == 0 && next_number(name + 2, &port) != NULL) {
		stream->state = STREAM_BOUND;
		stream->local = vm_address(VMADDR_CID_ANY, port);
	} else if (strncmp(name, "c/", 2) == 0) {
		at = next_number(name + 2, &port);
		at = next_number(at, &cid);
		at = next_number(at, &peer_port);
		if (at == NULL)
			return;
		stream->state = STREAM_CONNECTED;
		stream->local = vm_address(VMADDR_CID_HOST, port);
		stream->peer = vm_address(cid, peer_port);
	}
}

/* A number for the port that the guest's end has and we cannot know. */
static uint32_t made_up_port(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	(void)REAL(getsockopt)(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return (uint32_t)(cookie % (VMADDR_PORT_ANY - FIRST_FREE_PORT)) + FIRST_FREE_PORT;
}

static void look(int fd, struct stream *stream)
{
	/* A name may fill sun_path without a 0 behind it. */
	union {
		struct sockaddr_un un;
		char bytes[sizeof(struct sockaddr_un) + 1];
	} name = { .bytes = { 0 } };
	const struct guests_entry *guest;
	socklen_t len = sizeof(name.un);
	uint32_t port = 0;

	if (!is_marked(fd) || REAL(getsockname)(fd, (struct sockaddr *)&name.un, &len) < 0)
		return;
	if (name.un.sun_family != AF_UNIX)
		return;
	name.bytes[len < sizeof(name.un) ? len : sizeof(name.un)] = '\0';
	stream->local = vm_address(VMADDR_CID_ANY, VMADDR_PORT_ANY);
	if (len <= offsetof(struct sockaddr_un, sun_path)) {
		stream->state = STREAM_NEW;
	} else if (name.un.sun_path[0] == '\0') {
		if (strncmp(name.un.sun_path + 1, NAME_PREFIX, strlen(NAME_PREFIX)) == 0)
			read_own_name(name.un.sun_path + 1 + strlen(NAME_PREFIX), stream);
	} else {
		guest = guests_find_path(stream_guests(), name.un.sun_path, &port);
		if (guest == NULL)
			return;
		stream->state = STREAM_ACCEPTED;
		stream->local = vm_address(VMADDR_CID_HOST, port);
		stream->peer = vm_address(guest->cid, made_up_port(fd));
	}
}

void stream_look(int fd, struct stream *stream)
{
	int saved_errno = errno;

	*stream = (struct stream){ .state = STREAM_OTHER };
	look(fd, stream);
	errno = saved_errno;
}

/* Give a socket an abstract name. Return: 0 or -errno. */
static int set_name(int fd, const char *rest)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int len = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, NAME_PREFIX "%s",
			   rest);

	if (REAL(bind)(fd, (const struct sockaddr *)&address,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) < 0)
		return -errno;
	return 0;
}

static int fail(int err)
{
	errno = -err;
	return -1;
}

int stream_socket(int type, int protocol)
{
	int base = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
	int fd;

	if (base != SOCK_STREAM && base != SOCK_SEQPACKET)
		return fail(-ESOCKTNOSUPPORT);
	if (protocol != 0 && protocol != PF_VSOCK)
		return fail(-EPROTONOSUPPORT);
	fd = REAL(socket)(AF_UNIX, type, 0);
	if (fd >= 0)
		stream_mark(fd);
	return fd;
}

/* A new socket in the place of one that is spent, with the same flags. Return: 0 or -errno. */
static int renew(int fd)
{
	static const int kept[] = { SO_RCVTIMEO, SO_SNDTIMEO };
	int flags = REAL(fcntl)(fd, F_GETFL);
	int cloexec = REAL(fcntl)(fd, F_GETFD);
	struct timeval value;
	socklen_t len;
	int fresh;
	int err = 0;

	if (flags < 0 || cloexec < 0)
		return -errno;
	fresh = stream_socket(stream_type(fd) | SOCK_CLOEXEC |
				      ((flags & O_NONBLOCK) != 0 ? SOCK_NONBLOCK : 0),
			      0);
	if (fresh < 0)
		return -errno;
	for (size_t i = 0; i < array_size(kept); i++) {
		len = sizeof(value);
		if (REAL(getsockopt)(fd, SOL_SOCKET, kept[i], &value, &len) == 0)
			(void)REAL(setsockopt)(fresh, SOL_SOCKET, kept[i], &value, len);
	}
	if (REAL(dup3)(fresh, fd, (cloexec & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0) < 0)
		err = -errno;
	REAL(close)(fresh);
	return err;
}

/* As the kernel's: a daemon that is not there is a device that is not there. */
static int connect_error(int err)
{
	return err == -ENOENT || err == -ECONNREFUSED ? -ENODEV : err;
}

static void name_connected(int fd, uint32_t port, const struct sockaddr_vm *to)
{
	char name[64];
	uint64_t unique = 0;

	/* Two daemons may have a guest of the same CID. */
	(void)!getrandom(&unique, sizeof(unique), GRND_NONBLOCK);
	snprintf(name, sizeof(name), "c/%u/%u/%u/%llx", port, to->svm_cid, to->svm_port,
		 (unsigned long long)unique);
	/* Without a name it works all the same, but cannot tell its addresses. */
	(void)set_name(fd, name);
}

/* To the socket of the VM that is for this type. Return: 0 or -errno, as hybrid_connect(). */
static int ask_guest(int fd, const struct guests_entry *guest, uint32_t port, uint32_t *own_port)
{
	char path[GUESTS_PATH_MAX + sizeof(HOST_SEQPACKET_SUFFIX)];

	snprintf(path, sizeof(path), "%s%s", guest->path,
		 stream_type(fd) == SOCK_SEQPACKET ? HOST_SEQPACKET_SUFFIX : "");
	return hybrid_connect(fd, path, port, HYBRID_TIMEOUT_MS, guest->ack ? own_port : NULL);
}

int stream_connect(int fd, const struct sockaddr_vm *to)
{
	const struct guests_entry *guest = guests_find(stream_guests(), to->svm_cid);
	struct stream stream;
	uint32_t port = VMADDR_PORT_ANY; /* unless the daemon tells */
	int err = 0;

	stream_look(fd, &stream);
	if (stream.state == STREAM_OTHER)
		return fail(-EAFNOSUPPORT);
	if (stream.state == STREAM_CONNECTED || stream.state == STREAM_ACCEPTED)
		return fail(-EISCONN);
	if (guest == NULL)
		return fail(-ENODEV);
	/* The name that a bound one has cannot be changed. */
	if (stream.state == STREAM_BOUND)
		err = renew(fd);
	if (err == 0)
		err = ask_guest(fd, guest, to->svm_port, &port);
	if (err < 0) {
		/* The program may try again with the same descriptor. */
		(void)renew(fd);
		return fail(connect_error(err));
	}
	name_connected(fd, stream.state == STREAM_BOUND ? stream.local.svm_port : port, to);
	return 0;
}

/*
 * Ports belong to a set of guests: programs that were told of other ones do not share them. Those
 * that listen without this library are met at listen(2).
 */
static uint64_t guests_hash(void)
{
	const char *text = getenv(GUESTS_VARIABLE);
	uint64_t hash = FNV_BASIS;

	for (; text != NULL && *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * FNV_PRIME;
	return hash;
}

static int bind_port(int fd, uint32_t port)
{
	char name[64];

	snprintf(name, sizeof(name), "b/%u/%llx", port, (unsigned long long)guests_hash());
	return set_name(fd, name);
}

static int bind_any(int fd)
{
	int err = -EADDRINUSE;

	for (unsigned int i = 0; i < PORT_TRIES && err == -EADDRINUSE; i++) {
		uint32_t port = 0;

		if (getrandom(&port, sizeof(port), GRND_NONBLOCK) != (ssize_t)sizeof(port))
			return -EADDRNOTAVAIL;
		err = bind_port(fd, port % (INT32_MAX - FIRST_FREE_PORT) + FIRST_FREE_PORT);
	}
	return err;
}

int stream_bind(int fd, const struct sockaddr_vm *at)
{
	struct stream stream;
	int err;

	stream_look(fd, &stream);
	if (stream.state == STREAM_OTHER)
		return fail(-EAFNOSUPPORT);
	if (stream.state != STREAM_NEW)
		return fail(-EINVAL);
	if (at->svm_cid != VMADDR_CID_ANY && at->svm_cid != VMADDR_CID_HOST)
		return fail(-EADDRNOTAVAIL);
	err = at->svm_port == VMADDR_PORT_ANY ? bind_any(fd) : bind_port(fd, at->svm_port);
	return err < 0 ? fail(err) : 0;
}
