# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bugs between sibling guests that were found and fixed, one VM harming another."""

import multiprocessing

import pytest

import gsocket
import waiting
from vsockpkt import (OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN,
                      Pkt)
from waiting import until

F_WRITE = 2
BLOB = b"\2" * 65536


def raw_pair(a, b, local=4000, port=90):
    """Both ends of a connection from a to b, packet by packet."""
    listener = b.raw_listen(port)
    left = a.flow(local, port, peer_cid=b.cid)
    left.tx(OP_REQUEST)
    right = listener.accept()
    right.respond()
    left.expect(OP_RESPONSE)
    return left, right


def use_up_rx(left, right):
    """One byte for each RX buffer; the guest of right gives no new ones."""
    guest = right.guest
    guest.refill = False
    while len(guest.rx.free) < guest.rx.size:
        left.tx(OP_RW, b"x")
        right.expect(OP_RW)
        right.ack()


def test_wake_up_without_event_idx(start_daemon, start_vm):
    """A sibling's fill turned off the kicks that the owner was waiting for."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "2"])
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4, event_idx=False).guest
    left, right = raw_pair(a, b)
    door = daemon.listen(95, 4)
    flow = b.flow(6000, 95)
    flow.connect()
    host = door.accept()
    use_up_rx(left, right)
    host.send_all(b"hello")
    for _ in range(3):  # turns of the owner: in one of them it finds no buffer
        flow.ack()
    # the driver shows buffers; before it looks at the flag, a packet comes in between
    b.fill_rx(limit=50, kick=False)
    left.tx(OP_RW, b"y")
    right.expect(OP_RW)
    if not b.rx.load16(b.rx.used) & 1:
        b.rx.do_kick()
    assert flow.expect(OP_RW).data == b"hello"


class UselessBuffers:
    """RX buffers without room for a byte, given again as fast as they are used up.

    The process that does it sees a half of the ring used when the header mark
    in the last buffer of that half was overwritten.
    """

    MARK = b"\xa5"

    def __init__(self, guest):
        self.mem = guest.mem
        self.queue = guest.rx
        size = self.size = self.queue.size
        first = self.first = self.queue.next_avail
        bufs = [self.mem.alloc(44) for _ in range(size)]
        for i, gpa in enumerate(bufs):
            self.queue.write_desc(i, gpa, 44, F_WRITE)
            self.queue.store16(self.queue.avail + 4 + 2 * i, i)
        self.marks = [bufs[(first + size // 2 - 1) % size], bufs[(first + size - 1) % size]]
        self.halves = multiprocessing.Value("L", 0)
        for mark in self.marks:
            self.mem.write(mark, self.MARK)
        self.queue.store16(self.queue.avail + 2, first + size)
        self.process = multiprocessing.get_context("fork").Process(target=self.run, daemon=True)

    def run(self):
        avail = self.first + self.size
        while True:
            for mark in self.marks:
                while self.mem.read(mark, 1) == self.MARK:
                    pass
                self.mem.write(mark, self.MARK)
                avail += self.size // 2
                self.queue.store16(self.queue.avail + 2, avail)
                self.queue.do_kick()
                self.halves.value += 1

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.join()


def test_useless_buffers_of_a_sibling(start_daemon, start_vm):
    """A fill on a sibling's behalf went on while buffers came: a guest that posted useless ones
    fast enough kept the worker from every other VM."""
    daemon = start_daemon(cids=(3, 4, 5), args=["--threads", "1"],
                          options={"queue-size": 32768})
    a, c = start_vm(daemon, 3).guest, start_vm(daemon, 5).guest
    b = start_vm(daemon, 4, queue_size=32768, rx_count=64).guest
    left, right = raw_pair(a, b)
    door = daemon.listen(95, 5)
    sock = gsocket.connect(c, 6000, 95)
    host = door.accept()
    use_up_rx(left, right)
    waiting.unregister(b)
    with UselessBuffers(b) as buffers:
        left.tx(OP_RW, b"z" * 100, wait=False)
        until(lambda: buffers.halves.value > 4, "the flood of buffers")
        for _ in range(20):
            host.send_all(b"hello")
            assert sock.recv_exact(5, timeout=3) == b"hello"


def test_unanswered_requests_give_way(start_daemon, start_vm):
    """Requests that a sibling never answered used up a guest's flows for good."""
    daemon = start_daemon(cids=(3, 4, 5), args=["--threads", "2"])
    a, b, c = (start_vm(daemon, cid).guest for cid in (3, 4, 5))
    waiting.unregister(b)  # its rings run, nobody looks at them
    for i in range(4096):
        a.send(Pkt(3, 4, 10000 + i, 22, 0, op=OP_REQUEST, buf_alloc=262144))
    a.sync()
    gsocket.Listener(c, 90)
    gsocket.connect(a, 4000, 90, peer_cid=5)


def test_sibling_does_not_starve_the_host(start_daemon, start_vm):
    """With few RX buffers a busy sibling took every one of them before the host's turn."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "2"])
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4, rx_count=16).guest
    door = daemon.listen(95, 4)
    flow = b.flow(6000, 95)
    flow.connect()
    host = door.accept()
    pairs = []
    for i in range(64):
        listener = gsocket.Listener(b, 200 + i)
        pairs.append((gsocket.connect(a, 5000 + i, 200 + i, peer_cid=4), listener.accept()))
    total = 0

    def busy(until_total):
        nonlocal total
        while total < until_total and not flow.pkts:
            for left, right in pairs:
                left.send_now(BLOB)
                total += len(right.recv_now())
            waiting.pump_once(1)
    busy(4 << 20)
    host.send_all(b"ping")
    busy(total + (32 << 20))
    assert flow.pkts, f"not one of {total >> 20} MiB was the host's"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_stop_with_live_flows(start_daemon, start_vm, threads):
    """At the end flows between siblings referred to a VM that was freed already."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", threads])
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    left, right = raw_pair(a, b)
    waiting.unregister(b)
    left.tx(OP_RW, BLOB)
    assert right.peer_cid == 3
    daemon.stop()


def test_flags_without_a_meaning(start_daemon, start_vm):
    """Bits nobody knows, and a SHUTDOWN of nothing, reached the sibling's driver unchecked."""
    daemon = start_daemon(cids=(3, 4))
    left, right = raw_pair(start_vm(daemon, 3).guest, start_vm(daemon, 4).guest)
    left.tx(OP_RW, b"hello", flags=0xFFFFFFFF)
    assert right.expect(OP_RW, flags=0).data == b"hello"
    left.tx(OP_SHUTDOWN, flags=0)
    left.tx(OP_SHUTDOWN, flags=0xFFFFFFFC)
    left.tx(OP_SHUTDOWN, flags=0xFFFFFFFD)
    right.expect(OP_SHUTDOWN, flags=1, ignore=(OP_CREDIT_UPDATE,))


def test_reset_of_a_forgotten_connection(start_daemon, start_vm):
    """A guest's RST for the old connection refused the new one, whose REQUEST it had not seen."""
    daemon = start_daemon(cids=(3, 4))
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    left, right = raw_pair(a, b)
    use_up_rx(*raw_pair(a, b, local=4001, port=91))
    left.tx(OP_REQUEST)  # a forgot, and asks anew
    a.sync()
    right.tx(OP_RST)
    b.tx_idle()
    right.drop()
    listener = b.raw_listen(90)
    b.refill = True
    b.fill_rx()
    again = listener.accept()
    again.respond()
    left.expect(OP_RESPONSE)
    left.tx(OP_RW, b"hello")
    assert again.expect(OP_RW).data == b"hello"
