# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Confinement of the running program, looked at from outside.

That a confined process cannot do what it must not is tested from inside, in
tests/unit/test_confine.c. A build with sanitizers leaves most parts out and says
so; the tests of those parts are skipped there.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile

import pytest

from daemon import binary, listening_paths
from waiting import until

IS_ROOT = os.geteuid() == 0
NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")
OWN_CAPABILITIES = {1, 3, 0}  # of the broker: DAC_OVERRIDE, FOWNER, CHOWN


def status(pid):
    """/proc/PID/status as a dictionary."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def capabilities(pid, which):
    mask = int(status(pid)[which], 16)
    return {bit for bit in range(64) if mask >> bit & 1}


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


class Program:
    """The program with one VM, in a directory that everybody may use."""

    def __init__(self, *args, before=(), **popen):
        self.dir = tempfile.mkdtemp(prefix="vdv-", dir="/tmp")
        os.chmod(self.dir, 0o777)
        program = os.path.join(self.dir, "program")
        shutil.copy(binary(), program)
        self.socket = os.path.join(self.dir, "vmm")
        self.uds = os.path.join(self.dir, "vm")
        self.log = os.path.join(self.dir, "log")
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen(
                [*before, program, *self.own_arguments(), *args],
                cwd=self.dir, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen)

    def own_arguments(self):
        """What names its VMs."""
        return ("--socket", "vmm", "--uds-path", "vm")

    def __enter__(self):
        until(lambda: "serving" in self.text() or self.proc.poll() is not None,
              lambda: f"a start: {self.text()}")
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.dir)

    def text(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def need(self, part):
        """Skip where a build leaves a part out; fail where it is missing for another reason."""
        holds, _, misses = self.line().partition("; missing: ")
        if f"{part} (instrumented build)" in misses:
            pytest.skip("instrumented build")
        assert part in holds, self.text()

    def line(self):
        return next(line for line in self.text().splitlines() if "sandbox: " in line)

    def broker(self):
        (pid,) = children(self.proc.pid)
        return pid

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        assert self.proc.wait(10) == 0, self.text()
        assert not os.path.lexists(self.socket) and not os.path.lexists(self.uds)


def failing(*args, **popen):
    with Program(*args, **popen) as program:
        assert program.proc.wait(10) == 1, program.text()
        assert not os.path.lexists(program.socket), "a socket was left behind"
        return program.text()


def as_nobody(*args):
    return ("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", *args)


STARTS = {
    "root": ((), ()),
    "root-becomes": (("--user", "nobody"), ()),
    "nobody": ((), as_nobody()),
} if IS_ROOT else {"user": ((), ())}


@pytest.mark.parametrize("start", STARTS)
def test_worker(start):
    args, before = STARTS[start]
    with Program(*args, before=before) as program:
        pid = program.proc.pid
        state = status(pid)
        assert state["NoNewPrivs"] == "1"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert capabilities(pid, kind) == set()
        if start != "nobody" and IS_ROOT:
            assert capabilities(pid, "CapBnd") == set()
        program.need("system calls")
        assert state["Seccomp"] == "2"
        if IS_ROOT:
            program.need("empty root")
            assert os.listdir(f"/proc/{pid}/root") == []
            assert os.listdir(f"/proc/{pid}/cwd") == []
        with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
            assert any(line.split() == "Max core file size 0 0 bytes".split()
                       for line in limits)
        program.stop()


@pytest.mark.parametrize("start", STARTS)
def test_every_thread(start):
    """Workers that are started later have it all from the first one."""
    args, before = STARTS[start]
    more = [word for cid in (4, 5)
            for word in ("--vm", f"guest-cid={cid},socket=s{cid},uds-path=u{cid}")]
    with Program(*args, before=before) as program:
        command = [*before, *program.proc.args[len(before):len(before) + 1], *args, *more,
                   "--threads", "2"]
        with open(program.log, "ab") as log:
            proc = subprocess.Popen(command, cwd=program.dir, stderr=log)
        try:
            until(lambda: program.text().count("serving") == 2, "a second daemon")
            program.need("system calls")
            tasks = os.listdir(f"/proc/{proc.pid}/task")
            assert len(tasks) == 3  # workers, and the main thread that manages
            for task in tasks:
                state = status(f"{proc.pid}/task/{task}")
                assert (state["Seccomp"], state["NoNewPrivs"]) == ("2", "1")
                assert int(state["CapEff"], 16) == 0
        finally:
            proc.terminate()
            assert proc.wait(10) == 0


@pytest.mark.parametrize("start", STARTS)
def test_broker(start):
    args, before = STARTS[start]
    with Program(*args, before=before) as program:
        broker = program.broker()
        state = status(broker)
        assert state["NoNewPrivs"] == "1"
        wanted = OWN_CAPABILITIES if start == "root" else set()
        assert capabilities(broker, "CapPrm") == wanted
        assert state["Uid"] == status(program.proc.pid)["Uid"]
        program.need("system calls")
        assert state["Seccomp"] == "2"
        program.stop()


@needs_root
def test_user():
    with Program("--user", "nobody") as program:
        for pid in (program.proc.pid, program.broker()):
            state = status(pid)
            assert state["Uid"].split() == [str(NOBODY.pw_uid)] * 4
            assert state["Gid"].split() == [str(NOBODY.pw_gid)] * 4
            assert state["Groups"].split() == []
        assert os.stat(program.socket).st_uid == NOBODY.pw_uid
        program.stop()


@needs_root
def test_user_by_number_and_group():
    with Program("--user", "12345", "--group", "daemon") as program:
        state = status(program.proc.pid)
        assert state["Uid"].split() == ["12345"] * 4
        assert state["Gid"].split() == ["1"] * 4
        program.stop()


@needs_root
def test_user_that_cannot_be_had():
    text = failing("--user", "root", before=as_nobody())
    assert "cannot become user 0" in text and "or leave --user and --group out" in text


@needs_root
def test_own_user_is_no_change():
    with Program("--user", "nobody", before=as_nobody()) as program:
        assert program.proc.poll() is None, program.text()
        program.stop()


@needs_root
def test_strict():
    assert "--sandbox=strict: missing: unprivileged user" in failing("--sandbox", "strict")
    with Program("--sandbox", "strict", "--user", "nobody") as program:
        if program.proc.poll() is not None and "instrumented build" in program.text():
            pytest.skip("instrumented build")
        if program.proc.poll() is not None and "missing: Landlock (" in program.text():
            pytest.skip("a kernel without Landlock")
        assert "missing" not in program.line()
        program.stop()


def test_none():
    with Program("--sandbox=none") as program:
        assert "warning: --sandbox=none" in program.text()
        assert children(program.proc.pid) == []
        assert status(program.proc.pid)["Seccomp"] == status("self")["Seccomp"]
        program.stop()


@needs_root
def test_without_namespaces():
    """As in a container: no mount namespace, but chroot."""
    with Program("--allow-uid", "0",
                 before=("setpriv", "--bounding-set", "-sys_admin")) as program:
        program.need("empty root")
        assert os.listdir(f"/proc/{program.proc.pid}/root") == []
        program.stop()


@needs_root
def test_without_any_new_root():
    args = ("--allow-uid", "0")
    with Program(*args, before=as_nobody()) as program:
        program.need("system calls")
        assert "; missing: empty root (" in program.line()
        program.stop()
    assert "strict: missing: empty root" in failing("--sandbox=strict", *args, before=as_nobody())


@needs_root
def test_without_a_second_process():
    """Without a thread beside its first it cannot serve, and says so."""
    # The sanitizer looks for leaks with a process of its own, which there cannot be.
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    text = failing("--threads", "1", before=as_nobody("prlimit", "--nproc=0", "--"),
                   env={**os.environ, "ASAN_OPTIONS": options.lstrip(":")})
    assert "no broker, so no sandbox" in text
    assert re.search("cannot serve: [a-z ]+: Resource temporarily unavailable", text), text


def test_strays_are_closed():
    read_end, write_end = os.pipe()
    with Program(pass_fds=(write_end,)) as program:
        os.close(write_end)
        os.set_blocking(read_end, False)
        assert os.read(read_end, 1) == b""  # nobody has the other end
        program.stop()
    os.close(read_end)


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_socket_mode(mode):
    group = NOBODY.pw_gid if IS_ROOT else os.getegid()
    with Program("--socket-mode", "620", "--socket-group", str(group), "--sandbox", mode,
                 umask=0o77) as program:
        for path in (program.socket, program.uds):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o620
            assert os.stat(path).st_gid == group
        program.stop()


@needs_root
def test_socket_group_of_another_user():
    with Program("--user", "nobody", "--socket-mode", "660", "--socket-group",
                 "daemon") as program:
        assert os.stat(program.uds).st_gid == 1
        assert status(program.proc.pid)["Groups"].split() == []
        program.stop()


def test_umask_decides_otherwise():
    with Program(umask=0o27) as program:
        assert stat.S_IMODE(os.stat(program.uds).st_mode) == 0o750
        program.stop()


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(path)
    return client


@needs_root
@pytest.mark.parametrize("which", ["vmm", "vm"])
@pytest.mark.parametrize("mode", ["auto", "none"])
def test_allow_uid(which, mode):
    with Program("--allow-uid", f"7,{NOBODY.pw_uid}", "--sandbox", mode) as program:
        os.chmod(program.socket, 0o777)
        os.chmod(program.uds, 0o777)
        path = os.path.join(program.dir, which)
        with connect(path) as client:
            assert client.recv(1) == b""
        until(lambda: "is not in --allow-uid" in program.text(), "a line about the refusal")
        os.seteuid(NOBODY.pw_uid)
        try:
            client = connect(path)
        finally:
            os.seteuid(0)
        with client:
            if which == "vmm":
                until(lambda: "front-end connected" in program.text(), "the VMM to be served")
            else:
                assert client.recv(1) == b""  # no guest is there
        assert program.text().count("is not in --allow-uid") == 1
        program.stop()


def is_gone(pid):
    try:
        return status(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_broker_ends_with_the_daemon():
    with Program() as program:
        broker = program.broker()
        program.proc.kill()
        program.proc.wait()
        until(lambda: is_gone(broker), "the broker's end")


def test_signals_for_the_whole_group():
    """As a terminal's Ctrl-C: the sockets are removed all the same."""
    with Program(start_new_session=True) as program:
        os.killpg(program.proc.pid, signal.SIGINT)
        assert program.proc.wait(10) == 0
        assert not os.path.lexists(program.socket) and not os.path.lexists(program.uds)


def test_stopped_and_continued():
    """The kernel restarts some calls by one of its own."""
    with Program() as program:
        for _ in range(3):
            for pid in (program.proc.pid, program.broker()):
                os.kill(pid, signal.SIGSTOP)
                until(lambda: status(pid)["State"].startswith("T"), "it to stop")
                os.kill(pid, signal.SIGCONT)
                until(lambda: not status(pid)["State"].startswith("T"), "it to go on")
            with connect(program.uds) as client:
                assert client.recv(1) == b""  # no guest is there
        program.stop()


def test_dead_broker_harms_nobody_else():
    with Program() as program:
        os.kill(program.broker(), signal.SIGKILL)
        until(lambda: "the broker is gone" in program.text(), "a line about it")
        with connect(program.uds) as client:
            assert client.recv(1) == b""  # no guest is there
        assert program.proc.poll() is None
        program.proc.send_signal(signal.SIGTERM)
        assert program.proc.wait(10) == 0


def test_silent_broker_does_not_keep_the_daemon():
    with Program() as program:
        broker = program.broker()
        os.kill(broker, signal.SIGSTOP)
        program.proc.send_signal(signal.SIGTERM)
        try:
            assert program.proc.wait(30) == 0
        finally:
            os.kill(broker, signal.SIGKILL)


def test_stale_sockets_are_replaced():
    """What a killed daemon leaves behind is in nobody's way."""
    with Program() as program:
        program.proc.kill()
        program.proc.wait()
        assert os.path.lexists(program.uds) and program.uds not in listening_paths()
        second = subprocess.Popen(program.proc.args, cwd=program.dir, stderr=subprocess.DEVNULL)
        try:
            until(lambda: {"vm", program.uds} & listening_paths(), "a second daemon")
            with connect(program.uds):
                pass
        finally:
            second.terminate()
            assert second.wait(10) == 0
        assert not os.path.lexists(program.uds)
