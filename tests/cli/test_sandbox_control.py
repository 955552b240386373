# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""VMs that come and go, and what is told of them, while the daemon is confined."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess

import pytest

from daemon import is_socket, listening_paths
from test_sandbox import NOBODY, STARTS, Program, as_nobody, needs_root, status
from waiting import until

VMS = "vms:\n"


def item(cid, **more):
    keys = {"guest-cid": cid, "socket": f"s{cid}", "uds-path": f"u{cid}", **more}
    return "- " + "\n  ".join(f"{key}: {value}" for key, value in keys.items()) + "\n"


def connect(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(path)
    return sock


class Client:
    """Of the control socket."""

    def __init__(self, program):
        path = os.path.join(program.dir, "ctl")
        until(lambda: is_socket(path), lambda: f"a control socket: {program.text()}")
        self.file = connect(path).makefile("rw")
        assert json.loads(self.file.readline())["hello"]["protocol"] == 1

    def ask(self, method, **params):
        self.file.write(json.dumps({"method": method, "params": params}) + "\n")
        self.file.flush()
        return json.loads(self.file.readline())

    def call(self, method, **params):
        answer = self.ask(method, **params)
        assert "result" in answer, answer
        return answer["result"]


class Filed(Program):
    """The program with VMs of a file."""

    def __init__(self, text, *args, **popen):
        self.text_of_file = text
        super().__init__("--config", "file", *args, **popen)

    def own_arguments(self):
        self.write(self.text_of_file)
        return ()

    def write(self, text):
        with open(os.path.join(self.dir, "file"), "w", encoding="utf-8") as file:
            file.write(text)


def listens(program, *names):
    """A program of the host can connect to these, relative to the directory."""
    return {name for name in names if name in listening_paths()
            and is_socket(os.path.join(program.dir, name))}


@pytest.mark.parametrize("start", STARTS)
def test_add_and_remove(start):
    args, before = STARTS[start]
    with Program(*args, "--control", "ctl", before=before) as program:
        client = Client(program)
        node = os.stat(os.path.join(program.dir, "ctl"))
        assert stat.S_IMODE(node.st_mode) == 0o600
        late = os.path.join(program.dir, "late")
        os.mkdir(late)
        os.chmod(late, 0o777)
        assert client.call("add", vm=f"guest-cid=9,socket={late}/s,uds-path={late}/u") == {"cid": 9}
        assert is_socket(f"{late}/s") and is_socket(f"{late}/u")
        connect(f"{late}/s").close()
        assert [vm["cid"] for vm in client.call("list")["vms"]] == [3, 9]
        assert client.call("show", cid=9)["counters"]["tx_packets"] == 0
        assert client.call("remove", cid=9) == {}
        assert os.listdir(late) == []
        answer = client.ask("add", vm="guest-cid=8,socket=/nowhere/s,uds-path=/nowhere/u")
        assert answer["error"]["code"] == "invalid"
        program.stop()
        assert not os.path.lexists(os.path.join(program.dir, "ctl"))


@pytest.mark.parametrize("start", STARTS)
def test_figures(start):
    """What needs /proc is known although there is none."""
    args, before = STARTS[start]
    with Program(*args, "--control", "ctl", "--metrics", "unix:http", before=before) as program:
        figures = Client(program).call("stats")["process"]
        assert None not in figures.values()
        assert 5 < figures["descriptors"] < 100
        assert figures["resident_bytes"] > 100000
        for _ in range(3):
            page = http.client.HTTPConnection("localhost")
            page.sock = connect(os.path.join(program.dir, "http"))
            page.request("GET", "/metrics")
            text = page.getresponse().read().decode()
            assert "process_open_fds" in text and "process_resident_memory_bytes" in text
            page.close()
        program.stop()


@pytest.mark.parametrize("start", STARTS)
def test_reload(start):
    """The file is the broker's to open; VMs of it come and go."""
    args, before = STARTS[start]
    with Filed(VMS + item(3) + item(4), *args, "--control", "ctl", before=before) as program:
        client = Client(program)
        program.write(VMS + item(4) + item(5))
        result = client.call("reload")
        assert (result["added"], result["removed"], result["unchanged"]) == ([5], [3], [4])
        assert listens(program, "s3", "u3", "s4", "u4", "s5", "u5") == {"s4", "u4", "s5", "u5"}
        os.unlink(os.path.join(program.dir, "file"))
        answer = client.ask("reload")
        assert answer["error"]["code"] == "invalid" and "No such file" in str(answer)
        program.stop()


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_reload_of_a_fifo(mode):
    """Nobody waits for its writer: VMs can still come, guests can still reach the host."""
    with Filed(VMS + item(3), "--control", "ctl", f"--sandbox={mode}") as program:
        client = Client(program)
        path = os.path.join(program.dir, "file")
        os.unlink(path)
        os.mkfifo(path)
        for writers in (0, 1):
            ends = [os.open(path, os.O_RDWR) for _ in range(writers)]
            assert client.ask("reload")["error"]["code"] == "invalid"
            for fd in ends:
                os.close(fd)
        os.unlink(path)
        program.write(VMS + item(3) + item(4))
        assert client.call("reload")["added"] == [4]
        program.stop()


@pytest.mark.parametrize("start", STARTS)
def test_hangup(start):
    args, before = STARTS[start]
    with Filed(VMS + item(3), *args, before=before) as program:
        program.write(VMS + item(3) + item(4))
        program.proc.send_signal(signal.SIGHUP)
        until(lambda: "the configuration file is in force" in program.text(),
              lambda: program.text())
        assert listens(program, "s4", "u4") == {"s4", "u4"}
        program.proc.send_signal(signal.SIGTERM)
        assert program.proc.wait(10) == 0


@needs_root
def test_strict():
    """All parts hold, and there is no seal to be broken: --socket-mode is not for it."""
    with Filed(VMS + item(3), "--sandbox=strict", "--user", "nobody", "--control", "ctl",
               "--socket-mode", "666", "--metrics", "unix:http") as program:
        if "instrumented build" in program.text():
            pytest.skip("instrumented build")
        client = Client(program)
        assert stat.S_IMODE(os.stat(os.path.join(program.dir, "ctl")).st_mode) == 0o600
        assert os.stat(os.path.join(program.dir, "ctl")).st_uid == NOBODY.pw_uid
        program.write(VMS + item(4))
        assert client.call("reload")["added"] == [4]
        for task in os.listdir(f"/proc/{program.proc.pid}/task"):
            assert status(f"{program.proc.pid}/task/{task}")["Seccomp"] == "2"
        assert os.listdir(f"/proc/{program.proc.pid}/root") == []
        assert "error" in client.ask("add", vm="guest-cid=9,socket=s9,forward-cid=1")
        program.stop()


@needs_root
def test_forwarding_is_settled_at_the_start():
    with Program("--control", "ctl") as program:
        program.need("system calls")
        error = Client(program).ask("add", vm="guest-cid=9,socket=s9,forward-cid=1")["error"]
        assert error["code"] == "forbidden" and "forward-cid" in error["message"]
        program.stop()


@needs_root
def test_others_may_not_ask():
    """Nor the owner of a socket that others were let to."""
    with Program("--control", "ctl", "--user", "daemon") as program:
        path = os.path.join(program.dir, "ctl")
        until(lambda: is_socket(path), "a control socket")
        os.chmod(path, 0o666)
        script = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                  "print(s.recv(4096).decode())")
        text = subprocess.run([*as_nobody("python3", "-c", script, path)], capture_output=True,
                              text=True, timeout=60, check=True).stdout
        assert json.loads(text)["error"]["code"] == "forbidden"
        Client(program)
        program.stop()
