// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * w_base.c - what the machine does without a daemon: the limits that ratios are
 * taken of.
 *
 *   pair        AF_UNIX stream, written and read in --host-io bytes
 *   pair_pieces the same read by readv() over the pieces of RX buffers
 *   copy        memcpy from packets into RX buffers of a ring
 *   eventfd     two threads wake each other through eventfds
 *   socket      two threads wake each other by a byte through AF_UNIX
 *   crr, crr_host  connect/request/close, see w_base_crr.c
 *   eventfd_beside, socket_beside  the same while another two move bulk through a pair
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench/pattern.h"
#include "bench/workloads.h"
#include "vsock/vsock_spec.h"

#define PIECE_BYTES 3732u /* payload of Linux's RX buffer */
#define PIECES 70u        /* as many as 256 KiB of credit allow */
#define RX_STRIDE 4096u

/* Two ends, one thread each. */
struct pair {
	const struct options *options;
	int fd[2];
	bool stop;       /* shared */
	bool measuring;  /* shared */
	bool pieces;     /* read into pieces */
	uint64_t got;    /* shared: bytes or round trips */
	uint64_t cpu_ns; /* of the reader, when it ends */
	uint8_t *memory;
	struct samples latency;
};

static bool flag(const bool *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void count(struct pair *p, uint64_t n)
{
	__atomic_store_n(&p->got, p->got + n, __ATOMIC_RELAXED);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void *write_all(void *arg)
{
	struct pair *p = arg;
	uint64_t at = 0;

	while (!flag(&p->stop)) {
		ssize_t n = send(p->fd[0], p->memory + pattern_place(at), p->options->host_io,
				 MSG_NOSIGNAL);

		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	return NULL;
}

static void *read_all(void *arg)
{
	struct pair *p = arg;
	uint8_t *buffers = must_calloc(PIECES, RX_STRIDE);
	struct iovec iov[PIECES];
	uint64_t cpu = thread_cpu_ns();

	for (size_t i = 0; i < PIECES; i++) {
		iov[i].iov_base = buffers + i * RX_STRIDE + VSOCK_HDR_BYTES;
		iov[i].iov_len = PIECE_BYTES;
	}
	while (!flag(&p->stop)) {
		ssize_t n = p->pieces ? readv(p->fd[1], iov, (int)PIECES)
				      : recv(p->fd[1], buffers, p->options->host_io, 0);

		if (n <= 0)
			break;
		count(p, (uint64_t)n);
	}
	p->cpu_ns = thread_cpu_ns() - cpu;
	free(buffers);
	return NULL;
}

/* Run both threads for the measurement. Return: seconds; *@got is what was counted. */
static double run_pair(struct pair *p, void *(*first)(void *), void *(*second)(void *), double *got)
{
	pthread_t threads[2];
	uint64_t start;
	uint64_t before;
	uint64_t after;
	double seconds;

	if (pthread_create(&threads[0], NULL, first, p) != 0 ||
	    pthread_create(&threads[1], NULL, second, p) != 0)
		die("no thread");
	pause_ms(p->options->warmup_ms);
	before = __atomic_load_n(&p->got, __ATOMIC_RELAXED);
	start = now_ns();
	__atomic_store_n(&p->measuring, true, __ATOMIC_RELAXED);
	pause_ms(p->options->run_ms);
	after = __atomic_load_n(&p->got, __ATOMIC_RELAXED);
	seconds = (double)(now_ns() - start) / 1e9;
	__atomic_store_n(&p->stop, true, __ATOMIC_RELAXED);
	(void)shutdown(p->fd[0], SHUT_RDWR); /* either may sleep; eventfds time out */
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	*got = (double)(after - before);
	return seconds;
}

static void bulk_pair(const struct options *o, bool pieces)
{
	struct pair p = { .options = o, .pieces = pieces };
	int bytes = (int)o->sockbuf;
	struct result r;
	double seconds;
	double got;

	p.memory = must_calloc(1, PATTERN_BYTES);
	pattern_fill(p.memory);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p.fd) < 0)
		die("socketpair: %s", strerror(errno));
	if (bytes > 0)
		(void)setsockopt(p.fd[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	seconds = run_pair(&p, read_all, write_all, &got);
	result_begin(&r, "base");
	result_string(&r, "what", pieces ? "pair_pieces" : "pair");
	result_number(&r, "host_io", o->host_io);
	result_number(&r, "gbit_per_s", got * 8 / seconds / 1e9);
	result_number(&r, "cpu_s_per_gib", (double)p.cpu_ns / 1e9 / ((double)p.got / 1073741824.0));
	result_end(&r);
	close(p.fd[0]);
	close(p.fd[1]);
	free(p.memory);
}

static void copy_into_ring(const struct options *o)
{
	size_t ring = o->guest.ring;
	uint8_t *from = must_calloc(1, PATTERN_BYTES);
	uint8_t *to = must_calloc(ring, RX_STRIDE);
	uint64_t cpu = thread_cpu_ns();
	uint64_t start = now_ns();
	uint64_t end = start + o->run_ms * NS_PER_MS / 2;
	uint64_t bytes = 0;
	size_t slot = 0;
	struct result r;

	pattern_fill(from);
	while (now_ns() < end) {
		for (uint32_t at = 0; at < GUEST_MAX_PACKET; at += PIECE_BYTES) {
			uint32_t part = min_u32(PIECE_BYTES, GUEST_MAX_PACKET - at);

			memcpy(to + slot * RX_STRIDE + VSOCK_HDR_BYTES, from + pattern_place(bytes),
			       part);
			bytes += part;
			slot = (slot + 1) % ring;
		}
	}
	result_begin(&r, "base");
	result_string(&r, "what", "copy");
	result_number(&r, "gbit_per_s", (double)bytes * 8 / (double)(now_ns() - start));
	result_number(&r, "cpu_s_per_gib",
		      (double)(thread_cpu_ns() - cpu) / 1e9 / ((double)bytes / 1073741824.0));
	result_number(&r, "check", to[VSOCK_HDR_BYTES]);
	result_end(&r);
	free(from);
	free(to);
}

/* --- hand-offs --- */

static bool wake(int fd, bool is_socket)
{
	uint64_t one = 1;
	size_t bytes = is_socket ? 1 : sizeof(one);

	return write(fd, &one, bytes) == (ssize_t)bytes;
}

/* Sleep as the emulated guest and the host programs do. */
static bool woken(int fd, bool is_socket)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t word;

	if (!is_socket && poll(&p, 1, 1000) <= 0)
		return false;
	return read(fd, &word, is_socket ? 1 : sizeof(word)) > 0;
}

struct handoff {
	struct pair pair;
	bool is_socket;
	int there; /* written by the first, read by the second, and back */
	int back;
	int there_read;
	int back_read;
};

static void *ping(void *arg)
{
	struct handoff *h = arg;

	while (!flag(&h->pair.stop)) {
		uint64_t start = now_ns();

		if (!wake(h->there, h->is_socket) || !woken(h->back_read, h->is_socket))
			break;
		if (flag(&h->pair.measuring))
			samples_add(&h->pair.latency, now_ns() - start);
		count(&h->pair, 1);
	}
	(void)wake(h->there, h->is_socket);
	return NULL;
}

static void *pong(void *arg)
{
	struct handoff *h = arg;

	while (!flag(&h->pair.stop)) {
		if (!woken(h->there_read, h->is_socket) || !wake(h->back, h->is_socket))
			break;
	}
	return NULL;
}

static void round_trips(const struct options *o, bool is_socket, const char *name)
{
	struct handoff h = { .pair.options = o, .is_socket = is_socket };
	struct result r;
	double seconds;
	double got;

	if (is_socket) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, h.pair.fd) < 0)
			die("socketpair: %s", strerror(errno));
	} else {
		h.pair.fd[0] = eventfd(0, EFD_CLOEXEC);
		h.pair.fd[1] = eventfd(0, EFD_CLOEXEC);
	}
	h.there = h.pair.fd[0];
	h.back = h.pair.fd[1];
	h.there_read = is_socket ? h.back : h.there;
	h.back_read = is_socket ? h.there : h.back;
	seconds = run_pair(&h.pair, ping, pong, &got);
	result_begin(&r, "base");
	result_string(&r, "what", name);
	result_number(&r, "exchanges_per_s", got / seconds);
	result_samples(&r, "", &h.pair.latency);
	result_end(&r);
	samples_fini(&h.pair.latency);
	close(h.pair.fd[0]);
	close(h.pair.fd[1]);
}

/* What the scheduler alone makes of hand-offs when others want the CPUs. */
static void beside_bulk(const struct options *o)
{
	struct pair bulk = { .options = o };
	pthread_t threads[2];

	bulk.memory = must_calloc(1, PATTERN_BYTES);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, bulk.fd) < 0)
		die("socketpair: %s", strerror(errno));
	if (pthread_create(&threads[0], NULL, read_all, &bulk) != 0 ||
	    pthread_create(&threads[1], NULL, write_all, &bulk) != 0)
		die("no thread");
	round_trips(o, false, "eventfd_beside");
	round_trips(o, true, "socket_beside");
	__atomic_store_n(&bulk.stop, true, __ATOMIC_RELAXED);
	(void)shutdown(bulk.fd[0], SHUT_RDWR);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	close(bulk.fd[0]);
	close(bulk.fd[1]);
	free(bulk.memory);
}

void workload_base(const struct options *o)
{
	bulk_pair(o, false);
	bulk_pair(o, true);
	copy_into_ring(o);
	round_trips(o, false, "eventfd");
	round_trips(o, true, "socket");
	base_connects(o);
	beside_bulk(o);
}
