# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A guest that means harm: floods, and memory that changes while it is read.

The daemon has one worker here, so whatever keeps it busy shows at the neighbour.
"""

import multiprocessing
import random

import pytest

import gsocket
import waiting
from hostsock import stream
from vsockpkt import (OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW,
                      OP_SHUTDOWN, Pkt)
from waiting import until

PATTERN = bytes(range(256)) * 64
FLOOD = 6_000


@pytest.fixture
def world(start_daemon, start_vm):
    """(daemon, the hostile guest, its neighbour's connection)"""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"])
    vm = start_vm(daemon, 3)
    guest = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(guest, 7000, 70)
    return daemon, vm.guest, (door.accept(), sock)


def assert_neighbour(pair):
    host, sock = pair
    assert stream([(host, PATTERN, sock), (sock, PATTERN, host)]) == [PATTERN, PATTERN]


def flood(guest, packets, count=FLOOD):
    """Send as fast as the ring takes them; answers are counted and dropped."""
    got = {}

    def count_it(pkt):
        got[pkt.op] = got.get(pkt.op, 0) + 1
    guest.auto_rst = False
    guest.on_rx = count_it
    for i in range(count):
        guest.send(packets(i), wait=i % 64 == 0)
    guest.on_rx = None
    until(guest.tx_idle, "the device to take everything")
    guest.inbox.clear()
    return got


def packet(op, **fields):
    return Pkt(src_cid=3, op=op, **fields)


FLOODS = {
    "REQUEST to nobody": lambda i: packet(OP_REQUEST, src_port=i, dst_port=99, buf_alloc=4096),
    "REQUEST to no guest": lambda i: packet(OP_REQUEST, src_port=i, dst_port=9, dst_cid=99),
    "REQUEST to a sibling": lambda i: packet(OP_REQUEST, src_port=i, dst_port=99, dst_cid=4),
    "RST": lambda i: packet(OP_RST, src_port=i, dst_port=99),
    "RST to a sibling": lambda i: packet(OP_RST, src_port=i, dst_port=7, dst_cid=4),
    "CREDIT_REQUEST of no flow": lambda i: packet(OP_CREDIT_REQUEST, src_port=i, dst_port=9),
    "RW of no flow": lambda i: packet(OP_RW, src_port=i, dst_port=9, len=4, data=b"abcd"),
    "forged CIDs": lambda i: Pkt(src_cid=i, dst_cid=i % 7, src_port=1, dst_port=2, op=1 + i % 7),
    "unknown operations": lambda i: packet(8 + i % 1000, src_port=i, dst_port=9),
    "everything": lambda i: Pkt(3, (2, 3, 4, 5, 1 << 40)[i % 5], i % 50, i % 90, 0, 1 + i % 3,
                                i % 9, i % 5, i * 0x01000193 & 0xFFFFFFFF, i & 0xFFFFFFFF),
}


@pytest.mark.parametrize("title", FLOODS)
def test_flood(world, title):
    daemon, guest, neighbour = world
    packets = FLOODS[title]
    flood(guest, packets, 2000)
    assert_neighbour(neighbour)
    memory, fds = daemon.memory_kib(), daemon.fd_count()
    got = flood(guest, packets)
    assert_neighbour(neighbour)
    guest.on_rx = None
    guest.auto_rst = True
    guest.sync()
    if title.startswith("RST"):
        assert OP_RST not in got, "an RST was answered with one"
    assert daemon.memory_kib() - memory < 8192
    assert daemon.fd_count() <= fds
    assert len(daemon.stderr()) < 100_000


@pytest.mark.parametrize("title", ["REQUEST to nobody", "RW of no flow", "everything"])
def test_flood_without_rx_buffers(start_daemon, start_vm, title):
    """What would be owed is bounded: the ring waits, the memory stays, the neighbour goes on."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"])
    guest = start_vm(daemon, 3, rx_count=0).guest
    other = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(other, 7000, 70)
    pair = (door.accept(), sock)
    assert_neighbour(pair)
    memory = daemon.memory_kib()
    for i in range(3000):
        guest.send(FLOODS[title](i), wait=False)
    spent = daemon.cpu_seconds()
    waiting.run_for(1.0)
    assert daemon.cpu_seconds() - spent < 0.6, "the daemon spins"
    assert daemon.memory_kib() - memory < 4096
    assert_neighbour(pair)


@pytest.mark.parametrize("buffers", [True, False], ids=["buffers", "no buffers"])
@pytest.mark.parametrize("op", [OP_CREDIT_REQUEST, OP_CREDIT_UPDATE])
def test_credit_flood_on_a_live_flow(world, op, buffers):
    """Answers do not pile up: one is owed however often it was asked for."""
    daemon, guest, neighbour = world
    door = daemon.listen(80, 3)
    flow = guest.flow(5000, 80)
    flow.connect()
    host = door.accept()
    guest.refill = buffers
    memory = daemon.memory_kib()
    for i in range(FLOOD):
        flow.tx(op, wait=i % 64 == 0)
        flow.pkts.clear()
    until(guest.tx_idle, "the device to take everything")
    assert_neighbour(neighbour)
    assert daemon.memory_kib() - memory < 4096
    guest.refill = True
    guest.fill_rx()
    flow.pkts.clear()
    flow.tx(OP_RW, b"still here")
    assert host.recv_exact(10) == b"still here"


def test_reader_that_stops(world):
    """The guest announces 4 GiB of room and reads nothing more: the host's program has to wait,
    the daemon keeps nothing for it."""
    daemon, guest, neighbour = world
    door = daemon.listen(80, 3)
    flow = guest.flow(5000, 80, buf_alloc=0xFFFFFFFF)
    flow.connect()
    host = door.accept()
    guest.refill = False
    memory = daemon.memory_kib()
    sent = 0
    for _ in range(200):
        sent += host.send_now(bytes(1 << 20))
        waiting.pump_once(1)
    assert_neighbour(neighbour)
    assert daemon.memory_kib() - memory < 4096
    assert sent < 32 << 20
    host.close()


def _flip(view, start, size, seed):
    """Change words of the rings and buffers for ever, mostly by little."""
    rng = random.Random(seed)
    while True:
        at = start + rng.randrange(size)
        old = view[at]
        view[at] = rng.choice((old ^ (1 << rng.randrange(8)), 0, 0xFF, rng.randrange(256)))
        if rng.random() < 0.7:
            view[at] = old


@pytest.mark.parametrize("seed", range(4))
def test_memory_that_changes(start_daemon, start_vm, seed):
    """Another process flips bytes of rings, descriptors and buffers while they are in use. The
    guest may lose everything; the daemon, its log and the neighbour may not."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"], options={"queue-size": 128})
    other = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(other, 7000, 70)
    pair = (door.accept(), sock)
    for round_number in range(6):
        vm = start_vm(daemon, 3)
        guest = vm.guest
        waiting.unregister(guest)  # whatever the device does, this driver does not look
        home = guest.mem.home
        end = guest.mem._next - home.gpa + (64 << 10)
        process = multiprocessing.get_context("fork").Process(
            target=_flip, args=(home.view, 0x1000, end - 0x1000, seed * 100 + round_number),
            daemon=True)
        process.start()
        try:
            _work_hard(daemon, guest, vm, pair)
        finally:
            process.kill()
            process.join()
            vm.close()
    daemon.assert_healthy()
    assert len(daemon.stderr()) < 100_000


def _work_hard(daemon, guest, vm, pair):
    door = daemon.listen(6000, 3)
    hosts = []
    for i in range(400):
        op = (OP_REQUEST, OP_RW, OP_SHUTDOWN, OP_CREDIT_REQUEST, OP_RST)[i % 5]
        data = PATTERN[:i % 300] if op == OP_RW else b""
        peer = 4 if i % 3 == 0 else 2
        pkt = Pkt(3, peer, 5000 + i // 5 % 8, 6000, len(data), op=op, buf_alloc=1 << 18, data=data)
        if len(guest.tx.free) < 4:  # as if all had come back
            guest.tx.free.clear()
            guest.tx.free.extend(range(guest.tx.size))
            guest.tx.inflight.clear()
        guest.tx_waiting.clear()
        guest.send(pkt, wait=False)
        guest.rx.do_kick()
        guest.tx.do_kick()
        host = door.accept_now()
        if host is not None:
            hosts.append(host)
        for host in hosts[-4:]:
            try:
                host.send_now(PATTERN)
            except OSError:
                pass
        if i % 100 == 0:
            assert_neighbour(pair)
    assert_neighbour(pair)
    door.close()
    daemon.listeners.remove(door)
    for host in hosts:
        host.close()
    vm.kill()
