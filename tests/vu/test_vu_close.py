# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Connections end: half closes, full closes, drain before close, time-outs."""

import socket

import pytest

import gsocket
import waiting
from hostsock import stream
from vsockpkt import (MAX_PAYLOAD, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RST, OP_RW,
                      OP_SHUTDOWN, SHUT_BOTH, SHUT_RCV, SHUT_SEND)
from waiting import until

RINGS = ("split", "packed")
CREDIT = (OP_CREDIT_UPDATE, OP_CREDIT_REQUEST)
WAYS = pytest.mark.parametrize("way", ["host-first", "guest-first"])


def pair(daemon, guest, way):
    """A connected (host socket, guest socket), whoever asked for it."""
    if way == "host-first":
        listener = gsocket.Listener(guest, 90)
        return daemon.connect(90), listener.accept()
    door = daemon.listen(90)
    sock = gsocket.connect(guest, 4000, 90)
    return door.accept(), sock


def raw_pair(daemon, guest, local=4000, **kw):
    door = daemon.listen(90)
    flow = guest.flow(local, 90, **kw)
    flow.connect()
    host = door.accept()
    door.close()
    return host, flow


def assert_forgotten(flow):
    """The device knows nothing of the flow any more."""
    flow.guest.sync()
    flow.pkts.clear()
    flow.tx(OP_CREDIT_UPDATE)
    flow.expect(OP_RST)


def until_shut(flow):
    """Wait until the device closed both directions, in one packet or two."""
    def shut():
        flags = 0
        for pkt in flow.pkts:
            if pkt.op == OP_RST:
                return True
            flags |= pkt.flags if pkt.op == OP_SHUTDOWN else 0
        return flags == SHUT_BOTH
    until(shut, "SHUTDOWN of both directions")


@WAYS
def test_host_shuts_its_side(daemon, guest, pattern, way):
    host, sock = pair(daemon, guest, way)
    data, answer = pattern(300_000, 1), pattern(300_000, 2)
    assert stream([(host, data, sock)]) == [data]
    host.shutdown(socket.SHUT_WR)
    assert sock.recv_eof() == b""
    assert sock.peer_shut == SHUT_SEND, "a half close became a full one"
    assert stream([(sock, answer, host)]) == [answer]
    sock.close()
    assert host.recv_eof() == b""


@WAYS
def test_guest_shuts_its_side(daemon, guest, pattern, way):
    host, sock = pair(daemon, guest, way)
    data, answer = pattern(300_000, 1), pattern(300_000, 2)
    assert stream([(sock, data, host)]) == [data]
    sock.shutdown(SHUT_SEND)
    assert host.recv_eof() == b""
    assert stream([(host, answer, sock)]) == [answer]
    assert sock.state == gsocket.ESTABLISHED
    host.close()
    assert sock.recv_eof() == b""
    sock.close()


@WAYS
def test_all_data_arrives_before_the_half_close(daemon, guest, pattern, way):
    """Sent and shut at once, before anything was read."""
    host, sock = pair(daemon, guest, way)
    data = pattern(150_000)
    host.send_all(data)
    host.shutdown(socket.SHUT_WR)
    assert sock.recv_eof() == data
    up = pattern(400_000, 2)
    done = sock.send_now(up)
    sock.shutdown(SHUT_SEND)
    guest.sync()
    assert host.recv_eof() == up[:done]
    sock.close()


@WAYS
def test_guest_stops_receiving(daemon, guest, way):
    host, sock = pair(daemon, guest, way)
    sock.shutdown(SHUT_RCV)

    def refused():
        try:
            host.send_now(b"x")
            return False
        except BrokenPipeError:
            return True
    until(refused, "EPIPE on the host")
    sock.send_all(b"still sending")
    assert host.recv_exact(13) == b"still sending"


@WAYS
def test_both_shut_their_side(daemon, guest, way):
    host, sock = pair(daemon, guest, way)
    host.send_all(b"from host")
    host.shutdown(socket.SHUT_WR)
    sock.send_all(b"from guest")
    sock.shutdown(SHUT_SEND)
    assert sock.recv_eof() == b"from host"
    assert host.recv_eof() == b"from guest"
    host.close()
    sock.close()


@WAYS
def test_host_closes(daemon, guest, pattern, way):
    host, sock = pair(daemon, guest, way)
    data = pattern(150_000)
    host.send_all(data)
    host.close()
    assert sock.recv_eof() == data
    until(lambda: sock.state == gsocket.CLOSED, "the end")


def test_host_closes_and_the_guest_confirms(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    host.close()
    until_shut(flow)
    flow.pkts.clear()
    flow.tx(OP_RST)
    guest.sync()
    assert not flow.pkts
    assert_forgotten(flow)


def test_guest_closes(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    flow.tx(OP_RW, b"bye")
    flow.tx(OP_SHUTDOWN, flags=SHUT_BOTH)
    flow.expect(OP_RST, ignore=CREDIT)
    assert host.recv_eof() == b"bye"
    assert_forgotten(flow)


def test_guest_closes_by_halves(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    flow.tx(OP_SHUTDOWN, flags=SHUT_SEND)
    assert host.recv_eof() == b""
    flow.tx(OP_SHUTDOWN, flags=SHUT_RCV)
    flow.expect(OP_RST, ignore=CREDIT)
    assert_forgotten(flow)


def test_flags_of_shutdown_add_up(daemon, guest):
    """A later packet with fewer flags takes nothing back; one with none does nothing."""
    host, flow = raw_pair(daemon, guest)
    flow.tx(OP_SHUTDOWN, flags=0)
    flow.tx(OP_RW, b"open")
    assert host.recv_exact(4) == b"open"
    flow.tx(OP_SHUTDOWN, flags=SHUT_SEND)
    flow.tx(OP_SHUTDOWN, flags=SHUT_RCV)
    flow.expect(OP_RST, ignore=CREDIT)
    assert host.recv_eof() == b""


def test_data_after_the_guest_shut_its_side(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    flow.tx(OP_SHUTDOWN, flags=SHUT_SEND)
    flow.tx(OP_RW, b"never")
    guest.sync()
    assert host.drain() == b""


def test_data_for_a_host_that_has_gone(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    host.close()
    for _ in range(3):
        flow.tx(OP_RW, bytes(1000))
    until_shut(flow)
    flow.tx(OP_RST)
    guest.sync()
    assert_forgotten(flow)


def test_host_leaves_with_data_unread(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest)
    flow.send_data(pattern(200_000))
    guest.sync()
    host.send_all(b"last words")
    host.close()
    until_shut(flow)
    flow.tx(OP_RST)
    assert_forgotten(flow)


def test_closes_cross(daemon, guest):
    for _ in range(20):
        host, flow = raw_pair(daemon, guest)
        host.close()
        flow.tx(OP_SHUTDOWN, flags=SHUT_BOTH)
        guest.sync()
        assert flow.pkts, "neither RST nor SHUTDOWN"
        flow.pkts.clear()
        flow.tx(OP_RST)
        assert_forgotten(flow)
        flow.drop()


@pytest.mark.parametrize("size", [200 * 1024, None], ids=["200k", "all-the-credit"])
def test_drained_before_close(daemon, guest, pattern, size):
    """The guest sends and closes while the host does not read."""
    host, flow = raw_pair(daemon, guest)
    data = pattern(size or 16 << 20)
    sent = 0
    while sent < len(data):
        n = min(flow.credit(), MAX_PAYLOAD, len(data) - sent)
        if n <= 0:
            guest.sync()
            n = min(flow.credit(), MAX_PAYLOAD, len(data) - sent)
            if n <= 0:
                break
        flow.tx(OP_RW, data[sent:sent + n])
        sent += n
    flow.tx(OP_SHUTDOWN, flags=SHUT_BOTH)
    guest.sync()
    if size is None:
        assert 262144 <= sent < len(data)
        assert all(pkt.op != OP_RST for pkt in flow.pkts), "closed before it was drained"
    assert host.recv_exact(sent) == data[:sent]
    assert host.recv_eof() == b""
    flow.expect(OP_RST, ignore=CREDIT)
    assert_forgotten(flow)


def test_drained_before_half_close(daemon, guest, pattern):
    host, sock = pair(daemon, guest, "guest-first")
    data = pattern(16 << 20)
    done, before = sock.send_now(data), -1
    while done != before:
        before = done
        guest.sync()
        done += sock.send_now(data[done:done + (1 << 20)])
    sock.shutdown(SHUT_SEND)
    guest.sync()
    assert host.recv_eof() == data[:done] and done >= 262144
    host.send_all(b"thanks")
    assert sock.recv_exact(6) == b"thanks"


def test_connection_can_be_made_again_at_once(daemon, guest):
    """The same port pair, as Linux does after it got its RST."""
    door = daemon.listen(90)
    for i in range(50):
        sock = gsocket.connect(guest, 4000, 90)
        host = door.accept()
        sock.send_all(b"%04d" % i)
        assert host.recv_exact(4) == b"%04d" % i
        if i % 2:
            host.close()
            assert sock.recv_eof() == b""
        sock.close()


def test_descriptors_come_back(daemon, guest):
    host, sock = pair(daemon, guest, "guest-first")
    sock.close()
    host.close()
    guest.sync()
    before = daemon.fd_count()
    listener = gsocket.Listener(guest, 91)
    door = daemon.listen(92)
    for i in range(100):
        if i % 2:
            host, sock = daemon.connect(91), listener.accept()
        else:
            sock = gsocket.connect(guest, 4000, 92)
            host = door.accept()
        host.send_all(b"data")
        sock.send_all(b"data")
        if i % 3:
            host.close()
            sock.recv_eof()
            sock.close()
        else:
            sock.close()
            host.close()
    guest.sync()
    until(lambda: daemon.fd_count() <= before, lambda: f"{daemon.fd_count()} fds to be {before}")


def test_time_outs(daemon, guest, pattern):
    """Four ends that never come, waited for together."""
    # a guest that does not confirm the host's close
    host, silent = raw_pair(daemon, guest)
    host.close()
    until_shut(silent)
    silent.pkts.clear()
    # a host that does not read what a closing guest has sent
    stuck_host, stuck = raw_pair(daemon, guest, 4001)
    stuck.send_data(pattern(262144))
    while stuck.credit() > 0:
        stuck.tx(OP_RW, bytes(min(stuck.credit(), MAX_PAYLOAD)))
        guest.sync()
    stuck.tx(OP_SHUTDOWN, flags=SHUT_BOTH)
    # clients that do not say what they want
    mute, half = daemon.dial(), daemon.dial()
    half.send_all(b"CONNECT 12")
    assert mute.drain(30) == b"" and half.drain(30) == b""
    silent.expect(OP_RST, timeout=30)
    stuck.expect(OP_RST, timeout=30, ignore=CREDIT)
    assert_forgotten(silent)
    assert_forgotten(stuck)
    stuck_host.drain()
    waiting.pump_once()
    daemon.assert_healthy()


def test_guest_gone_while_the_host_writes(daemon, start_vm):
    vm = start_vm(daemon)
    listener = gsocket.Listener(vm.guest, 90)
    hosts = [daemon.connect(90) for _ in range(5)]
    for _ in hosts:
        listener.accept()
    for host in hosts:
        host.send_now(bytes(1 << 20))
    vm.kill()
    for host in hosts:
        host.drain()
    vm.replace()
    flow = vm.guest.flow(1, 2)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
