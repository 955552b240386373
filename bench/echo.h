// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * echo.h - a host program with many connections: one thread that accepts and
 * sends back what arrives, over epoll.
 */
#ifndef BENCH_ECHO_H
#define BENCH_ECHO_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct echo {
	int epoll_fd;
	bool stop;         /* shared */
	uint64_t accepted; /* shared */
	pthread_t thread;
};

/** Begin without listeners. */
void echo_start(struct echo *echo);

/** Serve the clients of a listening socket, which is given away. */
void echo_add(struct echo *echo, int listener);

/** Stop and wait; the connections are closed with the process. */
void echo_stop(struct echo *echo);

#endif
