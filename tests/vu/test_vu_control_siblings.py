# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Connections between guests on the control socket: lists and events."""

import subprocess

import pytest

import ctl as vsockctl
import gsocket
from control import Control, path_of
from vsockpkt import OP_REQUEST, OP_RST, OP_RW
from waiting import until


@pytest.fixture(params=["1", "2"], ids=["one-thread", "two-threads"])
def two(request, start_controlled, start_vm):
    """(daemon, control, subscriber, guest 3, guest 4)."""
    daemon, ctl = start_controlled(cids=(3, 4), args=["--threads", request.param])
    guests = [start_vm(daemon, cid).guest for cid in (3, 4)]
    subscriber = Control(path_of(daemon))
    assert subscriber.call("subscribe") == {}
    yield (daemon, ctl, subscriber, *guests)
    subscriber.close()


def socket_pair(a, b, local=4000, port=90):
    listener = gsocket.Listener(b, port)
    left = gsocket.connect(a, local, port, peer_cid=b.cid)
    return left, listener.accept()


def opened(cid=4, sibling=3, port=90, local=4000):
    return {"event": "connection-opened", "cid": cid, "guest_port": port, "host_port": local,
            "initiator": "sibling", "sibling": sibling}


def test_connections_of_both(two, pattern):
    _, ctl, _, a, b = two
    left, right = socket_pair(a, b)
    up, down = pattern(100_000), pattern(30_000, 2)
    left.send_all(up)
    assert right.recv_exact(len(up)) == up
    right.send_all(down)
    assert left.recv_exact(len(down)) == down
    common = {"with": "sibling", "state": "established", "held_bytes": 0}
    [one] = ctl.call("connections", cid=3)["connections"]
    assert one == {"cid": 3, "guest_port": 4000, "host_port": 90, "host_cid": 4,
                   "initiator": "guest", "tx_bytes": len(up), "rx_bytes": len(down), **common}
    [other] = ctl.call("connections", cid=4)["connections"]
    assert other == {"cid": 4, "guest_port": 90, "host_port": 4000, "host_cid": 3,
                     "initiator": "sibling", "tx_bytes": len(down), "rx_bytes": len(up), **common}
    assert ctl.call("connections")["connections"] == [one, other]
    assert ctl.call("connections", limit=1) == {"connections": [one], "truncated": True}
    counters = ctl.counters(3)
    assert (counters["connections"], counters["sibling_connections"]) == (0, 1)


def test_states_and_held_bytes(two, pattern):
    daemon, ctl, _, a, b = two
    b.raw_listen(90, buf_alloc=4096)
    flow = a.flow(4000, 90, peer_cid=4)
    flow.tx(OP_REQUEST)

    def states():
        return [conn["state"] for conn in ctl.call("connections")["connections"]]
    until(lambda: states() == ["connecting", "requested"], "the request")
    b.listeners[90].accept().respond()
    until(lambda: states() == ["established", "established"], "the answer")
    socket_pair(a, b, 4001, 91)
    flow.tx(OP_RW, pattern(50_000))
    until(lambda: any(conn["held_bytes"] > 0 for conn in
                      ctl.call("connections", cid=3)["connections"]), "bytes that wait")
    assert sum(conn["held_bytes"] for conn in
               ctl.call("connections", cid=3)["connections"]) == \
        ctl.counters(3)["sibling_held_bytes"]
    command = [vsockctl.binary(), "--control", path_of(daemon), "connections", "3"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60,
                           check=True).stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [["3", "4000", "4", "90"],
                                                        ["3", "4001", "4", "91"]]


def test_ordinary_life(two):
    _, ctl, subscriber, a, b = two
    left, right = socket_pair(a, b)
    assert subscriber.event("connection-opened") == opened()
    left.close()
    until(right.at_eof, "the end")
    right.close()
    event = subscriber.event("connection-closed")
    assert (event["reason"], {event["cid"], event["sibling"]}) == ("guest-closed", {3, 4})
    until(lambda: ctl.call("connections")["connections"] == [], "the end of both records")
    ctl.call("list")
    assert [e for e in subscriber.events if "sibling" in e] == []
    assert ctl.counters(3)["sibling_connections"] == ctl.counters(4)["sibling_connections"] == 0


def test_refused_and_reset(two):
    _, _, subscriber, a, b = two
    flow = a.flow(4000, 99, peer_cid=4)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    assert subscriber.event("connection-refused") == {
        "event": "connection-refused", "cid": 4, "guest_port": 99, "host_port": 4000,
        "initiator": "sibling", "sibling": 3, "reason": "guest-refused"}
    flow = a.flow(4001, 99, peer_cid=77)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    assert subscriber.event("connection-refused") == {
        "event": "connection-refused", "cid": 3, "guest_port": 4001, "host_port": 99,
        "initiator": "guest", "sibling": 77, "reason": "no-guest"}
    left, _ = socket_pair(a, b, 4002)
    left.tx(OP_RST)
    subscriber.event("connection-closed", cid=3, guest_port=4002, host_port=90, sibling=4,
                     reason="guest-reset", initiator="guest")


def test_drained(two):
    _, ctl, subscriber, a, b = two
    gsocket.Listener(b, 90)
    for cid in (3, 4):
        ctl.call("drain", cid=cid)
        flow = a.flow(4000 + cid, 90, peer_cid=4)
        flow.tx(OP_REQUEST)
        flow.expect(OP_RST)
        subscriber.event("connection-refused", cid=3, reason="draining", guest_port=4000 + cid)
        ctl.call("drain", cid=cid, off=True)


def test_gone_or_parted(two):
    _, ctl, subscriber, a, b = two
    socket_pair(a, b)
    assert subscriber.event("connection-opened") == opened()
    ctl.call("set", cid=4, groups=["other"])
    subscriber.event("connection-closed", cid=4, sibling=3, reason="device-reset")
    ctl.call("set", cid=4, groups=["default"])
    until(lambda: ctl.call("connections")["connections"] == [], "the end of both records")
    socket_pair(a, b, 4001, 91)
    subscriber.event("connection-opened")
    ctl.call("remove", cid=4)
    subscriber.event("connection-closed", cid=4, sibling=3, reason="device-reset")
    until(lambda: ctl.call("connections")["connections"] == [], "the end")
