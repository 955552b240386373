# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Connections come to be or are refused: CONNECT lines, REQUESTs, resets."""

import os
import socket

import pytest

import gsocket
import waiting
from hostsock import HostSocket
from vsockpkt import (OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW,
                      OP_SHUTDOWN, SHUT_BOTH, TYPE_SEQPACKET, TYPE_STREAM)
from waiting import until

MIN_HOST_PORT = 1 << 30
MAX_HOST_PORT = (1 << 31) - 1


def assert_usable(daemon, guest, port=1111):
    """A connection each way works."""
    listener = gsocket.Listener(guest, port)
    host, sock = daemon.connect(port, guest.cid), listener.accept()
    host.send_all(b"hello")
    assert sock.recv_exact(5) == b"hello"
    sock.close()
    assert host.recv_eof() == b""
    del guest.listeners[port]
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, 4000, port)
    host = door.accept()
    sock.send_all(b"hello")
    assert host.recv_exact(5) == b"hello"
    sock.close()
    door.close()


# host to guest


def test_request_and_answer(daemon, guest):
    listener = guest.raw_listen(1234)
    ports = set()
    for _ in range(20):
        client = daemon.request(1234)
        flow = listener.accept()
        req = flow.request
        assert (req.src_cid, req.dst_port, req.type) == (2, 1234, TYPE_STREAM)
        assert (req.buf_alloc, req.fwd_cnt) == (262144, 0)
        assert client.is_quiet(), "an answer before the guest's"
        flow.respond()
        line = client.recv_line()
        assert line == b"OK %d\n" % req.src_port
        assert MIN_HOST_PORT <= req.src_port <= MAX_HOST_PORT
        ports.add(req.src_port)
    assert len(ports) == 20


@pytest.mark.parametrize("line", [b"CONNECT 1234\n", b"connect 1234\n", b"Connect 1234\n"])
def test_connect_line_byte_by_byte(daemon, guest, line):
    listener = gsocket.Listener(guest, 1234)
    client = daemon.dial()
    for byte in line:
        client.send_all(bytes([byte]))
        guest.sync()
    assert client.recv_line().startswith(b"OK ")
    listener.accept()


def test_data_after_the_line_comes_after_the_response(daemon, guest, pattern):
    listener = guest.raw_listen(1234)
    data = pattern(50_000)
    client = daemon.dial()
    client.send_all(b"CONNECT 1234\n" + data)
    flow = listener.accept()
    guest.sync()
    assert not flow.pkts, "packets before the guest's RESPONSE"
    flow.respond()
    assert flow.expect_data(len(data)) == data
    assert client.recv_line().startswith(b"OK ")


def test_half_closed_before_the_response(daemon, guest):
    """printf 'CONNECT 1234\\nhello' | socat - UNIX-CONNECT:..."""
    listener = guest.raw_listen(1234)
    client = daemon.dial()
    client.send_all(b"CONNECT 1234\nhello")
    client.shutdown()
    flow = listener.accept()
    flow.respond()
    sock_data = flow.expect_data(5)
    assert sock_data == b"hello"
    flow.expect(OP_SHUTDOWN, flags=2, ignore=(OP_CREDIT_UPDATE,))
    flow.tx(OP_RW, b"answer")
    assert client.recv_line().startswith(b"OK ")
    assert client.recv_exact(6) == b"answer"


@pytest.mark.parametrize("line", [
    b"HELLO\n", b"\n", b"CONNECT\n", b"CONNECT \n", b"CONNECT abc\n", b"CONNECT -1\n",
    b"CONNECT +1\n", b"CONNECT 0x10\n", b"CONNECT 4294967296\n", b"CONNECT 1 2\n",
    b"CONNECT 99999999999999999999\n", b"CONNECT 12a\n", b"CONNECTX 12\n", b"CONNECT\x0012\n",
    b"A" * 64, b"CONNECT " + b"0" * 100 + b"12\n", b"CONNECT 1234" + b" " * 60,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff\xfe" * 40,
])
def test_garbage_is_refused_without_text(daemon, guest, line):
    seen = []
    guest.on_rx = seen.append
    client = daemon.dial()
    client.send_all(line)
    assert client.drain() == b""
    assert not seen
    assert_usable(daemon, guest)


def test_refused_by_the_guest_without_text(daemon, guest):
    client = daemon.request(999)
    assert client.recv_eof() == b""
    assert guest.take_inbox(OP_REQUEST).dst_port == 999


def test_refused_without_a_vm(daemon, start_vm):
    assert daemon.request(999).drain() == b""
    vm = start_vm(daemon)
    vm.kill()
    until(lambda: daemon.request(999).drain() == b"", "a refusal")
    daemon.assert_healthy()


def test_client_leaves_before_the_response(daemon, guest):
    listener = guest.raw_listen(1234)
    for late in (b"", b"data"):
        client = daemon.request(1234)
        flow = listener.accept()
        client.send_all(late)
        client.close()
        guest.sync()
        flow.respond()
        ended = until(lambda: _end_of(flow), "the end of the connection")
        assert ended
        if ended != OP_RST:
            flow.tx(OP_RST)
        flow.drop()
        assert_usable(daemon, guest)


def _end_of(flow):
    """Operation by which the device ended the flow completely, if it did."""
    for pkt in flow.pkts:
        if pkt.op == OP_RST or (pkt.op == OP_SHUTDOWN and pkt.flags == SHUT_BOTH):
            return pkt.op
    return None


def test_client_leaves_inside_the_line(daemon, guest):
    seen = []
    guest.on_rx = seen.append
    for part in (b"", b"C", b"CONNECT", b"CONNECT 12"):
        client = daemon.dial()
        client.send_all(part)
        client.close()
    guest.sync()
    assert all(pkt.op == OP_RST for pkt in seen)  # those of sync()
    assert_usable(daemon, guest)


def test_clients_that_come_and_go_leave_nothing(daemon, guest):
    assert_usable(daemon, guest)
    before = daemon.fd_count()
    for i in range(500):
        client = daemon.dial()
        if i % 3 == 1:
            client.send_all(b"CONNECT 77\n")
        client.close()
    assert_usable(daemon, guest)
    until(lambda: daemon.fd_count() <= before, lambda: f"{daemon.fd_count()} fds to be {before}")
    spent = daemon.cpu_seconds()
    waiting.run_for(1)
    assert daemon.cpu_seconds() - spent < 0.5, "the daemon spins"


def test_idle_connections_cost_no_cpu(daemon, guest):
    """Also with half-closed ones, unread data and a client that said nothing."""
    listener = gsocket.Listener(guest, 50)
    pairs = []
    for _ in range(4):
        host = daemon.connect(50)
        pairs.append((host, listener.accept()))
    silent = daemon.dial()
    pairs[0][0].shutdown()
    pairs[1][1].shutdown(2)
    pairs[2][0].send_now(bytes(1 << 20))
    pairs[3][1].send_now(bytes(1 << 20))
    guest.sync()
    spent = daemon.cpu_seconds()
    waiting.run_for(1)
    assert daemon.cpu_seconds() - spent < 0.5, "the daemon spins"
    silent.close()


def test_guest_never_answers(daemon, guest):
    listener = guest.raw_listen(1234)
    client = daemon.request(1234)
    flow = listener.accept()
    assert client.recv_eof() == b""
    flow.expect(OP_RST)
    flow.drop()
    assert_usable(daemon, guest)


def test_many_at_once(daemon, start_vm, pattern):
    vm = start_vm(daemon)
    listener = gsocket.Listener(vm.guest, 50)
    door = daemon.listen(60, backlog=256)
    clients = [daemon.request(50) for _ in range(100)]
    guests = []
    for i in range(100):
        sock = gsocket.GuestSocket(vm.guest, 3000 + i, 60)
        sock.tx(OP_REQUEST)
        guests.append(sock)
    lines = [client.recv_line() for client in clients]
    assert len(set(lines)) == 100
    by_port = {int(line[3:]): client for line, client in zip(lines, clients)}
    inner = [listener.accept() for _ in range(100)]
    for sock in guests:
        sock.wait_connected()
    outer = [door.accept() for _ in range(100)]
    for i, sock in enumerate(inner):
        by_port[sock.peer_port].send_all(b"%08d" % i)
    for i, sock in enumerate(guests):
        sock.send_all(b"%08d" % i)
    for i, sock in enumerate(inner):
        assert sock.recv_exact(8) == b"%08d" % i
    assert sorted(int(host.recv_exact(8)) for host in outer) == list(range(100))
    data = pattern(3000)
    for end in (*clients, *outer):
        end.send_all(data)
    for sock in (*inner, *guests):
        assert sock.recv_exact(len(data)) == data


# guest to host


def test_guest_connects(daemon, guest):
    door = daemon.listen(80)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST)
    answer = flow.expect(OP_RESPONSE, src_cid=2, src_port=80, dst_port=1000, buf_alloc=262144)
    assert answer.fwd_cnt == 0
    host = door.accept()
    flow.tx(OP_RW, b"first")
    assert host.recv_exact(5) == b"first"
    host.send_all(b"second")
    flow.expect(OP_RW, ignore=(OP_CREDIT_UPDATE,), data=b"second")


def test_no_listener(daemon, guest):
    for port in (81, 0, 0xFFFFFFFE):
        flow = guest.flow(1000, port)
        flow.tx(OP_REQUEST)
        flow.expect(OP_RST, src_cid=2)
        flow.drop()
    assert_usable(daemon, guest)


def test_path_that_is_no_listener(daemon, guest):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(daemon.vm().port(82))
    stale.close()
    with open(daemon.vm().port(83), "w", encoding="ascii"):
        pass
    os.mkdir(daemon.vm().port(84))
    for port in (82, 83, 84):
        flow = guest.flow(1000, port)
        flow.tx(OP_REQUEST)
        flow.expect(OP_RST)
        flow.drop()
    assert_usable(daemon, guest)


@pytest.mark.parametrize("cid", [0, 1, 3, 99, 0x80000000, 0xFFFFFFFF])
def test_unknown_cid(daemon, guest, cid):
    flow = guest.flow(1000, 80, peer_cid=cid)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)


@pytest.mark.parametrize("op", [OP_RESPONSE, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE,
                                OP_CREDIT_REQUEST])
def test_unknown_flow(daemon, guest, op):
    daemon.listen(80)
    flow = guest.flow(1000, 80)
    flow.tx(op, b"data" if op == OP_RW else b"", flags=SHUT_BOTH if op == OP_SHUTDOWN else 0)
    flow.expect(OP_RST, src_cid=2)


def test_reset_is_never_answered_with_one(daemon, guest):
    for cid, port in ((2, 80), (2, 81), (99, 80), (4, 80)):
        flow = guest.flow(1000, port, peer_cid=cid)
        for kind in (TYPE_STREAM, TYPE_SEQPACKET):
            flow.tx(OP_RST, type=kind)
        guest.sync()
        assert not flow.pkts
        flow.drop()
    assert_usable(daemon, guest)


@pytest.mark.parametrize("kind", [0, TYPE_SEQPACKET, 3, 0xFFFF])
def test_wrong_type(daemon, guest, kind):
    door = daemon.listen(80)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST, type=kind)
    flow.expect(OP_RST)
    assert door.accept_now() is None


def test_wrong_type_on_a_live_flow(daemon, guest):
    door = daemon.listen(80)
    flow = guest.flow(1000, 80)
    flow.connect()
    host = door.accept()
    flow.tx(OP_RW, b"wrong", type=TYPE_SEQPACKET)
    flow.expect(OP_RST)
    guest.sync()
    assert host.recv_now() == b""


@pytest.mark.parametrize("op", [0, 8, 9, 255, 0xFFFF])
def test_unknown_operation(daemon, guest, op):
    door = daemon.listen(80)
    for port in (80, 81):
        flow = guest.flow(1000, port)
        flow.tx(op)
        guest.sync()
        flow.drop()
    flow = guest.flow(1000, 80)
    flow.connect()
    door.accept()
    flow.tx(op)
    guest.sync()
    assert_usable(daemon, guest)


@pytest.mark.parametrize("cid", [0, 2, 4, 3 | 1 << 32])
def test_forged_source(start_daemon, start_vm, cid):
    daemon = start_daemon(cids=(3, 4))
    guest, other = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    door = daemon.listen(80, 3)
    door4 = daemon.listen(80, 4)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST, src_cid=cid)
    guest.sync()
    assert not flow.pkts and door.accept_now() is None and door4.accept_now() is None
    flow.connect()
    host = door.accept()
    flow.tx(OP_RW, b"bad", src_cid=cid)
    flow.tx(OP_SHUTDOWN, src_cid=cid, flags=SHUT_BOTH)
    flow.tx(OP_RST, src_cid=cid)
    flow.tx_cnt -= 3
    flow.tx(OP_RW, b"good")
    assert host.recv_exact(4) == b"good"
    guest.sync()
    assert host.is_quiet()
    assert not other.inbox


def test_upper_bits_of_the_destination(daemon, guest):
    door = daemon.listen(80)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST, dst_cid=2 | 1 << 32)
    guest.sync()
    assert door.accept_now() is None
    assert_usable(daemon, guest)


def test_request_on_a_live_flow_replaces_it(daemon, guest):
    door = daemon.listen(80)
    flow = guest.flow(1000, 80)
    flow.connect()
    old = door.accept()
    flow.tx(OP_RW, b"old")
    assert old.recv_exact(3) == b"old"
    flow.drop()
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RESPONSE, fwd_cnt=0)
    new = door.accept()
    assert old.drain() == b""
    flow.tx(OP_RW, b"new")
    assert new.recv_exact(3) == b"new"
    guest.sync()
    assert all(pkt.op != OP_RST for pkt in flow.pkts)


def test_guest_resets(daemon, guest):
    door = daemon.listen(80)
    for _ in range(3):
        flow = guest.flow(1000, 80)
        flow.connect()
        host = door.accept()
        flow.tx(OP_RST)
        assert host.drain() == b""
        guest.sync()
        assert not flow.pkts
        flow.tx(OP_RW, b"late")
        flow.expect(OP_RST)
        flow.drop()


def test_same_ports_in_two_guests(start_daemon, start_vm):
    daemon = start_daemon(cids=(3, 4))
    flows = {}
    for cid in (3, 4):
        guest = start_vm(daemon, cid).guest
        door = daemon.listen(80, cid)
        flow = guest.flow(1000, 80)
        flow.connect()
        flows[cid] = flow, door.accept()
    for cid, (flow, host) in flows.items():
        flow.tx(OP_RW, b"guest %d" % cid)
        assert host.recv_exact(7) == b"guest %d" % cid
    flows[3][0].tx(OP_RST)
    assert flows[3][1].drain() == b""
    flows[4][1].send_all(b"still here")
    flows[4][0].expect(OP_RW, ignore=(OP_CREDIT_UPDATE,), data=b"still here")


# a host listener that does not accept


def fill_backlog(door):
    """Connect until the listener takes no more."""
    fillers = []
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(door.path)
        except BlockingIOError:
            sock.close()
            return fillers
        fillers.append(HostSocket(sock))


def test_full_backlog_is_retried(daemon, guest):
    door = daemon.listen(80, backlog=0)
    fillers = fill_backlog(door)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST)
    # the other connections do not notice
    assert_usable(daemon, guest)
    assert not flow.pkts
    for _ in fillers:
        door.accept()
    flow.expect(OP_RESPONSE)
    host = door.accept()
    flow.tx(OP_RW, b"made it")
    assert host.recv_exact(7) == b"made it"


def test_full_backlog_to_the_end(daemon, guest):
    door = daemon.listen(80, backlog=0)
    fillers = fill_backlog(door)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST)
    waiting.run_for(1.0)
    assert not flow.pkts, "gave up long before the guest would"
    flow.expect(OP_RST)
    for _ in fillers:
        door.accept()
    guest.sync()
    assert door.accept_now() is None, "connected after the guest was refused"


def test_guest_gives_up_during_a_full_backlog(daemon, guest):
    door = daemon.listen(80, backlog=0)
    fillers = fill_backlog(door)
    flow = guest.flow(1000, 80)
    flow.tx(OP_REQUEST)
    flow.tx(OP_RST)
    guest.sync()
    for _ in fillers:
        door.accept()
    waiting.run_for(0.3)
    host = door.accept_now()
    assert host is None or host.drain() == b""
    assert not flow.pkts
    flow.drop()
    assert_usable(daemon, guest)
