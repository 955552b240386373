# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Start and end of the daemon: what it leaves alone and what it takes away."""

import os
import signal
import socket

import pytest

import gsocket
from daemon import Daemon
from vhost_user import connect_unix

PATHS = pytest.mark.parametrize("which", ["socket", "uds"])


def assert_refuses(daemon):
    """It ends by itself, unsuccessfully, with a line that names the path."""
    code = daemon.spawn().wait(10)
    daemon.proc = None
    text = daemon.stderr()
    assert code > 0, f"exit code {code}:\n{text}"
    assert text.strip(), "no word about it"
    return text


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_stops_and_removes_its_sockets(start_daemon, sig):
    daemon = start_daemon(cids=(3, 4, 5))
    daemon.stop(sig)
    assert sorted(os.listdir(daemon.dir)) == ["stderr"]


def test_stops_in_the_middle_of_everything(start_daemon, start_vm):
    daemon = start_daemon(cids=(3, 4))
    vms = [start_vm(daemon, cid) for cid in (3, 4)]
    hosts = []
    for vm in vms:
        listener = gsocket.Listener(vm.guest, 50)
        for _ in range(10):
            hosts.append(daemon.connect(50, vm.guest.cid))
            listener.accept()
        door = daemon.listen(60, vm.guest.cid)
        gsocket.connect(vm.guest, 4000, 60)
        hosts.append(door.accept())
    for host in hosts:
        host.send_now(bytes(1 << 20))
    silent = daemon.dial()
    daemon.stop()
    for host in hosts:
        host.drain()
    silent.drain()
    vms[0].fe.wait_closed()


def test_files_it_did_not_make_stay(start_daemon):
    daemon = start_daemon()
    door = daemon.listen(80)
    other = os.path.join(daemon.dir, "other")
    with open(other, "w", encoding="ascii") as file:
        file.write("mine")
    daemon.stop()
    assert os.path.exists(door.path) and os.path.exists(other)


@PATHS
def test_regular_file_is_left_alone(start_daemon, which):
    daemon = start_daemon(start=False)
    path = getattr(daemon.vm(), which)
    with open(path, "w", encoding="ascii") as file:
        file.write("precious")
    text = assert_refuses(daemon)
    assert path in text
    with open(path, encoding="ascii") as file:
        assert file.read() == "precious"
    assert sorted(os.listdir(daemon.dir)) == sorted([os.path.basename(path), "stderr"])


@PATHS
@pytest.mark.parametrize("kind", ["directory", "symlink", "fifo"])
def test_other_things_are_left_alone(start_daemon, which, kind):
    daemon = start_daemon(start=False)
    path = getattr(daemon.vm(), which)
    target = os.path.join(daemon.dir, "target")
    if kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with open(target, "w", encoding="ascii") as file:
            file.write("precious")
        os.symlink(target, path)
    before = os.lstat(path)
    assert_refuses(daemon)
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    if kind == "symlink":
        with open(target, encoding="ascii") as file:
            assert file.read() == "precious"


@PATHS
def test_stale_socket_is_replaced(start_daemon, which):
    daemon = start_daemon(start=False)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(getattr(daemon.vm(), which))
    stale.close()
    daemon.start()
    daemon.stop()


def test_restart_after_being_killed(start_daemon, start_vm):
    daemon = start_daemon()
    daemon.kill()
    assert os.path.exists(daemon.vm().socket)
    daemon.start()
    vm = start_vm(daemon)
    vm.guest.sync()


@PATHS
def test_live_socket_is_refused(start_daemon, which):
    daemon = start_daemon(start=False)
    path = getattr(daemon.vm(), which)
    live = socket.socket(socket.AF_UNIX)
    live.bind(path)
    live.listen(1)
    inode = os.stat(path).st_ino
    text = assert_refuses(daemon)
    assert path in text
    assert os.stat(path).st_ino == inode
    connect_unix(path).close()
    live.close()


def test_second_daemon_does_not_disturb_the_first(start_daemon, start_vm):
    first = start_daemon()
    vm = start_vm(first)
    second = Daemon(directory=first.dir, start=False)
    second.stderr_path += "2"
    try:
        assert_refuses(second)
    finally:
        second.remove()
    listener = gsocket.Listener(vm.guest, 50)
    first.connect(50)
    listener.accept()
    first.assert_healthy()


def test_socket_directory_that_is_not_there(start_daemon):
    daemon = start_daemon(start=False)
    daemon.argv = [arg.replace(daemon.dir + "/", daemon.dir + "/none/") for arg in daemon.argv]
    assert_refuses(daemon)
