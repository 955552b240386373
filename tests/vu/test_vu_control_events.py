# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What subscribers of the control socket are told, and the reasons that are counted."""

import json

import pytest

import gsocket
from control import Control, path_of
from hostsock import HostSocket
from vhost_user import connect_unix
from vsockpkt import OP_REQUEST, OP_RST, OP_RW
from waiting import pump_once, until


@pytest.fixture
def watched(start_controlled):
    """(daemon, control, subscriber)."""
    daemon, ctl = start_controlled()
    subscriber = Control(path_of(daemon))
    assert subscriber.call("subscribe") == {}
    yield daemon, ctl, subscriber
    subscriber.close()


def test_life_of_a_vm(watched, start_vm):
    daemon, _, subscriber = watched
    vm = start_vm(daemon)
    assert subscriber.event("vm-up") == {"event": "vm-up", "cid": 3}
    vm.guest.sync()  # the old driver must have used its rings
    vm.reboot()
    subscriber.event("vm-down", cid=3)
    subscriber.event("vm-up", cid=3)
    vm.kill()
    assert "hung up" in subscriber.event("vm-down")["reason"]


def test_life_of_connections(watched, start_vm):
    daemon, ctl, subscriber = watched
    guest = start_vm(daemon).guest
    door = daemon.listen(80)
    sock = gsocket.connect(guest, 4000, 80)
    host = door.accept()
    assert subscriber.event("connection-opened") == {
        "event": "connection-opened", "cid": 3, "guest_port": 4000, "host_port": 80,
        "initiator": "guest"}
    sock.close()
    assert subscriber.event("connection-closed") == {
        "event": "connection-closed", "cid": 3, "guest_port": 4000, "host_port": 80,
        "initiator": "guest", "reason": "guest-closed"}
    host.close()
    gsocket.Listener(guest, 50)
    client = daemon.connect(50)
    subscriber.event("connection-opened", guest_port=50, host_port=client.host_port,
                     initiator="host")
    client.close()
    subscriber.event("connection-closed", guest_port=50, reason="host-closed")
    assert ctl.counters(3)["closed"]["host-closed"] == 1


def test_refusals(watched, start_vm):
    daemon, ctl, subscriber = watched
    assert daemon.dial().drain() == b""
    subscriber.event("connection-refused", reason="no-guest", initiator="host")
    guest = start_vm(daemon).guest
    flow = guest.flow(4000, 81)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    subscriber.event("connection-refused", reason="no-listener", guest_port=4000, host_port=81)
    assert daemon.request(51).drain() == b""
    subscriber.event("connection-refused", reason="guest-refused", guest_port=51)
    client = daemon.dial()
    client.send_all(b"HELLO 1\n")
    client.drain()
    subscriber.event("connection-refused", reason="bad-request")
    ctl.call("drain", cid=3)
    assert daemon.dial().drain() == b""
    subscriber.event("connection-refused", reason="draining")
    counted = {why: count for why, count in ctl.counters(3)["refused"].items() if count}
    assert counted == {"no-guest": 1, "no-listener": 1, "guest-refused": 1, "bad-request": 1,
                       "draining": 1}


def test_ends_by_force(watched, start_vm):
    daemon, ctl, subscriber = watched
    vm = start_vm(daemon)
    door = daemon.listen(80)

    def pair(port):
        flow = vm.guest.flow(port, 80)
        flow.connect()
        return flow, door.accept()
    flow, _ = pair(4000)
    flow.tx(OP_RST)
    subscriber.event("connection-closed", guest_port=4000, reason="guest-reset")
    flow, _ = pair(4001)
    flow.tx(OP_RW, b"x", fwd_cnt=99)
    subscriber.event("connection-closed", guest_port=4001, reason="broken-rule")
    assert ctl.counters(3)["guest_errors"] == 1
    kept = pair(4002)
    vm.reboot()
    subscriber.event("connection-closed", guest_port=4002, reason="device-reset")
    flow, host = pair(4003)
    daemon.vms.clear()
    ctl.call("remove", cid=3)
    subscriber.event("connection-closed", guest_port=4003, reason="device-reset")
    for sock in (host, kept[1]):
        assert sock.drain() == b""


def test_slow_subscriber_loses_events(watched, start_vm):
    """and nobody else does; it is told how many."""
    daemon, ctl, quick = watched
    guest = start_vm(daemon).guest
    slow = HostSocket(connect_unix(path_of(daemon)))
    slow.recv_line()
    slow.send_all(b"{\"method\":\"subscribe\"}\n")
    slow.recv_line()
    refused = 0
    while refused < 6000:
        for _ in range(50):
            flow = guest.flow(10_000 + refused, 81)
            flow.tx(OP_REQUEST)
            flow.drop()
            refused += 1
        # each batch to its end: too many under way would be refused for another reason
        until(lambda: ctl.counters(3)["refused"]["no-listener"] == refused, "the refusals")
        while quick.line_now():
            pass
    told = read_events(slow, refused)
    lost = sum(line["count"] for line in told if line["event"] == "lost")
    shown = sum(line["event"] == "connection-refused" for line in told)
    assert lost > 0 and shown + lost == refused
    slow.close()


def read_events(sock, total):
    """Events until those told and those lost make up for the total."""
    data = bytearray()
    events = []

    def step():
        data.extend(sock.recv_now())
        *lines, data[:] = data.split(b"\n")
        events.extend(line for line in map(json.loads, lines)
                      if line["event"] in ("lost", "connection-refused"))
        return sum(line.get("count", 1) for line in events) >= total
    until(step, "the rest of the events", 30, [sock])
    return events


def test_nothing_comes_without_subscription(watched, start_vm):
    daemon, ctl, _ = watched
    start_vm(daemon)
    ctl.call("list")
    for _ in range(20):
        pump_once(5)
    assert ctl.line_now() is None and ctl.events == []


def test_subscribers_still_ask(watched, start_vm):
    daemon, _, subscriber = watched
    start_vm(daemon)
    assert subscriber.call("list")["vms"][0]["state"] == "running"
    subscriber.event("vm-up")
    assert subscriber.call("subscribe") == {}, "again is no mistake"
