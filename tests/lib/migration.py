# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a VMM does to copy a running guest's memory: two logs of written pages, and passes over it.

The pages that the guest itself writes are known because TrackedMemory sees each of its stores; in
a hypervisor that is the CPU's job. What the device writes is known from the log that it was given.
"""

import ctypes
import mmap
import os
import re

from guestmem import GuestMemory
from vhost_user import LOG_ALL

PAGE = 4096
MARKED = re.compile(rb"[^\0]")
RING_F_LOG = 1
REGIONS = ((0x0, 1 << 20), (0x1_0000_0000, 8 << 20))

_atomic = ctypes.CDLL("libatomic.so.1")
_exchange = getattr(_atomic, "__atomic_exchange_8")
_exchange.restype = ctypes.c_uint64
_exchange.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int]
SEQ_CST = 5


class TrackedWords:
    """A memory view whose stores are noted."""

    def __init__(self, words, size, note):
        self.words, self.size, self.note = words, size, note

    def __getitem__(self, index):
        return self.words[index]

    def __setitem__(self, index, value):
        self.words[index] = value
        self.note(index * self.size, self.size)

    def release(self):
        self.words.release()


class TrackedMemory(GuestMemory):
    """Guest memory that knows which pages the guest wrote; the driver's rings come later."""

    def __init__(self, regions=REGIONS):
        self.written = set()
        super().__init__(regions)
        self.home.u16 = TrackedWords(self.home.u16, 2, self._note_home)

    def _note_home(self, offset, size):
        self.note(self.home.gpa + offset, size)

    def note(self, gpa, size):
        if size:
            self.written.update(range(gpa // PAGE, (gpa + size - 1) // PAGE + 1))

    def track_queues(self, queues):
        """Packed rings have a view of their own."""
        for queue in queues:
            if queue.packed and not isinstance(queue.words, TrackedWords):
                queue.words = TrackedWords(queue.words, 4, self._note_home)

    def write(self, gpa, data):
        super().write(gpa, data)
        self.note(gpa, len(data))


class DirtyLog:
    """A log shared with the device. size: bytes, for all of the memory by default."""

    def __init__(self, mem, size=None, offset=0):
        top = max(region.gpa + region.size for region in mem.regions)
        self.size = size or -(-top // (PAGE * 64)) * 8
        self.offset = offset
        self.fd = os.memfd_create("log", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, offset + self.size)
        self.map = mmap.mmap(self.fd, offset + self.size)
        self.pin = ctypes.c_char.from_buffer(self.map)
        self.base = ctypes.addressof(self.pin) + offset

    def close(self):
        del self.pin
        self.map.close()
        os.close(self.fd)

    def take(self):
        """The pages marked since the last call, which are not marked any more."""
        pages = set()
        words = {found.start() // 8 for found in MARKED.finditer(self.map, self.offset)}
        for word in words:
            at = word * 8 - self.offset
            bits = _exchange(self.base + at, 0, SEQ_CST)
            pages.update(at * 8 + bit for bit in range(64) if bits >> bit & 1)
        return pages


class Copier:
    """Copies a VM's memory while it runs."""

    def __init__(self, vm, log=None):
        self.vm = vm
        self.mem = vm.guest.mem
        self.mem.track_queues(vm.guest.queues)
        self.log = log or DirtyLog(self.mem)
        self.copy = {region.gpa: bytearray(region.size) for region in self.mem.regions}
        self.passes = 0

    def close(self):
        self.log.close()

    def set_rings(self, on):
        """SET_VRING_ADDR again, with or without the flag."""
        for i, queue in self.vm.order.queues(self.vm.guest):
            self.vm.fe.set_vring_addr_of(i, queue, flags=RING_F_LOG if on else 0,
                                         log=queue.used if on else 0)

    def set_logging(self, on):
        wanted = self.vm.order.driver_features(self.vm.guest)
        self.vm.fe.set_features(wanted | LOG_ALL if on else wanted)
        self.set_rings(on)
        self.vm.fe.get_features()

    def start(self):
        """As QEMU: the log, the feature, the rings; then a first copy of everything."""
        self.vm.fe.set_log_base(self.log.fd, self.log.size, self.log.offset)
        self.set_logging(True)
        self.mem.written.clear()
        for region in self.mem.regions:
            self.copy[region.gpa][:] = region.view

    def copy_pages(self, pages):
        for page in pages:
            for region in self.mem.regions:
                start = page * PAGE - region.gpa
                if 0 <= start < region.size:
                    self.copy[region.gpa][start:start + PAGE] = region.view[start:start + PAGE]

    def do_pass(self):
        """Take what both have written, then copy it. Returns the device's pages."""
        own, self.mem.written = self.mem.written, set()
        device = self.log.take()
        self.copy_pages(own | device)
        self.passes += 1
        return device

    def differing(self):
        """Guest addresses of the pages whose copy differs."""
        bad = []
        for region in self.mem.regions:
            copy = self.copy[region.gpa]
            if copy == region.view:
                continue
            bad += [region.gpa + at for at in range(0, region.size, PAGE)
                    if copy[at:at + PAGE] != region.view[at:at + PAGE]]
        return bad
