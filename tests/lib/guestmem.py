# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guest memory: regions backed by memfds, with a small allocator on top."""

import mmap
import os
import struct

REGION = struct.Struct("<QQQQ")  # guest address, size, front-end address, mmap offset
UVA_BASE = 0x7F1234000000
DEFAULT_REGIONS = ((0x0, 1 << 20), (0x1_0000_0000, 512 << 20))


class Region:
    """One piece of guest-physical memory, as a memory-table entry describes it."""

    def __init__(self, gpa, size, offset=0, uva=None):
        self.gpa = gpa
        self.size = size
        self.offset = offset
        self.uva = UVA_BASE + gpa if uva is None else uva
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, offset + size)
        self.map = mmap.mmap(self.fd, offset + size)
        self.view = memoryview(self.map)[offset:]
        # 16-bit native accesses are single loads and stores; struct's are bytewise
        self.u16 = self.view.cast("H")

    def contains(self, gpa):
        return self.gpa <= gpa < self.gpa + self.size

    def entry(self):
        return REGION.pack(self.gpa, self.size, self.uva, self.offset)

    def close(self):
        self.u16.release()
        self.view.release()
        self.map.close()
        os.close(self.fd)


def block_size(size):
    """What is set aside for a buffer: up to an eighth more, so that there are few sizes of free
    blocks, and buffers of ever new sizes do not use the memory up."""
    step = 1 << max(0, size.bit_length() - 4)
    return (size + step - 1) // step * step


class GuestMemory:
    """Regions of one guest. Allocation is from the last region given."""

    def __init__(self, regions=DEFAULT_REGIONS):
        self.regions = [Region(gpa, size) for gpa, size in regions]
        self.home = self.regions[-1]
        self._next = self.home.gpa + 0x1000
        self._free = {}

    def close(self):
        for region in self.regions:
            region.close()

    def add_region(self, gpa, size, offset=0):
        region = Region(gpa, size, offset)
        self.regions.append(region)
        return region

    def region_of(self, gpa):
        for region in reversed(self.regions):
            if region.contains(gpa):
                return region
        raise AssertionError(f"test uses unmapped guest address {gpa:#x}")

    def alloc(self, size, align=16):
        """Address of at least one byte; blocks never touch each other."""
        size = block_size(max(size, 1))
        free = self._free.get((size, align))
        if free:
            return free.pop()
        gpa = (self._next + align - 1) // align * align
        self._next = gpa + size + 1
        assert self._next <= self.home.gpa + self.home.size, "test's guest memory is used up"
        return gpa

    def free(self, gpa, size, align=16):
        self._free.setdefault((block_size(max(size, 1)), align), []).append(gpa)

    def alloc_ring(self, size, align):
        return self.alloc(size, max(align, 2))

    def uva(self, gpa):
        region = self.region_of(gpa)
        return region.uva + gpa - region.gpa

    def write(self, gpa, data):
        done = 0
        while done < len(data):
            region = self.region_of(gpa + done)
            start = gpa + done - region.gpa
            n = min(len(data) - done, region.size - start)
            region.view[start:start + n] = data[done:done + n]
            done += n

    def read(self, gpa, size):
        parts = []
        while size:
            region = self.region_of(gpa)
            start = gpa - region.gpa
            n = min(size, region.size - start)
            parts.append(bytes(region.view[start:start + n]))
            gpa += n
            size -= n
        return b"".join(parts)
