# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bulk beside messages of the same guest is told of less credit: they wait in one TX ring."""
import pytest

from gsocket import open_pair
from hostsock import stream
from vsockpkt import OP_CREDIT_REQUEST
from waiting import until

WINDOW = 262144
SHARED = 65536  # PACE_SHARED_WINDOW
PACKET = 65536


def exchange(host, sock):
    sock.send_all(b"?")
    assert host.recv_exact(1) == b"?"
    host.send_all(b"!")
    assert sock.recv_exact(1) == b"!"


@pytest.fixture
def both(daemon, start_vm):
    """Bulk and messages of one guest, with as many exchanges as make them messages."""
    guest = start_vm(daemon, 3).guest
    bulk, messages = open_pair(daemon, guest), open_pair(daemon, guest, port=51)
    for _ in range(10):
        exchange(*messages)
    return bulk, messages


def move(host, sock, count=1):
    for _ in range(count):
        sock.send_all(bytes(PACKET))
        assert host.recv_exact(PACKET) == bytes(PACKET)


def test_bulk_has_a_part_of_its_window(both):
    """It never stops, for that part is told of in time."""
    (host, sock), messages = both
    for _ in range(20):
        move(host, sock)
        exchange(*messages)
        until(lambda: sock.credit() > 0, "credit, for all was handed on")
    assert sock.credit() <= SHARED


def test_all_of_it_comes_back(both):
    """Some bulk after the last message, and when the guest asks."""
    (host, sock), messages = both
    for _ in range(8):
        move(host, sock)
        exchange(*messages)
    assert sock.credit() <= SHARED
    sock.tx(OP_CREDIT_REQUEST)
    until(lambda: sock.credit() == WINDOW, "all of the window on demand")
    for _ in range(8):
        move(host, sock)
        exchange(*messages)
    move(host, sock, 66)
    until(lambda: sock.credit() > SHARED, "all of the window after the last message")


def test_nothing_is_lost(both, pattern):
    (host, sock), messages = both
    up, down = pattern(3_000_000, 1), pattern(700_000, 2)
    questions = pattern(300, 3)
    assert stream([(sock, up, host), (host, down, sock), (messages[1], questions, messages[0])],
                  30) == [up, down, questions]
    for _ in range(5):
        exchange(*messages)
    sock.close()
    assert host.recv_eof() == b""


def test_a_flow_that_is_alone_has_its_whole_window(daemon, start_vm):
    host, sock = open_pair(daemon, start_vm(daemon, 3).guest)
    for _ in range(20):
        move(host, sock)
        until(lambda: sock.credit() > WINDOW // 2, "more than a half: the rest is not told yet")


def test_a_flow_of_many_sizes_does_not_wait_for_itself(daemon, start_vm):
    host, sock = open_pair(daemon, start_vm(daemon, 3).guest)
    for _ in range(10):
        for _ in range(10):
            exchange(host, sock)
        move(host, sock, 2)
        until(lambda: sock.credit() > WINDOW // 2, "more than a half: the rest is not told yet")
