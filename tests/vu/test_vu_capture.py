# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Capture by the control socket: which packets, their bytes, and that nobody waits for a reader."""

import os
import signal
import time

import pytest

import gseqpacket
import gsocket
from capture import HEADERS, Capture
from control import Control, Failure, path_of
from daemon import binary, has_sanitizer
from hostsock import stream
from vhost_user import F_SEQPACKET, F_STREAM
from vsockpkt import (OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN, SEQ_EOM, SHUT_SEND,
                      TYPE_SEQPACKET, Pkt)
from waiting import until

RINGS = ("split", "packed")
CLOCK_JUMP = os.path.join(os.path.dirname(binary()), "tests", "vu", "clock-jump.so")
RING_BYTES = 4 << 20  # of a capture that is not read


@pytest.fixture
def start_capture():
    started = []

    def start(*args, **kw):
        started.append(Capture(*args, **kw))
        return started[-1]
    yield start
    for capture in started:
        capture.close()


def host_pair(daemon, guest, local=4000, port=80):
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, local, port)
    host = door.accept()
    door.close()
    return host, sock


def test_a_connection_from_begin_to_end(start_controlled, start_vm, start_capture, pattern):
    daemon, ctl = start_controlled()
    guest = start_vm(daemon).guest
    begin = time.time_ns()
    capture = start_capture(daemon, 3)
    assert capture.result == {"linktype": 271, "snaplen": 262144}
    received = []
    guest.on_rx = received.append
    host, sock = host_pair(daemon, guest)
    up, down = pattern(100_000), pattern(70_000, 2)
    assert stream([(sock, up, host), (host, down, sock)]) == [up, down]
    sock.close()
    assert host.recv_eof() == b""
    until(lambda: sock.state == gsocket.CLOSED, "the end")
    capture.finish()
    ops = capture.ops()
    assert ops[:2] == [OP_REQUEST, OP_RESPONSE] and {OP_SHUTDOWN, OP_RST} <= set(ops[2:])
    first = capture.records[0].pkt
    assert (first.src_cid, first.dst_cid, first.src_port, first.dst_port) == (3, 2, 4000, 80)
    assert first.buf_alloc == 262144
    assert capture.payload(4000, 80) == up and capture.payload(80, 4000) == down
    to_guest = [record.pkt for record in capture.records if record.pkt.dst_cid == 3]
    assert to_guest == received
    times = [record.time_ns for record in capture.records]
    assert times == sorted(times) and begin <= times[0] and times[-1] <= time.time_ns()
    counters = ctl.counters(3)
    assert counters["captured_packets"] == len(capture.records)
    assert (capture.lost, counters["capture_lost_packets"]) == (0, 0)


def test_snaplen_and_ports(start_controlled, start_vm, start_capture, pattern):
    daemon, _ = start_controlled()
    guest = start_vm(daemon).guest
    short = start_capture(daemon, 3, snaplen=HEADERS + 10, ports=[90, 91])
    heads = start_capture(daemon, 3, snaplen=HEADERS, ports=[4001])
    everything = start_capture(daemon, 3)
    data = pattern(5000)
    for local, port in ((4000, 80), (4001, 90), (4002, 91)):
        host, sock = host_pair(daemon, guest, local, port)
        assert stream([(sock, data, host), (host, data, sock)]) == [data] * 2
    guest.sync()
    for capture in (short, heads, everything):
        capture.finish()
    assert short.ops() == everything.ops(90, 91)
    assert heads.ops() == everything.ops(90)
    assert everything.ops(80) and everything.payload(4000, 80) == data
    assert not short.ops(80) and {record.pkt.data for record in heads.records} == {b""}
    big = [record for record in short.records if record.pkt.len]
    assert [record.length for record in big] == [HEADERS + record.pkt.len for record in big]
    assert short.payload(4001, 90)[:10] == data[:10]
    assert all(len(record.pkt.data) == min(10, record.pkt.len) for record in big)


def test_packets_that_are_refused(start_controlled, start_vm, start_capture):
    """What the guest sends is shown before it is judged; a lie about the length does no harm."""
    daemon, _ = start_controlled()
    guest = start_vm(daemon).guest
    capture = start_capture(daemon, 3)
    flow = guest.flow(4000, 99)
    guest.auto_rst = False
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    guest.send(Pkt(src_cid=3, src_port=1, dst_port=2, type=7, op=OP_RW, len=9, data=b"abc"))
    guest.send(Pkt(src_cid=77, src_port=3, dst_port=4, op=99))
    records = capture.wait(5)
    seen = [(record.pkt.src_cid, record.pkt.src_port, record.pkt.op) for record in records]
    assert (3, 4000, OP_REQUEST) in seen and (2, 99, OP_RST) in seen
    assert (3, 1, OP_RW) in seen and (77, 3, 99) in seen
    assert [(record.length, record.pkt.len, record.pkt.data) for record in records
            if record.pkt.src_port == 1] == [(HEADERS + 3, 9, b"abc")]


@pytest.mark.parametrize("threads", ["1", "2"])
def test_siblings(start_controlled, start_vm, start_capture, pattern, threads):
    """A packet is seen in both guests' captures, as each of them sees it."""
    daemon, _ = start_controlled(cids=(3, 4), args=["--threads", threads])
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    captures = [start_capture(daemon, cid) for cid in (3, 4)]
    listener = gsocket.Listener(b, 90)
    left = gsocket.connect(a, 4000, 90, peer_cid=4)
    right = listener.accept()
    up, down = pattern(200_000), pattern(150_000, 2)
    assert stream([(left, up, right), (right, down, left)]) == [up, down]
    left.close()
    until(right.at_eof, "the end")
    right.close()
    until(lambda: left.state == right.state == gsocket.CLOSED, "both ends")
    for capture in captures:
        capture.finish()
        assert capture.lost == 0
        assert capture.ops()[:2] == [OP_REQUEST, OP_RESPONSE]
        assert capture.payload(4000, 90) == up and capture.payload(90, 4000) == down
        assert {(record.pkt.src_cid, record.pkt.dst_cid)
                for record in capture.records} == {(3, 4), (4, 3)}


def test_messages(start_controlled, start_vm, start_capture, pattern):
    daemon, _ = start_controlled()
    guest = start_vm(daemon, socket_types=F_STREAM | F_SEQPACKET).guest
    capture = start_capture(daemon, 3)
    door = daemon.listen_seqpacket(80, 3)
    sock = gseqpacket.connect(guest, 4000, 80)
    host = door.accept()
    messages = [pattern(size, size) for size in (10, 9000)]
    for message in messages:
        sock.send_message(message)
        assert host.recv_record() == message
        host.send_record(message)
        assert sock.recv_message() == message
    capture.finish()
    for ports in ((4000, 80), (80, 4000)):
        packets = [record.pkt for record in capture.records if record.pkt.op == OP_RW
                   and (record.pkt.src_port, record.pkt.dst_port) == ports]
        assert {pkt.type for pkt in packets} == {TYPE_SEQPACKET}
        assert sum(bool(pkt.flags & SEQ_EOM) for pkt in packets) == len(messages)
        assert b"".join(pkt.data for pkt in packets) == b"".join(messages)


def test_reader_that_stalls(start_controlled, start_vm, start_capture, pattern):
    """The guest's traffic goes on; what had no room is counted, and told at the end."""
    daemon, ctl = start_controlled()
    guest = start_vm(daemon).guest
    capture = start_capture(daemon, 3)
    host, sock = host_pair(daemon, guest)
    up, down = pattern(RING_BYTES), pattern(RING_BYTES, 2)
    assert stream([(sock, up, host), (host, down, sock)], timeout=60) == [up, down]
    capture.finish()  # the guest may tell of its credit until then
    counters = ctl.counters(3)
    assert capture.lost == counters["capture_lost_packets"] > 0
    assert len(capture.records) == counters["captured_packets"]
    sent, got = capture.payload(4000, 80, lossless=True), capture.payload(80, 4000, lossless=True)
    assert up.startswith(sent) and down.startswith(got)
    assert len(sent) + len(got) > RING_BYTES // 2
    # and lets in packets again, which tell of the gap
    other = start_capture(daemon, 3)
    sock.send_all(b"x")
    assert other.wait(1)[0].lost == 0


@pytest.mark.skipif(has_sanitizer() or not os.path.exists(CLOCK_JUMP),
                    reason="nothing can be preloaded")
def test_reader_that_never_comes_back(start_controlled, start_vm, start_capture, pattern,
                                      monkeypatch):
    """It loses its place; who reads, and who has nothing to read, do not."""
    monkeypatch.setenv("LD_PRELOAD", CLOCK_JUMP)
    daemon, ctl = start_controlled(cids=(3, 4))
    guest = start_vm(daemon, 3).guest
    stalled = [start_capture(daemon, 3) for _ in range(6)]
    reading, idle = start_capture(daemon, 3), start_capture(daemon, 4)
    host, sock = host_pair(daemon, guest)
    data = pattern(RING_BYTES)
    assert stream([(sock, data, host)], timeout=60) == [data]
    reading.wait(ctl.counters(3)["captured_packets"] // 8)
    with pytest.raises(Failure, match="limit"):
        start_capture(daemon, 3)
    sock.send_all(b"marker")
    until(lambda: reading.read_now()[-1].pkt.data == b"marker", "all of it")
    os.kill(daemon.proc.pid, signal.SIGUSR2)
    until(lambda: ctl.call("list") and daemon.stderr().count("took nothing for 60 s") == 6,
          "them to be dropped")
    sock.send_all(b"after")
    until(lambda: reading.read_now()[-1].pkt.data == b"after", "what comes after")
    again = [start_capture(daemon, 3) for _ in range(6)]
    idle.finish()
    for capture in stalled:
        until(lambda c=capture: c.read_now() is None or c.sock.ended, "the end",
              readers=[capture.sock])
        assert capture.lost is None
    for capture in again:
        capture.finish()
    reading.finish()
    daemon.assert_healthy()


def test_reader_that_catches_up(start_controlled, start_vm, start_capture, pattern):
    daemon, ctl = start_controlled()
    guest = start_vm(daemon).guest
    capture = start_capture(daemon, 3)
    host, sock = host_pair(daemon, guest)
    data = pattern(2 * RING_BYTES)
    assert stream([(sock, data, host)], timeout=60) == [data]
    lost = ctl.counters(3)["capture_lost_packets"]
    assert lost > 0
    capture.wait(ctl.counters(3)["captured_packets"])
    told = [record.lost for record in capture.records]
    assert told[0] == 0 and told == sorted(told) and told[-1] <= lost
    sock.send_all(b"after the gap")
    capture.wait(len(capture.records) + 1)
    assert capture.records[-1].pkt.data == b"after the gap"
    assert capture.records[-1].lost == lost
    capture.finish()
    assert capture.lost == lost


def test_reader_that_is_killed(start_controlled, start_vm, start_capture, pattern):
    """Its place is free again, the VM notices nothing."""
    daemon, ctl = start_controlled()
    guest = start_vm(daemon).guest
    host, sock = host_pair(daemon, guest)
    for number in range(20):
        capture = start_capture(daemon, 3)
        data = pattern(50_000, number)
        if number % 2:
            capture.close()
        assert stream([(sock, data, host), (host, data, sock)]) == [data] * 2
        capture.close()
    before = until(lambda: ctl.counters(3), "counters")["captured_packets"]
    captures = [start_capture(daemon, 3) for _ in range(2)]
    sock.send_all(b"end")
    assert host.recv_exact(3) == b"end"
    for capture in captures:
        assert capture.wait(1)[0].pkt.data == b"end"
    assert ctl.counters(3)["captured_packets"] >= before + 2


def test_bound_and_refusals(start_controlled, start_vm, start_capture):
    daemon, ctl = start_controlled()
    start_vm(daemon)
    captures = [start_capture(daemon, 3) for _ in range(8)]
    with pytest.raises(Failure, match="limit"):
        start_capture(daemon, 3)
    captures[0].finish()
    captures[0] = start_capture(daemon, 3)
    for params in ({}, {"cid": "3"}, {"cid": 3, "snaplen": 75}, {"cid": 3, "snaplen": 262145},
                   {"cid": 3, "ports": 80}, {"cid": 3, "ports": ["80"]}, {"cid": 3, "ports": [-1]},
                   {"cid": 3, "ports": list(range(17))}, {"cid": 3, "wish": 1}):
        with pytest.raises(Failure, match="invalid"):
            ctl.call("capture", **params)
    with pytest.raises(Failure, match="not-found"):
        ctl.call("capture", cid=5)


def test_vm_that_is_removed(start_controlled, start_vm, start_capture, pattern):
    """Its captures end with all that was seen; a reader that does not read is let go of."""
    daemon, ctl = start_controlled(cids=(3, 4))
    guest, other = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    reading, stalled, neighbour = (start_capture(daemon, cid) for cid in (3, 3, 4))
    host, sock = host_pair(daemon, guest)
    data = pattern(RING_BYTES)
    assert stream([(sock, data, host)], timeout=60) == [data]
    ctl.call("remove", cid=3)
    reading.wait_end()
    assert reading.ops()[:2] == [OP_REQUEST, OP_RESPONSE]
    host, sock = host_pair(daemon, other)
    sock.send_all(b"neighbour")
    assert host.recv_exact(9) == b"neighbour"
    until(lambda: neighbour.read_now() and neighbour.payload(4000, 80) == b"neighbour", "its bytes")
    stalled.close()


def test_a_client_that_goes_before_the_answer(start_controlled, start_vm):
    daemon, ctl = start_controlled()
    vm = start_vm(daemon)
    for _ in range(10):
        client = Control(path_of(daemon))
        client.send(b'{"method":"capture","params":{"cid":3}}\n{"method":"list"}\n')
        client.close()
    host, sock = host_pair(daemon, vm.guest)
    sock.shutdown(SHUT_SEND)
    assert host.recv_eof() == b""
    assert ctl.counters(3)["opened_by_guest"] == 1


def test_reboot_while_captured(start_controlled, start_vm, start_capture):
    """The capture is the VM's, whoever its VMM and its driver are."""
    daemon, _ = start_controlled()
    vm = start_vm(daemon)
    capture = start_capture(daemon, 3)
    host_pair(daemon, vm.guest)
    vm.replace()
    host, sock = host_pair(daemon, vm.guest, 4001)
    sock.send_all(b"again")
    assert host.recv_exact(5) == b"again"
    capture.finish()
    assert capture.ops().count(OP_REQUEST) == 2
    assert capture.payload(4001, 80) == b"again"
