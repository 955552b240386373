# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bugs that were found and fixed, each by the smallest exchange that showed it."""

import os
import signal
import socket

import pytest

import gsocket
from vhost_user import HEADER, SET_OWNER, VERSION, FrontEnd, connect_unix
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RW, OP_SHUTDOWN, SHUT_RCV
from waiting import run_for


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("drain_update", [True, False], ids=["6.10+", "before 6.10"])
@pytest.mark.parametrize("chunk,count", [(1, 400), (20, 500)])
def test_small_packets_between_siblings(start_daemon, start_vm, threads, drain_update, chunk,
                                        count):
    """The packet limit held bytes back for ever when the receiver volunteered no credit."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", threads])
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    listener = gsocket.Listener(b, 90, drain_update=drain_update, count_packets=True)
    left = gsocket.connect(a, 4000, 90, peer_cid=4)
    right = listener.accept()
    data = bytes(i % 251 for i in range(chunk * count))
    for at in range(0, len(data), chunk):
        left.tx(OP_RW, data[at:at + chunk])
    assert right.recv_exact(len(data)) == data


@pytest.mark.parametrize("length", [14, 63, 64])
def test_bytes_behind_a_long_connect_line(start_daemon, start_vm, length):
    """A line that filled the look-ahead exactly hid the bytes behind it."""
    daemon = start_daemon()
    listener = gsocket.Listener(start_vm(daemon).guest, 90)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.vm().uds)
        client.sendall(b"CONNECT" + b" " * (length - 10) + b"90\n" + b"hello")
        assert listener.accept().recv_exact(5) == b"hello"


def test_one_sibling_leaves_flows_for_others(start_daemon, start_vm):
    """The limit of flows was the receiver's, so that one sender could use it up."""
    daemon = start_daemon(cids=(3, 4, 5))
    a, b, c = (start_vm(daemon, cid).guest for cid in (3, 4, 5))
    listener = b.raw_listen(90)
    for port in range(10000, 14200):
        a.flow(port, 90, peer_cid=4).tx(OP_REQUEST)
    a.sync()
    flow = c.flow(4000, 90, peer_cid=4)
    flow.tx(OP_REQUEST)
    while True:
        right = listener.accept()
        if right.peer_cid == 5:
            break
    right.respond()
    flow.expect(OP_RESPONSE)


def test_request_to_a_paused_sibling(start_daemon, start_vm):
    """A VMM that paused its VM made the sibling's connection attempts fail at once."""
    daemon = start_daemon(cids=(3, 4))
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4)
    listener = b.guest.raw_listen(90)
    b.stop()
    flow = a.flow(4000, 90, peer_cid=4)
    flow.tx(OP_REQUEST)
    a.sync()
    assert not flow.pkts
    b.cont()
    listener.accept().respond()
    flow.expect(OP_RESPONSE)


def test_client_that_stopped_reading_too_early(start_daemon, start_vm):
    """A host client that had shut down reading before the RESPONSE was reset."""
    daemon = start_daemon()
    listener = start_vm(daemon).guest.raw_listen(90)
    client = daemon.request(90)
    right = listener.accept()
    client.shutdown(socket.SHUT_RD)
    right.respond()
    right.expect(OP_SHUTDOWN, flags=SHUT_RCV)
    client.send_all(b"hello")
    assert right.expect(OP_RW).data == b"hello"


def test_urgent_byte(start_daemon, start_vm):
    """Reads stop at MSG_OOB's mark, which was taken for the end of what is there."""
    daemon = start_daemon()
    guest = start_vm(daemon).guest
    door = daemon.listen(95)
    sock = gsocket.connect(guest, 6000, 95)
    host = door.accept()
    os.kill(daemon.proc.pid, signal.SIGSTOP)  # so that it finds all of it at once
    host.send_all(b"abc")
    try:
        host.sock.send(b"d", socket.MSG_OOB)
    except OSError:
        pytest.skip("this kernel has no urgent data on Unix sockets")
    finally:
        host.send_all(b"efg")
        os.kill(daemon.proc.pid, signal.SIGCONT)
    assert sock.recv_exact(6) == b"abcefg"


def test_silent_front_end_is_replaced(start_daemon, start_vm):
    """One that connected and never said anything kept the VMM out for ever."""
    daemon = start_daemon()
    with connect_unix(daemon.vm().socket):
        start_vm(daemon).guest.sync()


def test_half_a_message_ends_that_session_only(start_daemon, start_vm):
    """A front-end that stopped in the midst of a message could not be replaced."""
    daemon = start_daemon(cids=(3, 4))
    door = daemon.listen(95, 4)
    sock = gsocket.connect(start_vm(daemon, 4).guest, 6000, 95)
    host = door.accept()
    with FrontEnd(daemon.vm(3).socket) as front_end:
        front_end.get_features()
        front_end.send_bytes(HEADER.pack(SET_OWNER, VERSION, 0)[:5])
        front_end.wait_closed(timeout=7)
    host.send_all(b"hello")
    assert sock.recv_exact(5) == b"hello"
    start_vm(daemon, 3).guest.sync()


def test_no_descriptors_left(start_daemon, start_vm):
    """A daemon without descriptors to spare accepted and failed in a busy loop."""
    daemon = start_daemon(start=False)
    daemon.argv[:0] = ["prlimit", "--nofile=64:64"]
    daemon.start()
    guest = start_vm(daemon).guest
    gsocket.Listener(guest, 90)
    door = daemon.listen(95)
    sock = gsocket.connect(guest, 6000, 95)
    host = door.accept()
    clients = [daemon.dial() for _ in range(200)]
    guest.sync()
    host.send_all(b"hello")
    assert sock.recv_exact(5) == b"hello"
    before = daemon.cpu_seconds()
    run_for(1.0)
    assert daemon.cpu_seconds() - before < 0.5
    for client in clients:
        client.close()
    daemon.connect(90).close()
    sock.send_all(b"world")
    assert host.recv_exact(5) == b"world"
