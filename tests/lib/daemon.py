# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Start, watch and stop the daemon under test.

VDV_BIN names the program (default build/vhost-device-vsock of this tree).
VDV_STRICT=0 drops the checks of how it exits, for comparing other programs.
VDV_THREADS is the number of workers where a test does not choose one.
"""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

from hostsock import HostListener, dial, dial_seqpacket
from waiting import SCALE, watch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STRICT = os.environ.get("VDV_STRICT", "1") != "0"
THREADS = os.environ.get("VDV_THREADS")
COMPLAINTS = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:",
              "Assertion", "assertion", "stack smashing")
CRASHES = (66, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGSEGV, -signal.SIGSYS)
UNIX_LISTENING = 0x10000  # __SO_ACCEPTCON in /proc/net/unix


def binary():
    return os.environ.get("VDV_BIN") or os.path.join(ROOT, "build", "vhost-device-vsock")


def has_thread_sanitizer():
    with open(binary(), "rb") as file:
        return b"__tsan_init" in file.read()


def has_sanitizer():
    with open(binary(), "rb") as file:
        return re.search(rb"__[at]san_init", file.read()) is not None


def is_socket(path):
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def listening_paths():
    """Names of all listening Unix sockets; asking does not disturb them."""
    paths = set()
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        next(table)
        for line in table:
            fields = line.split()
            if len(fields) > 7 and int(fields[3], 16) & UNIX_LISTENING:
                paths.add(fields[7])
    return paths


class VmPaths:
    """The sockets of one VM."""

    def __init__(self, directory, cid):
        self.cid = cid
        self.socket = os.path.join(directory, f"vhost{cid}.sock")
        self.uds = os.path.join(directory, f"vm{cid}.vsock")
        self.seqpacket = self.uds + "_seqpacket"

    def port(self, number):
        return f"{self.uds}_{number}"


class Daemon:
    """A running daemon for guests of the given CIDs in a directory of its own.

    options: appended to every VM's --vm, such as {"tx-buffer-size": 65536}, or
    per CID {3: {...}}. args: further command-line arguments. fds: descriptors it inherits.
    """

    def __init__(self, cids=(3,), options=None, args=(), per_vm=None, directory=None, start=True,
                 fds=()):
        self.dir = directory or tempfile.mkdtemp(prefix="vdv-", dir="/tmp")
        self.own_dir = directory is None
        self.vms = {cid: VmPaths(self.dir, cid) for cid in cids}
        self.listeners = []
        self.proc = None
        self.fds = fds
        self.not_ours = set()  # sockets that somebody else makes
        self.stderr_path = os.path.join(self.dir, "stderr")
        self.argv = [binary(), *(args if STRICT else ())]  # the reference has no such options
        if THREADS and "--threads" not in args:
            self.argv += ["--threads", THREADS]
        for cid, vm in self.vms.items():
            keys = {"guest-cid": cid, "socket": vm.socket, "uds-path": vm.uds}
            keys.update(options or {})
            keys.update((per_vm or {}).get(cid, {}))
            if "fd" in keys:
                del keys["socket"]
            if "fd" in keys or keys.get("mode") == "client":
                self.not_ours.add(vm.socket)
            self.argv += ["--vm", ",".join(f"{key}={value}" for key, value in keys.items())]
        if start:
            self.start()

    # life

    def spawn(self):
        with open(self.stderr_path, "wb") as err:
            self.proc = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=err, cwd=self.dir,
                                         pass_fds=self.fds)
        watch(self)
        return self.proc

    def start(self, timeout=10.0):
        self.spawn()
        wanted = {vm.socket for vm in self.vms.values()} - self.not_ours
        if STRICT:  # the reference opens the host's sockets only later
            wanted |= {name for vm in self.vms.values() for name in (vm.uds, vm.seqpacket)}
        deadline = time.monotonic() + timeout * SCALE
        while not (wanted <= listening_paths() and all(map(is_socket, wanted))):
            assert self.proc.poll() is None, f"the daemon ended at start:\n{self.stderr()}"
            assert time.monotonic() < deadline, f"the daemon does not listen:\n{self.stderr()}"
            time.sleep(0.002)

    def stderr(self):
        with open(self.stderr_path, encoding="utf-8", errors="replace") as err:
            return err.read()

    def is_running(self):
        return self.proc.poll() is None

    def has_crashed(self):
        """Whether it ended as no test means it to; 66 is ThreadSanitizer's exit code."""
        return self.proc is not None and self.proc.poll() in CRASHES

    def assert_healthy(self):
        assert self.is_running(), f"the daemon died ({self.proc.returncode}):\n{self.stderr()}"

    def stop(self, sig=signal.SIGTERM, timeout=5.0):
        """Stop it; it must end by itself, successfully, and tidy up."""
        if self.proc is None:
            return
        self.assert_healthy()
        self.proc.send_signal(sig)
        try:
            code = self.proc.wait(timeout * SCALE)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            raise AssertionError(f"the daemon ignores signal {sig}:\n{self.stderr()}") from exc
        self.proc = None
        if not STRICT:
            return
        text = self.stderr()
        assert code == 0, f"exit code {code}:\n{text}"
        for word in COMPLAINTS:
            assert word not in text, text
        for vm in self.vms.values():
            left = vm.socket not in self.not_ours and os.path.lexists(vm.socket)
            assert not left, f"{vm.socket} was left behind"
            assert not os.path.lexists(vm.uds), f"{vm.uds} was left behind"
            assert not os.path.lexists(vm.seqpacket), f"{vm.seqpacket} was left behind"

    def kill(self):
        if self.proc is not None:
            self.proc.kill()
            self.proc.wait()
            self.proc = None

    def remove(self):
        """After stop() or kill(): drop the directory."""
        self.kill()
        for listener in self.listeners:
            listener.close()
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    # what it uses

    def fd_count(self):
        """Open descriptors; 1 where a confined daemon hides them from its own user."""
        try:
            return len(os.listdir(f"/proc/{self.proc.pid}/fd"))
        except PermissionError:
            assert os.geteuid() != 0
            return 1

    def cpu_seconds(self):
        with open(f"/proc/{self.proc.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mapping_count(self):
        """Always 0 with a sanitizer, which maps memory of its own."""
        if has_sanitizer():
            return 0
        with open(f"/proc/{self.proc.pid}/maps", encoding="utf-8", errors="replace") as file:
            return sum(1 for _ in file)

    def memory_kib(self):
        """Resident memory; always 0 with a sanitizer, which keeps what was freed for a while."""
        if has_sanitizer():
            return 0
        with open(f"/proc/{self.proc.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        raise AssertionError("no VmRSS")

    # the host's side

    def vm(self, cid=None):
        return self.vms[next(iter(self.vms)) if cid is None else cid]

    def listen(self, port, cid=None, backlog=128, kind=socket.SOCK_STREAM):
        """A host listener for the guest's connections to a port."""
        listener = HostListener(self.vm(cid).port(port), backlog, kind)
        self.listeners.append(listener)
        return listener

    def dial(self, cid=None):
        return dial(self.vm(cid).uds)

    def request(self, port, cid=None):
        """A client that has asked for a guest port; the answer is still to come."""
        client = self.dial(cid)
        try:
            client.send_all(b"CONNECT %d\n" % port)
        except BrokenPipeError:
            pass  # refused before it could ask; reading tells
        return client

    def connect(self, port, cid=None):
        """A client whose request for a guest port was answered; sets host_port."""
        client = self.request(port, cid)
        line = client.recv_line()
        assert line.startswith(b"OK "), line
        client.host_port = int(line[3:])
        return client

    # the same by records

    def listen_seqpacket(self, port, cid=None):
        return self.listen(port, cid, kind=socket.SOCK_SEQPACKET)

    def request_seqpacket(self, port, cid=None):
        client = dial_seqpacket(self.vm(cid).uds)
        client.send_record(b"CONNECT %d\n" % port)
        return client

    def connect_seqpacket(self, port, cid=None):
        client = self.request_seqpacket(port, cid)
        line = client.recv_record()
        assert line.startswith(b"OK ") and line.endswith(b"\n"), line
        client.host_port = int(line[3:])
        return client
