// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * cmd_bench.c - "bench": a quick check of throughput and latency between host
 * and guest, and with --serve the guest's side of it.
 *
 * Theory of operation: a connection begins with one byte that says what it is
 * for. 'e': the server sends back what it gets. 's': it reads up to the end,
 * then answers one byte, so that the time covers the last byte. 'r': it writes
 * until the client is gone. The client has a quarter of the time for each
 * figure, and each call of a socket ends by a time-out.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/fd.h"
#include "vsockctl/guest.h"
#include "vsockctl/serve.h"
#include "vsockctl/vsockctl.h"

#define BENCH_PORT 5210u /* unless the command line says another */
#define BLOCK_BYTES 65536u
#define MAX_SAMPLES 1000000u
#define SILENCE_S 10 /* nothing moves for so long: it has failed */
#define PHASES 4
#define BACKLOG 128

enum { ECHO = 'e', SINK = 's', SOURCE = 'r' };

struct bench {
	struct guest guest;
	uint32_t port;
	int64_t phase_ns;
	double to_guest;   /* Gbit/s */
	double from_guest; /* Gbit/s */
	double p50_us;
	double p99_us;
	double connections; /* per second */
};

static char block[BLOCK_BYTES];

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int send_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* --- the guest's side --- */

static int serve_connection(int fd, void *arg)
{
	char kind = 0;
	ssize_t n = recv(fd, &kind, 1, 0);

	(void)arg;
	if (n == 1 && kind == SOURCE)
		while (send_all(fd, block, sizeof(block)) == 0)
			;
	if (n == 1 && (kind == ECHO || kind == SINK)) {
		while ((n = recv(fd, block, sizeof(block), 0)) > 0)
			if (kind == ECHO && send_all(fd, block, (size_t)n) < 0)
				break;
		if (n == 0 && kind == SINK)
			(void)send_all(fd, "", 1);
	}
	close(fd);
	return STATUS_OK;
}

static int serve(uint32_t port)
{
	struct sockaddr_vm at = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port,
	};
	sigset_t before;
	int fd scoped_fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	serve_hold_signals(&before);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(fd, BACKLOG) < 0) {
		complain("bench: cannot listen at AF_VSOCK port %u: %s", port, strerror(errno));
		return STATUS_FAILED;
	}
	return serve_run(&before, fd, serve_connection, NULL, true);
}

/* --- the host's side --- */

/* Return: a connection that has said what it is for, or -1 after a complaint. */
static int begin(const struct bench *bench, char kind)
{
	const struct timeval limit = { .tv_sec = SILENCE_S };
	int fd = guest_dial(&bench->guest, bench->port);

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (send_all(fd, &kind, 1) == 0)
		return fd;
	complain("bench: %s: %s", bench->guest.name, strerror(errno));
	close(fd);
	return -1;
}

static int broken(const struct bench *bench, const char *what)
{
	complain("bench: %s: %s does not answer as 'vsockctl bench --serve' does", what,
		 bench->guest.name);
	return -1;
}

static double gigabits(uint64_t bytes, int64_t ns)
{
	return ns > 0 ? (double)bytes * 8 / (double)ns : 0;
}

static int measure_to_guest(struct bench *bench)
{
	int fd scoped_fd = begin(bench, SINK);
	int64_t start = now_ns();
	uint64_t bytes = 0;
	char done;

	if (fd < 0)
		return -1;
	for (; now_ns() - start < bench->phase_ns; bytes += sizeof(block))
		if (send_all(fd, block, sizeof(block)) < 0)
			return broken(bench, "to guest");
	if (shutdown(fd, SHUT_WR) < 0 || recv(fd, &done, 1, 0) != 1)
		return broken(bench, "to guest");
	bench->to_guest = gigabits(bytes, now_ns() - start);
	return 0;
}

static int measure_from_guest(struct bench *bench)
{
	int fd scoped_fd = begin(bench, SOURCE);
	int64_t start = now_ns();
	uint64_t bytes = 0;

	if (fd < 0)
		return -1;
	while (now_ns() - start < bench->phase_ns) {
		ssize_t n = recv(fd, block, sizeof(block), 0);

		if (n <= 0)
			return broken(bench, "from guest");
		bytes += (uint64_t)n;
	}
	bench->from_guest = gigabits(bytes, now_ns() - start);
	return 0;
}

static int round_trip(int fd)
{
	char byte = 'x';

	return send_all(fd, &byte, 1) == 0 && recv(fd, &byte, 1, 0) == 1 ? 0 : -1;
}

static int compare(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a;
	int64_t right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

static int fill_samples(const struct bench *bench, int64_t *samples, size_t *count)
{
	int fd scoped_fd = begin(bench, ECHO);
	int64_t first = now_ns();
	int64_t start = first;

	if (fd < 0)
		return -1;
	do {
		int64_t end;

		if (round_trip(fd) < 0)
			return broken(bench, "round trip");
		end = now_ns();
		samples[(*count)++] = end - start;
		start = end;
	} while (*count < MAX_SAMPLES && start - first < bench->phase_ns);
	return 0;
}

/* @count: not 0; @samples are sorted. Return: microseconds. */
static double percentile(const int64_t *samples, size_t count, unsigned int percent)
{
	size_t at = count * percent / 100;

	return (double)samples[at] / 1000;
}

static int measure_round_trip(struct bench *bench)
{
	int64_t *samples = calloc(MAX_SAMPLES, sizeof(*samples));
	size_t count = 0;
	int err = -1;

	if (samples == NULL)
		complain("bench: no memory");
	else
		err = fill_samples(bench, samples, &count);
	if (err == 0) {
		qsort(samples, count, sizeof(*samples), compare);
		bench->p50_us = percentile(samples, count, 50);
		bench->p99_us = percentile(samples, count, 99);
	}
	free(samples);
	return err;
}

static int measure_connections(struct bench *bench)
{
	int64_t start = now_ns();
	int64_t past;
	unsigned int count = 0;

	do {
		int fd scoped_fd = begin(bench, ECHO);

		if (fd < 0)
			return -1;
		if (round_trip(fd) < 0)
			return broken(bench, "connections");
		count++;
		past = now_ns() - start;
	} while (past < bench->phase_ns);
	bench->connections = (double)count * 1e9 / (double)past;
	return 0;
}

static void print_text(const struct bench *bench)
{
	printf("to guest     %10.3f Gb/s\n", bench->to_guest);
	printf("from guest   %10.3f Gb/s\n", bench->from_guest);
	printf("round trip   %10.1f us p50, %.1f us p99\n", bench->p50_us, bench->p99_us);
	printf("connections  %10.0f /s\n", bench->connections);
}

static void print_json(const struct bench *bench)
{
	json_t *all = json_pack("{s:f, s:f, s:f, s:f, s:f}", "to_guest_gbps", bench->to_guest,
				"from_guest_gbps", bench->from_guest, "round_trip_p50_us",
				bench->p50_us, "round_trip_p99_us", bench->p99_us,
				"connections_per_s", bench->connections);

	(void)json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(all);
}

/* "[CID] [PORT]". Return: STATUS_OK, or the exit status after a complaint. */
static int read_arguments(const struct options *options, int argc, char **argv, struct bench *bench)
{
	int words = options->serve || options->n_uds > 0 ? 0 : 1;

	bench->port = BENCH_PORT;
	if (argc > words + 1) {
		complain("bench: '%s': expected nothing behind the port", argv[words + 1]);
		return STATUS_USAGE;
	}
	if (argc > words && argument_u32("port", argv[words], UINT32_MAX - 1, &bench->port) < 0)
		return STATUS_USAGE;
	if (options->serve)
		return STATUS_OK;
	return guest_find(options, words > 0 ? argv[0] : NULL, &bench->guest);
}

int cmd_bench(const struct options *options, int argc, char **argv)
{
	struct bench bench = { .phase_ns = (int64_t)options->seconds * 1000000000 / PHASES };
	int status = read_arguments(options, argc, argv, &bench);

	if (status != STATUS_OK)
		return status;
	if (options->serve)
		return serve(bench.port);
	if (measure_to_guest(&bench) < 0 || measure_from_guest(&bench) < 0 ||
	    measure_round_trip(&bench) < 0 || measure_connections(&bench) < 0)
		return STATUS_FAILED;
	if (options->json)
		print_json(&bench);
	else
		print_text(&bench);
	return STATUS_OK;
}
