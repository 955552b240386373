# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The control socket: questions, answers, mistakes, and clients that misbehave."""

import json
import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest

import gsocket
from control import Control, Failure, path_of
from hostsock import HostSocket
from vhost_user import connect_unix
from waiting import until

MAX_CLIENTS = 64
MAX_LINE = 64 * 1024


@pytest.fixture
def controlled(start_controlled):
    return start_controlled()


def fails(ctl, code, method, **params):
    with pytest.raises(Failure) as caught:
        ctl.call(method, **params)
    assert caught.value.code == code, caught.value
    return caught.value.message


def test_hello_and_mode(controlled):
    daemon, ctl = controlled
    assert ctl.hello["program"] == "vhost-device-vsock"
    assert ctl.hello["protocol"] == 1
    assert stat.S_IMODE(os.stat(path_of(daemon)).st_mode) == 0o600
    ctl.close()
    daemon.stop()
    assert not os.path.lexists(path_of(daemon))


def test_list_follows_the_front_end(controlled, start_vm):
    daemon, ctl = controlled
    vm = ctl.vm(3)
    assert vm == {"cid": 3, "socket": daemon.vm().socket, "uds_path": daemon.vm().uds,
                  "ack": True, "forward_cid": None, "groups": ["default"], "state": "waiting",
                  "draining": False, "connections": 0, "worker": 0}
    guest = start_vm(daemon)
    assert ctl.vm(3)["state"] == "running"
    guest.stop()
    assert ctl.vm(3)["state"] == "connected"
    guest.kill()
    until(lambda: ctl.vm(3)["state"] == "waiting", "the VMM's end")


def test_show(controlled, start_vm):
    daemon, ctl = controlled
    vm = start_vm(daemon, queue_size=64)
    gsocket.Listener(vm.guest, 50)
    host = daemon.connect(50)
    shown = ctl.call("show", cid=3)
    assert shown["state"] == "running" and shown["connections"] == 1
    assert shown["states"]["established"] == 1
    assert shown["limits"]["tx_buffer_size"] == 262144
    assert shown["limits"]["queue_size"] == 1024
    assert "version-1" in shown["features"]
    assert shown["rings"]["rx"]["size"] == 64 and shown["rings"]["tx"]["available"] == 0
    assert sum(region["bytes"] for region in shown["memory"]) > 0
    assert shown["counters"]["opened_by_host"] == 1
    host.close()
    fails(ctl, "not-found", "show", cid=4)


def test_connections_that_the_host_does_not_read(controlled, start_vm):
    daemon, ctl = controlled
    vm = start_vm(daemon)
    door = daemon.listen(80)
    sock = gsocket.connect(vm.guest, 4000, 80)
    host = door.accept()

    def held_bytes():
        vm.guest.sync()
        return ctl.call("connections", cid=3)["connections"][0]["held_bytes"]
    # a full window may be one that the host's socket has room for
    held = until(lambda: not sock.send_now(bytes(65536)) and not vm.guest.tx_waiting
                 and held_bytes(), "a full window")
    assert held <= 262144
    assert ctl.counters(3)["held_bytes"] == held
    host.close()


def test_connections_are_limited(controlled, start_vm):
    daemon, ctl = controlled
    vm = start_vm(daemon)
    gsocket.Listener(vm.guest, 50)
    hosts = [daemon.connect(50) for _ in range(5)]
    answer = ctl.call("connections", limit=3)
    assert len(answer["connections"]) == 3 and answer["truncated"]
    answer = ctl.call("connections", cid=3)
    assert len(answer["connections"]) == 5 and not answer["truncated"]
    for bad in (0, 10001, -1):
        fails(ctl, "invalid", "connections", limit=bad)
    fails(ctl, "not-found", "connections", cid=77)
    for host in hosts:
        host.close()


def test_process_figures(controlled):
    daemon, ctl = controlled
    process = ctl.call("stats")["process"]
    assert process["descriptors"] == daemon.fd_count()
    assert process["resident_bytes"] > 100_000
    assert process["uptime_seconds"] >= 0 and process["cpu_user_seconds"] >= 0
    assert ctl.call("stats")["process"]["uptime_seconds"] >= process["uptime_seconds"]


def test_log_level(controlled, start_vm):
    daemon, ctl = controlled
    assert ctl.call("log-level", level="debug") == {}
    start_vm(daemon)
    assert "SET_VRING_KICK" in daemon.stderr()
    assert "expected error, warning" in fails(ctl, "invalid", "log-level", level="loud")
    fails(ctl, "invalid", "log-level", level=3)


@pytest.mark.parametrize("method,params", [
    ("list", {"cid": 3}), ("show", {}), ("show", {"cid": "3"}), ("show", {"cid": 3, "x": 1}),
    ("stats", {"x": None}), ("connections", {"limit": "all"}), ("add", {}), ("add", {"vm": 3}),
    ("add", {"vm": ""}), ("add", {"vm": "guest-cid=2,socket=a,uds-path=b"}),
    ("add", {"vm": "guest-cid=9,socket=a"}), ("add", {"vm": "socket=a,uds-path=b,what=c"}),
    ("remove", {}), ("set", {"cid": 3}), ("set", {"cid": 3, "groups": []}),
    ("set", {"cid": 3, "groups": [""]}), ("set", {"cid": 3, "groups": ["a+b"]}),
    ("set", {"cid": 3, "groups": "a"}), ("set", {"cid": 3, "groups": [1]}),
    ("set", {"cid": 3, "groups": ["g"] * 1025}),
    ("set", {"cid": 3, "limits": ""}), ("set", {"cid": 3, "limits": "tx-rate=1"}),
    ("set", {"cid": 3, "limits": "max-buffered=4096"}), ("set", {"cid": 3, "limits": 5}),
    ("set", {"cid": 3, "limits": "queue-size=64"}), ("drain", {"off": 1}), ("drain", {"x": 1}),
    ("reload", {"x": 1}), ("reload", {}), ("subscribe", {"x": 1}), ("log-level", {})])
def test_wrong_parameters(controlled, method, params):
    _, ctl = controlled
    assert fails(ctl, "invalid", method, **params)
    assert [vm["cid"] for vm in ctl.call("list")["vms"]] == [3]


@pytest.mark.parametrize("wrong", [
    {"groups": ["a+b"], "limits": "max-connections=7"},
    {"groups": ["other"], "limits": "max-connections=none"}])
def test_set_changes_all_or_nothing(controlled, wrong):
    """What is right beside something wrong is not taken either."""
    _, ctl = controlled
    before = ctl.call("show", cid=3)
    assert fails(ctl, "invalid", "set", cid=3, **wrong)
    after = ctl.call("show", cid=3)
    assert (after["limits"], after["groups"]) == (before["limits"], before["groups"])
    ctl.call("set", cid=3, groups=["other"], limits="max-connections=7")
    after = ctl.call("show", cid=3)
    assert (after["limits"]["max_connections"], after["groups"]) == (7, ["other"])


@pytest.mark.parametrize("line", [
    b"{", b"[]", b"3", b"\"list\"", b"null", b"{}", b"{\"id\":1}", b"{\"method\":3}",
    b"{\"method\":\"list\",\"params\":[]}", b"{\"method\":\"list\",\"param\":{}}",
    b"{\"method\":\"list\",\"method\":\"list\"}", b"{\"method\":\"li\\u0000st\"}",
    b"\xff\xfe", b"{\"method\":\"\xff\"}", b"\x00", b"[" * 5000, b"{\"a\":" * 3000,
    b"{\"method\":\"list\"} {}"], ids=lambda line: repr(line[:20]))
def test_malformed_lines(controlled, line):
    """An error each, and the next request is answered."""
    _, ctl = controlled
    ctl.send(line + b"\n")
    answer = ctl.line()
    assert answer["error"]["code"] == "invalid" and answer["error"]["message"]
    assert len(ctl.call("list")["vms"]) == 1


def test_any_id_comes_back(controlled):
    _, ctl = controlled
    for number in (0, -1, 1.5, "text", None, [1, {"a": 2}], {"b": []}, True):
        ctl.send(json.dumps({"id": number, "method": "nothing"}).encode() + b"\n")
        answer = ctl.line()
        assert answer["id"] == number and answer["error"]["code"] == "unknown-method"
    ctl.send(b"{\"method\":\"list\"}\r\n\n\r\n")
    assert ctl.line()["id"] is None
    assert ctl.call("list")


def test_requests_in_pieces_and_in_a_row(controlled):
    _, ctl = controlled
    request = json.dumps({"id": 1, "method": "list"}).encode() + b"\n"
    for byte in request:
        ctl.send(bytes([byte]))
    assert ctl.line()["id"] == 1
    ctl.send(request * 300)
    for _ in range(300):
        assert ctl.line()["result"]["vms"][0]["cid"] == 3
    # the last words of a client that will not send more are answered, too
    ctl.send(request * 2)
    ctl.sock.shutdown()
    assert ctl.line()["id"] == ctl.line()["id"] == 1
    assert ctl.sock.recv_eof() == b""


def test_long_lines(controlled):
    daemon, ctl = controlled
    room = MAX_LINE - 1
    request = b"{\"id\":1,\"method\":\"list\"" + b" " * (room - 24) + b"}"
    ctl.send(request + b"\n")
    assert "result" in ctl.line()
    other = Control(path_of(daemon))
    try:
        ctl.send(b"x" * (4 * MAX_LINE))
    except BrokenPipeError:
        pass  # it does not read all of it
    answer = ctl.line()
    assert answer["error"]["code"] == "invalid" and "65536" in answer["error"]["message"]
    ctl.sock.drain()
    assert len(other.call("list")["vms"]) == 1
    other.close()


def test_a_hundred_idle_clients(controlled):
    """There is a bound; those inside are served, and a place that is left is free again."""
    daemon, ctl = controlled
    clients = [HostSocket(connect_unix(path_of(daemon))) for _ in range(100)]
    lines = [client.recv_line() for client in clients]
    inside = [client for client, line in zip(clients, lines) if b"hello" in line]
    assert len(inside) == MAX_CLIENTS - 1
    outside = [json.loads(line) for line in lines if b"hello" not in line]
    assert {line["error"]["code"] for line in outside} == {"limit"}
    assert ctl.call("list")
    for client in clients:
        client.close()

    def served():
        client = HostSocket(connect_unix(path_of(daemon)))
        line = client.recv_line()
        client.close()
        return b"hello" in line
    until(served, "a place for a client")


def test_slow_reader_holds_nobody_up(controlled, start_vm):
    """Its requests are not read while it does not read the answers."""
    daemon, ctl = controlled
    start_vm(daemon)
    slow = HostSocket(connect_unix(path_of(daemon)))
    request = b"{\"method\":\"stats\"}\n"
    sent = 0
    quiet = 0
    while quiet < 20:
        done = slow.send_now(request * 100)
        sent += done
        quiet = 0 if done else quiet + 1
        assert sent < (64 << 20), "the daemon reads without end"
        ctl.call("list")
    memory = ctl.call("stats")["process"]["resident_bytes"]
    assert memory < (256 << 20)
    slow.close()


def may_change_uid():
    return os.geteuid() == 0 and shutil.which("setpriv") is not None


@pytest.mark.skipif(not may_change_uid(), reason="needs root and setpriv")
def test_other_users_are_refused(controlled):
    """Not even a permission of the file system helps."""
    daemon, ctl = controlled
    os.chmod(path_of(daemon), 0o666)
    os.chmod(daemon.dir, 0o755)
    program = ("import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
               "s.connect(sys.argv[1])\nprint(s.makefile().read())")
    link = os.path.join("/tmp", f"vdv-control-{os.getpid()}")
    os.link(path_of(daemon), link)
    try:
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                               sys.executable, "-c", program, link], capture_output=True,
                              text=True, timeout=60, check=False)
    finally:
        os.unlink(link)
    assert json.loads(done.stdout)["error"]["code"] == "forbidden", done.stderr
    until(lambda: "only root and the daemon's user" in daemon.stderr(), "the line about it")
    assert ctl.call("list")


def test_path_that_is_taken(start_daemon, tmp_path):
    """The daemon does not start, and touches nothing."""
    path = tmp_path / "control.sock"
    path.write_text("precious")
    daemon = start_daemon(directory=str(tmp_path), args=["--control", str(path)], start=False)
    assert daemon.spawn().wait(10) == 1
    daemon.proc = None
    assert str(path) in daemon.stderr()
    assert path.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["control.sock", "stderr"]


def test_client_that_dies_with_requests(controlled):
    daemon, ctl = controlled
    for _ in range(30):
        client = HostSocket(connect_unix(path_of(daemon)))
        client.send_all(b"{\"method\":\"stats\"}\n" * 50)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    assert ctl.call("list")
    daemon.assert_healthy()
