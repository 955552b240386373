# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Snapshots, restores and migrations, message by message as the VMMs that have them send them."""

import pytest

import orders
from gsocket import open_pair
from hostsock import assert_live
from migration import Copier, DirtyLog, TrackedMemory
from vhost_user import FrontEnd
from waiting import until

RINGS = ("split", "packed")
TRANSPORT_RESET = bytes(4)
SAVING = pytest.mark.parametrize("order", [orders.Crosvm, orders.CloudHypervisor],
                                 ids=lambda o: o.name)


def restore(vm, daemon, state):
    """Another process of the VMM has the guest's memory and what was saved."""
    vm.kill()
    vm.guest.flows.clear()
    vm.order = type(vm.order)()
    vm.fe = FrontEnd(daemon.vm().socket)
    vm.order.restore(vm.fe, vm.guest, state, vm.bases)
    vm.fe.get_features()


def assert_restored(vm, daemon):
    """The guest is told once, and can connect."""
    until(lambda: vm.guest.events, "the event")
    assert_live(open_pair(daemon, vm.guest, 51, 5001))
    assert vm.guest.events == [TRANSPORT_RESET]


@SAVING
def test_snapshot_of_a_vm_that_goes_on(daemon, start_vm, ring, order):
    """Connections have not noticed, and what came meanwhile is not lost."""
    vm = start_vm(daemon, order=order)
    host, sock = open_pair(daemon, vm.guest)
    for _ in range(3):
        vm.stop()
        host.send_all(b"meanwhile")
        vm.order.save(vm.fe)
        vm.cont()
        assert sock.recv_exact(9) == b"meanwhile"
        assert_live((host, sock))
    assert not vm.guest.events


@SAVING
def test_restore(start_daemon, start_vm, ring, order):
    source, target = start_daemon(), start_daemon()
    vm = start_vm(source, order=order)
    host, sock = open_pair(source, vm.guest)
    assert_live((host, sock))
    vm.stop()
    restore(vm, target, vm.order.save(vm.fe))
    assert_restored(vm, target)


@SAVING
def test_snapshot_of_a_restored_vm(daemon, start_vm, ring, order):
    """The same daemon, again and again: each time the guest is told."""
    vm = start_vm(daemon, order=order)
    for _ in range(3):
        live = open_pair(daemon, vm.guest)
        assert_live(live)
        vm.stop()
        state = vm.order.save(vm.fe)
        vm.guest.events.clear()
        vm.fe.leave()
        restore(vm, daemon, state)
        assert_restored(vm, daemon)
        vm.guest.flows.clear()


def test_pause_without_a_snapshot(daemon, start_vm, ring):
    """Cloud Hypervisor then sends SET_VRING_ENABLE only."""
    vm = start_vm(daemon, order=orders.CloudHypervisor)
    host, sock = open_pair(daemon, vm.guest)
    for _ in range(3):
        vm.order.pause(vm.fe, vm.guest)
        host.send_all(b"meanwhile")
        vm.order.unpause(vm.fe, vm.guest)
        assert sock.recv_exact(9) == b"meanwhile"
        assert_live((host, sock))
    assert not vm.guest.events


def take_log(copier):
    """A pass of Cloud Hypervisor's: the old log is read when another is in its place."""
    old, copier.log = copier.log, DirtyLog(copier.mem)
    copier.vm.fe.set_log_base(copier.log.fd, copier.log.size)
    own, copier.mem.written = copier.mem.written, set()
    copier.copy_pages(own | old.take())
    old.close()


def test_migration_by_logs_in_turn(start_daemon, start_vm, ring):
    """Each pass brings a log; the last one comes after the state was saved."""
    source, target = start_daemon(), start_daemon()
    vm = start_vm(source, order=orders.CloudHypervisor, mem=TrackedMemory())
    live = open_pair(source, vm.guest)
    copier = Copier(vm)
    copier.start()
    for _ in range(4):
        assert_live(live)
        take_log(copier)
    assert_live(live)
    vm.stop()
    state = vm.order.save(vm.fe)
    take_log(copier)
    assert not copier.differing()
    restore(vm, target, state)
    assert_restored(vm, target)
    copier.close()
