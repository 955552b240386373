# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""--poll-us: nothing is lost or late, and a worker with nothing to do sleeps. What it decides by:
tests/unit/test_busy_poll.c; what it gains: bench/."""
import os

import pytest

import gsocket
from gsocket import open_pair
from hostsock import stream
from waiting import until

EXCHANGES = 300


def exchange(first, second, count):
    for number in range(count):
        message = number.to_bytes(4, "little")
        first.send_all(message)
        assert second.recv_exact(4) == message
        second.send_all(message)
        assert first.recv_exact(4) == message


def sleeping(daemon):
    """How often each thread went to sleep, or None while one of them does not."""
    counts = {}
    for task in os.listdir(f"/proc/{daemon.proc.pid}/task"):
        with open(f"/proc/{daemon.proc.pid}/task/{task}/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        if fields["State"].split()[0] != "S":
            return None
        counts[task] = int(fields["voluntary_ctxt_switches"])
    return counts


@pytest.fixture(params=["1", "2"], ids=["1 thread", "2 threads"])
def polling(request, start_daemon):
    return start_daemon(cids=(3, 4), args=["--poll-us", "1000", "--threads", request.param])


def test_exchanges_and_bulk(polling, start_vm, pattern):
    first, second = start_vm(polling, 3).guest, start_vm(polling, 4).guest
    host, sock = open_pair(polling, first)
    listener = gsocket.Listener(second, 50)
    left = gsocket.connect(first, 4000, 50, 4)
    right = listener.accept()
    exchange(host, sock, EXCHANGES)
    exchange(left, right, EXCHANGES)
    up, down = pattern(400_000, 1), pattern(400_000, 2)
    assert stream([(host, down, sock), (sock, up, host), (left, up, right),
                   (right, down, left)], 20) == [down, up, up, down]
    exchange(host, sock, EXCHANGES)
    host.close()
    assert sock.recv_eof() == b""


@pytest.mark.parametrize("ring", ["split", "packed"])
@pytest.mark.parametrize("event_idx", [True, False], ids=["event index", "flags"])
def test_kicks_are_not_asked_for(start_daemon, start_vm, event_idx):
    """...while the worker looks: a kick makes a guest leave its CPU. It sees the packets itself."""
    daemon = start_daemon(args=["--poll-us", "1000"])
    guest = start_vm(daemon, 3, event_idx=event_idx).guest
    host, sock = open_pair(daemon, guest)
    kicks = []
    do_kick = guest.tx.do_kick
    guest.tx.do_kick = lambda: (kicks.append(1), do_kick())

    def few():
        kicks.clear()
        exchange(host, sock, 50)
        return len(kicks) < 25
    until(few, "fewer kicks than packets")


def test_time_limits_still_come(start_daemon, start_vm):
    """A wait that begins with looking ends for a timer, too."""
    daemon = start_daemon(args=["--poll-us", "1000"])
    guest = start_vm(daemon, 3).guest
    host, sock = open_pair(daemon, guest)
    exchange(host, sock, 50)
    silent = daemon.dial()
    assert silent.recv_eof(20) == b"", "the time limit of CONNECT"
    exchange(host, sock, 50)


def test_an_idle_worker_sleeps(polling, start_vm):
    host, sock = open_pair(polling, start_vm(polling, 3).guest)
    exchange(host, sock, EXCHANGES)
    until(lambda: sleeping(polling), "all threads to sleep")
    before = sleeping(polling)
    until(lambda: sleeping(polling) == before, "nobody to wake up by himself")


def test_a_single_cpu_is_left_to_others(start_daemon, start_vm):
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        daemon = start_daemon(args=["--poll-us", "1000"])
    finally:
        os.sched_setaffinity(0, usable)
    assert "poll-us is not used: there is one CPU only" in daemon.stderr()
    host, sock = open_pair(daemon, start_vm(daemon, 3).guest)
    exchange(host, sock, 50)
