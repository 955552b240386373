# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl's commands that speak to the daemon, with a stand-in for its control socket."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

import ctl
from fakectl import FakeControl, Refused
from hybrid import Hybrid
from waiting import SCALE, until

LIMIT = 60 * SCALE
VMS = [
    {"cid": 3, "socket": "/run/vhost3.socket", "uds_path": "/run/vm3.vsock", "forward_cid": None,
     "groups": ["default"], "state": "running", "connections": 12, "worker": 0},
    {"cid": 4, "socket": "/run/vhost4.socket", "uds_path": None, "forward_cid": 1,
     "groups": ["red", "green"], "state": "waiting", "draining": True, "connections": 0,
     "worker": 1},
]
CONNECTIONS = [
    {"cid": 3, "guest_port": 22, "host_port": 1073741824, "with": "host",
     "state": "established",
     "initiator": "host", "tx_bytes": 1000, "rx_bytes": 5, "held_bytes": 0},
]
STATS = {"uptime_s": 12, "process": {"fds": 9},
         "vms": [{"cid": 3, "tx_bytes": 5000, "rx_bytes": 7 << 30},
                 {"cid": 4, "tx_bytes": 0, "rx_bytes": 0}]}


def show(params):
    for vm in VMS:
        if vm["cid"] == params["cid"]:
            return vm
    raise Refused("not-found", f"no VM with CID {params['cid']}")


METHODS = {
    "list": lambda p: {"vms": VMS},
    "show": show,
    "connections": lambda p: {"connections": CONNECTIONS, "truncated": bool(p.get("limit"))},
    "stats": lambda p: STATS,
    "add": lambda p: {}, "remove": lambda p: {}, "set": lambda p: {}, "log-level": lambda p: {},
    "drain": lambda p: {},
    "reload": lambda p: {"added": [5, 6], "removed": [], "changed": [3], "unchanged": [4]},
}
EVENTS = [{"event": "connection-opened", "cid": 3, "guest_port": 22, "initiator": "guest"},
          {"event": "connection-refused", "cid": 3, "reason": "no-listener"},
          {"event": "vm-down", "cid": 3, "reason": None}]


@pytest.fixture
def control(tmp_path):
    made = FakeControl(tmp_path / "control.sock", METHODS, EVENTS)
    yield made
    made.close()


def run(control, *args, env=None):
    path = control if isinstance(control, str) else control.path
    return subprocess.run([ctl.binary(), "--control", path, *map(str, args)], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT,
                          check=False, env=env)


# what is asked

@pytest.mark.parametrize("args,asked", [
    (["list"], ("list", None)),
    (["show", 3], ("show", {"cid": 3})),
    (["connections"], ("connections", {})),
    (["connections", 3, "--limit", 10], ("connections", {"cid": 3, "limit": 10})),
    (["stats"], ("stats", None)),
    (["add", "guest-cid=5,socket=/s,uds-path=/u"],
     ("add", {"vm": "guest-cid=5,socket=/s,uds-path=/u"})),
    (["remove", 3], ("remove", {"cid": 3})),
    (["set", 3, "--groups", "a+b"], ("set", {"cid": 3, "groups": ["a", "b"]})),
    (["set", "--groups=a", 3], ("set", {"cid": 3, "groups": ["a"]})),
    (["set", 3, "--limits", "tx-rate=1M"], ("set", {"cid": 3, "limits": "tx-rate=1M"})),
    (["reload"], ("reload", None)),
    (["log-level", "debug"], ("log-level", {"level": "debug"})),
    (["drain"], ("drain", {})),
    (["drain", 3, "--off"], ("drain", {"cid": 3, "off": True})),
])
@pytest.mark.parametrize("json_too", [False, True], ids=["", "json"])
def test_request(control, args, asked, json_too):
    done = run(control, *args, *(["--json"] if json_too else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert control.asked == [asked]
    if json_too:
        assert json.loads(done.stdout) == METHODS[asked[0]](asked[1] or {})
        assert done.stdout.count("\n") == 1


def test_list(control):
    lines = run(control, "list").stdout.splitlines()
    assert lines[0].split() == ["CID", "STATE", "CONNS", "WORKER", "GROUPS", "SOCKET", "HOST",
                                "SIDE"]
    assert lines[1].split() == ["3", "running", "12", "0", "default", "/run/vhost3.socket",
                                "/run/vm3.vsock"]
    for text in ("waiting, draining", "red+green", "AF_VSOCK, CID 1"):
        assert text in lines[2]


def test_show_connections_stats_reload(control):
    shown = run(control, "show", 4).stdout.splitlines()
    assert "groups: red+green" in shown and "uds_path: -" in shown and "forward_cid: 1" in shown
    lines = run(control, "connections", "--limit", 1).stdout.splitlines()
    assert lines[1].split() == ["3", "22", "host", "1073741824", "established", "host", "1000", "5",
                                "0"]
    assert lines[2] == "(and more)"
    stats = run(control, "stats").stdout.splitlines()
    assert {"uptime_s: 12", "process.fds: 9", "vms[cid=3].tx_bytes: 5000"} <= set(stats)
    assert run(control, "reload").stdout.splitlines() == [
        "added: 5+6", "removed: -", "changed: 3", "unchanged: 4"]


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    evil = [dict(VMS[0], socket="/a\x1b]0;x\x07\n", state="run\tning")]
    control = FakeControl(tmp_path / "c", {"list": lambda p: {"vms": evil},
                                           "show": lambda p: evil[0]})
    for args in (["list"], ["show", 3]):
        out = run(control, *args).stdout
        assert out.replace("\n", "").isprintable(), out
    control.close()


# what goes wrong

def test_error_answers(control):
    done = run(control, "show", 9)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vsockctl: show: no VM with CID 9 (not-found)\n"
    del control.methods["reload"]
    done = run(control, "reload")
    assert done.returncode == 1 and "unknown-method" in done.stderr


@pytest.mark.parametrize("hello", [
    {"hello": {"program": "x", "version": "9", "protocol": 2}}, {}, {"hello": 3}, b"nonsense",
    b"[]", b"", b"\xff\xfe{", b"{\"hello\": "])
def test_bad_hello(tmp_path, hello):
    control = FakeControl(tmp_path / "c", METHODS, hello=hello)
    done = run(control, "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("vsockctl: ") and done.stderr.count("\n") == 1
    control.close()


def test_not_welcome(tmp_path):
    """The daemon says so in the place of its hello."""
    error = {"id": None, "error": {"code": "forbidden", "message": "you may not ask"}}
    control = FakeControl(tmp_path / "c", METHODS, hello=error)
    done = run(control, "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vsockctl: control socket: you may not ask (forbidden)\n"
    control.close()


def test_no_daemon(tmp_path):
    done = run(str(tmp_path / "absent"), "list")
    assert done.returncode == 1 and "control socket" in done.stderr


def test_answer_in_pieces_and_large(tmp_path):
    many = [dict(VMS[0], cid=cid, uds_path="/" + "p" * 90) for cid in range(3, 4099)]
    control = FakeControl(tmp_path / "c", {"list": lambda p: {"vms": many}}, chunk=7000)
    done = run(control, "list", "--json")
    assert json.loads(done.stdout) == {"vms": many}
    control.close()


@pytest.mark.parametrize("args", [["show"], ["show", "x"], ["show", "3", "4"], ["set", "3"],
                                  ["top", "--sort", "size"], ["list", "--limit", "1"],
                                  ["connections", "--limit", "x"], ["log-level"], ["list", "-x"]])
def test_usage(control, args):
    done = run(control, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vsockctl: ") and done.stderr.count("\n") == 1
    assert control.asked == []


# where the daemon is

def test_control_path_from_the_environment(control, tmp_path):
    def listed(**env):
        done = subprocess.run([ctl.binary(), "list", "--json"], env=env, capture_output=True,
                              timeout=LIMIT, check=False, text=True)
        return done.returncode, done.stderr
    assert listed(VSOCKCTL_CONTROL=control.path)[0] == 0
    code, said = listed(XDG_RUNTIME_DIR=str(tmp_path))
    where = "/run" if os.geteuid() == 0 else str(tmp_path)
    if code == 1:
        assert f"'{where}/vhost-device-vsock/control.sock'" in said


def test_connect_by_cid(tmp_path):
    hybrid = Hybrid(tmp_path / "vm.vsock", {80: lambda s: s.sendall(b"hello")})
    vm = dict(VMS[0], uds_path=hybrid.path)
    control = FakeControl(tmp_path / "c", {"show": lambda p: vm if p["cid"] == 3 else show(p)})
    done = run(control, "connect", 3, 80)
    assert (done.returncode, done.stdout) == (0, "hello")
    done = run(control, "connect", 4, 80)
    assert done.returncode == 1 and "no uds-path" in done.stderr
    assert run(control, "connect", 5, 80).returncode == 1
    control.close()
    hybrid.close()


# events and top

def test_events(control):
    done = run(control, "events")
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and "ended the control connection" in done.stderr
    assert re.fullmatch(r"\d\d:\d\d:\d\d connection-opened cid=3 guest_port=22 initiator=guest",
                        lines[0])
    assert lines[1].endswith(" connection-refused cid=3 reason=no-listener")
    assert lines[2].endswith(" vm-down cid=3")
    lines = run(control, "events", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == EVENTS


def test_top_once(control):
    lines = run(control, "top").stdout.splitlines()
    assert lines[0].split() == ["CID", "STATE", "CONNS", "IN/s", "OUT/s", "IN", "OUT", "SOCKET"]
    assert lines[1].split() == ["3", "running", "12", "-", "-", "7.0G", "4.9k", "vm3.vsock"]
    assert all(len(line) <= 80 for line in lines)
    merged = json.loads(run(control, "top", "--json").stdout)["vms"]
    assert merged[0]["rx_bytes"] == 7 << 30 and merged[0]["state"] == "running"
    lines = run(control, "top", "--sort", "state").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["3", "4"]
    lines = run(control, "top", "--sort", "conns").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["3", "4"]


class Terminal:
    """vsockctl top on a terminal of 80 columns."""

    def __init__(self, control, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(ctl.binary(), [ctl.binary(), "--control", control.path, "top", *args])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.text = ""

    def read(self):
        while select.select([self.fd], [], [], 0)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.text += data.decode()
        return self.text

    def key(self, key):
        os.write(self.fd, key)

    def wait(self):
        status = []

        def ended():
            self.read()
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status.append(os.waitstatus_to_exitcode(code))
            return status
        until(ended, "the end of top")
        return status[0]


@pytest.mark.parametrize("end", ["q", "ctrl-c", "SIGTERM"])
def test_top_live(control, end):
    top = Terminal(control, "--interval", "1")
    until(lambda: "by cid" in top.read() and "vm3.vsock" in top.text, "the first picture")
    assert not termios.tcgetattr(top.fd)[3] & termios.ECHO
    top.key(b"n")
    until(lambda: "by conns" in top.read(), "the other order")
    shown = [line for line in re.sub(r"\x1b\[\d*[HJ]", "", top.text).splitlines() if line]
    assert max(map(len, shown)) <= 80
    until(lambda: control.asked.count(("stats", None)) >= 2, "a second picture")
    if end == "SIGTERM":
        os.kill(top.pid, signal.SIGTERM)
    else:
        top.key(b"q" if end == "q" else b"\x03")
    assert top.wait() == 0
    os.close(top.fd)
