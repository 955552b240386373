// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * activation.c - the start-up end of socket activation: what was passed, and
 * whether it is what the configuration asks for. Makes and removes nothing.
 *
 * The protocol is a few documented lines of sd_listen_fds(3), so no library is
 * used for it (docs/adr/0009-service-manager.md).
 */
#include "daemon/activation.h"

#include <sys/socket.h> /* first: older kernels' vm_sockets.h needs it */

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define NAME_ROOM 64u
#define VM_PREFIX "vm-"

/* One of the passed sockets while it is being judged. */
struct candidate {
	struct passed_socket socket;
	char name[NAME_ROOM];
	char where[UNIX_PATH_ROOM + 1]; /* its address, for people */
};

static unsigned long number_of(const char *variable)
{
	const char *text = getenv(variable);

	return text != NULL ? strtoul(text, NULL, 10) : 0;
}

unsigned int activation_count(void)
{
	if (number_of("LISTEN_PID") != (unsigned long)getpid())
		return 0;
	return (unsigned int)number_of("LISTEN_FDS");
}

static int refuse(const struct candidate *it, const char *what, const char *advice)
{
	log_error(NULL, "socket activation: '%s' at %s: %s: %s", it->name, it->where, what, advice);
	return -EINVAL;
}

/* --- what it is --- */

static void describe(struct candidate *it)
{
	const struct sockaddr_storage *address = &it->socket.address;
	const struct sockaddr_un *un = (const struct sockaddr_un *)address;
	const struct sockaddr_vm *vm = (const struct sockaddr_vm *)address;

	if (address->ss_family == AF_UNIX)
		(void)snprintf(it->where, sizeof(it->where), "%.*s", (int)sizeof(un->sun_path),
			       un->sun_path);
	else if (address->ss_family == AF_VSOCK)
		(void)snprintf(it->where, sizeof(it->where), "AF_VSOCK port %u", vm->svm_port);
	else
		(void)snprintf(it->where, sizeof(it->where), "a network address");
}

/* Take the next name off the list. */
static void next_name(struct candidate *it, const char **names)
{
	size_t len = *names != NULL ? strcspn(*names, ":") : 0;

	(void)snprintf(it->name, sizeof(it->name), "%.*s", (int)len, len > 0 ? *names : "");
	if (*names != NULL)
		*names = (*names)[len] == ':' ? *names + len + 1 : NULL;
}

static int examine(struct candidate *it, int fd)
{
	struct sockaddr *address = (struct sockaddr *)&it->socket.address;
	socklen_t length = sizeof(it->socket.address);
	socklen_t size = sizeof(int);
	int listens = 0;

	it->socket.fd = fd;
	(void)snprintf(it->where, sizeof(it->where), "descriptor %d", fd);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &it->socket.type, &size) < 0 ||
	    getsockname(fd, address, &length) < 0)
		return refuse(it, "no socket", "expected ListenStream= or ListenSequentialPacket=");
	describe(it);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || listens == 0)
		return refuse(it, "does not listen", "set Accept=no in its socket unit");
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return fd_set_nonblocking(fd);
}

/* --- what it should be --- */

static bool is_unix_at(const struct passed_socket *socket, const char *path, const char *suffix,
		       int type)
{
	const struct sockaddr_un *address = (const struct sockaddr_un *)&socket->address;
	size_t len = path != NULL ? strlen(path) : 0;

	return path != NULL && address->sun_family == AF_UNIX && socket->type == type &&
	       len < sizeof(address->sun_path) && strncmp(address->sun_path, path, len) == 0 &&
	       strncmp(address->sun_path + len, suffix, sizeof(address->sun_path) - len) == 0;
}

static bool is_forward_port(const struct passed_socket *socket, const struct forward_port *from)
{
	const struct sockaddr_vm *address = (const struct sockaddr_vm *)&socket->address;

	return address->svm_family == AF_VSOCK && address->svm_port == from->port &&
	       socket->type == (from->seqpacket ? SOCK_SEQPACKET : SOCK_STREAM);
}

static bool belongs_to(const struct passed_socket *socket, const struct vm_config *vm)
{
	for (size_t i = 0; i < vm->forward_listen_count; i++) {
		if (is_forward_port(socket, &vm->forward_listen[i]))
			return true;
	}
	return is_unix_at(socket, vm->socket, "", SOCK_STREAM) ||
	       is_unix_at(socket, vm->uds_path, "", SOCK_STREAM) ||
	       is_unix_at(socket, vm->uds_path, HOST_SEQPACKET_SUFFIX, SOCK_SEQPACKET);
}

static int check_vm(const struct candidate *it, const struct config *config)
{
	unsigned long cid = strtoul(it->name + strlen(VM_PREFIX), NULL, 10);
	const struct vm_config *vm = NULL;
	char canonical[NAME_ROOM];

	(void)snprintf(canonical, sizeof(canonical), VM_PREFIX "%lu", cid);
	for (size_t i = 0; i < config->vm_count && vm == NULL; i++) {
		if (config->vms[i].guest_cid == cid)
			vm = &config->vms[i];
	}
	if (vm == NULL || strcmp(it->name, canonical) != 0)
		return refuse(it, "no VM has this CID",
			      "add it to the configuration or disable the socket unit");
	if (!belongs_to(&it->socket, vm))
		return refuse(it, "no socket of this VM is there",
			      "expected its socket or uds-path (ListenStream=), or its uds-path "
			      "with " HOST_SEQPACKET_SUFFIX " (ListenSequentialPacket=)");
	return 0;
}

static int check_control(const struct candidate *it, const struct config *config)
{
	if (is_unix_at(&it->socket, config->control, "", SOCK_STREAM))
		return 0;
	return refuse(it, "not the control socket",
		      "start with --control and the path of ListenStream=");
}

static int check_metrics(const struct candidate *it, const struct config *config)
{
	struct passed_socket copy = it->socket;
	const struct passed_sockets one = { .sockets = &copy, .count = 1 };
	struct config_endpoint endpoint;
	int fd = -ENOENT;

	if (config->metrics != NULL && config_parse_endpoint(&endpoint, config->metrics) == 0)
		fd = passed_take(&one, &endpoint.sa, SOCK_STREAM);
	if (fd < 0)
		return refuse(it, "not the endpoint of metrics",
			      "start with --metrics and the address of ListenStream=");
	fd_close(&fd);
	return 0;
}

static int check(const struct candidate *it, const struct config *config)
{
	if (strncmp(it->name, VM_PREFIX, strlen(VM_PREFIX)) == 0)
		return check_vm(it, config);
	if (strcmp(it->name, "control") == 0)
		return check_control(it, config);
	if (strcmp(it->name, "metrics") == 0)
		return check_metrics(it, config);
	return refuse(it, "unknown name",
		      "set FileDescriptorName= of its socket unit to vm-CID, control or metrics");
}

static int check_unique(const struct candidate *it, const struct passed_sockets *passed)
{
	int fd = passed_take(passed, (const struct sockaddr *)&it->socket.address, it->socket.type);

	if (fd == -ENOENT)
		return 0;
	fd_close(&fd);
	return refuse(it, "passed twice", "let only one socket unit have this address");
}

static int load_one(struct passed_sockets *passed, const struct config *config, int fd,
		    const char **names)
{
	struct candidate it = { 0 };
	int err;

	next_name(&it, names);
	err = examine(&it, fd);
	if (err == 0)
		err = check(&it, config);
	if (err == 0)
		err = check_unique(&it, passed);
	if (err == 0)
		passed->sockets[passed->count++] = it.socket;
	return err;
}

int activation_load(struct passed_sockets *passed, const struct config *config, unsigned int count,
		    const char *names)
{
	int err = 0;

	*passed = (struct passed_sockets){ 0 };
	if (count > 0)
		passed->sockets = calloc(count, sizeof(*passed->sockets));
	if (count > 0 && passed->sockets == NULL)
		err = -ENOMEM;
	for (unsigned int i = 0; i < count && err == 0; i++)
		err = load_one(passed, config, ACTIVATION_FIRST_FD + (int)i, &names);
	if (err < 0)
		passed_close(passed);
	if (err < 0 && err != -EINVAL)
		log_error(NULL, "socket activation: %s", strerror(-err));
	return err;
}
