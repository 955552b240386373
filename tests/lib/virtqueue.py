# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The driver side of one split virtqueue in emulated guest memory.

Spec: virtio 1.3, "Split Virtqueues".
"""

import os
import struct
import threading
from collections import deque

from vhost_user import new_eventfd

DESC = struct.Struct("<QIHH")
USED_ELEM = struct.Struct("<II")
F_NEXT = 1
F_WRITE = 2
F_INDIRECT = 4

_barrier = threading.Lock()


def fence():
    """A full memory barrier: taking a lock is an atomic read-modify-write."""
    with _barrier:
        pass


class Virtqueue:
    """Ring memory, indices and the two eventfds of one queue.

    Chains must come back in the order in which they were offered, and descriptors are taken in
    the order of the table: so VIRTIO_F_IN_ORDER may be negotiated.
    """

    packed = False
    first_base = 0  # SET_VRING_BASE of a ring that starts

    def __init__(self, mem, size, event_idx=True, call=None):
        self.mem = mem
        self.size = size
        self.event_idx = event_idx
        self.kick = new_eventfd()
        self.call = new_eventfd() if call is None else call
        self.err = new_eventfd()
        self.region = mem.home
        self._alloc(mem)
        self.reset()

    def _alloc(self, mem):
        self.desc = mem.alloc_ring(16 * self.size, 16)
        self.avail = mem.alloc_ring(6 + 2 * self.size, 2)
        self.used = mem.alloc_ring(6 + 8 * self.size, 4)

    def reset(self):
        """What a driver does before it uses a queue for the first time."""
        self.mem.write(self.desc, bytes(16 * self.size))
        self.mem.write(self.avail, bytes(6 + 2 * self.size))
        self.mem.write(self.used, bytes(6 + 8 * self.size))
        self.free = deque(range(self.size))
        self.inflight = {}
        self.next_avail = 0
        self.published = 0
        self.last_used = 0

    def close(self):
        for fd in {self.kick, self.call, self.err}:
            try:
                os.close(fd)
            except OSError:
                pass  # a call descriptor shared with another queue

    def base_in_memory(self):
        """Where a front-end that looks at the ring would start it."""
        return self.load16(self.avail + 2)

    def _u16(self, gpa):
        return (gpa - self.region.gpa) // 2

    def load16(self, gpa):
        return self.region.u16[self._u16(gpa)]

    def store16(self, gpa, value):
        self.region.u16[self._u16(gpa)] = value & 0xFFFF

    # the driver's side of the available ring

    def write_desc(self, index, gpa, length, flags=0, nxt=0, table=None):
        """One descriptor as it is, checked by nobody."""
        base = self.desc if table is None else table
        self.mem.write(base + 16 * index, DESC.pack(gpa, length, flags, nxt))

    def push_head(self, head):
        """Put a head into the available ring; seen after publish()."""
        self.store16(self.avail + 4 + 2 * (self.next_avail % self.size), head)
        self.next_avail = (self.next_avail + 1) & 0xFFFF

    def add(self, bufs, token=None, indirect=False):
        """Make a chain of (gpa, length, writable) available; returns its head."""
        table = None
        if indirect:
            table = self.mem.alloc(16 * len(bufs))
            ids = list(range(len(bufs)))
            head = self.free.popleft()
            self.write_desc(head, table, 16 * len(bufs), F_INDIRECT)
            used = [head]
        else:
            assert len(self.free) >= len(bufs), "no free descriptors"
            ids = used = [self.free.popleft() for _ in bufs]
            head = ids[0]
        for i, (gpa, length, writable) in enumerate(bufs):
            flags = F_WRITE if writable else 0
            nxt = 0
            if i + 1 < len(bufs):
                flags |= F_NEXT
                nxt = ids[i + 1]
            self.write_desc(ids[i], gpa, length, flags, nxt, table)
        self.inflight[head] = (used, token, (table, 16 * len(bufs)))
        self.push_head(head)
        return head

    def publish(self, kick=True):
        """Show new chains to the device and kick it if it asks for that."""
        old = self.published
        new = self.published = self.next_avail
        self.store16(self.avail + 2, new)
        fence()
        if not kick or old == new:
            return False
        if self.event_idx:
            event = self.load16(self.used + 4 + 8 * self.size)
            wanted = (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
        else:
            wanted = not self.load16(self.used) & 1
        if wanted:
            self.do_kick()
        return wanted

    def do_kick(self):
        os.eventfd_write(self.kick, 1)

    # the driver's side of the used ring

    def used_index(self):
        return self.load16(self.used + 2)

    def pop_used(self):
        """(token, length) of the next used chain, or None."""
        if self.used_index() == self.last_used:
            return None
        assert (self.used_index() - self.last_used) & 0xFFFF <= self.size, "used index jumped"
        gpa = self.used + 4 + 8 * (self.last_used % self.size)
        head, length = USED_ELEM.unpack(self.mem.read(gpa, 8))
        self.last_used = (self.last_used + 1) & 0xFFFF
        return self._returned(head)[1], length

    def _returned(self, head):
        """Take a chain back: its descriptors, and its token."""
        assert head in self.inflight, f"device returned head {head}, which it does not own"
        assert head == next(iter(self.inflight)), f"device returned head {head} out of order"
        ids, token, (table, table_size) = self.inflight.pop(head)
        self.free.extend(ids)
        if table is not None:
            self.mem.free(table, table_size)
        return ids, token

    def arm(self):
        """Ask for an interrupt at the next used chain; true if one is there already."""
        if self.event_idx:
            self.store16(self.avail + 4 + 2 * self.size, self.last_used)
        fence()
        return self.used_index() != self.last_used


def drain_eventfd(fd):
    """Whether the eventfd was signalled; it is not any more."""
    try:
        os.eventfd_read(fd)
        return True
    except BlockingIOError:
        return False
