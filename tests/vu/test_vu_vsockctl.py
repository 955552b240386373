# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl and the programs that it runs, with the real daemon and guests.

What they do at the edges is in tests/cli/test_vsockctl*.py.
"""

import hashlib
import os
import socket
import subprocess
import sys
import time

import pytest

import control
import ctl
import gseqpacket
import gsocket
from gseqpacket import SeqListener
from hostsock import HostSocket, stream
from vhost_user import F_SEQPACKET, F_STREAM
from vsockpkt import SHUT_SEND
from waiting import SCALE, listens, until

BULK = 8 << 20
TIMEOUT = 30
WINDOW = 256 * 1024


class Child:
    """A program whose standard input and output are a Unix socket here."""

    def __init__(self, *argv):
        ours, theirs = socket.socketpair()
        self.proc = subprocess.Popen([str(arg) for arg in argv], stdin=theirs, stdout=theirs,
                                     stderr=subprocess.PIPE)
        theirs.close()
        self.io = HostSocket(ours)

    def wait(self):
        until(lambda: self.proc.poll() is not None, "the end of the program", TIMEOUT)
        return self.proc.returncode, self.proc.stderr.read().decode()

    def close(self):
        self.proc.kill()
        self.proc.wait()
        self.proc.stderr.close()
        self.io.close()


@pytest.fixture
def spawn():
    children = []

    def start(*argv):
        children.append(Child(*argv))
        return children[-1]
    yield start
    for child in children:
        child.close()


def tool(daemon, command, *args, cid=3):
    """A command line of vsockctl about a VM of the daemon."""
    return [ctl.binary(), command, "--uds", daemon.vm(cid).uds, *args]


def under_run(daemon, *argv):
    """A command line under vsockctl run that knows all VMs of the daemon."""
    uds = [f"--uds={cid}={vm.uds}" for cid, vm in daemon.vms.items()]
    return [ctl.binary(), "run", *uds, "--", *argv]


def digest(data):
    return hashlib.sha256(data).hexdigest()


# vsockctl connect, listen, forward

def test_connect_bulk_both_ways(daemon, guest, spawn, pattern):
    listener = gsocket.Listener(guest, 22)
    child = spawn(*tool(daemon, "connect", 22))
    sock = listener.accept(TIMEOUT)
    there, back = pattern(BULK, 1), pattern(BULK, 2)
    got = stream([(child.io, there, sock), (sock, back, child.io)], 60)
    assert [digest(g) for g in got] == [digest(there), digest(back)]
    child.io.shutdown()
    assert sock.recv_eof() == b""
    sock.send_all(b"the last word")
    sock.close()
    assert child.io.recv_eof() == b"the last word"
    assert child.wait() == (0, "")


def test_connect_ends_with_the_guest(daemon, guest, spawn):
    listener = gsocket.Listener(guest, 22)
    child = spawn(*tool(daemon, "connect", 22))
    sock = listener.accept(TIMEOUT)
    sock.send_all(b"bye")
    sock.close()
    assert child.io.recv_eof() == b"bye"
    assert child.wait() == (0, "")


def test_connect_refused_and_no_guest(daemon, start_vm, spawn):
    child = spawn(*tool(daemon, "connect", 22))
    code, said = child.wait()
    assert code == 1 and "does not run" in said
    start_vm(daemon)
    child = spawn(*tool(daemon, "connect", 22))
    code, said = child.wait()
    assert code == 1 and "refuses port 22" in said


def test_listen_command(daemon, guest, spawn):
    child = spawn(*tool(daemon, "listen", 80, "--", "sh", "-c", "read line; echo \"got $line\""))
    until(lambda: listens(daemon.vm().port(80)), "the listener")
    for i in range(5):
        sock = gsocket.connect(guest, 4000 + i, 80)
        sock.send_all(b"number %d\n" % i)
        assert sock.recv_eof() == b"got number %d\n" % i
    child.proc.terminate()
    assert child.wait() == (0, "")
    assert not os.path.exists(daemon.vm().port(80))


def test_forward_both_ways(daemon, guest, spawn, pattern):
    listener = gsocket.Listener(guest, 80)
    child = spawn(*tool(daemon, "forward", "127.0.0.1:0", "guest:80"))
    os.set_blocking(child.proc.stderr.fileno(), False)
    line = until(child.proc.stderr.readline, "the port")
    with socket.create_connection(("127.0.0.1", int(line.split()[1].split(b":")[1]))) as tcp:
        client = HostSocket(tcp)
        sock = listener.accept(TIMEOUT)
        data = pattern(BULK)
        assert digest(stream([(client, data, sock)], 60)[0]) == digest(data)
        client.shutdown()
        assert sock.recv_eof() == b""
        assert digest(stream([(sock, data, client)], 60)[0]) == digest(data)
        sock.close()
        assert client.recv_eof() == b""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        spawn(*tool(daemon, "forward", "guest:90", f"127.0.0.1:{port}"))
        until(lambda: listens(daemon.vm().port(90)), "the listener")
        sock = gsocket.connect(guest, 4000, 90)
        sock.send_all(b"request")

        def accepted():
            try:
                return HostSocket(server.accept()[0])
            except BlockingIOError:
                return None
        conn = until(accepted, "the TCP connection")
        assert conn.recv_exact(7) == b"request"
        sock.close()
        assert conn.recv_eof() == b""
        conn.close()


# programs of AF_VSOCK

@pytest.mark.parametrize("argv", [["ncat", "--vsock", "3", "1234"],
                                  ["socat", "-", "VSOCK-CONNECT:3:1234"]], ids=["ncat", "socat"])
def test_client_program(daemon, guest, spawn, argv, pattern):
    listener = gsocket.Listener(guest, 1234)
    child = spawn(*under_run(daemon, *argv))
    sock = listener.accept(TIMEOUT)
    there, back = pattern(BULK, 1), pattern(BULK, 2)
    got = stream([(child.io, there, sock), (sock, back, child.io)], 60)
    assert [digest(g) for g in got] == [digest(there), digest(back)]
    child.io.shutdown()
    assert sock.recv_eof() == b""
    sock.close()
    assert child.io.recv_eof() == b""
    assert child.wait()[0] == 0


@pytest.mark.parametrize("argv", [["ncat", "--vsock", "-l", "-k", "80", "--exec", "/bin/cat"],
                                  ["socat", "VSOCK-LISTEN:80,fork", "EXEC:cat"]],
                         ids=["ncat", "socat"])
def test_server_program(start_daemon, start_vm, spawn, argv):
    """Guests of two VMs reach one program."""
    daemon = start_daemon((3, 4))
    guests = [start_vm(daemon, cid).guest for cid in (3, 4)]
    spawn(*under_run(daemon, *argv))
    until(lambda: all(listens(vm.port(80)) for vm in daemon.vms.values()), "the listeners")
    # The path is there a moment before somebody listens.
    until(lambda: not refused(guests[1]), "the program")
    for guest in guests * 2:
        sock = gsocket.connect(guest, 5000 + guest.cid, 80)
        sock.send_all(b"hello")
        assert sock.recv_exact(5, TIMEOUT) == b"hello"
        sock.close()


def refused(guest):
    try:
        gsocket.connect(guest, 6000, 80).close()
    except gsocket.Reset:
        return True
    return False


SERVER = """
import socket
door = socket.socket(socket.AF_VSOCK)
door.bind((socket.VMADDR_CID_ANY, 80))
door.listen(128)
print("listening", flush=True)
while True:
    conn, (cid, port) = door.accept()
    conn.sendall(b"guest %d" % cid)
    conn.close()
"""


def test_server_learns_the_cid(start_daemon, start_vm, spawn):
    daemon = start_daemon((3, 4))
    guests = [start_vm(daemon, cid).guest for cid in (3, 4)]
    child = spawn(*under_run(daemon, sys.executable, "-c", SERVER))
    assert child.io.recv_line(TIMEOUT) == b"listening\n"
    for i in range(10):
        for guest in guests:
            sock = gsocket.connect(guest, 5000 + i, 80)
            assert sock.recv_eof(TIMEOUT) == b"guest %d" % guest.cid


CLIENT = """
import os, socket, sys
count = int(sys.argv[1])
for i in range(count):
    sock = socket.socket(socket.AF_VSOCK)
    sock.connect((3, 80))
    sock.sendall(b"%08d" % i)
    assert sock.recv(8) == b"%08d" % i
    sock.close()
try:
    socket.socket(socket.AF_VSOCK).connect((3, 81))
except ConnectionResetError:
    print("refused", len(os.listdir("/proc/self/fd")))
"""


def test_many_connections_one_after_the_other(daemon, guest, spawn):
    """VDV_LOOPS=10000 for a longer run."""
    count = int(os.environ.get("VDV_LOOPS", "500"))
    listener = gsocket.Listener(guest, 80)
    child = spawn(*under_run(daemon, sys.executable, "-c", CLIENT, count))
    for i in range(count):
        sock = listener.accept(TIMEOUT)
        assert sock.recv_exact(8) == b"%08d" % i
        sock.send_all(b"%08d" % i)
        assert sock.recv_eof() == b""
        sock.close()
    line = child.io.recv_line(TIMEOUT)
    assert line.startswith(b"refused ") and int(line.split()[1]) <= 5
    assert child.wait()[0] == 0


def test_guest_that_does_not_answer(daemon, guest, spawn):
    """connect() ends though the guest is silent."""
    guest.raw_listen(80)
    begun = time.monotonic()
    child = spawn(*under_run(daemon, "socat", "-", "VSOCK-CONNECT:3:80"))
    code, said = child.wait()
    assert code == 1 and "reset" in said
    assert time.monotonic() - begun < 20 * SCALE


# ack=off

@pytest.mark.parametrize("how", ["uds", "cid", "run"])
def test_connect_where_nothing_answers(start_controlled, start_vm, spawn, how):
    daemon, _ = start_controlled(options={"ack": "off"})
    listener = gsocket.Listener(start_vm(daemon).guest, 22)
    argv = {"uds": tool(daemon, "connect", "--no-ack", 22),
            "cid": [ctl.binary(), "--control", control.path_of(daemon), "connect", 3, 22],
            "run": [ctl.binary(), "--control", control.path_of(daemon), "run", "--", "socat", "-",
                    "VSOCK-CONNECT:3:22"]}[how]
    child = spawn(*argv)
    sock = listener.accept(TIMEOUT)
    sock.send_all(b"first")
    assert child.io.recv_exact(5) == b"first"
    child.io.send_all(b"second")
    assert sock.recv_exact(6) == b"second"


# SOCK_SEQPACKET under vsockctl run

RECORD_SIZES = (1, 43, 4096, 65537, WINDOW)

RECORD_CLIENT = """
import errno, socket
sock = socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET)
try:
    sock.connect((3, 81))
except ConnectionResetError:
    print("refused", flush=True)
sock.connect((3, 80))
print(sock.family.name, sock.type.name, sock.getpeername(), sock.getsockname()[0], flush=True)
while record := sock.recv(1 << 20):
    sock.send(record[::-1], socket.MSG_EOR)
    if len(record) == 43:
        record, _, flags, _ = sock.recvmsg(2)
        print(record, flags == socket.MSG_TRUNC, flush=True)
try:
    sock.send(bytes((1 << 18) + 1))
except OSError as err:
    print(errno.errorcode[err.errno], flush=True)
"""


def all_types(daemon, start_vm, cid=3):
    """A guest whose driver knows SOCK_SEQPACKET."""
    return start_vm(daemon, cid, socket_types=F_STREAM | F_SEQPACKET).guest


def test_records_of_a_client(daemon, start_vm, spawn, pattern):
    guest = all_types(daemon, start_vm)
    listener = SeqListener(guest, 80)
    child = spawn(*under_run(daemon, sys.executable, "-c", RECORD_CLIENT))
    sock = listener.accept(TIMEOUT)
    assert child.io.recv_line(TIMEOUT) == b"refused\n"
    assert child.io.recv_line(TIMEOUT) == b"AF_VSOCK SOCK_SEQPACKET (3, 80) 2\n"
    for size in RECORD_SIZES:
        record = pattern(size, size)
        sock.send_message(record)
        assert sock.recv_message(TIMEOUT) == record[::-1]
        if size == 43:
            sock.send_message(b"longer")
            assert child.io.recv_line(TIMEOUT) == b"b'lo' True\n"
    sock.shutdown(SHUT_SEND)
    assert child.io.recv_line(TIMEOUT) == b"EMSGSIZE\n"
    assert sock.recv_message(TIMEOUT) == b""
    assert child.wait()[0] == 0


RECORD_SERVER = """
import os, socket
door = socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET)
door.bind((socket.VMADDR_CID_ANY, 80))
door.listen()
print(door.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_SEQPACKET,
      socket.socket(fileno=os.dup(door.fileno())).type.name, flush=True)
for _ in range(2):
    conn, (cid, port) = door.accept()
    assert conn.type == socket.SOCK_SEQPACKET and conn.getpeername() == (cid, port)
    while record := conn.recv(1 << 20):
        conn.send(b"%d:" % cid + record)
    conn.close()
"""


def test_records_of_a_server(start_daemon, start_vm, spawn, pattern):
    """Guests of two VMs reach one program; streams to its port are refused."""
    daemon = start_daemon((3, 4))
    guests = [all_types(daemon, start_vm, cid) for cid in (3, 4)]
    child = spawn(*under_run(daemon, sys.executable, "-c", RECORD_SERVER))
    assert child.io.recv_line(TIMEOUT) == b"True SOCK_SEQPACKET\n"
    assert refused(guests[0])
    for guest in guests:
        sock = gseqpacket.connect(guest, 5000, 80)
        for size in RECORD_SIZES[:-1]:
            record = pattern(size, size)
            sock.send_message(record)
            assert sock.recv_message(TIMEOUT) == b"%d:" % guest.cid + record
        sock.shutdown(SHUT_SEND)
        assert sock.recv_message(TIMEOUT) == b""
        sock.close()
    assert child.wait()[0] == 0
