# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Streams through a real Linux guest under QEMU, for context: the guest is most of what they cost.

Each daemon has a guest of its own; measurements alternate between them. In the guest runs the
kernel's vsock_perf, built out of Debian's kernel source, or socat; on the host a plain AF_UNIX
program, which is this one.
"""
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "lib"))

import guest as guests  # noqa: E402
import qemu  # noqa: E402

# With this suite's Linux 6.1 the reference works; of Linux 6.12.95 it takes no payload.
SUITE = "bookworm"
# The first whose kernel has vsock_perf.
PERF_SUITE = "bookworm-backports"
CID = 3
BLOCK = 128 * 1024  # what iperf3 reads and writes at once
PERF_BYTES = 64 << 20
PERF_BLOCK = 64 * 1024
WARMUP_S = 0.5
LIMIT_S = 60
TICKS = os.sysconf("SC_CLK_TCK")


@functools.lru_cache(maxsize=None)
def vsock_perf():
    """The path of vsock_perf, built if it is not there."""
    out = subprocess.run([sys.executable, str(ROOT / "scripts" / "fetch-guest"), "--vsock-test",
                          PERF_SUITE], check=True, stdout=subprocess.PIPE, text=True).stdout
    folder = pathlib.Path(json.loads(out)["vsock_test"]).parent
    subprocess.run(["make", "-s", "-C", str(folder), "vsock_perf"], check=True,
                   stdout=sys.stderr)
    return folder / "vsock_perf"


class Pair:
    """A daemon and the guest behind it."""

    def __init__(self, program, options):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="vdv-bench-", dir="/tmp"))
        self.uds = self.dir / "vm"
        self.port = 5000
        vm = f"guest-cid={CID},socket={self.dir}/vhost,uds-path={self.uds}"
        self.daemon = subprocess.Popen([program, *options.split(), "--vm", vm],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       preexec_fn=guests.die_with_parent)
        self.guest = guests.Guest(qemu.pair(SUITE), self.dir, vhost_socket=self.dir / "vhost",
                                  cid=CID, smp=2)

    def boot(self):
        deadline = time.monotonic() + LIMIT_S
        while not (self.dir / "vhost").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.guest.boot()
        self.guest.agent.put_file(vsock_perf(), "/bin/vsock_perf")

    def close(self):
        self.guest.kill()
        self.daemon.terminate()
        self.daemon.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def next_port(self):
        self.port += 1
        return self.port

    def cpu_seconds(self):
        """What the daemon used so far."""
        fields = pathlib.Path(f"/proc/{self.daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def listen(self, port):
        listener = socket.socket(socket.AF_UNIX)
        listener.settimeout(LIMIT_S)
        listener.bind(f"{self.uds}_{port}")
        listener.listen(1)
        return listener

    def connect(self, port):
        """Connect to the guest as soon as somebody listens there."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(2)
            sock.connect(str(self.uds))
            sock.sendall(b"CONNECT %d\n" % port)
            try:
                answer = sock.recv(64)
            except (TimeoutError, ConnectionError):
                answer = b""
            if answer.startswith(b"OK"):
                sock.settimeout(LIMIT_S)
                return sock
            sock.close()
            time.sleep(0.05)
        raise TimeoutError(f"nobody listens at port {port} of the guest")


def receive(sock, seconds):
    """Read for so long, or to the end with None; return (bytes, how long it took)."""
    buffer = bytearray(BLOCK)
    total = 0
    start = time.monotonic()
    while seconds is None or time.monotonic() < start + seconds:
        count = sock.recv_into(buffer)
        if not count:
            break
        total += count
    return total, time.monotonic() - start


def send(sock, seconds, total=None):
    """Write for so long, or so many bytes; return (bytes, how long it took)."""
    buffer = bytes(BLOCK)
    done = 0
    start = time.monotonic()
    while done < total if total else time.monotonic() < start + seconds:
        done += sock.send(buffer)
    return done, time.monotonic() - start


def perf_rate(process, which):
    """Wait for vsock_perf; return the Gb/s it tells."""
    told = process.wait(LIMIT_S)
    match = re.search(rf"{which} performance: ([0-9.]+) Gbits/s".encode(), told.out)
    if told.code or not match:
        raise RuntimeError(f"vsock_perf: {told}")
    return float(match.group(1))


def perf_g2h(pair, _seconds):
    """vsock_perf sends; the bytes and its figure."""
    port = pair.next_port()
    with pair.listen(port) as listener:
        process = pair.guest.popen(["vsock_perf", "--sender", "2", "--port", str(port), "--bytes",
                                    str(PERF_BYTES), "--buf-size", str(PERF_BLOCK)])
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(LIMIT_S)
            total, _ = receive(sock, None)
    if total != PERF_BYTES:
        raise RuntimeError(f"{total} of {PERF_BYTES} bytes arrived")
    return total, perf_rate(process, "tx")


def perf_h2g(pair, _seconds):
    """vsock_perf receives; the bytes and its figure."""
    port = pair.next_port()
    process = pair.guest.popen(["vsock_perf", "--port", str(port), "--buf-size", str(PERF_BLOCK)])
    with pair.connect(port) as sock:
        total, _ = send(sock, None, PERF_BYTES)
        sock.shutdown(socket.SHUT_WR)
        return total, perf_rate(process, "rx")


def stream_g2h(pair, seconds):
    """A program of the guest sends without end; the bytes and Gb/s that arrive."""
    port = pair.next_port()
    with pair.listen(port) as listener:
        process = pair.guest.popen(["socat", "-u", "-b", str(BLOCK), "OPEN:/dev/zero",
                                    f"VSOCK-CONNECT:2:{port}"])
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(LIMIT_S)
            warm, _ = receive(sock, WARMUP_S)
            total, took = receive(sock, seconds)
    process.kill(signal.SIGKILL)
    return warm + total, total * 8 / took / 1e9


def stream_h2g(pair, seconds):
    """A program of the guest receives without end; the bytes and Gb/s that it takes."""
    port = pair.next_port()
    process = pair.guest.popen(["socat", "-u", "-b", str(BLOCK), f"VSOCK-LISTEN:{port}",
                                "OPEN:/dev/null"])
    with pair.connect(port) as sock:
        warm, _ = send(sock, WARMUP_S)
        total, took = send(sock, seconds)
    process.kill(signal.SIGKILL)
    return warm + total, total * 8 / took / 1e9


KINDS = {"perf_g2h": perf_g2h, "perf_h2g": perf_h2g,
         "stream_g2h": stream_g2h, "stream_h2g": stream_h2g}


def measure(pair, kind, seconds):
    """Measure one kind of stream; return a result line."""
    cpu = pair.cpu_seconds()
    total, rate = KINDS[kind](pair, seconds)
    cpu = pair.cpu_seconds() - cpu
    return {"gbit_per_s": rate, "cpu_s_per_gib": cpu / (total / (1 << 30))}
