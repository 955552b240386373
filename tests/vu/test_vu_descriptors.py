# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Descriptor chains of every legal shape, and what illegal ones cost."""

import struct

import pytest

import gsocket
from guestmem import GuestMemory
from hostsock import stream
from virtqueue import F_INDIRECT, F_NEXT, F_WRITE, drain_eventfd
from vsockpkt import (HEADER_SIZE, MAX_PAYLOAD, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST,
                      OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN, SHUT_BOTH, Pkt)
from waiting import until

RINGS = ("split", "packed")
CREDIT = (OP_CREDIT_UPDATE, OP_CREDIT_REQUEST)


def raw_pair(daemon, guest, local=4000, port=90, **kw):
    door = daemon.listen(port, guest.cid)
    flow = guest.flow(local, port, **kw)
    flow.connect()
    host = door.accept()
    door.close()
    return host, flow


# guest to host

TX_SHAPES = {
    "one": (),
    "header+data": (44,),
    "header+two (32 KiB pieces)": (44, 32768),
    "17 pages": (44, *[3800] * 16),
    "header inside": (20,),
    "header split": (10, 20, 14),
    "header by bytes": (1,) * 44,
    "one byte pieces": (1,) * 100,
    "header and some data": (50, 1, 60),
    "data's last byte alone": (44, 999),
    "empty ones between": (0, 44, 0, 0, 500, 0),
    "empty ones inside the header": (20, 0, 24),
    "odd": (43, 2, 7, 13, 256, 1),
}


@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("title", TX_SHAPES)
def test_tx_chain(daemon, guest, pattern, title, indirect):
    shape = TX_SHAPES[title]
    host, flow = raw_pair(daemon, guest)
    for size in (1000, 1, 60_000, 0, MAX_PAYLOAD, 5):
        data = pattern(size, size)
        flow.tx(OP_RW, data, shape=shape, indirect=indirect)
        assert host.recv_exact(size) == data
    guest.sync()
    until(guest.tx_idle, "all TX buffers to come back")


@pytest.mark.parametrize("title", TX_SHAPES)
def test_control_packets_in_any_shape(daemon, guest, title):
    door = daemon.listen(90)
    flow = guest.flow(4000, 90)
    for indirect in (False, True):
        flow.tx(OP_REQUEST, shape=TX_SHAPES[title], indirect=indirect)
        flow.expect(OP_RESPONSE)
        host = door.accept()
        flow.tx(OP_SHUTDOWN, flags=SHUT_BOTH, shape=TX_SHAPES[title], indirect=indirect)
        flow.expect(OP_RST, ignore=CREDIT)
        assert host.recv_eof() == b""


@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("size", [16, 128])
def test_chain_as_long_as_the_ring(daemon, start_vm, pattern, size, indirect):
    guest = start_vm(daemon, queue_size=size).guest
    host, flow = raw_pair(daemon, guest)
    data = pattern(5000)
    for _ in range(20):
        flow.tx(OP_RW, data, shape=(10,) * (size - 1), indirect=indirect)
        assert host.recv_exact(len(data)) == data


def test_many_chains_published_at_once(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest)
    data = pattern(200_000)
    shapes = [(), (44,), (20, 30), (44, 100, 200)]
    for round_start in range(0, len(data), 50_000):
        part = data[round_start:round_start + 50_000]
        for n, i in enumerate(range(0, len(part), 2500)):
            flow.tx(OP_RW, part[i:i + 2500], shape=shapes[n % 4], indirect=bool(n & 1), kick=False)
        guest.tx.publish()
        assert host.recv_exact(len(part)) == part


def test_packets_of_two_flows_interleaved(daemon, guest, pattern):
    pairs = [raw_pair(daemon, guest, 4000 + i, 90 + i) for i in range(3)]
    data = [pattern(60_000, i) for i in range(3)]
    for i in range(0, 60_000, 1500):
        for n, (_, flow) in enumerate(pairs):
            flow.tx(OP_RW, data[n][i:i + 1500], kick=False)
        guest.tx.publish()
    for n, (host, _) in enumerate(pairs):
        assert host.recv_exact(60_000) == data[n]


def test_more_bytes_in_the_chain_than_in_the_header(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    flow.tx_cnt -= 6
    flow.tx(OP_RW, b"goodtail!!", len=4)
    flow.tx(OP_RW, b"next")
    assert host.recv_exact(8) == b"goodnext"


@pytest.mark.parametrize("extra", [1, 100, 65536, 0x7FFFFFFF, 0xFFFFFFFF - 50, 0xFFFFFFFF])
def test_header_that_claims_too_much(daemon, guest, extra):
    host, flow = raw_pair(daemon, guest)
    good_host, good = raw_pair(daemon, guest, 4001, 91)
    flow.tx(OP_RW, b"x" * 50, len=min(50 + extra, 0xFFFFFFFF))
    guest.sync()
    assert len(host.recv_now()) <= 50
    good.tx(OP_RW, b"fine")
    assert good_host.recv_exact(4) == b"fine"
    good_host.send_all(b"fine")
    good.expect(OP_RW, ignore=CREDIT, data=b"fine")
    until(guest.tx_idle, "all TX buffers to come back")


def test_payload_beyond_64_kib(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    good_host, good = raw_pair(daemon, guest, 4001, 91)
    flow.tx(OP_RW, bytes(MAX_PAYLOAD + 1))
    guest.sync()
    host.recv_now()
    good.tx(OP_RW, b"fine")
    assert good_host.recv_exact(4) == b"fine"


@pytest.mark.parametrize("size", [1, 20, 43])
def test_chain_shorter_than_a_header(daemon, guest, size):
    host, flow = raw_pair(daemon, guest)
    for _ in range(300):
        guest.send_bytes(b"\x05" * size, shape=())
    flow.tx(OP_RW, b"fine")
    assert host.recv_exact(4) == b"fine"
    until(guest.tx_idle, "all TX buffers to come back")


def test_buffers_across_regions_and_at_their_ends(daemon, start_vm, pattern):
    mem = GuestMemory(((0, 1 << 20), (0x1_0000_0000, 32 << 20)))
    border = mem.home.gpa + mem.home.size
    mem.add_region(border, 1 << 20, offset=4096)
    guest = start_vm(daemon, mem=mem).guest
    host, flow = raw_pair(daemon, guest)
    data = pattern(3000)
    for at in (border - 1, border - 20, border - 44, border - 500, border - 3043, border - 3044,
               border, border + (1 << 20) - 3044, 0, (1 << 20) - 3044):
        pkt = Pkt(guest.cid, 2, 4000, 90, len(data), op=OP_RW, buf_alloc=flow.buf_alloc)
        flow.tx_cnt += len(data)
        mem.write(at, pkt.pack() + data)
        guest.tx.add([(at, 44 + len(data), False)])
        guest.tx.publish()
        assert host.recv_exact(len(data)) == data


# host to guest

RX_SHAPES = {
    "one of 3776 (Linux 6.17)": (3776,),
    "44+4096 (Linux 6.1, Windows)": (44, 4096),
    "one of 4140 (Linux 6.2)": (4140,),
    "512 (virtio-drivers)": (512,),
    "45: a byte of data": (45,),
    "60": (60,),
    "header in two": (10, 34, 4096),
    "header with data": (30, 30, 30),
    "header by bytes": (*(1,) * 44, 100),
    "one by bytes": (1,) * 60,
    "18 pieces": (44, *(4096,) * 17),
    "100 KiB": (100 << 10,),
    "1 MiB": (1 << 20,),
}


@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("title", RX_SHAPES)
def test_rx_buffer(daemon, start_vm, pattern, title, indirect):
    shape = RX_SHAPES[title]
    guest = start_vm(daemon, rx_shape=shape, indirect=indirect, rx_count=100).guest
    listener = gsocket.Listener(guest, 50)
    host, sock = daemon.connect(50), listener.accept()
    size = 2000 if sum(shape) < 200 else 300_000
    data = pattern(size)
    assert stream([(host, data, sock), (sock, data, host)], 20) == [data, data]
    host.close()
    assert sock.recv_eof() == b""


def test_rx_buffers_of_mixed_shapes(daemon, start_vm, pattern):
    shapes = list(RX_SHAPES.values())
    guest = start_vm(daemon, rx_shape=shapes, queue_size=1024, rx_count=60).guest
    listener = gsocket.Listener(guest, 50)
    host, sock = daemon.connect(50), listener.accept()
    data = pattern(500_000)
    assert stream([(host, data, sock), (sock, data, host)], 20) == [data, data]


def test_bytes_beyond_the_used_length(daemon, start_vm, pattern):
    """Of each buffer the device writes what it says it wrote: the driver compares the rest."""
    guest = start_vm(daemon, rx_shape=[(65536,), (20, 4096, 9000), (44, 1), (3776,)]).guest
    listener = gsocket.Listener(guest, 50)
    host, sock = daemon.connect(50), listener.accept()
    before = guest.rx_untouched
    for size in (1, 2, 43, 44, 45, 1000, 4096, 5000):
        data = pattern(size)
        assert stream([(host, data, sock), (sock, data, host)]) == [data, data]
    assert guest.rx_untouched - before > 8 * 1000


def test_rx_buffers_for_control_packets_only(daemon, start_vm):
    """44 bytes hold a header; that is enough to come and go."""
    guest = start_vm(daemon, rx_shape=(44,)).guest
    host, flow = raw_pair(daemon, guest)
    flow.tx(OP_RW, b"data")
    assert host.recv_exact(4) == b"data"
    flow.tx(OP_CREDIT_REQUEST)
    flow.expect(OP_CREDIT_UPDATE)
    flow.tx(OP_SHUTDOWN, flags=SHUT_BOTH)
    flow.expect(OP_RST)
    assert host.recv_eof() == b""


@pytest.mark.parametrize("small", [44, 20, 1])
def test_small_rx_buffers_among_large_ones(daemon, start_vm, pattern, small):
    """Those that hold no data are used otherwise or handed back; data goes on."""
    guest = start_vm(daemon, rx_shape=[(small,), (4140,)]).guest
    listener = gsocket.Listener(guest, 50)
    host, sock = daemon.connect(50), listener.accept()
    data = pattern(200_000)
    assert stream([(host, data, sock), (sock, data, host)]) == [data, data]


def test_rx_buffers_one_at_a_time(daemon, start_vm, pattern):
    guest = start_vm(daemon, rx_count=1).guest
    listener = gsocket.Listener(guest, 50)
    host, sock = daemon.connect(50), listener.accept()
    data = pattern(200_000)
    assert stream([(host, data, sock), (sock, data, host)]) == [data, data]


# rings broken by their driver


def loop(queue):
    queue.write_desc(0, queue.mem.alloc(64), 20, F_NEXT, 1)
    queue.write_desc(1, queue.mem.alloc(64), 20, F_NEXT, 0)
    queue.push_head(0)


def self_loop(queue):
    queue.write_desc(0, queue.mem.alloc(64), 1, F_NEXT, 0)
    queue.push_head(0)


def empty_loop(queue):
    queue.write_desc(0, queue.mem.alloc(64), 0, F_NEXT, 0)
    queue.push_head(0)


def bad_next(queue):
    queue.write_desc(0, queue.mem.alloc(64), 20, F_NEXT, queue.size)
    queue.push_head(0)


def bad_head(queue):
    queue.push_head(queue.size)


def huge_head(queue):
    queue.push_head(0xFFFF)


def unmapped(queue):
    queue.write_desc(0, 0x7000_0000_0000, 44)
    queue.push_head(0)


def unmapped_end(queue):
    home = queue.mem.home
    queue.write_desc(0, home.gpa + home.size - 10, 44)
    queue.push_head(0)


def wrapping(queue):
    queue.write_desc(0, 0xFFFFFFFFFFFFFFF0, 44)
    queue.push_head(0)


def giant_wrapping(queue):
    queue.write_desc(0, queue.mem.home.gpa + 4096, 0xFFFFFFFF)
    queue.push_head(0)


def _indirect(queue, entries, length=None, flags=F_INDIRECT):
    table = queue.mem.alloc(16 * max(len(entries), 1))
    for i, entry in enumerate(entries):
        queue.write_desc(i, *entry, table=table)
    queue.write_desc(0, table, 16 * len(entries) if length is None else length, flags)
    queue.push_head(0)


def indirect_loop(queue):
    _indirect(queue, [(queue.mem.alloc(64), 20, F_NEXT, 0)])


def indirect_bad_next(queue):
    _indirect(queue, [(queue.mem.alloc(64), 20, F_NEXT, 1)])


def indirect_nested(queue):
    inner = queue.mem.alloc(16)
    queue.mem.write(inner, struct.pack("<QIHH", queue.mem.alloc(64), 44, 0, 0))
    _indirect(queue, [(inner, 16, F_INDIRECT, 0)])


def indirect_odd_length(queue):
    _indirect(queue, [(queue.mem.alloc(64), 44, 0, 0)], length=17)


def indirect_empty(queue):
    _indirect(queue, [], length=0)


def indirect_huge(queue):
    _indirect(queue, [(queue.mem.alloc(64), 44, 0, 0)], length=0xFFFFFFF0)


def indirect_unmapped(queue):
    queue.write_desc(0, 0x7000_0000_0000, 16, F_INDIRECT)
    queue.push_head(0)


def readable_after_writable(queue):
    queue.write_desc(0, queue.mem.alloc(64), 44, F_WRITE | F_NEXT, 1)
    queue.write_desc(1, queue.mem.alloc(64), 44)
    queue.push_head(0)


def index_jump(queue):
    queue.next_avail += queue.size + 1


def indirect_behind(queue):
    """Legal in a split ring."""
    table = queue.mem.alloc(16)
    queue.write_desc(0, queue.mem.alloc(64), 44, 0, table=table)
    queue.write_desc(0, queue.mem.alloc(64), 44, F_NEXT, 1)
    queue.write_desc(1, table, 16, F_INDIRECT)
    queue.push_head(0)


BREAKS = [loop, self_loop, empty_loop, unmapped, unmapped_end, wrapping, giant_wrapping,
          indirect_odd_length, indirect_empty, indirect_huge, indirect_unmapped,
          readable_after_writable]
# In tables of packed rings flags but WRITE mean nothing, and there are no heads and links.
SPLIT_BREAKS = BREAKS + [bad_next, bad_head, huge_head, indirect_loop, indirect_bad_next,
                         indirect_nested, index_jump]
PACKED_BREAKS = BREAKS + [indirect_behind]


def over_rings(split, packed):
    """Parameters ring and how."""
    cases = [("split", how) for how in split] + [("packed", how) for how in packed]
    return pytest.mark.parametrize("ring, how", cases, ids=[f"{r}-{h.__name__}" for r, h in cases])


@over_rings(SPLIT_BREAKS, PACKED_BREAKS)
def test_broken_tx_ring(start_daemon, start_vm, pattern, how):
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"])
    vm, other = start_vm(daemon, 3), start_vm(daemon, 4)
    listener = gsocket.Listener(other.guest, 50)
    host, sock = daemon.connect(50, 4), listener.accept()
    how(vm.guest.tx)
    vm.guest.tx.publish()
    vm.guest.tx.do_kick()
    until(lambda: drain_eventfd(vm.guest.tx.err), "the ring's error descriptor")
    spent = daemon.cpu_seconds()
    data = pattern(200_000)
    assert stream([(host, data, sock), (sock, data, host)]) == [data, data]
    assert daemon.cpu_seconds() - spent < 2
    assert vm.fe.is_alive()
    # a reset of the driver mends it
    vm.reboot()
    inner, flow = raw_pair(daemon, vm.guest)
    flow.tx(OP_RW, b"mended")
    assert inner.recv_exact(6) == b"mended"


@over_rings([loop, bad_head, unmapped, indirect_nested, index_jump],
            [loop, unmapped, indirect_odd_length, indirect_behind])
def test_broken_rx_ring(start_daemon, start_vm, pattern, how):
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"])
    vm, other = start_vm(daemon, 3, rx_count=0), start_vm(daemon, 4)
    listener = gsocket.Listener(other.guest, 50)
    host, sock = daemon.connect(50, 4), listener.accept()
    flow = vm.guest.flow(4000, 81)
    flow.tx(OP_REQUEST)
    how(vm.guest.rx)
    vm.guest.rx.publish()
    vm.guest.rx.do_kick()
    until(lambda: drain_eventfd(vm.guest.rx.err), "the ring's error descriptor")
    data = pattern(200_000)
    assert stream([(host, data, sock), (sock, data, host)]) == [data, data]
    vm.guest.rx_count = None
    vm.reboot()
    inner, flow = raw_pair(daemon, vm.guest)
    inner.send_all(b"mended")
    flow.expect(OP_RW, ignore=CREDIT, data=b"mended")


def test_device_readable_rx_buffer(start_daemon, start_vm):
    """Nothing may be written into what the driver did not give for writing."""
    daemon = start_daemon(cids=(3, 4))
    vm, other = start_vm(daemon, 3, rx_count=0), start_vm(daemon, 4)
    gpa = vm.guest.mem.alloc(4096)
    vm.guest.mem.write(gpa, b"\x77" * 4096)
    for _ in range(3):
        vm.guest.rx.add([(gpa, 4096, False)], [])
    vm.guest.rx.publish()
    vm.guest.tx.publish()
    flow = vm.guest.flow(4000, 81)
    flow.tx(OP_REQUEST)
    other.guest.sync()
    assert vm.guest.mem.read(gpa, 4096) == b"\x77" * 4096
    daemon.assert_healthy()


def test_tx_chain_with_a_writable_tail(daemon, guest):
    """Odd but harmless: the tail is not part of the packet."""
    host, flow = raw_pair(daemon, guest)
    gpa, tail = guest.mem.alloc(48), guest.mem.alloc(16)
    pkt = Pkt(guest.cid, 2, 4000, 90, 4, op=OP_RW, buf_alloc=flow.buf_alloc)
    guest.mem.write(gpa, pkt.pack() + b"data")
    guest.mem.write(tail, b"\x77" * 16)
    flow.tx_cnt += 4
    guest.tx.add([(gpa, HEADER_SIZE + 4, False), (tail, 16, True)])
    guest.tx.publish()
    assert host.recv_exact(4) == b"data"
    assert guest.mem.read(tail, 16) == b"\x77" * 16
