# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A VMM that uses what it shares with the daemon against it: descriptors, memory, reconnects.

The daemon has one worker here, so whatever blocks it or keeps it busy shows at the neighbour.
"""

import fcntl
import multiprocessing
import os
import socket
import struct

import pytest

import gsocket
import vhost_user as vu
import waiting
from guestmem import REGION, Region
from hostsock import stream
from vhost_user import Closed, FrontEnd, Nack
from waiting import until

EVENTFD_MAX = 0xFFFFFFFFFFFFFFFE
PATTERN = bytes(range(256)) * 64


@pytest.fixture
def world(start_daemon, start_vm):
    """(daemon, the hostile VM, its neighbour's connection)"""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "1"])
    vm = start_vm(daemon, 3)
    guest = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(guest, 7000, 70)
    return daemon, vm, (door.accept(), sock)


def assert_neighbour(pair):
    host, sock = pair
    assert stream([(host, PATTERN, sock), (sock, PATTERN, host)]) == [PATTERN, PATTERN]


def is_blocking(fd):
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


def make_blocking(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


def full_eventfd():
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    os.eventfd_write(fd, EVENTFD_MAX)
    return fd, fd


def full_pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        pass
    return writer, reader


def full_socket():
    left, right = socket.socketpair()
    left.setblocking(False)
    try:
        while True:
            left.send(bytes(4096))
    except BlockingIOError:
        pass
    return left.detach(), right.detach()


@pytest.mark.parametrize("make", [full_eventfd, full_pipe, full_socket])
@pytest.mark.parametrize("which", ["set_vring_call", "set_vring_err"])
def test_call_descriptor_that_blocks(world, make, which):
    """The flag that keeps a write from blocking is the VMM's too: it takes it away again."""
    daemon, vm, neighbour = world
    fd, other_end = make()
    try:
        for i in (0, 1):
            getattr(vm.fe, which)(i, fd)
        vm.fe.get_features()
        make_blocking(fd)
    except Closed:
        pass  # it does not take such a descriptor
    assert is_blocking(fd)
    if which == "set_vring_call":
        waiting.unregister(vm.guest)
        for _ in range(20):  # each makes the daemon notify
            vm.guest.send_bytes(b"\xff" * 50, wait=False)
    else:
        vm.guest.tx.push_head(60000)
        vm.guest.tx.publish()
        vm.guest.tx.do_kick()
    assert_neighbour(neighbour)
    daemon.assert_healthy()
    for end in {fd, other_end}:
        os.close(end)


def ready_pipe():
    reader, writer = os.pipe()
    os.write(writer, b"x" * 100)
    return [reader, writer]


def closed_pipe():
    reader, writer = os.pipe()
    os.close(writer)
    return [reader]


def ready_socket():
    left, right = socket.socketpair()
    right.send(b"x")
    right.close()
    return [left.detach()]


KICKS = {
    "/dev/zero": lambda: [os.open("/dev/zero", os.O_RDWR)],
    "pipe with bytes": ready_pipe,
    "closed pipe": closed_pipe,
    "closed socket": ready_socket,
    "directory": lambda: [os.open("/", os.O_RDONLY)],
    "signalled eventfd": lambda: [os.eventfd(1)],
    "full eventfd": lambda: [full_eventfd()[0]],
}


@pytest.mark.parametrize("kind", KICKS)
def test_kick_descriptor_that_is_always_ready(world, kind):
    daemon, vm, neighbour = world
    fds = KICKS[kind]()
    try:
        for i in (0, 1):
            vm.fe.set_vring_kick(i, fds[0], need_reply=True)
    except (Nack, Closed):
        pass
    spent = daemon.cpu_seconds()
    waiting.run_for(1.0)
    assert daemon.cpu_seconds() - spent < 0.3, "the daemon spins"
    assert_neighbour(neighbour)
    for fd in fds:
        os.close(fd)


def _kick_for_ever(fd):
    while True:
        os.eventfd_write(fd, 1)


def test_storm_of_kicks(world):
    """Kicks as fast as a process can write them; the neighbour has its turns."""
    _, vm, neighbour = world
    kick = vm.guest.queues[1].kick
    process = multiprocessing.get_context("fork").Process(target=_kick_for_ever, args=(kick,),
                                                          daemon=True)
    process.start()
    try:
        for _ in range(5):
            assert_neighbour(neighbour)
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("request_name", ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"])
def test_descriptors_of_repeated_requests_are_closed(world, request_name):
    daemon, vm, neighbour = world
    fd = vu.new_eventfd()
    vm.fe.tell(getattr(vu, request_name), struct.pack("<Q", 2), [fd])
    vm.fe.get_features()
    before = daemon.fd_count()
    for _ in range(300):
        vm.fe.tell(getattr(vu, request_name), struct.pack("<Q", 2), [fd])
    vm.fe.get_features()
    assert daemon.fd_count() <= before
    os.close(fd)
    assert_neighbour(neighbour)


def test_five_hundred_regions(world):
    """As many as there are slots, said one by one, used, and taken back in any order."""
    daemon, vm, neighbour = world
    vm.kill()
    files = Region(0, 1 << 20)
    with FrontEnd(vm.paths.socket) as fe:
        fe.set_owner()
        fe.set_protocol_features(fe.get_protocol_features()
                                 & (vu.P_REPLY_ACK | vu.P_CONFIGURE_MEM_SLOTS))
        fe.need_reply = True
        slots = fe.get_max_mem_slots()
        assert slots >= 500
        before = daemon.memory_kib()
        for _ in range(3):
            regions = [bytes(8) + REGION.pack(i << 20, 1 << 20, 0x100000 + (i << 20), 0)
                       for i in range(slots)]
            for region in regions:
                fe.tell(vu.ADD_MEM_REG, region, [files.fd])
            for region in regions[::2] + regions[1::2]:
                fe.tell(vu.REM_MEM_REG, region)
        assert daemon.memory_kib() - before < 4096
    files.close()
    assert_neighbour(neighbour)


def test_memory_that_another_process_provides(world):
    """Pages of such a file come when that process likes. There is no FUSE in a test, but what
    takes its place is refused by the same rule: neither shared memory nor on a disk."""
    _, vm, neighbour = world
    vm.kill()
    with open("/proc/self/status", "rb") as file, FrontEnd(vm.paths.socket) as fe:
        fe.get_features()
        table = struct.pack("<II", 1, 0) + REGION.pack(0, 4096, 0x10000, 0)
        with pytest.raises((Nack, Closed)):
            fe.tell(vu.SET_MEM_TABLE, table, [file.fileno()], need_reply=True)
            fe.get_features()
    assert_neighbour(neighbour)


def test_reconnect_storm(world):
    """Front-ends that come, say something, and go: descriptors, memory and log stay flat."""
    daemon, vm, neighbour = world
    vm.kill()

    def storm(count):
        for i in range(count):
            with FrontEnd(vm.paths.socket) as fe:
                if i % 3 == 1:
                    fe.get_features()
                elif i % 3 == 2:
                    fe.send_bytes(b"\x01\x00\x00")
    storm(300)
    assert_neighbour(neighbour)
    fds, memory = daemon.fd_count(), daemon.memory_kib()
    storm(3000)
    assert_neighbour(neighbour)
    until(lambda: daemon.fd_count() <= fds, lambda: f"{daemon.fd_count()} fds to be {fds}")
    assert daemon.memory_kib() - memory < 2048
    assert len(daemon.stderr()) < 100_000
