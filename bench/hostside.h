// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * hostside.h - what programs of the host do: listen at UDS_PORT, or connect to
 * UDS and say "CONNECT PORT". Plain AF_UNIX sockets; every wait has a bound.
 *
 * The same calls reach a guest of the kernel's vhost-vsock: its address is
 * "vsock:CID" instead of a path, and the sockets are AF_VSOCK.
 */
#ifndef BENCH_HOSTSIDE_H
#define BENCH_HOSTSIDE_H

#include <stdint.h>

#include "base/compiler.h"

/** Prefix of a guest's address where its device is the kernel's. */
#define HOST_VSOCK "vsock:"

#define HOST_LIMIT_NS (UINT64_C(20) * 1000000000)

/** Connect, waiting for a listener that is only just coming up. */
int host_dial(const char *path, uint64_t deadline_ns) must_use;

/** Listen where a guest's connection to @port of the host arrives. */
int host_listen(const char *uds, uint32_t port) must_use;

/** Take a client of a listener. */
int host_accept(int listener) must_use;

/** Connect to @port of the guest; -1 if it refuses. */
int host_connect(const char *uds, uint32_t port) must_use;

#endif
