# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl capture: the file it writes, read by tshark's vsock dissector; how it ends."""

import json
import os
import shutil
import signal
import struct
import subprocess

import pytest

import ctl
import gsocket
from capture import HEADERS, Capture
from control import path_of
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN
from waiting import until

NANO_MAGIC = 0xA1B23C4D
LINKTYPE_VSOCK = 271
FIELDS = ("src_cid", "dst_cid", "src_port", "dst_port", "op", "trans", "trans_len", "payload",
          "virtio.src_cid", "virtio.dst_cid", "virtio.src_prot", "virtio.dst_prot", "virtio.len",
          "virtio.type", "virtio.op", "virtio.flags", "virtio.buf_alloc", "virtio.fwd_cnt")


class Running:
    """A vsockctl capture that has begun."""

    def __init__(self, daemon, target, *args, stdout=subprocess.PIPE):
        command = [ctl.binary(), "--control", path_of(daemon), "capture", "3", "-w", target, *args]
        # pylint: disable=consider-using-with
        self.proc = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)

    def wait(self):
        until(lambda: self.proc.poll() is not None, "the end of vsockctl", 30)
        out, err = self.proc.communicate()
        return self.proc.returncode, out, err

    def finish(self, number=signal.SIGINT):
        self.proc.send_signal(number)
        return self.wait()

    def kill(self):
        self.proc.kill()
        self.proc.communicate()


@pytest.fixture
def start(request):
    started = []

    def begin(daemon, target, *args, **kw):
        started.append(Running(daemon, target, *args, **kw))
        proc = started[-1].proc
        until(lambda: proc.poll() is not None
              or (os.path.exists(target) and os.path.getsize(target) >= 24), "the header", 30)
        return started[-1]
    yield begin
    for running in started:
        running.kill()


@pytest.fixture
def scene(start_controlled, start_vm):
    daemon, control = start_controlled()
    return daemon, start_vm(daemon).guest, control


def exchange(daemon, guest, local=4000, port=80, up=b"from the guest", down=b"from the host"):
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, local, port)
    host = door.accept()
    door.close()
    sock.send_all(up)
    assert host.recv_exact(len(up)) == up
    host.send_all(down)
    assert sock.recv_exact(len(down)) == down
    sock.close()
    assert host.recv_eof() == b""
    until(lambda: sock.state == gsocket.CLOSED, "the end")
    guest.sync()


def read_pcap(path):
    """[(ns, length, bytes)]"""
    with open(path, "rb") as file:
        data = file.read()
    magic, _, _, _, _, _, linktype = struct.unpack_from("<IHHiIII", data)
    assert (magic, linktype) == (NANO_MAGIC, LINKTYPE_VSOCK)
    at, found = 24, []
    while at < len(data):
        seconds, nanos, kept, length = struct.unpack_from("<IIII", data, at)
        found.append((seconds * 10**9 + nanos, length, data[at + 16:at + 16 + kept]))
        at += 16 + kept
    return found


def dissect(path, *args):
    """What tshark finds: a dict for each packet."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    command = ["tshark", "-r", str(path), "-T", "fields", *args]
    for field in FIELDS:
        command += ["-e", f"vsock.{field}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [dict(zip(FIELDS, line.split("\t"))) for line in done.stdout.splitlines()]


def number(text):
    return int(text, 0)


def test_tshark_understands_it(scene, start, tmp_path):
    daemon, guest, _ = scene
    path = tmp_path / "out.pcap"
    running = start(daemon, str(path))
    up = b"u" * 3000
    exchange(daemon, guest, up=up)
    status, _, err = running.finish()
    assert (status, "0 lost" in err) == (0, True), err
    packets = [packet for packet in dissect(path)
               if {packet["src_port"], packet["dst_port"]} == {"4000", "80"}]
    ops = [number(packet["virtio.op"]) for packet in packets]
    assert ops[:2] == [OP_REQUEST, OP_RESPONSE] and {OP_SHUTDOWN, OP_RST} <= set(ops)
    for packet in packets:
        assert packet["trans"] == "2" and packet["trans_len"] == "44"
        for name in ("src_cid", "dst_cid"):
            assert packet[name] == packet[f"virtio.{name}"]
        assert packet["src_port"] == packet["virtio.src_prot"]
        assert packet["virtio.type"] == "1"
        expected = {OP_REQUEST: 1, OP_RESPONSE: 1, OP_RST: 2, OP_SHUTDOWN: 2, OP_RW: 4}
        assert number(packet["op"]) == expected.get(number(packet["virtio.op"]), 3)
    first, second = packets[:2]
    assert (first["src_cid"], first["dst_cid"], first["src_port"]) == ("3", "2", "4000")
    assert (second["src_cid"], second["dst_cid"], second["src_port"]) == ("2", "3", "80")
    assert first["virtio.buf_alloc"] == second["virtio.buf_alloc"] == "262144"
    data = {source: b"".join(bytes.fromhex(packet["payload"].replace(":", ""))
                             for packet in packets
                             if number(packet["op"]) == 4 and packet["src_port"] == source)
            for source in ("4000", "80")}
    assert data == {"4000": up, "80": b"from the host"}
    shutdown = [packet for packet in packets if number(packet["virtio.op"]) == OP_SHUTDOWN]
    assert number(shutdown[-1]["virtio.flags"]) & 3
    assert dissect(path, "-Y", "vsock.dst_port == 80 && vsock.virtio.op == 1") == [first]


def test_as_the_stream_is(scene, start, tmp_path):
    """Times, lengths and bytes of the file are those of the stream."""
    daemon, guest, _ = scene
    path = tmp_path / "out.pcap"
    other = Capture(daemon, 3, ports=[80], snaplen=100)
    running = start(daemon, str(path), "--port", "80", "--port", "90", "--snaplen", "100")
    exchange(daemon, guest, up=b"x" * 500)
    exchange(daemon, guest, local=4001, port=85)
    assert running.finish(signal.SIGTERM)[0] == 0
    other.finish()
    found = read_pcap(path)
    assert [length for _, length, _ in found] == [record.length for record in other.records]
    assert all(len(kept) == min(100, length) for _, length, kept in found)
    assert max(length for _, length, _ in found) == HEADERS + 500
    for (when, _, kept), record in zip(found, other.records):
        assert abs(when - record.time_ns) < 10**9  # two captures, two looks at the clock
        assert kept[32:76] == record.pkt.pack()[:44]
    other.close()


def test_count(scene, start, tmp_path):
    daemon, guest, _ = scene
    path = tmp_path / "out.pcap"
    running = start(daemon, str(path), "-c", "3", "--json")
    exchange(daemon, guest)
    status, out, err = running.wait()
    assert (status, json.loads(out), err) == (0, {"packets": 3, "lost": 0}, "")
    assert len(read_pcap(path)) == 3


def test_into_a_pipe(scene):
    """A reader has the packets while the capture goes on."""
    daemon, guest, _ = scene
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    command = (f"{ctl.binary()} --control {path_of(daemon)} capture 3 -w - | "
               "tshark -l -i - -T fields -e vsock.dst_port")
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          start_new_session=True) as child:
        os.set_blocking(child.stdout.fileno(), False)
        seen = b""
        local = 4000

        def came():
            nonlocal seen, local
            local += 1
            exchange(daemon, guest, local=local)
            seen += child.stdout.read() or b""
            return b"80\n" in seen
        until(came, "packets in tshark", 60)
        os.killpg(child.pid, signal.SIGKILL)


def test_reader_of_the_pipe_goes(scene, start_vm):
    daemon, guest, control = scene
    running = Running(daemon, "-")
    running.proc.stdout.buffer.read(24)
    running.proc.stdout.close()
    until(lambda: running.proc.poll() is not None, "the end of vsockctl", 30)
    assert running.proc.returncode == 1
    running.proc.stderr.close()
    exchange(daemon, guest)
    assert control.counters(3)["opened_by_guest"] == 1


def test_removed_vm(scene, start, tmp_path):
    daemon, guest, control = scene
    path = tmp_path / "out.pcap"
    running = start(daemon, str(path))
    exchange(daemon, guest)
    control.call("remove", cid=3)
    status, _, err = running.wait()
    assert status == 0 and "the VM has ended" in err
    assert len(read_pcap(path)) >= 6


def test_killed_daemon(scene, start, tmp_path):
    """The file is whole as far as it goes."""
    daemon, guest, _ = scene
    path = tmp_path / "out.pcap"
    running = start(daemon, str(path))
    exchange(daemon, guest)
    until(lambda: path.stat().st_size > 500, "packets in the file")
    daemon.kill()
    status, _, err = running.wait()
    assert status == 1 and "broke the capture off" in err
    assert len(read_pcap(path)) >= 5


@pytest.mark.parametrize("args, status, words", [
    ((), 2, "expected -w FILE"),
    (("-w", "/nonexistent/file"), 1, "cannot write"),
    (("-w", "x.pcap", "--snaplen", "5"), 1, "snaplen"),
    (("-w", "x.pcap", "--snaplen", "300000"), 2, "--snaplen"),
    (("-w", "x.pcap", "--port", "x"), 2, "--port"),
    (("-w", "x.pcap", *["--port", "1"] * 17), 2, "at most 16"),
])
def test_mistakes(scene, tmp_path, args, status, words):
    daemon, _, _ = scene
    done = subprocess.run([ctl.binary(), "--control", path_of(daemon), "capture", "3", *args],
                          capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == status and words in done.stderr, done.stderr
    assert not (tmp_path / "x.pcap").exists()


def test_unknown_vm(scene, tmp_path):
    daemon, _, _ = scene
    done = subprocess.run([ctl.binary(), "--control", path_of(daemon), "capture", "9", "-w", "x"],
                          capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 1 and "no VM has CID 9" in done.stderr
