# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""tx-rate, rx-rate and conn-rate. How much passes in a time: tests/unit/test_rate.c."""

import gsocket
from gsocket import open_pair
from hostsock import stream
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RST
from waiting import until

RATE = 1 << 20
BULK = 300_000  # more than a burst, so that it has to wait
LIMITED, FREE = 3, 4


def paced(ctl, cid):
    counters = ctl.counters(cid)
    return counters["tx_paced"], counters["rx_paced"]


def start(start_controlled, start_vm, **keys):
    daemon, ctl = start_controlled(cids=(LIMITED, FREE), per_vm={LIMITED: keys},
                                   args=["--threads", "1"])
    return daemon, ctl, start_vm(daemon, LIMITED).guest, start_vm(daemon, FREE).guest


def test_from_the_guest(start_controlled, start_vm, pattern):
    daemon, ctl, limited, free = start(start_controlled, start_vm, **{"tx-rate": "1M"})
    host, sock = open_pair(daemon, limited)
    other, other_sock = open_pair(daemon, free)
    data = pattern(BULK)
    assert stream([(sock, data, host), (other_sock, data, other)], 60) == [data, data]
    assert stream([(host, data, sock)], 60) == [data]
    assert paced(ctl, LIMITED)[0] > 0 and paced(ctl, LIMITED)[1] == 0
    assert paced(ctl, FREE) == (0, 0)
    sock.close()
    assert host.recv_eof() == b""


def test_to_the_guest(start_controlled, start_vm, pattern):
    daemon, ctl, limited, free = start(start_controlled, start_vm, **{"rx-rate": "1M"})
    host, sock = open_pair(daemon, limited)
    other, other_sock = open_pair(daemon, free)
    data = pattern(BULK)
    assert stream([(host, data, sock), (other, data, other_sock)], 60) == [data, data]
    assert stream([(sock, data, host)], 60) == [data]
    assert paced(ctl, LIMITED)[1] > 0 and paced(ctl, LIMITED)[0] == 0
    assert paced(ctl, FREE) == (0, 0)
    host.close()
    assert sock.recv_eof() == b""


def test_to_a_sibling(start_controlled, start_vm, pattern):
    """What it sends is slowed down, what it gets is not."""
    _, ctl, limited, free = start(start_controlled, start_vm,
                                  **{"tx-rate": "1M", "rx-rate": "1M"})
    listener = gsocket.Listener(free, 90)
    left = gsocket.connect(limited, 4000, 90, peer_cid=FREE)
    right = listener.accept()
    data = pattern(BULK)
    assert stream([(left, data, right), (right, data, left)], 60) == [data, data]
    assert paced(ctl, LIMITED)[0] > 0 and paced(ctl, LIMITED)[1] == 0
    assert paced(ctl, FREE) == (0, 0)


def test_paced_vm_sleeps(start_controlled, start_vm, pattern):
    """While it waits its worker does not turn."""
    daemon, ctl, limited, _ = start(start_controlled, start_vm, **{"rx-rate": "64K"})
    host, sock = open_pair(daemon, limited)
    before = daemon.cpu_seconds()
    data = pattern(3 * 65536)
    assert stream([(host, data, sock)], 60) == [data]
    assert daemon.cpu_seconds() - before < 0.3, "of two seconds"
    assert paced(ctl, LIMITED)[1] > 0


def test_connections(start_controlled, start_vm):
    """Over the rate both sides are refused, at once; others are not."""
    daemon, ctl, limited, free = start(start_controlled, start_vm, **{"conn-rate": 1})
    daemon.listen(80, LIMITED)
    answers = []
    for port in range(5000, 5020):
        flow = limited.flow(port, 80)
        flow.tx(OP_REQUEST)
        answers.append(flow.next().op)
    assert OP_RESPONSE in answers and OP_RST in answers
    by_guest = ctl.counters(LIMITED)["refused"]["limit"]
    assert by_guest == answers.count(OP_RST)
    for _ in range(20):
        assert daemon.request(50, LIMITED).drain() == b"", "by us, or by the guest"
    assert ctl.counters(LIMITED)["refused"]["limit"] > by_guest
    assert "limit reached: conn-rate: new connections are refused" in daemon.stderr()
    gsocket.Listener(free, 50)
    for _ in range(20):
        daemon.connect(50, FREE).close()
    assert ctl.counters(FREE)["refused"]["limit"] == 0


# while it runs

def test_limits_change_and_connections_stay(start_controlled, start_vm, pattern):
    daemon, ctl, limited, _ = start(start_controlled, start_vm)
    host, sock = open_pair(daemon, limited)
    second, second_sock = open_pair(daemon, limited, 96)
    data = pattern(BULK)
    assert stream([(sock, data, host)], 60) == [data]
    assert paced(ctl, LIMITED) == (0, 0)
    assert ctl.call("set", cid=LIMITED, limits="tx-rate=1M,max-connections=2") == {}
    limits = ctl.call("show", cid=LIMITED)["limits"]
    assert (limits["tx_rate"], limits["max_connections"], limits["rx_rate"]) == (1 << 20, 2, 0)
    assert stream([(sock, data, host), (second, data, second_sock)], 60) == [data, data]
    assert paced(ctl, LIMITED)[0] > 0
    assert daemon.request(50, LIMITED).drain() == b""
    assert "limit reached: max-connections" in daemon.stderr()
    assert ctl.call("set", cid=LIMITED, limits="tx-rate=0,max-connections=3") == {}
    before = paced(ctl, LIMITED)
    assert stream([(sock, data, host)], 60) == [data]
    assert paced(ctl, LIMITED) == before
    gsocket.Listener(limited, 50)
    daemon.connect(50, LIMITED).close()
    ctl.call("set", cid=LIMITED, limits="max-connections=1")
    assert stream([(sock, data, host), (second, data, second_sock)], 60) == [data, data]


def test_rate_that_is_lifted(start_controlled, start_vm, pattern):
    daemon, ctl, limited, _ = start(start_controlled, start_vm, **{"rx-rate": "64K"})
    host, sock = open_pair(daemon, limited)
    host.send_all(pattern(150_000))
    until(lambda: paced(ctl, LIMITED)[1], "a pause")
    ctl.call("set", cid=LIMITED, limits="rx-rate=0")
    assert sock.recv_exact(150_000, 60) == pattern(150_000)
    data = pattern(100 * 65536)
    assert stream([(host, data, sock)], 60) == [data], "which would take 100 s"
