# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Linux's own vsock_test and vsock_perf between a guest and the host, in both roles.

On the host they run under `vsockctl run`, as any program with AF_VSOCK sockets may: their sockets
are Unix sockets there, and UNLIKE has the cases that ask for more than those can do. The control
connection runs over QEMU's user network; only the connections under test go through the device.
VDV_ALL_CASES=1 runs those of UNLIKE too.
"""

import os
import re
import socket
import subprocess

import ctl
import pytest
import vsocktest
import world as worlds
from hostside import wait_for
from vsocktest import CASE_SECONDS, CASES

GUEST_CONTROL_PORT = 1234
GUEST_ADDRESS, HOST_ADDRESS = "10.0.2.15", "10.0.2.2"
HOST_CID = "2"
PERF_BYTES, PERF_SIZE = "16M", 16 << 20

# vsock_perf leaves after one read when it sees that its peer has gone: that read has to take all
# that a socket can hold.
PERF_READS = ["--buf-size", "1M"]

NO_RECORD_ENDS = "Unix sockets have no MSG_EOR; newer versions also set the daemon's buffer sizes"
FAULT = "a Unix socket answers EFAULT, and versions before 6.12 may only know ENOMEM"
NO_ZEROCOPY = "Unix sockets have no MSG_ZEROCOPY"
SIZES = "the sizes of the host's buffers are the daemon's (tx-buffer-size)"
LOWAT = "a Unix socket polls as readable below its SO_RCVLOWAT"
UNTOLD = "a Unix socket tells only a writer that its reader left; newer versions write again"

HOST, GUEST = "host serves", "guest serves"

# Cases that are not run, by their name and who serves, and why.
UNLIKE = {
    ("SOCK_STREAM poll() + SO_RCVLOWAT", GUEST): LOWAT,
    ("SOCK_STREAM MSG_ZEROCOPY", GUEST): NO_ZEROCOPY,
    ("SOCK_STREAM MSG_ZEROCOPY empty MSG_ERRQUEUE", GUEST): NO_ZEROCOPY,
    ("SOCK_STREAM MSG_ZEROCOPY leak MSG_ERRQUEUE", GUEST): NO_ZEROCOPY,
    ("SOCK_STREAM MSG_ZEROCOPY leak completion skb", GUEST): NO_ZEROCOPY,
    ("SOCK_STREAM virtio MSG_ZEROCOPY coalescence corruption", GUEST): NO_ZEROCOPY,
    ("SOCK_SEQPACKET MSG_ZEROCOPY", GUEST): NO_ZEROCOPY,
    ("SOCK_SEQPACKET msg bounds", HOST): NO_RECORD_ENDS,
    ("SOCK_SEQPACKET msg bounds", GUEST): NO_RECORD_ENDS,
    ("SOCK_STREAM accept()ed socket custom setsockopt()", HOST): NO_ZEROCOPY,
    ("SOCK_STREAM virtio credit update + SO_RCVLOWAT", HOST): SIZES,
    ("SOCK_STREAM virtio credit update + low rx_bytes", HOST): SIZES,
    ("SOCK_STREAM TX credit bounds", HOST): SIZES,
    ("SOCK_STREAM TX credit bounds", GUEST): SIZES,
}


def why_not(case, role, version):
    """Why a case cannot be run in this role with a kernel's vsock_test; None if it can."""
    if (case, role) == ("SOCK_SEQPACKET invalid receive buffer", HOST) and version < (6, 12):
        return FAULT
    if (case, role) == ("SOCK_STREAM SHUT_RD", HOST) and version < (7, 0):
        return UNTOLD
    return UNLIKE.get((case, role))


def free_port():
    """A TCP port of the host that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Outward(worlds.World):
    """A world whose guest has a way to the host for the control connection."""

    def __init__(self, pair):
        super().__init__(pair, groups={worlds.FIRST: "default"})
        self.control_port = free_port()

    def network(self, cid):
        forward = f"hostfwd=tcp:127.0.0.1:{self.control_port}-:{GUEST_CONTROL_PORT}"
        return ["-netdev", f"user,id=net,ipv6=off,{forward}",
                "-device", "virtio-net-pci,netdev=net,romfile="]


@pytest.fixture(scope="module")
def outward(request, pair):
    """A daemon and the programs of this pair's kernel."""
    made = Outward(pair)
    yield made, vsocktest.programs(pair.suite)
    made.close(keep=bool(getattr(request.session, "e2e_failed", False)))


@pytest.fixture
def connected(outward):
    """The world, its programs, and its guest with both of them and an address."""
    world, programs = outward
    guest = world.ensure(worlds.FIRST)[0]
    if not guest.call("exists", path="/bin/vsock_test").result():
        guest.load("virtio_net")
        guest.run(f"ip addr add {GUEST_ADDRESS}/24 dev eth0 && ip link set eth0 up")
        vsocktest.put(guest, programs.test, "vsock_test")
        if programs.perf:
            vsocktest.put(guest, programs.perf, "vsock_perf")
    return world, programs, guest


class HostProgram:
    """A program with AF_VSOCK sockets on the host; run as one of a guest is."""

    def __init__(self, world, *argv):
        command = [ctl.binary(), "run", "--uds", f"{worlds.FIRST}={world.vm().uds}", "--", *argv]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait(self, seconds):
        """Return (exit status, output)."""
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, _ = self.process.communicate()
        return self.process.returncode, out

    def kill(self):
        """End it if it runs still."""
        self.process.kill()
        self.process.communicate()


def is_listening(port):
    """Whether a program of the host listens at a TCP port."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(f"0100007F:{port:04X} 00000000:0000 0A" in line for line in table)


def host_serves(world, programs, guest, case):
    """Run a case with the server on the host; return ((status, output) of server, of client)."""
    port = free_port()
    options = [f"--control-port={port}", *programs.only(case)]
    server = HostProgram(world, programs.test, "--mode=server", f"--peer-cid={worlds.FIRST}",
                         "--control-host=127.0.0.1", *options)
    try:
        wait_for(lambda: is_listening(port) or server.process.poll() is not None, "vsock_test")
        client = guest.popen(["vsock_test", "--mode=client", f"--peer-cid={HOST_CID}",
                              f"--control-host={HOST_ADDRESS}", *options])
        return server.wait(CASE_SECONDS), ended(client)
    finally:
        server.kill()


def guest_serves(world, programs, guest, case):
    """Run a case with the server in the guest."""
    options = programs.only(case)
    server = guest.popen(["vsock_test", "--mode=server", f"--peer-cid={HOST_CID}",
                          f"--control-host={GUEST_ADDRESS}",
                          f"--control-port={GUEST_CONTROL_PORT}", *options])
    wait_for(lambda: guest.call("is_tcp_listening", port=GUEST_CONTROL_PORT).result(), "vsock_test")
    client = HostProgram(world, programs.test, "--mode=client", f"--peer-cid={worlds.FIRST}",
                         "--control-host=127.0.0.1", f"--control-port={world.control_port}",
                         *options)
    called = client.wait(CASE_SECONDS)
    return ended(server), called


def ended(process, seconds=CASE_SECONDS):
    """Return (exit status, output) of a program in the guest."""
    try:
        result = process.wait(seconds)
    except TimeoutError:
        process.kill()
        result = process.wait()
    return result.code, result.out + result.err


ROLES = {HOST: host_serves, GUEST: guest_serves}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", CASES)
def test_case(connected, case, role):
    """One case of vsock_test."""
    world, programs, guest = connected
    if case not in programs.numbers:
        pytest.skip("not in this kernel's vsock_test")
    reason = why_not(case, role, world.pair.kernel_version)
    if reason and "VDV_ALL_CASES" not in os.environ:
        pytest.skip(reason)
    served, called = ROLES[role](world, programs, guest, case)
    assert (served[0], called[0]) == (0, 0), f"server: {served}\nclient: {called}"
    assert b"...ok" in served[1], served


def receives(out):
    """How many bytes vsock_perf says it received."""
    return int(re.search(rb"total bytes received: (\d+)", out).group(1))


@pytest.mark.parametrize("zerocopy", [[], ["--zerocopy"]], ids=["copied", "MSG_ZEROCOPY"])
def test_perf_from_guest(connected, zerocopy):
    """The kernel's benchmark, its receiver on the host."""
    world, programs, guest = connected
    if not programs.perf or (zerocopy and world.pair.kernel_version < (6, 7)):
        pytest.skip("not in this kernel")
    port = str(world.port())
    receiver = HostProgram(world, programs.perf, "--port", port, *PERF_READS)
    try:
        wait_for(lambda: os.path.exists(world.vm().port(port)), "vsock_perf")
        sender = guest.popen(["vsock_perf", "--sender", HOST_CID, "--port", port,
                              "--bytes", PERF_BYTES, *zerocopy])
        code, out = ended(sender)
        assert code == 0, out
        code, out = receiver.wait(CASE_SECONDS)
    finally:
        receiver.kill()
    assert (code, receives(out)) == (0, PERF_SIZE), out


def test_perf_to_guest(connected):
    """The same, its receiver in the guest."""
    world, programs, guest = connected
    if not programs.perf:
        pytest.skip("not in this kernel")
    port = world.port()
    receiver = guest.popen(["vsock_perf", "--port", str(port), *PERF_READS])
    wait_for(lambda: guest.call("is_listening", port=port).result(), "vsock_perf")
    sender = HostProgram(world, programs.perf, "--sender", str(worlds.FIRST), "--port", str(port),
                         "--bytes", PERF_BYTES)
    code, out = sender.wait(CASE_SECONDS)
    assert code == 0, out
    code, out = ended(receiver)
    assert (code, receives(out)) == (0, PERF_SIZE), out
