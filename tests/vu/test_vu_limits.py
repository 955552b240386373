# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bounds that are options: the newcomer is refused, what is open lives on, and a line says why."""

import re

import pytest

import gsocket
from hostsock import stream
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW
from waiting import until

WINDOW = 262144


def lines_about(daemon, option):
    return re.findall(rf"^warning vm=(\d+): limit reached: {option}: (.*)$", daemon.stderr(), re.M)


def pair(daemon, guest, local, port):
    """A connection of the guest to a listener of the host."""
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, local, port)
    host = door.accept()
    return host, sock, door


def refused(guest, local, port, peer_cid=2):
    flow = guest.flow(local, port, peer_cid=peer_cid)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    flow.drop()


def assert_flows(pairs, pattern):
    data = pattern(50_000)
    jobs = [(a, data, b) for a, b in pairs] + [(b, data, a) for a, b in pairs]
    assert stream(jobs) == [data] * len(jobs)


@pytest.mark.parametrize("option", ["max-connections", "total-connections"])
def test_connections(start_daemon, start_vm, pattern, option):
    """Guests and host programs are refused alike; a place that comes free can be used."""
    if option == "max-connections":
        daemon = start_daemon(options={option: 8})
    else:
        daemon = start_daemon(args=[f"--{option}", "8"])
    guest = start_vm(daemon).guest
    listener = gsocket.Listener(guest, 50)
    door = daemon.listen(60)
    pairs = []
    for i in range(4):
        sock = gsocket.connect(guest, 4000 + i, 60)
        pairs.append((door.accept(), sock))
        pairs.append((daemon.connect(50), listener.accept()))
    refused(guest, 5000, 60)
    assert daemon.request(50).drain() == b""
    assert_flows(pairs, pattern)
    assert lines_about(daemon, option)[0] == ("3", "new connections are refused")
    pairs.pop()[1].close()
    until(lambda: daemon.request(50).recv_now() or True, "a client")
    until(lambda: _connects(guest, 60, door), "a free place to be given")
    assert_flows(pairs, pattern)


def _connects(guest, port, door):
    _connects.local += 1
    flow = guest.flow(_connects.local, port)
    flow.tx(OP_REQUEST)
    done = flow.next().op == OP_RESPONSE
    if done:
        door.accept()
    return done


_connects.local = 6000


def test_one_vm_cannot_take_the_others_connections(start_daemon, start_vm, pattern):
    """Half of the total is shared out: 8 of 32 are sure for each of two VMs."""
    daemon = start_daemon(cids=(3, 4), args=["--total-connections", "32"])
    greedy, modest = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    door = daemon.listen(60, 3)
    for i in range(24):
        gsocket.connect(greedy, 4000 + i, 60)
    refused(greedy, 5000, 60)
    other = daemon.listen(60, 4)
    pairs = []
    for i in range(8):
        sock = gsocket.connect(modest, 4000 + i, 60)
        pairs.append((other.accept(), sock))
    refused(modest, 5000, 60)
    assert_flows(pairs, pattern)
    assert door.accept_now() is not None


def test_silent_clients_give_way(start_daemon, start_vm, pattern):
    """Clients that say nothing cannot keep out one that does."""
    daemon = start_daemon(options={"max-half-open": 16})
    guest = start_vm(daemon).guest
    listener = gsocket.Listener(guest, 50)
    host = daemon.connect(50)
    pairs = [(host, listener.accept())]
    silent = [daemon.dial() for _ in range(40)]
    host = daemon.connect(50)
    pairs.append((host, listener.accept()))
    for client in silent[:20]:
        assert client.drain() == b""
    assert silent[-1].is_quiet()
    assert_flows(pairs, pattern)
    assert ("3", "the oldest is closed") in lines_about(daemon, "max-half-open")


def test_unanswered_requests_of_clients_give_way(start_daemon, start_vm, pattern):
    """The guest does not answer one port; clients that ask for it do not use up the others."""
    daemon = start_daemon(options={"max-half-open": 16})
    guest = start_vm(daemon).guest
    listener = gsocket.Listener(guest, 50)
    mute = guest.raw_listen(51)
    waiting_ones = [daemon.request(51) for _ in range(40)]
    host = daemon.connect(50)
    assert waiting_ones[0].drain() == b""
    assert waiting_ones[-1].is_quiet()
    mute.accept().expect(OP_RST)
    assert_flows([(host, listener.accept())], pattern)


def test_full_backlog_and_a_flood_of_requests(start_daemon, start_vm, pattern):
    """Connections that wait for a full backlog are bounded; the guest is told at once beyond."""
    daemon = start_daemon(options={"max-half-open": 16})
    guest = start_vm(daemon).guest
    host, sock, _ = pair(daemon, guest, 4000, 60)
    before = daemon.fd_count()
    full = daemon.listen(61, backlog=0)
    flows = []
    for i in range(200):
        flows.append(guest.flow(10000 + i, 61))
        flows[-1].tx(OP_REQUEST)
    until(lambda: sum(bool(f.pkts) and f.pkts[0].op == OP_RST for f in flows) >= 200 - 17,
          "the rest to be refused")
    assert daemon.fd_count() <= before + 17
    assert ("3", "the guest is refused") in lines_about(daemon, "max-half-open")
    assert_flows([(host, sock)], pattern)
    assert full.accept_now() is not None


def stuff(daemon, guest, local, port):
    """A connection whose host program reads nothing; returns its ends once the window is full."""
    host, sock, door = pair(daemon, guest, local, port)
    while sock.state == gsocket.ESTABLISHED and sock.credit() > 0:
        sock.send_now(b"x" * 65536)
        guest.sync()
    return host, sock, door


@pytest.mark.parametrize("option", ["max-buffered", "total-buffered"])
def test_bytes_that_nobody_reads(start_daemon, start_vm, pattern, option):
    """Without room for another window new connections are refused; the open ones go on."""
    size = str(3 * WINDOW)
    if option == "max-buffered":
        daemon = start_daemon(options={option: size})
    else:
        daemon = start_daemon(args=[f"--{option}", size])
    guest = start_vm(daemon).guest
    stuck = [stuff(daemon, guest, 4000 + i, 60 + i) for i in range(1)]
    host, sock, _ = pair(daemon, guest, 5000, 80)
    stuck += [stuff(daemon, guest, 4001 + i, 61 + i) for i in range(10)
              if not lines_about(daemon, option)]
    assert lines_about(daemon, option), "no bound was hit"
    assert_flows([(host, sock)], pattern)
    for other, end, _ in stuck:
        other.close()
        until(lambda end=end: end.state == gsocket.CLOSED or end.peer_shut, "the end")


def test_memory_is_flat_while_nobody_reads(start_daemon, start_vm):
    """However many connections stand still, no more is kept than the option says."""
    daemon = start_daemon(options={"max-buffered": 1 << 20})
    guest = start_vm(daemon).guest
    stuff(daemon, guest, 3999, 59)
    before = daemon.memory_kib()
    ends = []
    for i in range(96):
        if lines_about(daemon, "max-buffered"):
            break
        ends.append(stuff(daemon, guest, 4000 + i, 60 + i))
    assert daemon.memory_kib() - before < 8 << 10


def test_sibling_that_does_not_read(start_daemon, start_vm, pattern):
    """Bytes for siblings count as the host's do; the flow that hits the bound is reset."""
    daemon = start_daemon(cids=(3, 4), options={"max-buffered": 65536, "tx-buffer-size": 65536})
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    host, sock, _ = pair(daemon, a, 5000, 80)
    listener = b.raw_listen(90, buf_alloc=0)
    left = a.flow(4000, 90, peer_cid=4)
    left.tx(OP_REQUEST)
    right = listener.accept()
    right.respond()
    left.expect(OP_RESPONSE)
    left.tx(OP_RW, b"x" * 60000)
    again = a.flow(4001, 90, peer_cid=4)
    again.tx(OP_REQUEST)
    others = listener.accept()
    others.respond()
    again.expect(OP_RESPONSE)
    again.tx(OP_RW, b"x" * 10000)
    again.expect(OP_RST)
    assert lines_about(daemon, "max-buffered") == [("3", "a connection to a sibling was reset")]
    assert_flows([(host, sock)], pattern)
    assert not left.pkts


def test_lines_in_the_log(start_daemon, start_vm):
    """A guest that breaks a rule over and over, and front-ends that come and go, are told of
    as often as the option says; what is left out is counted."""
    daemon = start_daemon(args=["--log-rate", "1"])
    vm = start_vm(daemon)
    for i in range(2000):
        vm.guest.send_bytes(b"\xff" * 10)
    vm.guest.sync()
    for _ in range(40):
        vm.replace()
    vm.guest.send_bytes(b"\xff" * 10)
    vm.guest.sync()
    text = daemon.stderr()
    for kind in ("guest: packet shorter", "front-end connected", "front-end gone"):
        # each interval of 5 s allows 5 lines; a slow machine may see several
        assert 0 < len(re.findall(kind, text)) <= 5 * 24, text
    assert len(text) < 30_000
