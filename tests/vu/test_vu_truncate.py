# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A front-end that truncates the guest's memory under the daemon loses its session, nobody else.

Once its memory is gone this process must not touch it either: the guest's driver ends first.
"""

import os

import pytest

import gsocket
import waiting
from daemon import has_thread_sanitizer
from hostsock import stream
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RW

# It holds a lock of its thread while it carries out an atomic store: a SIGBUS of that store comes
# with the lock held, and the handler's own atomic loads wait for it.
pytestmark = pytest.mark.skipif(has_thread_sanitizer(),
                                reason="ThreadSanitizer's SIGBUS handling deadlocks in itself")

PATTERN = bytes(range(256)) * 64


@pytest.fixture(params=["1", "2"], ids=["one-thread", "two-threads"])
def world(request, start_daemon, start_vm):
    """(daemon, the VM that will do it, its neighbour)"""
    daemon = start_daemon(cids=(3, 4), args=["--threads", request.param])
    return daemon, start_vm(daemon, 3), start_vm(daemon, 4)


def truncate(vm):
    """Take the memory away; returns the kick descriptor of the TX ring."""
    files = [os.dup(region.fd) for region in vm.guest.mem.regions]
    kick = os.dup(vm.guest.queues[1].kick)
    vm.guest.close()
    for file in files:
        os.ftruncate(file, 0)
        os.close(file)
    return kick


def pair(daemon, guest, local, port):
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, local, port)
    host = door.accept()
    door.close()
    return host, sock


def assert_neighbour(daemon, vm):
    host, sock = pair(daemon, vm.guest, 7000, 70)
    assert stream([(host, PATTERN, sock), (sock, PATTERN, host)]) == [PATTERN, PATTERN]


def test_ring_is_read(world):
    daemon, vm, neighbour = world
    host, _ = pair(daemon, vm.guest, 5000, 50)
    kick = truncate(vm)
    os.eventfd_write(kick, 1)
    os.close(kick)
    vm.fe.wait_closed()
    host.recv_eof()
    assert_neighbour(daemon, neighbour)


def test_bytes_arrive_for_it(world):
    daemon, vm, neighbour = world
    host, _ = pair(daemon, vm.guest, 5000, 50)
    os.close(truncate(vm))
    host.send_now(PATTERN)
    vm.fe.wait_closed()
    host.drain()
    assert_neighbour(daemon, neighbour)


def test_sibling_sends_to_it(world):
    daemon, vm, neighbour = world
    listener = vm.guest.raw_listen(90)
    flow = neighbour.guest.flow(4000, 90, peer_cid=3)
    flow.tx(OP_REQUEST)
    right = listener.accept()
    right.respond()
    flow.expect(OP_RESPONSE)
    os.close(truncate(vm))
    flow.tx(OP_RW, PATTERN)  # nothing else tells the owner of that memory
    vm.fe.wait_closed()
    assert_neighbour(daemon, neighbour)


def test_sibling_finds_only_a_buffer_gone(start_daemon, start_vm):
    """The rings are whole, so that nothing but the lost memory itself can end the session."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", "2"])
    vm, neighbour = start_vm(daemon, 3, rx_count=2), start_vm(daemon, 4)
    listener = vm.guest.raw_listen(90)
    left = neighbour.guest.flow(4000, 90, peer_cid=3)
    left.tx(OP_REQUEST)
    right = listener.accept()
    right.respond()
    left.expect(OP_RESPONSE)
    vm.guest.refill = False
    while vm.guest.rx_posted:
        left.tx(OP_RW, b"x")
        right.expect(OP_RW)
    waiting.unregister(vm.guest)
    other = vm.guest.mem.regions[0]
    assert other is not vm.guest.mem.home
    vm.guest.rx.add([(other.gpa + 0x1000, 3776, True)])
    vm.guest.rx.publish()
    neighbour.guest.sync()
    os.ftruncate(other.fd, 0)
    left.tx(OP_RW, b"y" * 100)
    vm.fe.wait_closed()
    assert_neighbour(daemon, neighbour)


def test_under_load(world):
    """Bytes in both directions to host and sibling when the memory goes."""
    daemon, vm, neighbour = world
    pairs = [pair(daemon, vm.guest, 5000 + i, 50 + i) for i in range(8)]
    listener = gsocket.Listener(neighbour.guest, 90)
    left = gsocket.connect(vm.guest, 4000, 90, peer_cid=4)
    right = listener.accept()
    for host, sock in pairs:
        host.send_now(PATTERN * 16)
        sock.send_now(PATTERN * 4)
    left.send_now(PATTERN * 4)
    right.send_now(PATTERN * 4)
    kick = truncate(vm)
    os.eventfd_write(kick, 1)
    os.close(kick)
    vm.fe.wait_closed()
    for host, _ in pairs:
        host.drain()
    assert_neighbour(daemon, neighbour)


def test_memory_with_descriptors_in_it(start_daemon, start_vm):
    """Again and again: no mapping, descriptor or guarded range stays behind."""
    daemon = start_daemon()
    counts = []
    for _ in range(20):
        vm = start_vm(daemon)
        host, _ = pair(daemon, vm.guest, 5000, 50)
        os.close(truncate(vm))
        host.send_now(PATTERN)
        vm.fe.wait_closed()
        host.drain()
        vm.close()
        counts.append((daemon.fd_count(), daemon.mapping_count()))
    assert counts[-1][0] <= counts[2][0] and counts[-1][1] <= counts[2][1] + 4, counts
