# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl's commands for the control socket, with the real daemon and a guest."""

import json
import os
import select
import subprocess

import pytest

import ctl
import gsocket
from daemon import binary, is_socket
from waiting import SCALE, pump_once, until

LIMIT = 60 * SCALE


def has_control():
    text = subprocess.run([binary(), "--help"], capture_output=True, text=True, timeout=60,
                          check=True).stdout
    return "--control" in text


pytestmark = pytest.mark.skipif(not has_control(), reason="this daemon has no --control")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control.sock")


@pytest.fixture
def daemon(start_daemon, path):
    started = start_daemon((3, 4), args=["--control", path])
    until(lambda: is_socket(path), "the control socket")
    return started


def run(path, *args):
    """Run it to its end; the guests go on meanwhile."""
    child = subprocess.Popen([ctl.binary(), "--control", path, *map(str, args)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    until(lambda: child.poll() is not None, "the end of vsockctl", LIMIT)
    out, err = child.communicate()
    return child.returncode, out, err


def result(path, *args):
    code, out, err = run(path, *args, "--json")
    assert (code, err) == (0, ""), err
    return json.loads(out)


def test_looking(daemon, path, vm):
    listener = gsocket.Listener(vm.guest, 80)
    client = daemon.connect(80)
    sock = listener.accept()
    client.send_all(b"hello")
    assert sock.recv_exact(5) == b"hello"
    states = {item["cid"]: item["state"] for item in result(path, "list")["vms"]}
    assert states == {3: "running", 4: "waiting"}
    assert result(path, "show", 3)["uds_path"] == daemon.vm(3).uds
    conns = result(path, "connections", 3)["connections"]
    assert [(c["guest_port"], c["initiator"], c["rx_bytes"]) for c in conns] == [(80, "host", 5)]
    rows = result(path, "top")["vms"]
    assert (rows[0]["state"], rows[0]["connections"], rows[0]["rx_bytes"]) == ("running", 1, 5)
    for command in ("list", "stats", "connections", "top"):
        code, out, err = run(path, command)
        assert (code, err) == (0, "") and out.count("\n") >= 2


def test_changing(daemon, path):
    new = f"guest-cid=7,socket={daemon.dir}/7.sock,uds-path={daemon.dir}/7.vsock"
    assert run(path, "add", new)[0] == 0
    assert is_socket(f"{daemon.dir}/7.vsock")
    code, _, err = run(path, "add", new)
    assert code == 1 and "exists" in err
    assert run(path, "set", 7, "--groups", "a+b")[0] == 0
    assert result(path, "show", 7)["groups"] == ["a", "b"]
    assert run(path, "drain", 7)[0] == 0
    assert "waiting, draining" in run(path, "list")[1]
    assert run(path, "drain", 7, "--off")[0] == 0
    assert run(path, "remove", 7)[0] == 0
    assert not os.path.exists(f"{daemon.dir}/7.vsock")
    assert run(path, "show", 7)[0] == 1
    assert run(path, "log-level", "debug")[0] == 0
    assert run(path, "log-level", "loud")[0] == 1


def test_reaching_a_guest_by_its_cid(daemon, path, vm):
    listener = gsocket.Listener(vm.guest, 80)
    for command in (["connect", "3", "80"], ["run", "ncat", "--vsock", "3", "80"]):
        with subprocess.Popen([ctl.binary(), "--control", path, *command],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            sock = listener.accept(30)
            sock.send_all(b"hello")
            until(lambda c=child: select.select([c.stdout], [], [], 0)[0], "the greeting", 30)
            child.stdin.close()
            assert sock.recv_eof() == b""
            sock.close()
            until(lambda c=child: c.poll() is not None, "the end of the program", 30)
            assert child.stdout.read() == b"hello"


def test_events(daemon, path, vm):
    with subprocess.Popen([ctl.binary(), "--control", path, "events", "--json"],
                          stdout=subprocess.PIPE) as child:
        os.set_blocking(child.stdout.fileno(), False)
        events = []

        def refused():
            """Ask until an event of it comes: the subscription takes its time."""
            daemon.request(99).close()
            pump_once(10)
            events.extend(child.stdout.readlines())
            return events
        until(refused, "an event", 30)
        event = json.loads(events[0])
        assert (event["event"], event["cid"]) == ("connection-refused", 3)
        child.kill()
