# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Programs of the host that mean harm: they cost themselves, never the guest or each other."""

import contextlib
import os
import socket

import pytest

import gsocket
import waiting
from hostsock import assert_live, dial
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RST
from waiting import until


def test_every_prefix_of_the_line_and_then_nothing(daemon, live):
    """Whoever does not finish the line is closed after its time, also when bytes drip in."""
    line = b"CONNECT 1234"
    clients = [dial(daemon.vm().uds) for _ in range(len(line) + 1)]
    for n, client in enumerate(clients):
        client.send_all(line[:n])
    dripping = dial(daemon.vm().uds)
    sent = bytearray()

    def drip():
        if len(sent) < 60 and not dripping.ended:
            byte = (b"CONNECT " + b"0" * 60)[len(sent):len(sent) + 1]
            with contextlib.suppress(BrokenPipeError):  # closed since the last look
                dripping.sock.send(byte, socket.MSG_NOSIGNAL)
                sent.extend(byte)
        waiting.pump_once(100)
        dripping.recv_now()
        return all(client.recv_now() == b"" and client.ended for client in clients)
    until(drip, "all silent clients to be closed", timeout=15)
    until(lambda: dripping.recv_now() == b"" and dripping.ended, "the dripping one to be closed",
          timeout=10)
    assert_live(live)


def test_endless_line(daemon, live):
    """More than a line can have is not even read."""
    client = dial(daemon.vm().uds)
    sent = 0
    while not client.ended and sent < 64 << 20:
        try:
            sent += client.send_now(b"CONNECT" + b" " * 65536)
        except (BrokenPipeError, ConnectionResetError):
            break
        client.recv_now()
        waiting.pump_once(1)
    assert sent < 8 << 20
    assert_live(live)


def test_ten_thousand_clients_that_leave(daemon, guest, live):
    """At every point of the handshake; descriptors, memory and CPU stay as they were."""
    listener = gsocket.Listener(guest, 50)
    lines = (b"", b"C", b"CONNECT 50", b"CONNECT 50\n", b"CONNECT 51\n", b"rubbish\n",
             b"CONNECT 50\nhello")

    def storm(count):
        for i in range(count):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(daemon.vm().uds)
                client.send(lines[i % len(lines)], socket.MSG_NOSIGNAL)
            if i % 50 == 0:
                waiting.pump_once()
                while listener.queue:
                    listener.queue.popleft().close()
    storm(1000)
    settle(guest, listener)
    assert_live(live)
    fds, memory = daemon.fd_count(), daemon.memory_kib()
    storm(9000)
    settle(guest, listener)
    assert_live(live)
    until(lambda: daemon.fd_count() <= fds + 1, lambda: f"{daemon.fd_count()} fds to be {fds}")
    assert daemon.memory_kib() - memory < 8192
    spent = daemon.cpu_seconds()
    waiting.run_for(1.0)
    assert daemon.cpu_seconds() - spent < 0.3, "the daemon spins"


@pytest.mark.parametrize("which", ["client", "listener"])
def test_descriptors_that_nobody_asked_for(daemon, guest, live, which):
    """Their last owner would be the daemon, and closing them may take as long as they like. Newer
    kernels refuse them to the sender; elsewhere they are closed and the bytes arrive."""
    if which == "client":
        listener = gsocket.Listener(guest, 50)
        host = daemon.connect(50)
        sock = listener.accept()
    else:
        door = daemon.listen(60)
        sock = gsocket.connect(guest, 5000, 60)
        host = door.accept()
    before = daemon.fd_count()
    sent = 0
    for _ in range(100):
        try:
            socket.send_fds(host.sock, [b"x"], [0, 1])
            sent += 1
        except PermissionError:
            pass
    host.send_all(b"y")
    assert sock.recv_exact(sent + 1) == b"x" * sent + b"y"
    assert daemon.fd_count() <= before
    assert sent == 0 or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 16)
    assert_live(live)


def settle(guest, listener):
    """The guest closes what it has accepted until nothing comes any more."""
    def step():
        while listener.queue:
            listener.queue.popleft().close()
        return not any(flow.state != gsocket.CLOSED for flow in guest.flows.values()
                       if flow.local_port == 50)
    guest.sync()
    until(step, "the connections to be closed")


@pytest.mark.parametrize("end", ["close", "reset", "both", "read", "write"])
@pytest.mark.parametrize("point", ["dialled", "half a line", "asked", "answered", "with bytes"])
def test_leaves_at_every_point(daemon, guest, live, point, end):
    listener = guest.raw_listen(50)
    client = dial(daemon.vm().uds)
    flow = None
    if point != "dialled":
        client.send_all(b"CONNECT 5")
    if point in ("asked", "answered", "with bytes"):
        client.send_all(b"0\n")
        flow = listener.accept()
    if point in ("answered", "with bytes"):
        flow.respond()
        client.recv_line()
    if point == "with bytes":
        client.send_all(b"x" * 1000)
    how = {"both": socket.SHUT_RDWR, "read": socket.SHUT_RD, "write": socket.SHUT_WR}
    if end in how:
        client.shutdown(how[end])
    if end == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if end in ("close", "reset"):
        client.close()
    guest.sync()
    if flow is not None:
        if point == "asked":
            flow.respond()
        guest.sync()
        flow.tx(OP_RST)
        flow.drop()
    assert_live(live)
    client.close()


def test_stalled_readers(start_daemon, start_vm):
    """Programs that stop reading hold no more than the guest's bound, and no other program."""
    daemon = start_daemon(options={"max-buffered": 1 << 20})
    guest = start_vm(daemon).guest
    door = daemon.listen(70)
    live = gsocket.connect(guest, 7000, 70)
    pair = (door.accept(), live)
    stalled = daemon.listen(71)
    held = []
    for i in range(16):
        flow = guest.flow(4000 + i, 71)
        flow.tx(OP_REQUEST)
        if flow.next().op != OP_RESPONSE:
            flow.drop()
            break
        sock = gsocket.GuestSocket.__new__(gsocket.GuestSocket)
        flow.drop()
        gsocket.GuestSocket.__init__(sock, guest, 4000 + i, 71)
        sock.state = gsocket.ESTABLISHED
        sock.peer_buf_alloc = flow.peer_buf_alloc
        held.append((stalled.accept(), sock))
        for _ in range(64):
            if not sock.send_now(b"x" * 65536):
                break
            guest.sync()
    assert_live(pair)
    assert len(held) >= 3


KINDS = {
    "symlink to itself": lambda path: os.symlink(path, path),
    "dangling symlink": lambda path: os.symlink(path + ".none", path),
    "directory": os.mkdir,
    "fifo": os.mkfifo,
    "file": lambda path: open(path, "w", encoding="ascii").close(),
    "symlink to a device": lambda path: os.symlink("/dev/zero", path),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_listener(daemon, guest, live, kind):
    """The guest is refused at once, whatever lies where a program should listen."""
    KINDS[kind](daemon.vm().port(90))
    flow = guest.flow(5000, 90)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST, timeout=1)
    assert_live(live)


def test_paths_that_change(daemon, guest, live):
    """The listener's path is renamed, replaced and linked while the guest connects."""
    path = daemon.vm().port(91)
    door = daemon.listen(91)
    answers = set()
    for i in range(200):
        if i % 4 == 0:
            os.rename(path, path + ".away")
        elif i % 4 == 1:
            os.symlink(path + ".away", path)
        elif i % 4 == 2:
            os.unlink(path)
        else:
            os.rename(path + ".away", path)
        flow = guest.flow(10000 + i, 91)
        flow.tx(OP_REQUEST)
        answers.add(flow.next().op)
        flow.tx(OP_RST)
        flow.drop()
        while door.accept_now() is not None:
            pass
    assert answers == {OP_RESPONSE, OP_RST}
    assert_live(live)


@pytest.mark.parametrize("which", ["socket", "uds"])
def test_own_path_is_taken_by_another(daemon, guest, live, which):
    """Someone removes our socket and puts a file there: it is not ours to remove."""
    path = getattr(daemon.vm(), which)
    os.unlink(path)
    with open(path, "w", encoding="ascii") as file:
        file.write("theirs")
    guest.sync()
    assert_live(live)
    daemon.proc.terminate()
    assert daemon.proc.wait(10) == 0
    daemon.proc = None
    with open(path, encoding="ascii") as file:
        assert file.read() == "theirs"


def test_directory_is_removed(start_daemon, start_vm, tmp_path):
    """Open connections go on, new ones of the guest are refused, the daemon ends well."""
    folder = tmp_path / "sockets"
    folder.mkdir()
    daemon = start_daemon(directory=str(folder))
    guest = start_vm(daemon).guest
    door = daemon.listen(70)
    sock = gsocket.connect(guest, 7000, 70)
    pair = (door.accept(), sock)
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
    flow = guest.flow(5000, 70)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    assert_live(pair)
    daemon.proc.terminate()
    assert daemon.proc.wait(10) == 0
    daemon.proc = None
