# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Runs inside a real guest with vsock_loopback: the daemon in forward mode and an emulated guest.

The real guest plays the host here, for most machines that run the tests have no AF_VSOCK of their
own. Every check is a function; a line of JSON per check says how it went.

usage: forward.py PROGRAM
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

import waiting
from daemon import VmPaths, listening_paths
from driver import HOST_CID
from gseqpacket import SeqListener, connect as connect_messages
from gsocket import Listener, Reset, connect
from hostsock import HostSocket, stream
from vhost_user import F_SEQPACKET
from vm import Vm
from waiting import until

GUEST_CID = 4
LOCAL_CID = 1
ANY_CID = 0xFFFFFFFF
NITRO_CID = 3
LISTEN_PORTS = (9001, 9002)
MESSAGE_PORT = 9004
SIZE = 300_000


class HostPort:
    """An AF_VSOCK listener of a program on the host."""

    def __init__(self, port, kind=socket.SOCK_STREAM):
        self.sock = socket.socket(socket.AF_VSOCK, kind)
        self.sock.bind((ANY_CID, port))
        self.sock.listen(16)
        self.sock.setblocking(False)
        self.peer = None

    def accept_now(self):
        """Return a connection, or None while there is none."""
        try:
            sock, self.peer = self.sock.accept()
        except BlockingIOError:
            return None
        return HostSocket(sock)

    def accept(self):
        """Return a connection."""
        return until(self.accept_now, "a connection on the host", readers=[self.sock])


def dial(port, kind=socket.SOCK_STREAM):
    """Connect as a program on the host does."""
    sock = socket.socket(socket.AF_VSOCK, kind)
    sock.connect((LOCAL_CID, port))
    return HostSocket(sock)


def talk_both_ways(inside, outside):
    """Send different data both ways at once, then end both streams."""
    there, back = os.urandom(SIZE), os.urandom(SIZE)
    assert stream([(inside, there, outside), (outside, back, inside)]) == [there, back]
    outside.shutdown()
    assert inside.recv_eof() == b""
    inside.send_all(b"after the host's end")
    assert outside.recv_exact(20) == b"after the host's end"
    inside.close()
    assert outside.recv_eof() == b""
    outside.close()


def check_guest_to_host(vm):
    """A connection to the host's CID becomes one to the forward CID."""
    server = HostPort(9000)
    inside = connect(vm.guest, 2000, 9000, HOST_CID)
    outside = server.accept()
    assert server.peer[0] == LOCAL_CID
    talk_both_ways(inside, outside)


def check_guest_to_any_cid(vm):
    """Any other CID is forwarded too, and answers come from it."""
    server = HostPort(9010)
    for cid in (NITRO_CID, 77):
        inside = connect(vm.guest, 2001, 9010, cid)
        talk_both_ways(inside, server.accept())


def check_host_to_guest(vm):
    """A connection to a listed port arrives in the guest."""
    for port in LISTEN_PORTS:
        server = Listener(vm.guest, port)
        outside = dial(port)
        talk_both_ways(server.accept(), outside)


def receive_message(outside):
    """Return a message on the host and its flags; kernels before 6.6 cannot peek at one."""
    found = []

    def step():
        try:
            found.append(outside.sock.recvmsg(1 << 20))
        except BlockingIOError:
            return False
        return True
    until(step, "a message on the host", readers=[outside.sock])
    data, _control, flags, _address = found[0]
    return data, flags


def talk_by_messages(inside, outside):
    """Messages of many sizes both ways; the marks of records stay."""
    sizes = (1, 44, 4000, 65536, 65537, 200_000)
    for number, size in enumerate(sizes):
        data = os.urandom(size)
        outside.send_record(data)
        assert inside.recv_message() == data
        inside.send_message(data, eor=number % 2 == 1)
        got, flags = receive_message(outside)
        assert got == data
        assert bool(flags & socket.MSG_EOR) == (number % 2 == 1)
        outside.sock.sendmsg([b"record"], [], socket.MSG_EOR if number % 2 else 0)
        assert inside.recv_message_eor() == (b"record", number % 2 == 1)
    for number in range(200):
        inside.send_message(b"%d" % number)
        outside.send_record(b"%d" % number)
    for number in range(200):
        assert outside.recv_record() == b"%d" % number
        assert inside.recv_message() == b"%d" % number
    outside.shutdown()
    assert inside.recv_message() == b""
    inside.send_message(b"after the host's end")
    assert outside.recv_record() == b"after the host's end"
    inside.close()
    assert outside.recv_record() == b""
    outside.close()


def check_messages_to_host(vm):
    """SOCK_SEQPACKET, asked for by the guest."""
    server = HostPort(9030, socket.SOCK_SEQPACKET)
    inside = connect_messages(vm.guest, 2040, 9030)
    talk_by_messages(inside, server.accept())


def check_messages_to_guest(vm):
    """SOCK_SEQPACKET, asked for by the host."""
    server = SeqListener(vm.guest, MESSAGE_PORT)
    outside = dial(MESSAGE_PORT, socket.SOCK_SEQPACKET)
    talk_by_messages(server.accept(), outside)


def check_wrong_type(vm):
    """A listener of the other type refuses."""
    server = HostPort(9031)
    try:
        connect_messages(vm.guest, 2041, 9031)
    except Reset:
        server.sock.close()
        return
    raise AssertionError("connected to a listener for streams")


def check_guest_refused(vm):
    """A port nobody listens at on the host is refused."""
    try:
        connect(vm.guest, 2002, 9099)
    except Reset:
        return
    raise AssertionError("connected to nobody")


def check_host_refused(vm):
    """A listed port nobody listens at in the guest: the host's connection ends."""
    vm.guest.listeners.clear()
    outside = dial(LISTEN_PORTS[0])
    assert outside.drain() == b""
    outside.close()


def check_port_not_listed(_vm):
    """Other ports are not taken."""
    try:
        dial(9003)
    except ConnectionResetError:
        return
    raise AssertionError("port 9003 is served")


def check_many(vm):
    """Several connections at once in both directions keep their bytes apart."""
    server = Listener(vm.guest, LISTEN_PORTS[0])
    host = HostPort(9020)
    work = []
    for number in range(20):
        outside = dial(LISTEN_PORTS[0])
        work.append((server.accept(), os.urandom(1000 * number), outside))
        inside = connect(vm.guest, 3000 + number, 9020)
        work.append((host.accept(), os.urandom(1500 * number), inside))
    assert stream(work) == [data for _, data, _ in work]


def run_checks(vm):
    """Run every check; print how each went."""
    for name, check in list(globals().items()):
        if not name.startswith("check_"):
            continue
        result = "ok"
        try:
            check(vm)
        except Exception:  # pylint: disable=broad-except
            result = traceback.format_exc()
        print(json.dumps({"check": name[len("check_"):], "result": result}), flush=True)


def main():
    """Start the daemon and the emulated guest."""
    directory = tempfile.mkdtemp(dir="/tmp")
    paths = VmPaths(directory, GUEST_CID)
    ports = "+".join([*map(str, LISTEN_PORTS), f"{MESSAGE_PORT}/seqpacket"])
    daemon = subprocess.Popen([
        sys.argv[1], "--vm", f"guest-cid={GUEST_CID},socket={paths.socket},"
        f"forward-cid={LOCAL_CID},forward-listen={ports}"])
    until(lambda: paths.socket in listening_paths() or daemon.poll() is not None, "the daemon")
    vm = Vm(paths, socket_types=F_SEQPACKET)
    run_checks(vm)
    vm.close()
    waiting.unregister_all()
    daemon.send_signal(signal.SIGTERM)
    print(json.dumps({"check": "exit", "result": daemon.wait(20)}), flush=True)


main()
