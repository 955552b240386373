// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_mem.h - a guest's memory: files the front-end passed, mapped here, and
 * the table that translates addresses into them.
 *
 * Part of the session; nothing outside vhost_user/ uses it.
 */
#ifndef VHOST_USER_VU_MEM_H
#define VHOST_USER_VU_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"
#include "vhost_user/vu_msg.h"
#include "virtio/gmem.h"

/** One mapped region. */
struct vu_mapping {
	uint8_t *base;             /* what mmap() returned */
	size_t length;             /* what munmap() is owed */
	struct gmem_region region; /* the guest's part of it */
	int guard;                 /* of base/fault.h */
};

/** All of a guest's memory; zero-initialised is empty. */
struct vu_mem {
	struct gmem gmem;
	struct vu_mapping *mappings; /* gmem.count of them, in no order */
	size_t capacity;
};

/**
 * vu_mem_map() - Map one region
 * @wire:    the region as it was received
 * @fd:      the file it lies in; stays the caller's
 * @mapping: output: to be given to vu_mem_insert() or vu_mem_unmap()
 *
 * Return: 0; -EINVAL when the region is empty or its numbers wrap around;
 *         -ENODEV when @fd is no regular file; -ENOTBLK when it is a file of
 *         another process or host; -EFBIG when the file is too small; -errno of
 *         statx or mmap
 * Context: makes system calls that may take long; not under any lock
 */
int vu_mem_map(const struct vu_region *wire, int fd, struct vu_mapping *mapping) must_use;

/** Undo vu_mem_map(): exactly what was mapped. */
void vu_mem_unmap(const struct vu_mapping *mapping);

/**
 * vu_mem_insert() - Add a mapped region to the table
 *
 * Return: 0 and the mapping belongs to @mem; on failure, as gmem_insert(), it
 *         stays the caller's
 */
int vu_mem_insert(struct vu_mem *mem, const struct vu_mapping *mapping) must_use;

/** The mapping of exactly this region, or NULL; valid until @mem changes. */
const struct vu_mapping *vu_mem_find(const struct vu_mem *mem, const struct vu_region *wire)
	must_use;

/**
 * vu_mem_remove() - Take a region out of the table; nothing is unmapped
 * @removed: output: the mapping, the caller's from then on
 *
 * Return: 0 or -ENOENT
 */
int vu_mem_remove(struct vu_mem *mem, const struct vu_region *wire, struct vu_mapping *removed)
	must_use;

/** Whether a region's file was truncated and an access has missed it since. */
bool vu_mem_is_lost(const struct vu_mem *mem) must_use;

/** Unmap everything and free the table; leaves it empty. */
void vu_mem_fini(struct vu_mem *mem);

#endif
