# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Every request at every wrong time: the session may end, nothing else may.

What is wrong with the message itself (short, long, missing or extra descriptors) is in
test_vu_malformed.py, whose table of requests is used here.
"""

import os
import socket

import pytest

import gsocket
import vhost_user as vu
from hostsock import stream
from test_vu_malformed import REQUESTS, assert_serves, fds_for, open_session
from vhost_user import Closed, FrontEnd
from waiting import until

PATTERN = bytes(range(256)) * 16


@pytest.fixture
def files():
    """Descriptors of every kind a request wants."""
    region = vu.Region(0, 1 << 20)
    eventfd = vu.new_eventfd()
    yield {"memory": region.fd, "event": eventfd}
    region.close()
    os.close(eventfd)


def send(fe, name, files, **how):
    payload, fds = REQUESTS[name]
    fe.send(getattr(vu, name), payload, fds_for(name, files, fds), **how)


def first_message(daemon, name, files):
    """Before the owner is set and anything is negotiated."""
    fe = FrontEnd(daemon.vm().socket)
    send(fe, name, files)
    return fe


def repeated(daemon, name, files):
    """Fifty times in one go."""
    fe = open_session(daemon)
    try:
        for _ in range(50):
            send(fe, name, files)
    except Closed:
        pass
    return fe


def last_message(daemon, name, files):
    """The front-end is gone before it is handled, and reads no answer."""
    fe = open_session(daemon)
    send(fe, name, files, need_reply=True)
    fe.close()
    return fe


def nothing_read(daemon, name, files):
    """Answers pile up until there is no room for them."""
    fe = open_session(daemon)
    fe.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    fe.sock.settimeout(0.05)
    try:
        for _ in range(300):
            send(fe, name, files, need_reply=True)
    except (Closed, TimeoutError):
        pass
    return fe


@pytest.mark.parametrize("when", [first_message, repeated, last_message, nothing_read])
@pytest.mark.parametrize("name", REQUESTS)
def test_wrong_time(daemon, files, name, when):
    assert_serves(daemon)
    before = daemon.fd_count()
    for _ in range(3):
        when(daemon, name, files).close()
    assert_serves(daemon)
    until(lambda: daemon.fd_count() <= before, lambda: f"{daemon.fd_count()} fds to be {before}")


@pytest.mark.parametrize("name", REQUESTS)
def test_while_rings_run(start_daemon, start_vm, files, name):
    """The VM may stop working, its neighbour and the next session of it may not."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"])
    vm = start_vm(daemon, 3)
    neighbour = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(neighbour, 7000, 70)
    host = door.accept()
    own = daemon.listen(80, 3)
    flow = gsocket.connect(vm.guest, 5000, 80)
    own.accept().send_now(bytes(1 << 20))
    try:
        send(vm.fe, name, files, need_reply=True)
        vm.fe.send(vu.GET_FEATURES)
        flow.send_now(PATTERN)
    except Closed:
        pass
    assert stream([(host, PATTERN, sock), (sock, PATTERN, host)]) == [PATTERN, PATTERN]
    vm.replace()
    vm.guest.sync()
    daemon.assert_healthy()


def test_half_of_a_message_and_silence(start_daemon, start_vm, files):
    """One VM for each request and each point to stop at, all at the same time: all sessions end
    by themselves, and the one VM that behaves goes on."""
    stops = [1, 11, 12, 13]
    cids = range(10, 10 + len(REQUESTS) * len(stops))
    daemon = start_daemon(cids=(4, *cids), args=["--threads", "1"])
    guest = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(guest, 7000, 70)
    host = door.accept()
    sessions = []
    before = daemon.fd_count()
    for cid, (name, stop) in zip(cids, [(n, s) for n in REQUESTS for s in stops]):
        payload, fds = REQUESTS[name]
        size = max(len(payload), 2)
        fe = FrontEnd(daemon.vm(cid).socket)
        data = vu.HEADER.pack(getattr(vu, name), vu.VERSION, size) + payload + bytes(2)
        fe.send_bytes(data[:stop], fds_for(name, files, fds))
        sessions.append(fe)
    for fe in sessions:
        fe.wait_closed(timeout=10)
        fe.close()
    assert daemon.fd_count() <= before
    assert stream([(host, PATTERN, sock), (sock, PATTERN, host)]) == [PATTERN, PATTERN]
