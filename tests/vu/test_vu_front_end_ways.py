# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Front-ends that listen, and sockets that the parent hands over."""

import os
import re
import socket
import subprocess
import time

import pytest

import control
import gsocket
from daemon import binary
from hostsock import stream
from vhost_user import Closed, FrontEnd
from waiting import SCALE, until

# The broker dials where there is one, the worker itself otherwise.
CONFINED = pytest.mark.parametrize("args", ((), ("--sandbox", "none")), ids=("broker", "alone"))


def listen(path):
    """A VMM that waits for its back-end."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(path)
    sock.listen(8)
    sock.settimeout(10 * SCALE)
    return sock


def exchange(daemon, guest, data):
    """A connection of the host to the guest, data both ways."""
    listener = gsocket.Listener(guest, 1024)
    host = daemon.connect(1024, guest.cid)
    inner = listener.accept()
    assert stream([(host, data, inner), (inner, data[::-1], host)]) == [data, data[::-1]]
    host.close()
    del guest.listeners[1024]


@CONFINED
def test_vmm_listens(start_daemon, start_vm, pattern, tmp_path, args):
    """The VMM is there first, goes, and comes back at the same path."""
    path = str(tmp_path / "vhost3.sock")
    with listen(path) as vmm:
        daemon = start_daemon(options={"mode": "client"}, args=args, directory=str(tmp_path))
        vm = start_vm(daemon, connect=lambda: vmm.accept()[0])
        exchange(daemon, vm.guest, pattern(100_000))
        vm.replace()
        exchange(daemon, vm.guest, pattern(1000))
    vm.fe.leave()  # before its guest boots again in the same memory
    os.unlink(path)
    with listen(path) as again:
        vm.connect = lambda: again.accept()[0]
        vm.replace()
        exchange(daemon, vm.guest, pattern(1000))
    os.unlink(path)


@CONFINED
def test_vmm_comes_later(start_daemon, start_vm, pattern, tmp_path, args):
    daemon = start_daemon(options={"mode": "client"}, args=args, directory=str(tmp_path))
    path = daemon.vm().socket
    stale = listen(path)
    stale.close()  # a socket that nobody listens on is no reason to give up either
    os.unlink(path)
    with listen(path) as vmm:
        vm = start_vm(daemon, connect=lambda: vmm.accept()[0])
        exchange(daemon, vm.guest, pattern(100_000))
    os.unlink(path)


def test_vmm_that_hangs_up_at_once_is_not_called_all_the_time(start_daemon, tmp_path):
    """The pauses grow: 50 ms, 100 ms and so on."""
    daemon = start_daemon(options={"mode": "client"}, directory=str(tmp_path))
    with listen(daemon.vm().socket) as vmm:
        begin = time.monotonic()
        for _ in range(8):
            vmm.accept()[0].close()
        assert time.monotonic() - begin > 2
    os.unlink(daemon.vm().socket)


def test_client_mode_asks_for_the_peer_too(start_daemon, tmp_path):
    """A VMM of another user is not served."""
    daemon = start_daemon(options={"mode": "client"}, directory=str(tmp_path),
                          args=("--allow-uid", str(os.getuid() + 1)))
    with listen(daemon.vm().socket) as vmm, pytest.raises(Closed):
        FrontEnd(vmm.accept()[0]).get_features()
    os.unlink(daemon.vm().socket)
    until(lambda: "not in --allow-uid" in daemon.stderr(), "the refusal")


def test_listening_descriptor(start_daemon, start_vm, pattern, tmp_path):
    """The parent's listener is served like one of our own, and stays where it is."""
    path = str(tmp_path / "vhost3.sock")
    with listen(path) as ours:
        daemon = start_daemon(options={"fd": ours.fileno()}, fds=(ours.fileno(),),
                              directory=str(tmp_path))
    vm = start_vm(daemon)
    exchange(daemon, vm.guest, pattern(100_000))
    vm.replace()
    exchange(daemon, vm.guest, pattern(1000))
    daemon.stop()
    assert os.path.exists(path)


@CONFINED
def test_connected_descriptor(start_daemon, start_vm, pattern, args):
    """It is the one front-end there will be: the daemon ends with it, successfully."""
    ours, theirs = socket.socketpair()
    with theirs:
        daemon = start_daemon(options={"fd": theirs.fileno()}, fds=(theirs.fileno(),), args=args)
    vm = start_vm(daemon, connect=lambda: ours)
    exchange(daemon, vm.guest, pattern(100_000))
    vm.kill()
    assert daemon.proc.wait(10 * SCALE) == 0, daemon.stderr()
    daemon.proc = None


def test_daemon_that_ends_hangs_up(start_daemon, start_vm, pattern):
    """No other process of the daemon holds the connection."""
    ours, theirs = socket.socketpair()
    with theirs:
        daemon = start_daemon(options={"fd": theirs.fileno()}, fds=(theirs.fileno(),))
    vm = start_vm(daemon, connect=lambda: ours)
    exchange(daemon, vm.guest, pattern(1000))
    daemon.kill()
    vm.fe.wait_closed()


def test_two_connected_descriptors(start_daemon, start_vm, pattern):
    """The daemon goes on for the other VM."""
    pairs = {cid: socket.socketpair() for cid in (3, 4)}
    per_vm = {cid: {"fd": pair[1].fileno()} for cid, pair in pairs.items()}
    daemon = start_daemon((3, 4), per_vm=per_vm, fds=[pair[1].fileno() for pair in pairs.values()])
    for pair in pairs.values():
        pair[1].close()
    first, second = (start_vm(daemon, cid, connect=lambda cid=cid: pairs[cid][0])
                     for cid in (3, 4))
    first.kill()
    until(lambda: "front-end gone" in daemon.stderr(), "the end of the first")
    exchange(daemon, second.guest, pattern(1000))
    second.kill()
    assert daemon.proc.wait(10 * SCALE) == 0, daemon.stderr()
    daemon.proc = None


def refusal(tmp_path, *args, fds=()):
    done = subprocess.run([binary(), *args], cwd=tmp_path, capture_output=True, text=True,
                          timeout=20, pass_fds=fds, check=False)
    assert done.returncode == 2
    return done.stderr


def test_descriptors_that_cannot_be(tmp_path):
    text = refusal(tmp_path, "--fd", "77", "--uds-path", "u")
    assert re.search(r"--fd: '77': expected a Unix stream socket from the parent", text), text
    with open(tmp_path / "file", "wb") as file:
        text = refusal(tmp_path, "--fd", str(file.fileno()), "--uds-path", "u",
                       fds=(file.fileno(),))
        assert "expected a Unix stream socket" in text
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        text = refusal(tmp_path, "--fd", str(ours.fileno()), "--uds-path", "u",
                       fds=(ours.fileno(),))
        assert "expected a Unix stream socket" in text
    ours, theirs = socket.socketpair()
    with ours, theirs:
        same = [f"--vm=guest-cid={cid},fd={ours.fileno()},uds-path=u{cid}" for cid in (3, 4)]
        text = refusal(tmp_path, *same, fds=(ours.fileno(),))
        assert "expected a descriptor of its own" in text
    assert "expected neither socket nor mode" in refusal(
        tmp_path, "--fd", "7", "--socket", "s", "--uds-path", "u")
    assert "expected server or client" in refusal(
        tmp_path, "--mode", "both", "--socket", "s", "--uds-path", "u")


def test_descriptor_of_our_own_is_never_taken(start_controlled):
    """What is asked for later gets no number of a descriptor that is the daemon's by then."""
    daemon, client = start_controlled()
    for number in range(3, 20):
        with pytest.raises(control.Failure, match="are taken over at the start only"):
            client.call("add", vm=f"guest-cid=9,fd={number},uds-path=u9")
    daemon.assert_healthy()
