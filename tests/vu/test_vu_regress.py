# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bugs that were found and fixed, each by the smallest exchange that showed it."""

import socket

import pytest

import gsocket
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RW


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
