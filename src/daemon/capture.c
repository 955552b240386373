// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * capture.c - from the packets of a VM to a client's socket.
 *
 * Theory of operation
 *
 * A tap on the VM's device writes records into a ring; the main thread sends
 * what is in the ring when the socket takes it. Nobody waits: without room in
 * the ring the packet is lost for the capture, and counted. Each record tells
 * how many were lost before it.
 *
 * The tap's lock orders the owner of the VM and siblings' owners, who write to
 * the same ring. It is held for the copy of one packet, and nothing is locked
 * under it; one of the locks of ADR 0001 may be held above it.
 *
 * One message about packets at a time is on its way to the main thread. It stays
 * "posted" while the socket takes nothing, so that a stalled reader costs no
 * wake-ups. It has one of few places, so it does not keep it for ever: who takes
 * nothing for CAPTURE_READER_MS while there is something is dropped, which the log
 * says; the stream then ends without its last record.
 *
 * A capture ends when the client shuts its side down or goes away, or when the
 * VM ends. The tap goes first, then what is in the ring is sent and a last
 * record with the number of lost packets. It is freed when no message can be on
 * its way any more.
 */
#include "daemon/capture.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "daemon/manager.h"

#define PUMP_BYTES (1024u * 1024u) /* a turn; then it is the other clients' */

struct capture {
	struct captures *captures;
	struct list node;
	struct tap tap;
	struct vm *vm; /* NULL: the tap is not on it any more */
	struct capture_wish wish;
	char tag[VM_TAG_BYTES]; /* of lines in the log */

	pthread_mutex_t lock; /* of those who write */
	struct capture_ring ring;
	uint64_t lost;
	bool gone;   /* atomic: the VM has ended, the tap with it */
	bool posted; /* atomic: ready is on its way, or held */
	struct loop_msg ready;
	struct loop_msg farewell; /* once, when gone is set */

	bool held;   /* ready has come and is not to be posted again */
	bool ending; /* only what is in the ring is sent yet */
	bool ended;  /* its last record, too */
	bool closed; /* to be freed when no message is on its way */
	bool parted; /* farewell has come */
	uint32_t events;
	struct loop_source source;
	struct timer stall;
};

/* --- where the packets are --- */

static bool is_wanted(const struct capture_wish *wish, const uint8_t header[VSOCK_HDR_BYTES])
{
	struct pkt pkt;

	if (wish->port_count == 0)
		return true;
	pkt_decode(&pkt, header);
	for (uint32_t i = 0; i < wish->port_count; i++) {
		if (wish->ports[i] == pkt.src_port || wish->ports[i] == pkt.dst_port)
			return true;
	}
	return false;
}

static struct capture_note take_note(const struct capture *capture)
{
	struct timespec now = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (struct capture_note){
		.time_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec,
		.lost = capture->lost,
		.snaplen = capture->wish.snaplen,
	};
}

static void post(struct capture *capture)
{
	if (!__atomic_exchange_n(&capture->posted, true, __ATOMIC_ACQ_REL))
		loop_post(capture->captures->loop, &capture->ready);
}

static enum tap_result on_packet(struct tap *tap, const uint8_t header[VSOCK_HDR_BYTES],
				 struct iov_cursor payload)
{
	struct capture *capture = container_of(tap, struct capture, tap);
	struct capture_note note;
	bool kept;

	if (!is_wanted(&capture->wish, header))
		return TAP_SKIPPED;
	pthread_mutex_lock(&capture->lock);
	note = take_note(capture);
	kept = capture_ring_packet(&capture->ring, &note, header, payload);
	if (!kept)
		capture->lost++;
	pthread_mutex_unlock(&capture->lock);
	if (kept)
		post(capture);
	return kept ? TAP_KEPT : TAP_LOST;
}

static void on_gone(struct tap *tap)
{
	struct capture *capture = container_of(tap, struct capture, tap);

	__atomic_store_n(&capture->gone, true, __ATOMIC_RELEASE);
	loop_post(capture->captures->loop, &capture->farewell);
}

static void attach(struct vm *vm, void *arg)
{
	vm_add_tap(vm, arg);
}

static void detach(struct vm *vm, void *arg)
{
	vm_remove_tap(vm, arg);
}

/* --- the main thread --- */

/* Afterwards nobody writes. A VM that has gone was taken out by this thread. */
static void remove_tap(struct capture *capture)
{
	/* What was freed is off the list. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	if (capture->vm != NULL && !__atomic_load_n(&capture->gone, __ATOMIC_ACQUIRE))
		manager_call(capture->vm, detach, &capture->tap);
	capture->vm = NULL;
}

static void destroy(struct capture *capture)
{
	list_remove(&capture->node);
	pthread_mutex_destroy(&capture->lock);
	free(capture);
}

/* Whether a message of it will come yet. */
static bool is_awaited(const struct capture *capture)
{
	if (__atomic_load_n(&capture->gone, __ATOMIC_ACQUIRE) && !capture->parted)
		return true;
	return __atomic_load_n(&capture->posted, __ATOMIC_ACQUIRE) && !capture->held;
}

static void end_capture(struct capture *capture)
{
	struct loop *loop = capture->captures->loop;
	int fd = capture->source.fd;

	remove_tap(capture);
	loop_del(loop, &capture->source);
	loop_disarm(loop, &capture->stall);
	fd_close(&fd);
	capture_ring_fini(&capture->ring);
	capture->captures->count--;
	capture->closed = true;
	if (!is_awaited(capture))
		destroy(capture);
}

/* No further packets; what there is has to be read. Return: 0 or -ENOMEM. */
static int begin_end(struct capture *capture)
{
	if (capture->ending)
		return 0;
	remove_tap(capture);
	capture->ending = true;
	return loop_arm(capture->captures->loop, &capture->stall, CAPTURE_STALL_MS);
}

/* Return: bytes sent, 0 when the socket takes none, -errno. */
static ssize_t send_some(struct capture *capture)
{
	struct iovec spans[2];
	struct msghdr msg = { .msg_iov = spans };
	ssize_t sent;

	msg.msg_iovlen = capture_ring_spans(&capture->ring, spans);
	sent = sendmsg(capture->source.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	capture_ring_consume(&capture->ring, (size_t)sent);
	return sent;
}

/* When all else is sent. */
static void put_end(struct capture *capture)
{
	const struct capture_note note = take_note(capture);

	/* into an empty ring */
	capture->ended = capture_ring_end(&capture->ring, &note);
}

/* What is left must be taken in time; @progress: some was. Return: 0 or -ENOMEM. */
static int limit_stall(struct capture *capture, bool progress)
{
	struct loop *loop = capture->captures->loop;

	if (!capture->ending && capture_ring_is_empty(&capture->ring)) {
		loop_disarm(loop, &capture->stall);
		return 0;
	}
	if (!progress && timer_is_armed(&capture->stall))
		return 0;
	return loop_arm(loop, &capture->stall,
			capture->ending ? CAPTURE_STALL_MS : CAPTURE_READER_MS);
}

/* Send up to PUMP_BYTES. Return: 0; -errno: it is over. */
static int pump(struct capture *capture)
{
	size_t done = 0;
	ssize_t sent = 1;

	while (sent > 0 && done < PUMP_BYTES) {
		if (capture->ending && !capture->ended && capture_ring_is_empty(&capture->ring))
			put_end(capture);
		if (capture_ring_is_empty(&capture->ring))
			break;
		sent = send_some(capture);
		done += sent > 0 ? (size_t)sent : 0;
	}
	if (sent < 0)
		return (int)sent;
	if (capture->ended && capture_ring_is_empty(&capture->ring))
		return -ESHUTDOWN;
	return limit_stall(capture, done > 0);
}

/* Wait for what comes next: the socket if something is left, else a message. */
static int watch(struct capture *capture)
{
	uint32_t events = capture->ending ? 0 : EPOLLIN;

	if (capture_ring_is_empty(&capture->ring) && capture->held) {
		capture->held = false;
		(void)__atomic_exchange_n(&capture->posted, false, __ATOMIC_ACQ_REL);
	}
	/* again: something may have come meanwhile; the last record is still to come */
	if (!capture_ring_is_empty(&capture->ring) || capture->ending)
		events |= EPOLLOUT;
	if (events == capture->events)
		return 0;
	capture->events = events;
	return loop_modify(capture->captures->loop, &capture->source, events);
}

static void go_on(struct capture *capture)
{
	int err = 0;

	if (capture->source.fd < 0) /* its client has not read the answer yet */
		return;
	if (__atomic_load_n(&capture->gone, __ATOMIC_ACQUIRE))
		err = begin_end(capture);
	if (err == 0)
		err = pump(capture);
	if (err == 0)
		err = watch(capture);
	if (err < 0)
		end_capture(capture);
}

/* A socket says that there is room only when most of it is: look whether there is some. */
static void on_stall(struct timer *timer)
{
	struct capture *capture = container_of(timer, struct capture, stall);

	if (!capture->ending && send_some(capture) > 0) {
		go_on(capture);
		return;
	}
	if (!capture->ending)
		log_warning(capture->tag, "the reader of a capture took nothing for %u s: dropped",
			    CAPTURE_READER_MS / 1000);
	end_capture(capture);
}

static void came(struct capture *capture)
{
	if (!capture->closed)
		go_on(capture);
	else if (!is_awaited(capture))
		destroy(capture);
}

static void on_ready(struct loop_msg *msg)
{
	struct capture *capture = container_of(msg, struct capture, ready);

	capture->held = true;
	came(capture);
}

static void on_farewell(struct loop_msg *msg)
{
	struct capture *capture = container_of(msg, struct capture, farewell);

	capture->parted = true;
	came(capture);
}

/* A client says nothing more; its end of file asks for the last record. */
static int listen_to(struct capture *capture)
{
	char dropped[256];
	ssize_t got = recv(capture->source.fd, dropped, sizeof(dropped), MSG_DONTWAIT);

	if (got == 0)
		return begin_end(capture);
	return got < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
}

static void on_client(struct loop_source *source, uint32_t events)
{
	struct capture *capture = container_of(source, struct capture, source);

	if ((events & (EPOLLERR | EPOLLHUP)) != 0 ||
	    ((events & EPOLLIN) != 0 && listen_to(capture) < 0))
		end_capture(capture);
	else
		go_on(capture);
}

void capture_stream(void *ctx, int fd)
{
	struct capture *capture = ctx;

	capture->events = EPOLLIN;
	if (fd < 0 || loop_add(capture->captures->loop, &capture->source, fd, EPOLLIN) < 0) {
		fd_close(&fd);
		end_capture(capture);
		return;
	}
	go_on(capture);
}

int capture_begin(struct captures *captures, struct vm *vm, const struct capture_wish *wish,
		  struct capture **made)
{
	struct capture *capture;

	if (captures->count >= CAPTURE_MAX)
		return -EBUSY;
	capture = calloc(1, sizeof(*capture));
	if (capture == NULL || capture_ring_init(&capture->ring) < 0) {
		free(capture);
		return -ENOMEM;
	}
	capture->captures = captures;
	capture->vm = vm;
	(void)vm_tag(capture->tag, vm_cid(vm));
	capture->wish = *wish;
	capture->tap.packet = on_packet;
	capture->tap.gone = on_gone;
	capture->ready.deliver = on_ready;
	capture->farewell.deliver = on_farewell;
	capture->source.fd = -1;
	capture->source.on_event = on_client;
	capture->stall.on_expire = on_stall;
	pthread_mutex_init(&capture->lock, NULL);
	list_append(&captures->all, &capture->node);
	captures->count++;
	manager_call(vm, attach, &capture->tap);
	*made = capture;
	return 0;
}

void captures_open(struct captures *captures, struct loop *loop)
{
	captures->loop = loop;
	list_init(&captures->all);
}

void captures_close(struct captures *captures)
{
	if (captures->loop == NULL)
		return;
	while (!list_empty(&captures->all)) {
		struct capture *capture = list_first(&captures->all, struct capture, node);

		/* the loop delivers nothing any more */
		remove_tap(capture);
		capture->held = true;
		capture->parted = true;
		if (capture->closed)
			destroy(capture);
		else
			end_capture(capture);
	}
	captures->loop = NULL;
}
