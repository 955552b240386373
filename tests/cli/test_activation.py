# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Sockets that a service manager made before the daemon was started."""

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from control import Control
from daemon import binary, has_sanitizer, is_socket, listening_paths
from manager import Service, listening
from waiting import SCALE, until

SEQPACKET = socket.SOCK_SEQPACKET


@pytest.fixture(name="place")
def fixture_place(tmp_path):
    """Paths of a VM, and the option for it."""
    class Place:
        log = tmp_path / "log"
        vmm, uds = str(tmp_path / "3.vmm"), str(tmp_path / "3.vm")
        seqpacket = uds + "_seqpacket"
        control, metrics = str(tmp_path / "control"), str(tmp_path / "metrics")
        vm = ("--vm", f"guest-cid=3,socket={vmm},uds-path={uds}")
        everything = (*vm, "--control", control, "--metrics", f"unix:{metrics}")
        made = []

        def socket(self, path, kind=socket.SOCK_STREAM):
            self.made.append(listening(path, kind))
            return self.made[-1]

        def all(self):
            return [("vm-3", self.socket(self.vmm)), ("vm-3", self.socket(self.uds)),
                    ("vm-3", self.socket(self.seqpacket, SEQPACKET)),
                    ("control", self.socket(self.control)), ("metrics", self.socket(self.metrics))]

    found = Place()
    yield found
    for sock in found.made:
        sock.close()
    found.made.clear()


def serving(daemon):
    until(lambda: "serving" in daemon.text() or daemon.proc.poll() is not None, daemon.text)
    assert daemon.proc.poll() is None, daemon.text()


def connect(path, kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(10 * SCALE)
    sock.connect(path)
    return sock


def is_turned_away(client):
    """What becomes of a host program where no guest runs: somebody has to close its socket."""
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def is_served(path, kind=socket.SOCK_STREAM):
    with connect(path, kind) as client:
        return is_turned_away(client)


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_all_sockets(place, sandbox):
    """All of them are served, and stay when the daemon ends."""
    passed = place.all()
    nodes = [os.stat(path).st_ino for path in (place.vmm, place.uds, place.control)]
    with Service((*place.everything, "--sandbox", sandbox), place.log, passed) as daemon:
        serving(daemon)
        assert is_served(place.uds) and is_served(place.seqpacket, SEQPACKET)
        Control(place.control).close()
        with connect(place.metrics) as sock:
            sock.send(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.")
        with connect(place.vmm):
            until(lambda: "front-end connected" in daemon.text(), daemon.text)
        daemon.stop()
    assert [os.stat(path).st_ino for path in (place.vmm, place.uds, place.control)] == nodes
    assert is_socket(place.metrics) and is_socket(place.seqpacket)


def test_clients_came_before(place):
    """What waits in the backlog is served when the daemon starts, and by the next one."""
    passed = place.all()
    for _ in range(2):
        with connect(place.uds) as early:
            with Service(place.everything, place.log, passed) as daemon:
                serving(daemon)
                assert is_turned_away(early)
                daemon.stop()


def test_some_sockets(place):
    """The others are made, and removed again."""
    passed = [("vm-3", place.socket(place.uds))]
    with Service(place.everything, place.log, passed) as daemon:
        serving(daemon)
        assert {place.vmm, place.seqpacket, place.control} <= listening_paths()
        assert is_served(place.uds) and is_served(place.seqpacket, SEQPACKET)
        daemon.stop()
    assert is_socket(place.uds)
    assert not any(map(os.path.lexists, (place.vmm, place.seqpacket, place.control)))


def test_metrics_by_tcp(place):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Service((*place.vm, "--metrics", f"127.0.0.1:{port}"), place.log,
                     [("metrics", listener)]) as daemon:
            serving(daemon)
            with socket.create_connection(("127.0.0.1", port), 10 * SCALE) as sock:
                sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.")
            daemon.stop()


def test_vm_that_goes_and_comes(place, tmp_path):
    """A VM that was removed finds its sockets again, and whoever waits there."""
    file = tmp_path / "vms.yaml"
    without = f"control: {place.control}\nvms: []\n"
    with_vm = without.replace("[]", f"[{{socket: {place.vmm}, uds-path: {place.uds}}}]")
    file.write_text(with_vm)
    with Service(("--config", str(file)), place.log, place.all()[:4]) as daemon:
        serving(daemon)
        file.write_text(without)
        daemon.proc.send_signal(signal.SIGHUP)
        until(lambda: "vm=3: reload: removed" in daemon.text(), daemon.text)
        with connect(place.uds) as early:
            file.write_text(with_vm)
            daemon.proc.send_signal(signal.SIGHUP)
            assert is_turned_away(early)
        daemon.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to look at a confined process")
@pytest.mark.skipif(has_sanitizer(), reason="instrumented build")
def test_broker_has_none(place):
    """Only the process that serves them holds passed sockets."""
    passed = place.all()
    inodes = {os.fstat(sock.fileno()).st_ino for _, sock in passed}
    with Service(place.everything, place.log, passed) as daemon:
        serving(daemon)
        pid = daemon.proc.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            broker = int(file.read())
        held = {os.stat(f"/proc/{broker}/fd/{fd}").st_ino
                for fd in os.listdir(f"/proc/{broker}/fd")}
        assert not inodes & held
        assert inodes <= {os.stat(f"/proc/{pid}/fd/{fd}").st_ino
                          for fd in os.listdir(f"/proc/{pid}/fd")}


# mistakes

def mistakes(place):
    """What is passed under which names, and what the line about it says."""
    uds = place.socket(place.uds)
    return {
        "unknown": ([("web.socket", uds)], "'web.socket' at .*unknown name: set FileDescriptorName="
                    " of its socket unit to vm-CID, control or metrics"),
        "unnamed": ([("", uds)], "'' at .*unknown name"),
        "no such VM": ([("vm-4", uds)], "'vm-4' at .*no VM has this CID: add it"),
        "no number": ([("vm-03", uds)], "'vm-03' at .*no VM has this CID"),
        "elsewhere": ([("vm-3", place.socket(place.uds + "x"))],
                      "no socket of this VM is there: expected its socket or uds-path"),
        "wrong type": ([("vm-3", place.socket(place.seqpacket))],
                       "no socket of this VM is there: expected .*ListenSequentialPacket="),
        "twice": ([("vm-3", uds), ("vm-3", uds)], "passed twice: let only one socket unit"),
        "no control": ([("control", place.socket(place.control))],
                       "not the control socket: start with --control"),
        "no metrics": ([("metrics", place.socket(place.metrics))],
                       "not the endpoint of metrics: start with --metrics"),
        "connected": ([("vm-3", connect(place.uds))], "does not listen: set Accept=no"),
        "no socket": ([("vm-3", open(os.devnull, "rb"))], "no socket: expected ListenStream="),
    }


@pytest.mark.parametrize("which", ["unknown", "unnamed", "no such VM", "no number", "elsewhere",
                                   "wrong type", "twice", "no control", "no metrics", "connected",
                                   "no socket"])
def test_mistakes_are_told(place, which):
    """One line that says what to do, status 2, nothing made."""
    passed, line = mistakes(place)[which]
    before = sorted(os.listdir(os.path.dirname(place.uds)))
    with Service(place.vm, place.log, passed) as daemon:
        assert daemon.proc.wait(10 * SCALE) == 2
        text = daemon.text()
    for _, held in passed:
        held.close()
    assert len(text.splitlines()) == 1, text
    assert re.search(line, text), text
    assert sorted(set(os.listdir(os.path.dirname(place.uds))) - {"log"}) == before


def test_no_names(place):
    """A service manager that names nothing."""
    with Service(place.vm, place.log, [("vm-3", place.socket(place.uds))], names="") as daemon:
        assert daemon.proc.wait(10 * SCALE) == 2
        assert "unknown name: set FileDescriptorName=" in daemon.text()


def test_meant_for_another(place):
    """Variables that a parent forgot to remove pass nothing."""
    place.socket(place.uds)
    env = dict(os.environ, LISTEN_PID="1", LISTEN_FDS="1", LISTEN_FDNAMES="web")
    done = subprocess.run([binary(), "--check-config", *place.vm], env=env, timeout=60,
                          capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="no systemd here")
def test_with_systemd_itself(place):
    """Its own tool starts the daemon when the first client comes."""
    with open(place.log, "wb") as log:
        tool = subprocess.Popen(["systemd-socket-activate", "-l", place.uds, "-l", place.vmm,
                                 "--fdname=vm-3:vm-3", binary(), *place.vm], stdout=log, stderr=log,
                                stdin=subprocess.DEVNULL)
    try:
        until(lambda: {place.uds, place.vmm} <= listening_paths(), "systemd-socket-activate")
        assert is_served(place.uds)
        tool.send_signal(signal.SIGTERM)
        assert tool.wait(10 * SCALE) == 0
        assert is_socket(place.uds)
    finally:
        tool.kill()
        tool.wait()
