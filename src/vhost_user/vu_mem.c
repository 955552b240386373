// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
/*
 * vu_mem.c - mapping a guest's memory and keeping the table of it.
 *
 * May not touch the memory itself, nor close descriptors.
 *
 * Theory of operation: only the region is mapped, not the file from its start:
 * two regions of one file (below and above the hole under 4 GiB) would cost its
 * address space twice. The offset is rounded down, and the length up, to what
 * the file system says its blocks are. For hugetlbfs that is its page size,
 * which mmap() demands of the offset and munmap() of the length; elsewhere it
 * is harmless, since what lies outside of the region is never touched.
 *
 * The file must hold the whole region when it is mapped, otherwise the first
 * access would be a SIGBUS. The front-end can still truncate it later.
 */
#include "vhost_user/vu_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fault.h"

#define VU_MEM_MIN_CAPACITY 8u

/* What offsets into and lengths of a mapping of this file are rounded to. */
static uint64_t vu_mem_alignment(const struct statx *st)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t block = (uint64_t)st->stx_blksize;

	return block > page && (block & (block - 1)) == 0 ? block : page;
}

static int vu_mem_check(const struct vu_region *wire, const struct statx *st)
{
	uint64_t end;

	if (wire->size == 0 || !checked_add_u64(wire->gpa, wire->size, &end) ||
	    !checked_add_u64(wire->uva, wire->size, &end) ||
	    !checked_add_u64(wire->mmap_offset, wire->size, &end))
		return -EINVAL;
	if (!S_ISREG(st->stx_mode))
		return -ENODEV;
	if (end > st->stx_size)
		return -EFBIG;
	return 0;
}

/*
 * A file whose pages another process provides (FUSE) can make us wait for ever,
 * already when it is asked for its size. Only what the kernel itself provides is
 * taken: memfds, tmpfs and hugetlbfs, which have seals, and files on a disk.
 * None of the calls used here asks a file system that is not local.
 */
static int vu_mem_look(int fd, struct statx *st)
{
	const int how = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;

	if (statx(fd, "", how, STATX_TYPE | STATX_SIZE, st) < 0)
		return -errno;
	if (S_ISREG(st->stx_mode) && fcntl(fd, F_GET_SEALS) < 0 && st->stx_dev_major == 0)
		return -ENOTBLK;
	return 0;
}

int vu_mem_map(const struct vu_region *wire, int fd, struct vu_mapping *mapping)
{
	uint64_t alignment;
	uint64_t skip;
	uint64_t length;
	struct statx st = { 0 }; /* for MemorySanitizer, which does not know statx() */
	void *base;
	int ret;

	ret = vu_mem_look(fd, &st);
	if (ret == 0)
		ret = vu_mem_check(wire, &st);
	if (ret < 0)
		return ret;

	/* The region ends within the file, so its end is far from wrapping. */
	alignment = vu_mem_alignment(&st);
	skip = wire->mmap_offset & (alignment - 1);
	length = (skip + wire->size + alignment - 1) & ~(alignment - 1);
	base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
		    (off_t)(wire->mmap_offset - skip));
	if (base == MAP_FAILED)
		return -errno;
	/* A guest's secrets have no place in our core dump; failing is no harm. */
	(void)madvise(base, length, MADV_DONTDUMP);

	/* The file is the front-end's: it may shrink under us at any time. */
	mapping->guard = fault_guard(base, length);
	if (mapping->guard < 0) {
		(void)munmap(base, length);
		return mapping->guard;
	}
	mapping->base = base;
	mapping->length = length;
	mapping->region.gpa = wire->gpa;
	mapping->region.uva = wire->uva;
	mapping->region.size = wire->size;
	mapping->region.hva = mapping->base + skip;
	return 0;
}

void vu_mem_unmap(const struct vu_mapping *mapping)
{
	fault_unguard(mapping->guard);
	(void)munmap(mapping->base, mapping->length);
}

bool vu_mem_is_lost(const struct vu_mem *mem)
{
	for (size_t i = 0; i < mem->gmem.count; i++) {
		if (fault_is_lost(mem->mappings[i].guard))
			return true;
	}
	return false;
}

static int vu_mem_reserve(struct vu_mem *mem)
{
	size_t capacity = mem->capacity == 0 ? VU_MEM_MIN_CAPACITY : mem->capacity * 2;
	struct vu_mapping *grown;

	if (mem->gmem.count < mem->capacity)
		return 0;
	grown = reallocarray(mem->mappings, capacity, sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	mem->mappings = grown;
	mem->capacity = capacity;
	return 0;
}

int vu_mem_insert(struct vu_mem *mem, const struct vu_mapping *mapping)
{
	size_t position = mem->gmem.count;
	int ret;

	/* The table itself bounds how many there can be. */
	ret = vu_mem_reserve(mem);
	if (ret < 0)
		return ret;
	ret = gmem_insert(&mem->gmem, &mapping->region);
	if (ret < 0)
		return ret;
	mem->mappings[position] = *mapping;
	return 0;
}

static size_t vu_mem_index(const struct vu_mem *mem, const struct vu_region *wire)
{
	size_t i;

	for (i = 0; i < mem->gmem.count; i++) {
		const struct gmem_region *region = &mem->mappings[i].region;

		if (region->gpa == wire->gpa && region->uva == wire->uva &&
		    region->size == wire->size)
			break;
	}
	return i;
}

const struct vu_mapping *vu_mem_find(const struct vu_mem *mem, const struct vu_region *wire)
{
	size_t i = vu_mem_index(mem, wire);

	return i < mem->gmem.count ? &mem->mappings[i] : NULL;
}

int vu_mem_remove(struct vu_mem *mem, const struct vu_region *wire, struct vu_mapping *removed)
{
	size_t i = vu_mem_index(mem, wire);
	struct gmem_region region;
	int ret;

	ret = gmem_remove(&mem->gmem, wire->gpa, wire->uva, wire->size, &region);
	if (ret < 0)
		return ret;
	*removed = mem->mappings[i];
	mem->mappings[i] = mem->mappings[mem->gmem.count];
	return 0;
}

void vu_mem_fini(struct vu_mem *mem)
{
	for (size_t i = 0; i < mem->gmem.count; i++)
		vu_mem_unmap(&mem->mappings[i]);
	gmem_fini(&mem->gmem);
	free(mem->mappings);
	mem->mappings = NULL;
	mem->capacity = 0;
}
