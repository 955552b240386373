// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * fault.h - survive a file that shrinks under its mapping.
 *
 * Guest memory is a file of the VMM's, which may truncate it at any time; the
 * next access raises SIGBUS here. Inside a guarded range the access then goes
 * to zeroed private memory instead, the range is marked lost, and its owner
 * ends the session. A SIGBUS anywhere else ends the process as before.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/compiler.h"

#define FAULT_MAX_RANGES 65536u /* about vm.max_map_count, which ends earlier */

/**
 * fault_install() - Take over SIGBUS
 * Return: 0 or -errno. Context: start-up, before ranges are guarded.
 */
int fault_install(void) must_use;

/**
 * fault_guard() - Guard a mapping
 * @start: page-aligned, mapped readable and writable
 * @len:   bytes; rounded up to pages
 *
 * Return: a handle >= 0, or -ENOSPC. Context: any thread.
 */
int fault_guard(void *start, size_t len) must_use;

/** Forget a range, before it is unmapped. Context: any thread. */
void fault_unguard(int handle);

/** Whether an access inside any guarded range has failed. Context: any thread; one load. */
bool fault_any_lost(void) must_use;

/** Whether an access inside the range has failed. Context: any thread; cheap. */
bool fault_is_lost(int handle) must_use;

#endif
