# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The driver side of one packed virtqueue; the interface is that of virtqueue.Virtqueue.

Heads are buffer ids, and indices count chains. A test that writes descriptors by itself writes
them to a table as it does for split rings; push_head() lays the chain out in the ring.

Spec: virtio 1.3, "Packed Virtqueues".
"""

import struct
from collections import deque

from virtqueue import DESC, F_INDIRECT, F_NEXT, F_WRITE, Virtqueue, fence

F_AVAIL = 1 << 7
F_USED = 1 << 15
WRAP = 1 << 15
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = range(3)


class PackedVirtqueue(Virtqueue):
    """Places run over two laps, as the wrap counter does: 1 in the first, 0 in the second."""

    packed = True
    first_base = (WRAP | WRAP << 16)

    def _alloc(self, mem):
        self.desc = mem.alloc_ring(16 * self.size, 16)
        self.avail = mem.alloc_ring(4, 4)
        self.used = mem.alloc_ring(4, 4)
        self.words = mem.home.view[:len(mem.home.view) & ~3].cast("I")

    def reset(self):
        self.mem.write(self.desc, bytes(16 * self.size))
        self.mem.write(self.avail, bytes(4))
        self.mem.write(self.used, bytes(4))
        self.free = deque(range(self.size))
        self.inflight = {}
        self.staged = {}
        self.place = self.shown = self.used_place = 0
        self.first_flags = None
        self.next_avail = 0
        self.last_used = 0

    def close(self):
        self.words.release()
        super().close()

    def base_in_memory(self):
        return self.first_base

    def _word(self, gpa):
        return (gpa - self.region.gpa) // 4

    def _forward(self, place, count):
        return (place + count) % (2 * self.size)

    def _encode(self, place):
        return place | WRAP if place < self.size else place - self.size

    def _at(self, place):
        return self.desc + 16 * (place % self.size)

    # the driver's side of what is available

    def write_desc(self, index, gpa, length, flags=0, nxt=0, table=None):
        if table is None:
            self.staged[index] = (gpa, length, flags, nxt)
        else:
            self.mem.write(table + 16 * index, DESC.pack(gpa, length, nxt, flags))

    def _lay(self, gpa, length, flags, ident):
        at = self._at(self.place)
        flags |= F_AVAIL if self.place < self.size else F_USED
        self.mem.write(at, struct.pack("<QIH", gpa, length, ident))
        if self.first_flags is None:
            self.first_flags = at + 14, flags  # the batch is seen when this is written
        else:
            self.store16(at + 14, flags)
        self.place = self._forward(self.place, 1)

    def push_head(self, head):
        """Lay out the staged chain; a loop ends when the ring is full."""
        index = head
        for _ in range(self.size):
            gpa, length, flags, nxt = self.staged[index]
            self._lay(gpa, length, flags, head)
            if not flags & F_NEXT:
                break
            index = nxt

    def add(self, bufs, token=None, indirect=False):
        table = None
        if indirect:
            table = self.mem.alloc(16 * len(bufs))
            used = [self.free.popleft()]
            for i, (gpa, length, writable) in enumerate(bufs):
                self.write_desc(i, gpa, length, F_WRITE if writable else 0, table=table)
            self._lay(table, 16 * len(bufs), F_INDIRECT, used[0])
        else:
            assert len(self.free) >= len(bufs), "no free descriptors"
            used = [self.free.popleft() for _ in bufs]
            for i, (gpa, length, writable) in enumerate(bufs):
                flags = (F_WRITE if writable else 0) | (F_NEXT if i + 1 < len(bufs) else 0)
                self._lay(gpa, length, flags, used[0])
        self.inflight[used[0]] = (used, token, (table, 16 * len(bufs)))
        self.next_avail = (self.next_avail + 1) & 0xFFFF
        return used[0]

    def publish(self, kick=True):
        old, new = self.shown, self.place
        if self.first_flags:
            self.store16(*self.first_flags)
        self.first_flags = None
        self.shown = new
        fence()
        if not kick or old == new:
            return False
        event = self.words[self._word(self.used)]
        if event >> 16 == EVENT_DESC:
            count = (new - old) % (2 * self.size)
            wanted = event & 0xFFFF in {self._encode(self._forward(old, i)) for i in range(count)}
        else:
            wanted = event >> 16 == EVENT_ENABLE
        if wanted:
            self.do_kick()
        return wanted

    # the driver's side of what is used

    def _is_used(self, place):
        flags = self.load16(self._at(place) + 14) & (F_AVAIL | F_USED)
        return flags == (F_AVAIL | F_USED if place < self.size else 0)

    def used_index(self):
        place, index = self.used_place, self.last_used
        for ids, _, _ in self.inflight.values():
            if not self._is_used(place):
                break
            place = self._forward(place, len(ids))
            index += 1
        return index & 0xFFFF

    def pop_used(self):
        if not self.inflight or not self._is_used(self.used_place):
            return None
        fence()
        used = self.mem.read(self._at(self.used_place) + 8, 8)
        length, ident, flags = struct.unpack("<IHH", used)
        assert bool(flags & F_WRITE) == bool(length), f"flags {flags:#x} for length {length}"
        self.last_used = (self.last_used + 1) & 0xFFFF
        ids, token = self._returned(ident)
        self.used_place = self._forward(self.used_place, len(ids))
        return token, length

    def arm(self):
        word = EVENT_ENABLE << 16
        if self.event_idx:
            word = EVENT_DESC << 16 | self._encode(self.used_place)
        self.words[self._word(self.avail)] = word
        fence()
        return bool(self.inflight) and self._is_used(self.used_place)
