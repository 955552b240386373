// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * relay.h - joins two ends so that what comes in at one goes out at the other,
 * both ways, until both directions are over.
 *
 * Theory of operation: two flows, each with a buffer of its own of bounded
 * size. Nothing is read that has no room, and nothing is written that the
 * other side has not asked for, so that two full directions wait for their
 * readers and never for each other. An end of file goes on as a half close
 * (shutdown(2) of a socket, close(2) of anything else) once all bytes before it
 * are out. A flow whose destination is gone ends, and tells its source.
 */
#ifndef VSOCKCTL_RELAY_H
#define VSOCKCTL_RELAY_H

#include "base/compiler.h"

/** Bytes that each direction holds at most. */
#define RELAY_BUFFER_BYTES 131072u

/** One end. Both may be the same descriptor, which is then a socket. */
struct relay_end {
	int in;  /* what is read from here goes to the other end */
	int out; /* what the other end says is written here */
};

/**
 * relay_run() - Join two ends until both directions are over
 *
 * Takes and closes all descriptors. SIGPIPE must be ignored.
 *
 * Return: 0; or -errno: bytes were lost
 */
int relay_run(struct relay_end a, struct relay_end b) must_use;

#endif
