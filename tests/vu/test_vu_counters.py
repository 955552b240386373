# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Counters of packets and bytes: on the control socket, and as metrics."""

import gsocket
from test_vu_metrics import UnixHttp, fetch, parse, value
from vsockpkt import OP_REQUEST, OP_RST
from waiting import until


def test_connections_and_counters(start_controlled, start_vm, pattern):
    daemon, ctl = start_controlled()
    vm = start_vm(daemon)
    door = daemon.listen(80)
    sock = gsocket.connect(vm.guest, 4000, 80)
    host = door.accept()
    up, down = pattern(100_000), pattern(70_000, 2)
    sock.send_all(up)
    assert host.recv_exact(len(up)) == up
    host.send_all(down)
    assert sock.recv_exact(len(down)) == down
    vm.guest.sync()
    [conn] = ctl.call("connections")["connections"]
    assert conn == {"cid": 3, "guest_port": 4000, "host_port": 80, "host_cid": 2,
                    "with": "host", "state": "established",
                    "initiator": "guest", "tx_bytes": len(up),
                    "rx_bytes": len(down), "held_bytes": 0}
    counters = ctl.counters(3)
    assert (counters["tx_bytes"], counters["rx_bytes"]) == (len(up), len(down))
    assert counters["opened_by_guest"] == 1 and counters["opened_by_host"] == 0
    assert counters["tx_packets"] > 1 and counters["rx_packets"] > 1
    assert counters["kicks"] > 0 and counters["rx_calls"] > 0
    sock.close()
    until(lambda: ctl.counters(3)["closed"]["guest-closed"] == 1, "the end to be counted")
    assert ctl.call("connections") == {"connections": [], "truncated": False}


def test_metrics_agree(start_controlled, start_vm, pattern, tmp_path):
    """They agree with what the control socket says."""
    path = str(tmp_path / "metrics.sock")
    daemon, ctl = start_controlled(args=["--metrics", f"unix:{path}"])
    connection = UnixHttp(path)
    vm = start_vm(daemon, 3)
    door = daemon.listen(80, 3)
    sock = gsocket.connect(vm.guest, 4000, 80)
    host = door.accept()
    data = pattern(50_000)
    sock.send_all(data)
    assert host.recv_exact(len(data)) == data
    host.send_all(data)
    assert sock.recv_exact(len(data)) == data
    assert daemon.request(51, 3).drain() == b""
    vm.guest.sync()
    values = parse(fetch(connection)[1], False)
    counters = ctl.counters(3)
    for name in ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes", "kicks", "credit_stalls"):
        assert value(values, name + "_total", cid="3") == counters[name], name
    assert value(values, "tx_bytes_total", cid="3") == len(data)
    assert value(values, "up", cid="3") == 1
    assert value(values, "connections", cid="3") == 1
    assert value(values, "connections_opened_total", cid="3", initiator="guest") == 1
    refused = {why: value(values, "connections_refused_total", cid="3", reason=why)
               for why in counters["refused"]}
    assert refused == counters["refused"] and refused["guest-refused"] == 1
    assert value(values, "ring_size", cid="3", ring="rx") == 128
    connection.close()


def test_limits_and_states(start_controlled, start_vm, tmp_path):
    path = str(tmp_path / "metrics.sock")
    daemon, ctl = start_controlled(args=["--metrics", f"unix:{path}"],
                                   per_vm={3: {"max-connections": 2}})
    guest = start_vm(daemon, 3).guest
    door = daemon.listen(80, 3)
    kept = [(gsocket.connect(guest, 4000 + n, 80), door.accept()) for n in range(2)]
    flow = guest.flow(4002, 80)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    assert ctl.counters(3)["limit_hits"] == {
        "max-connections": 1, "max-half-open": 0, "max-buffered": 0, "total-connections": 0,
        "total-buffered": 0}
    connection = UnixHttp(path)
    values = parse(fetch(connection)[1], False)
    connection.close()
    assert value(values, "limit_hits_total", cid="3", option="max-connections") == 1
    assert value(values, "connection_states", cid="3", state="established") == len(kept)
    assert value(values, "connection_states", cid="3", state="reset") == 0
