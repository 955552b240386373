// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * host.c - listening sockets of the host side: accepts clients and hands them
 * to host_conn.c. Knows nothing of connections.
 *
 * Listeners are level-triggered: what one turn leaves comes again in the next.
 * When descriptors run out a listener is not watched for ACCEPT_PAUSE_MS, since
 * a client that cannot be accepted would otherwise wake us for ever.
 */
#include "host/host.h"

#include <sys/socket.h> /* first: older kernels' vm_sockets.h needs it */

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/log.h"

#define ACCEPTS_PER_TURN 64
#define ACCEPT_PAUSE_MS 100u
#define VSOCK_BACKLOG 128

static uint32_t peer_port(const struct host_listener *listener, const struct sockaddr_vm *peer)
{
	return listener->host->forward_cid == 0 ? 0 : peer->svm_port;
}

static void pause_accepting(struct host_listener *listener, int err)
{
	struct loop *loop = listener->host->loop;

	log_limited(&listener->host->scarcity, loop_now_ms(loop), LOG_WARNING, listener->host->tag,
		    "cannot accept host programs for now: %s", strerror(err));
	/* the timer first: a listener that nothing would wake again were lost */
	if (loop_arm(loop, &listener->resume, ACCEPT_PAUSE_MS) == 0)
		(void)!loop_modify(loop, &listener->source, 0);
}

static void resume_accepting(struct timer *timer)
{
	struct host_listener *listener = container_of(timer, struct host_listener, resume);

	if (loop_modify(listener->host->loop, &listener->source, EPOLLIN) < 0)
		(void)!loop_arm(listener->host->loop, timer, ACCEPT_PAUSE_MS);
}

/* Whether a client is let in; if not it is closed. */
static bool admit(struct host *host, int fd)
{
	if (peer_allowed(host->peers, fd))
		return true;
	log_limited(&host->refusals, loop_now_ms(host->loop), LOG_WARNING, host->tag,
		    "a host program was refused: its user is not in --allow-uid");
	fd_close(&fd);
	return false;
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct host_listener *listener = container_of(source, struct host_listener, source);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_vm peer = { 0 };
		socklen_t len = sizeof(peer);
		struct sockaddr *address = (struct sockaddr *)&peer;
		bool is_vsock = listener->host->forward_cid != 0;
		int fd = accept4(listener->fd, is_vsock ? address : NULL, is_vsock ? &len : NULL,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
			pause_accepting(listener, errno);
		if (fd < 0)
			return;
		if (admit(listener->host, fd))
			host_conn_accepted(listener->host, fd, listener,
					   peer_port(listener, &peer));
	}
}

static void add_listener(struct host *host, int fd, uint32_t guest_port, bool seqpacket)
{
	host->listeners[host->listener_count++] = (struct host_listener){
		.source = { .on_event = on_client, .fd = -1 },
		.resume.on_expire = resume_accepting,
		.host = host,
		.guest_port = guest_port,
		.seqpacket = seqpacket,
		.fd = fd,
	};
}

/* Clients whose messages are to keep their bounds come to a path of their own. */
static int open_uds_seqpacket(struct host *host, const char *path, char *culprit)
{
	char longer[sizeof(host->dial.sun_path) + sizeof(HOST_SEQPACKET_SUFFIX)];
	int err;

	snprintf(longer, sizeof(longer), "%s" HOST_SEQPACKET_SUFFIX, path);
	snprintf(culprit, HOST_CULPRIT_BYTES, "%s", longer);
	err = broker_listen(host->broker, &host->uds_seqpacket, longer, SOCK_SEQPACKET);
	if (err < 0)
		return err;
	fd_refuse_rights(host->uds_seqpacket.fd);
	add_listener(host, host->uds_seqpacket.fd, 0, true);
	return 0;
}

static int open_uds(struct host *host, const char *path, char *culprit)
{
	int err;

	snprintf(culprit, HOST_CULPRIT_BYTES, "%s", path);
	err = unix_address(&host->dial, path);
	if (err < 0)
		return err;
	host->dial_prefix = strlen(path) + 1;
	host->dial.sun_path[host->dial_prefix - 1] = '_';
	err = broker_listen(host->broker, &host->uds, path, SOCK_STREAM);
	if (err < 0)
		return err;
	fd_refuse_rights(host->uds.fd);
	add_listener(host, host->uds.fd, 0, false);
	err = open_uds_seqpacket(host, path, culprit);
	return err < 0 ? err : broker_open_door(host->broker, path, &host->door_fd);
}

/* The reference listens on every CID this host answers to, so do we. */
static int open_vsock(struct host *host, const struct forward_port *from)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = from->port,
	};
	int type = from->seqpacket ? SOCK_SEQPACKET : SOCK_STREAM;
	int fd scoped_fd =
		passed_take(host->broker->params.passed, (struct sockaddr *)&address, type);

	if (fd >= 0) {
		add_listener(host, fd_take(&fd), from->port, from->seqpacket);
		return 0;
	}
	fd = socket(AF_VSOCK, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, VSOCK_BACKLOG) < 0)
		return -errno;
	add_listener(host, fd_take(&fd), from->port, from->seqpacket);
	return 0;
}

static int open_forwards(struct host *host, const struct host_params *params, char *culprit)
{
	for (size_t i = 0; i < params->forward_listen_count; i++) {
		int err;

		snprintf(culprit, HOST_CULPRIT_BYTES, "AF_VSOCK port %u",
			 params->forward_listen[i].port);
		err = open_vsock(host, &params->forward_listen[i]);
		if (err < 0)
			return err;
	}
	return 0;
}

int host_open(struct host *host, const struct host_params *params, char *culprit)
{
	size_t count = params->uds_path != NULL ? 2 : params->forward_listen_count;
	int err;

	memset(host, 0, sizeof(*host));
	host->uds.fd = -1;
	host->door.fd = -1;
	host->door_fd = -1;
	host->uds_seqpacket.fd = -1;
	host->loop = params->loop;
	host->broker = params->broker;
	host->peers = params->peers;
	host->device = params->device;
	host->tag = params->tag;
	host->forward_cid = params->forward_cid;
	host->silent = params->silent;
	snprintf(culprit, HOST_CULPRIT_BYTES, "memory");
	host->listeners = calloc(count + 1, sizeof(*host->listeners));
	if (host->listeners == NULL)
		return -ENOMEM;
	if (params->uds_path != NULL)
		err = open_uds(host, params->uds_path, culprit);
	else
		err = open_forwards(host, params, culprit);
	if (err < 0)
		host_close(host);
	return err;
}

int host_start(struct host *host)
{
	int err = door_open(&host->door, host->loop, host->door_fd, host_conn_dialled);

	host->door_fd = -1;
	for (size_t i = 0; i < host->listener_count && err == 0; i++) {
		struct host_listener *listener = &host->listeners[i];

		err = loop_add(host->loop, &listener->source, listener->fd, EPOLLIN);
	}
	return err;
}

void host_stop(struct host *host)
{
	for (size_t i = 0; i < host->listener_count; i++) {
		loop_del(host->loop, &host->listeners[i].source);
		loop_disarm(host->loop, &host->listeners[i].resume);
	}
	door_close(&host->door);
}

void host_close(struct host *host)
{
	for (size_t i = 0; i < host->listener_count && host->forward_cid != 0; i++)
		fd_close(&host->listeners[i].fd);
	host->listener_count = 0;
	fd_close(&host->door_fd);
	broker_unlisten(host->broker, &host->uds);
	broker_unlisten(host->broker, &host->uds_seqpacket);
	free(host->listeners);
	host->listeners = NULL;
}
