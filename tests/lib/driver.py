# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An emulated guest: the driver side of a virtio-vsock device.

Two levels. Flow sends and receives single packets of one port pair and decides
nothing; GuestSocket (gsocket.py) behaves as Linux's AF_VSOCK socket does. Every
packet received is checked against what a device may ever send.
"""

from collections import deque

import tally
import waiting
from guestmem import GuestMemory
from packedqueue import PackedVirtqueue
from virtqueue import Virtqueue, drain_eventfd
from vsockpkt import (HEADER_SIZE, HOST_CID, MAX_PAYLOAD, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE,
                      OP_NAMES, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN, SEQ_EOM,
                      SEQ_EOR, TYPE_SEQPACKET, TYPE_STREAM, Pkt)
from waiting import until

MASK32 = 0xFFFFFFFF
DEFAULT_BUF_ALLOC = 256 * 1024
EVENT_BUFS = 8
POISON = b"\xa5" * 8192


def poison(size):
    """What an RX buffer holds before the device writes to it."""
    return POISON[:size] if size <= len(POISON) else b"\xa5" * size


class Guest:
    """Three queues in guest memory and the packets that pass through them.

    queue_size: one number or (rx, tx, event). rx_shape: descriptor sizes of one
    RX buffer, or a list of such tuples that are used in turn. tx_shape: as the
    shape argument of send(). With num_queues 2 the event queue is the VMM's. ring: the
    format, "split" or "packed".
    """

    def __init__(self, cid, mem=None, queue_size=128, event_idx=True, indirect=False,
                 rx_shape=(3776,), rx_count=None, tx_shape=(HEADER_SIZE,), num_queues=3,
                 shared_call=False, ring="split"):
        self.cid = cid
        self.mem = mem or GuestMemory()
        sizes = (queue_size,) * 3 if isinstance(queue_size, int) else queue_size
        self.indirect = indirect
        self.rx_shapes = rx_shape if isinstance(rx_shape, list) else [rx_shape]
        self.rx_count = rx_count
        self.tx_shape = tx_shape if sizes[1] > 1 else ()
        self.queues = []
        for size in sizes[:num_queues]:
            call = self.queues[0].call if shared_call and self.queues else None
            kind = PackedVirtqueue if ring == "packed" else Virtqueue
            self.queues.append(kind(self.mem, size, event_idx, call))
        self.rx, self.tx = self.queues[:2]
        self.ev = self.queues[2] if num_queues > 2 else None
        self.types = {TYPE_STREAM}  # types of socket its driver knows
        self.refill = True    # post RX buffers again as they are used up
        self.auto_rst = True  # answer packets nobody wants as Linux does
        self.on_rx = None     # called with each packet before it is dispatched
        self._next_shape = 0
        self._forget()
        waiting.register(self)

    def _forget(self):
        self.flows = {}
        self.listeners = {}
        self.inbox = deque()   # packets that belong to no flow and no listener
        self.events = []       # payloads seen on the event queue
        self.tx_waiting = deque()
        self.rx_packets = 0
        self.rx_posted = 0
        self.rx_untouched = 0  # bytes of used buffers that the device did not write
        self._pumping = False

    def close(self):
        """Legal when closed."""
        if self.mem is None:
            return
        waiting.unregister(self)
        for queue in self.queues:
            queue.close()
        self.mem.close()
        self.mem = None

    # life

    def start(self):
        """Fill the RX and event queues, as a driver does around DRIVER_OK."""
        self.fill_rx()
        if self.ev:
            for _ in range(min(EVENT_BUFS, self.ev.size)):
                self._post_event()
            self.ev.publish()

    def reboot(self):
        """Forget everything; the rings start anew at the same addresses."""
        for queue in self.queues:
            queue.reset()
            drain_eventfd(queue.call)
            drain_eventfd(queue.kick)
        self._forget()

    def fds(self):
        return {queue.call for queue in self.queues}

    # receive

    def _post_event(self):
        gpa = self.mem.alloc(4)
        self.ev.add([(gpa, 4, True)], gpa)

    def post_rx(self, shape):
        """Make one RX buffer of these descriptor sizes available (unpublished)."""
        bufs = [(self.mem.alloc(size), size, True) for size in shape]
        for gpa, size, _ in bufs:  # an unwritten header must not look like one
            self.mem.write(gpa, poison(size))
        self.rx.add(bufs, bufs, self.indirect)
        self.rx_posted += 1

    def _rx_room(self, shape):
        if self.rx_count is not None and self.rx_posted >= self.rx_count:
            return False
        return len(self.rx.free) >= (1 if self.indirect else len(shape))

    def fill_rx(self, limit=None, kick=True):
        """Post RX buffers while there is room, at most limit."""
        done = 0
        while limit is None or done < limit:
            shape = self.rx_shapes[self._next_shape % len(self.rx_shapes)]
            if not self._rx_room(shape):
                break
            self._next_shape += 1
            self.post_rx(shape)
            done += 1
        self.rx.publish(kick)

    def _take_rx(self, bufs, used):
        """Bytes of a used RX buffer; the buffer is free again."""
        total = sum(size for _, size, _ in bufs)
        assert used <= total, f"used length {used} of a buffer of {total}"
        raw = b""
        for gpa, size, _ in bufs:
            part = min(size, used - len(raw))
            raw += self.mem.read(gpa, part)
            rest = self.mem.read(gpa + part, size - part)
            assert rest == poison(size - part), f"written beyond the used length {used}"
            self.rx_untouched += size - part
            self.mem.free(gpa, size)
        self.rx_posted -= 1
        return raw

    def _check_pkt(self, pkt, used):
        assert pkt.len == used - HEADER_SIZE, f"used length {used} for {pkt}"
        assert pkt.len <= MAX_PAYLOAD, f"oversized {pkt}"
        assert pkt.dst_cid == self.cid, f"not for this guest: {pkt}"
        assert pkt.op in OP_NAMES and pkt.op, f"unknown op in {pkt}"
        assert pkt.type in self.types or pkt.op == OP_RST, f"type {pkt.type} in {pkt}"
        assert pkt.len == 0 or pkt.op == OP_RW, f"payload in {pkt}"
        if pkt.op == OP_RW and pkt.type == TYPE_SEQPACKET:
            assert pkt.flags in (0, SEQ_EOM, SEQ_EOM | SEQ_EOR), f"flags in {pkt}"
        else:
            assert pkt.flags == 0 or pkt.op == OP_SHUTDOWN, f"flags in {pkt}"
        assert pkt.op != OP_SHUTDOWN or pkt.flags in (1, 2, 3), f"flags in {pkt}"

    def _receive(self, raw, used):
        if used == 0:
            return  # a buffer handed back unused
        assert used >= HEADER_SIZE, f"used length {used} is not even a header"
        pkt = Pkt.unpack(raw)
        self._check_pkt(pkt, used)
        self.rx_packets += 1
        if self.on_rx:
            self.on_rx(pkt)
        flow = self.flows.get((pkt.src_cid, pkt.src_port, pkt.dst_port))
        if flow:
            flow.on_pkt(pkt)
        elif pkt.op == OP_REQUEST and pkt.dst_port in self.listeners:
            self.listeners[pkt.dst_port].on_request(pkt)
        else:
            self.inbox.append(pkt)
            if self.auto_rst and pkt.op != OP_RST:
                self.reply_rst(pkt)

    def _pump_rx(self):
        while True:
            while (used := self.rx.pop_used()) is not None:
                self._receive(self._take_rx(*used), used[1])
                if self.refill and len(self.rx.free) * 2 >= self.rx.size:
                    self.fill_rx()
            if self.refill:
                self.fill_rx()
            if not self.rx.arm():
                return

    def _pump_tx(self):
        while True:
            while (used := self.tx.pop_used()) is not None:
                assert used[1] == 0, f"{used[1]} bytes written into a TX buffer"
                for gpa, size in used[0] or ():
                    self.mem.free(gpa, size)
            if not self.tx.arm():
                break
        self._flush_tx()

    def _pump_ev(self):
        while True:
            while (used := self.ev.pop_used()) is not None:
                assert used[1] == 4, f"event of {used[1]} bytes"
                self.events.append(self.mem.read(used[0], 4))
                self._post_event()
            self.ev.publish()
            if not self.ev.arm():
                return

    def pump(self):
        """Answer pending interrupts."""
        if self._pumping:
            return
        self._pumping = True
        try:
            signalled = {fd for fd in self.fds() if drain_eventfd(fd)}
            if self.rx.call in signalled:
                self._pump_rx()
            if self.tx.call in signalled:
                self._pump_tx()
            if self.ev and self.ev.call in signalled:
                self._pump_ev()
        finally:
            self._pumping = False

    # send

    @staticmethod
    def cut(total, shape):
        """Descriptor sizes for total bytes: those of shape, then the rest in one."""
        sizes = []
        for size in shape:
            if size and not total:
                break
            sizes.append(min(size, total))
            total -= sizes[-1]
        if total or not sizes:
            sizes.append(total)
        return sizes

    def send_bytes(self, raw, shape=None, indirect=None, kick=True, wait=True):
        """Put raw bytes on the TX queue, cut into descriptors by shape."""
        indirect = self.indirect if indirect is None else indirect
        sizes = self.cut(len(raw), self.tx_shape if shape is None else tuple(shape))
        self.tx_waiting.append((raw, sizes, indirect, kick))
        self._flush_tx()
        if wait and not self._pumping:
            until(lambda: not self.tx_waiting, "the device to take TX buffers")

    def _flush_tx(self):
        kick = False
        while self.tx_waiting:
            raw, sizes, indirect, wants_kick = self.tx_waiting[0]
            if len(self.tx.free) < (1 if indirect else len(sizes)):
                break
            self.tx_waiting.popleft()
            tally.add("packets")
            kick |= wants_kick
            bufs, done = [], 0
            for size in sizes:
                gpa = self.mem.alloc(size)
                self.mem.write(gpa, raw[done:done + size])
                bufs.append((gpa, size, False))
                done += size
            self.tx.add(bufs, [(gpa, size) for gpa, size, _ in bufs], indirect)
        if kick:
            self.tx.publish()

    def send(self, pkt, **how):
        self.send_bytes(pkt.pack() + pkt.data, **how)

    def tx_idle(self):
        """Whether the device has given back every TX buffer (looks at the ring)."""
        return self.tx.used_index() == self.tx.next_avail and not self.tx_waiting

    def reply_rst(self, pkt):
        self.send(Pkt(self.cid, pkt.src_cid, pkt.dst_port, pkt.src_port, type=pkt.type, op=OP_RST))

    # flows

    def flow(self, local_port, peer_port, peer_cid=HOST_CID, **kw):
        return Flow(self, local_port, peer_port, peer_cid, **kw)

    def raw_listen(self, port, **kw):
        return RawListener(self, port, **kw)

    def take_inbox(self, op=None, timeout=waiting.DEFAULT_TIMEOUT):
        """Next packet that belongs to nobody, optionally of one operation."""
        def find():
            for pkt in self.inbox:
                if op is None or pkt.op == op:
                    self.inbox.remove(pkt)
                    return pkt
            return None
        return until(find, f"a {OP_NAMES.get(op, 'any')} packet", timeout)

    def sync(self, port=0xFFFFFFF0):
        """Return once the device has handled all packets sent so far.

        Two refused connections, one after the other: the ring is processed in
        order, and whatever the first left queued went out before the second.
        """
        for i in range(2):
            flow = self.flow(0x7FFF0000 + i, port)
            flow.tx(OP_REQUEST)
            flow.expect(OP_RST)
            flow.drop()


class RawListener:
    """Collects REQUESTs for a port as raw flows; answers nothing."""

    def __init__(self, guest, port, **kw):
        self.guest = guest
        self.kw = kw
        self.queue = deque()
        guest.listeners[port] = self

    def on_request(self, pkt):
        flow = Flow(self.guest, pkt.dst_port, pkt.src_port, pkt.src_cid, **self.kw)
        flow.on_pkt(pkt)
        self.queue.append(flow)

    def accept(self, timeout=waiting.DEFAULT_TIMEOUT):
        """Next flow; its REQUEST is consumed."""
        until(lambda: self.queue, "a REQUEST", timeout)
        flow = self.queue.popleft()
        flow.request = flow.expect(OP_REQUEST)
        return flow


class Flow:
    """One port pair, packet by packet.

    Totals are unwrapped; headers carry them modulo 2^32. received counts bytes
    that came, fwd_cnt those the guest claims to have consumed.
    """

    def __init__(self, guest, local_port, peer_port, peer_cid=HOST_CID,
                 buf_alloc=DEFAULT_BUF_ALLOC, kind=TYPE_STREAM):
        self.guest = guest
        self.kind = kind
        self.key = (peer_cid, peer_port, local_port)
        self.peer_cid, self.peer_port, self.local_port = self.key
        self.buf_alloc = buf_alloc
        self.fwd_cnt = 0
        self.received = 0
        self.window_end = 0
        self.peer_buf_alloc = 0
        self.peer_fwd_cnt = 0
        self.tx_cnt = 0
        self.pkts = deque()
        assert self.key not in guest.flows
        guest.flows[self.key] = self

    def drop(self):
        """The guest forgets this flow without a word."""
        if self.guest.flows.get(self.key) is self:
            del self.guest.flows[self.key]

    def tx(self, op, data=b"", shape=None, indirect=None, kick=True, wait=True, **over):
        """Send one packet of this flow; over replaces header fields."""
        pkt = Pkt(self.guest.cid, self.peer_cid, self.local_port, self.peer_port, len(data),
                  type=self.kind, op=op, buf_alloc=self.buf_alloc,
                  fwd_cnt=self.fwd_cnt & MASK32, data=data)
        for name, value in over.items():
            setattr(pkt, name, value)
        self.window_end = max(self.window_end, self.fwd_cnt + pkt.buf_alloc)
        if op == OP_RW:
            self.tx_cnt += len(data)
        self.guest.send(pkt, shape=shape, indirect=indirect, kick=kick, wait=wait)

    def account(self, pkt):
        """Keep the books of a packet received, and check the device's."""
        acked = (pkt.fwd_cnt - self.peer_fwd_cnt) & MASK32
        if pkt.op != OP_RST:
            if pkt.op != OP_REQUEST:
                assert acked <= self.tx_cnt - self.peer_fwd_cnt, f"too much acknowledged: {pkt}"
                self.peer_fwd_cnt += acked
            self.peer_buf_alloc = pkt.buf_alloc
        self.received += pkt.len
        assert self.received <= self.window_end, (
            f"credit exceeded by {self.received - self.window_end}: {pkt}")

    def on_pkt(self, pkt):
        self.account(pkt)
        self.pkts.append(pkt)

    def next(self, timeout=waiting.DEFAULT_TIMEOUT, ignore=()):
        def find():
            while self.pkts:
                pkt = self.pkts.popleft()
                if pkt.op not in ignore:
                    return pkt
            return None
        return until(find, f"a packet of {self.key}", timeout)

    def expect(self, op, timeout=waiting.DEFAULT_TIMEOUT, ignore=(), **fields):
        """The next packet must be op with these fields."""
        pkt = self.next(timeout, ignore)
        assert pkt.op == op, f"expected {OP_NAMES[op]}, got {pkt}"
        for name, value in fields.items():
            assert getattr(pkt, name) == value, f"{name} is not {value} in {pkt}"
        return pkt

    def expect_data(self, size, timeout=waiting.DEFAULT_TIMEOUT, ack=True):
        """Collect size bytes; with ack they are consumed as they come."""
        data = bytearray()
        while len(data) < size:
            pkt = self.next(timeout, ignore=(OP_CREDIT_UPDATE,))
            if pkt.op == OP_CREDIT_REQUEST:
                if ack:
                    self.ack()
                continue
            assert pkt.op == OP_RW, f"expected data, got {pkt}"
            data += pkt.data
            if ack and self.received - self.fwd_cnt > self.buf_alloc // 4:
                self.ack()
        assert len(data) == size, f"{len(data) - size} bytes too many"
        return bytes(data)

    def ack(self):
        """Claim that everything received was consumed."""
        self.fwd_cnt = self.received
        self.tx(OP_CREDIT_UPDATE)

    def connect(self):
        """Ask for a connection; return the RESPONSE."""
        self.tx(OP_REQUEST)
        return self.expect(OP_RESPONSE)

    def respond(self, **over):
        self.tx(OP_RESPONSE, **over)

    def credit(self):
        """Bytes the device still allows to be sent."""
        return self.peer_buf_alloc - (self.tx_cnt - self.peer_fwd_cnt)

    def send_data(self, data, chunk=MAX_PAYLOAD, **how):
        """Send within the credit, waiting for more as needed."""
        done = 0
        while done < len(data):
            room = until(lambda: max(self.credit(), 0), "credit from the device")
            n = min(room, chunk, len(data) - done)
            self.tx(OP_RW, data[done:done + n], **how)
            done += n
