# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A VMM with a virtual IOMMU: it answers misses, invalidates, and may do so wrongly.

The guest's own addresses (the driver's, in descriptors) are the IOVAs. The memory
table has other guest addresses, so that nothing is found by them.
"""

import os
import socket
import struct
import threading

from orders import QemuGeneric
from vhost_user import (HEADER, IOTLB_MSG, P_BACKEND_REQ, SET_BACKEND_REQ_FD, VERSION,
                        ACCESS_PLATFORM)

IOTLB = struct.Struct("<QQQBB6x")
MISS, UPDATE, INVALIDATE, ACCESS_FAIL = 1, 2, 3, 4
READ, WRITE = 1, 2
PAGE = 4096
ELSEWHERE = 1 << 40  # added to the table's guest addresses


class Iommu:
    """The VMM's end of the back-end channel. answer: a function from (iova, access) to a
    list of (iova, size, uva, access), or None for pages of the guest's memory."""

    def __init__(self, fe, mem):
        self.fe = fe
        self.mem = mem
        self.answer = self.page
        self.misses = []
        self.fails = []
        self.sock, theirs = socket.socketpair()
        with theirs:
            fe.tell(SET_BACKEND_REQ_FD, fds=[theirs.fileno()], need_reply=True)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def page(self, iova, _access):
        """The page that is missing, readable and writable."""
        page = iova // PAGE * PAGE
        return [(page, PAGE, self.mem.uva(page), READ | WRITE)]

    def run(self):
        """Each miss is answered by updates nobody waits for."""
        while True:
            try:
                data = self.sock.recv(HEADER.size + IOTLB.size, socket.MSG_WAITALL)
            except OSError:
                return
            if len(data) < HEADER.size + IOTLB.size:
                return
            request, flags, size = HEADER.unpack_from(data)
            assert (request, flags, size) == (1, VERSION, IOTLB.size)
            iova, _, _, access, kind = IOTLB.unpack_from(data, HEADER.size)
            if kind == ACCESS_FAIL:
                self.fails.append((iova, access))
                continue
            assert kind == MISS
            self.misses.append((iova, access))
            try:
                for entry in self.answer(iova, access):
                    self.update(*entry)
            except OSError:
                return

    def update(self, iova, size, uva, access, **kw):
        """IOTLB_MSG that adds a translation."""
        self.message(UPDATE, iova, size, uva, access, **kw)

    def invalidate(self, iova, size, **kw):
        """IOTLB_MSG that drops translations; acknowledged."""
        kw.setdefault("need_reply", True)
        self.message(INVALIDATE, iova, size, 0, 0, **kw)

    def message(self, kind, iova, size, uva, access, need_reply=False):
        self.fe.tell(IOTLB_MSG, IOTLB.pack(iova, size, uva, access, kind), need_reply=need_reply)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.sock.close()


class QemuIommu(QemuGeneric):
    """QEMU with intel-iommu: ring addresses are IOVAs, misses come on a channel."""

    name = "qemu-iommu"
    protocol = QemuGeneric.protocol | P_BACKEND_REQ
    features = QemuGeneric.features | ACCESS_PLATFORM
    answer = None  # other than whole pages, from the start

    def __init__(self):
        super().__init__()
        self.iommu = None

    def negotiate(self, fe, guest):
        for region in guest.mem.regions:
            region.entry = lambda r=region: struct.pack("<QQQQ", r.gpa + ELSEWHERE, r.size, r.uva,
                                                        r.offset)
        super().negotiate(fe, guest)
        assert self.offered & ACCESS_PLATFORM
        assert self.has(P_BACKEND_REQ)
        self.iommu = Iommu(fe, guest.mem)
        if self.answer:
            self.iommu.answer = self.answer
        fe.set_vring_addr_of = lambda index, queue, **kw: fe.set_vring_addr(
            index, queue.desc, queue.used, queue.avail, **kw)


assert os.sysconf("SC_PAGESIZE") == PAGE
