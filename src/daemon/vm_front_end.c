// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vm_front_end.c - where a VM's front-ends come from: a socket that we listen
 * at, a VMM that listens and that we dial, or a socket that the parent handed
 * over. Knows nothing of what they say.
 *
 * Theory of operation
 *
 * A listener serves one front-end after the other; one at a time.
 *
 * As a client we dial, through a door of the broker that leads to this one path
 * (door.h), or by ourselves where there is no broker. Nothing waits: a VMM that
 * is not there, or that goes, is dialled again after a pause that doubles from
 * DIAL_PAUSE_MIN_MS to DIAL_PAUSE_MAX_MS. A session in which the VMM said
 * anything makes the pause short again.
 *
 * A connected socket of the parent is the one front-end this VM ever has.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "daemon/vm_internal.h"
#include "host/unix_listener.h"

#define ACCEPT_PAUSE_MS 100u
#define DIAL_PAUSE_MIN_MS 50u
#define DIAL_PAUSE_MAX_MS 1000u

static void serve_front_end(struct vm *vm, int fd)
{
	uint64_t now = loop_now_ms(vm->loop);

	if (!peer_allowed(&vm->set->peers, fd)) {
		log_limited(&vm->refusals, now, LOG_WARNING, vm->tag,
			    "a front-end was refused: its user is not in --allow-uid");
		fd_close(&fd);
		return;
	}
	/* one that is gone, or never said anything, does not block the next */
	if (vm->session != NULL &&
	    (vu_session_hung_up(vm->session) || !vu_session_has_spoken(vm->session)))
		vm_end_session(vm, "replaced by a new front-end");
	if (vm->session != NULL) {
		log_limited(&vm->refusals, now, LOG_WARNING, vm->tag,
			    "a second front-end was refused: one is being served");
		fd_close(&fd);
		return;
	}
	vm->session = vu_session_new(vm->loop, fd, &vm->vu_ops, vm, vm->tag);
	if (vm->session == NULL)
		log_limited(&vm->refusals, now, LOG_WARNING, vm->tag, "front-end refused: %s",
			    strerror(errno));
	else
		log_limited(&vm->front_ends, now, LOG_NOTICE, vm->tag, "front-end connected");
}

static void on_front_end(struct loop_source *source, uint32_t events)
{
	struct vm *vm = container_of(source, struct vm, front.accept);
	int fd = accept4(vm->front.listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0) {
		serve_front_end(vm, fd);
		return;
	}
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
		return;
	log_limited(&vm->refusals, loop_now_ms(vm->loop), LOG_WARNING, vm->tag,
		    "cannot accept a front-end for now: %s", strerror(errno));
	/* the timer first: a listener that nothing would wake again were lost */
	if (loop_arm(vm->loop, &vm->front.timer, ACCEPT_PAUSE_MS) == 0)
		(void)!loop_modify(vm->loop, &vm->front.accept, 0);
}

static void resume_accepting(struct vm *vm)
{
	if (loop_modify(vm->loop, &vm->front.accept, EPOLLIN) < 0)
		(void)!loop_arm(vm->loop, &vm->front.timer, ACCEPT_PAUSE_MS);
}

/* --- the VMM listens --- */

static void dial_later(struct vm *vm)
{
	struct vm_front *front = &vm->front;

	if (front->pause_ms == 0)
		front->pause_ms = DIAL_PAUSE_MIN_MS;
	if (loop_arm(vm->loop, &front->timer, front->pause_ms) < 0)
		log_limited(&vm->refusals, loop_now_ms(vm->loop), LOG_WARNING, vm->tag,
			    "no memory: the VMM is not dialled any more");
	front->pause_ms = min_u32(front->pause_ms * 2, DIAL_PAUSE_MAX_MS);
}

/* @fd: connected; or why it is not, a -errno */
static void take_dialled(struct vm *vm, int fd)
{
	if (fd >= 0) {
		serve_front_end(vm, fd);
	} else if (fd != -ENOENT && fd != -ECONNREFUSED) {
		log_limited(&vm->refusals, loop_now_ms(vm->loop), LOG_WARNING, vm->tag,
			    "cannot connect to the VMM at %s: %s", vm_config(vm)->socket,
			    strerror(-fd));
	}
	if (vm->session == NULL)
		dial_later(vm);
}

static void on_dialled(struct door_caller *caller, int err, int fd)
{
	take_dialled(container_of(caller, struct vm, front.caller), err < 0 ? err : fd);
}

static void dial(struct vm *vm)
{
	struct vm_front *front = &vm->front;
	int err;

	if (!front->door.used) {
		take_dialled(vm, unix_dial(vm_config(vm)->socket, SOCK_STREAM, true));
		return;
	}
	err = door_call(&front->door, &front->caller, 0, SOCK_STREAM);
	if (err < 0)
		take_dialled(vm, err);
}

/* --- life --- */

static void on_timer(struct timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, front.timer);

	if (vm_config(vm)->dials)
		dial(vm);
	else
		resume_accepting(vm);
}

void vm_init_front_end(struct vm *vm)
{
	vm->front.listener.fd = -1;
	vm->front.accept.fd = -1;
	vm->front.accept.on_event = on_front_end;
	vm->front.timer.on_expire = on_timer;
	vm->front.lent_fd = -1;
	vm->front.door_fd = -1;
	vm->front.door.fd = -1;
}

void vm_explain(char *why, const char *what, int err)
{
	snprintf(why, VM_WHY_BYTES, "%s: %s", what, unix_listener_why(err));
}

/* A socket that somebody else made: it listens, or a VMM is at its other end. */
static int take_over(struct vm *vm, int fd)
{
	socklen_t len = sizeof(int);
	int listens = 0;
	int err = fd_set_nonblocking(fd);

	if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0)
		err = -errno;
	if (err < 0)
		return err;
	if (listens)
		vm->front.listener = (struct unix_listener){ .fd = fd, .dir_fd = -1, .lent = true };
	else
		vm->front.lent_fd = fd;
	return 0;
}

int vm_open_front_end(struct vm *vm, char *why)
{
	const struct vm_config *config = vm_config(vm);
	struct broker *broker = vm->set->broker;
	int err;

	if (config->fd != 0) {
		err = take_over(vm, (int)config->fd);
		if (err < 0)
			snprintf(why, VM_WHY_BYTES, "fd %u: %s", config->fd, strerrordesc_np(-err));
		return err;
	}
	if (config->dials) {
		err = broker_open_vmm_door(broker, config->socket, &vm->front.door_fd);
		if (err < 0)
			snprintf(why, VM_WHY_BYTES, "%s: its directory: %s", config->socket,
				 strerrordesc_np(-err));
		return err;
	}
	err = broker_listen(broker, &vm->front.listener, config->socket, SOCK_STREAM);
	if (err < 0)
		vm_explain(why, config->socket, err);
	return err;
}

int vm_start_front_end(struct vm *vm)
{
	struct vm_front *front = &vm->front;
	int err;

	if (front->listener.fd >= 0)
		return loop_add(vm->loop, &front->accept, front->listener.fd, EPOLLIN);
	if (vm_config(vm)->dials) {
		err = door_open(&front->door, vm->loop, fd_take(&front->door_fd), on_dialled);
		if (err == 0)
			dial(vm);
		return err;
	}
	serve_front_end(vm, fd_take(&front->lent_fd));
	if (vm->session == NULL)
		vm_set_leave(vm->set);
	return 0;
}

void vm_front_end_gone(struct vm *vm, bool spoke)
{
	if (vm->front.listener.fd >= 0)
		return;
	if (spoke)
		vm->front.pause_ms = 0;
	if (vm_config(vm)->dials)
		dial_later(vm);
	else
		vm_set_leave(vm->set);
}

void vm_stop_front_end(struct vm *vm)
{
	loop_del(vm->loop, &vm->front.accept);
	loop_disarm(vm->loop, &vm->front.timer);
	door_cancel(&vm->front.door, &vm->front.caller);
	door_close(&vm->front.door);
}

void vm_close_front_end(struct vm *vm)
{
	broker_unlisten(vm->set->broker, &vm->front.listener);
	fd_close(&vm->front.lent_fd);
	fd_close(&vm->front.door_fd);
}

bool vm_has_lent_session(const struct vm *vm)
{
	return vm_config(vm)->fd != 0 && vm->front.listener.fd < 0;
}
