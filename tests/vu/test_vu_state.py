# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The device's state in a snapshot or a migration's stream: saved, loaded, and refused."""

import os

import pytest

import orders
from gsocket import open_pair
from hostsock import assert_live
from migration import Copier, TrackedMemory
from vhost_user import P_DEVICE_STATE, FrontEnd, Nack
from vsockpkt import OP_RW
from waiting import until

RINGS = ("split", "packed")
TRANSPORT_RESET = bytes(4)
SAVED_BYTES = 32


def go_on_at(vm, socket, bases, state, late):
    """Another front-end takes the guest over; the state before the rings or before all else."""
    vm.order = type(vm.order)()
    vm.fe = FrontEnd(socket)
    if not late:
        assert vm.fe.load_state(state) == 0
    vm.order.negotiate(vm.fe, vm.guest)
    if late:
        assert vm.fe.load_state(state) == 0
    vm.order.activate(vm.fe, vm.guest, bases)
    vm.fe.get_features()


def test_offered(daemon):
    with FrontEnd(daemon.vm().socket) as fe:
        assert fe.get_protocol_features() & P_DEVICE_STATE
        assert len(fe.save_state()) == SAVED_BYTES


@pytest.mark.parametrize("order", [orders.Crosvm, orders.CloudHypervisor, orders.QemuGeneric],
                         ids=lambda o: o.name)
@pytest.mark.parametrize("late", [True, False], ids=["after-negotiation", "first"])
def test_guest_moves(start_daemon, start_vm, ring, order, late):
    """A migration from one daemon to another: memory, ring positions and the state."""
    source, target = start_daemon(), start_daemon()
    vm = start_vm(source, order=order, mem=TrackedMemory())
    host, sock = open_pair(source, vm.guest)
    copier = Copier(vm)
    copier.start()
    assert_live((host, sock))
    vm.stop()
    copier.do_pass()
    assert not copier.differing()
    state = vm.fe.save_state()
    bases = vm.bases
    vm.kill()
    host.drain()
    vm.guest.flows.clear()
    go_on_at(vm, target.vm().socket, bases, state, late)
    until(lambda: vm.guest.events, "the event")
    assert vm.guest.events == [TRANSPORT_RESET]
    assert_live(open_pair(target, vm.guest, 51, 5001))
    copier.close()


def test_source_goes_on(daemon, start_vm, ring):
    """The migration failed after the state was saved: connections have not noticed."""
    vm = start_vm(daemon)
    live = open_pair(daemon, vm.guest)
    for _ in range(3):
        vm.stop()
        assert len(vm.fe.save_state()) == SAVED_BYTES
        vm.cont()
        assert_live(live)
    assert not vm.guest.events


def test_state_tells_what_the_position_does_not(daemon, start_vm, ring):
    """Rings that are at their beginning by chance: the flag in the state says that they ran."""
    vm = start_vm(daemon, order=orders.QemuGeneric)
    assert_live(open_pair(daemon, vm.guest))
    vm.stop()
    state = vm.fe.save_state()
    vm.kill()
    vm.guest.reboot()
    go_on_at(vm, vm.paths.socket, None, state, True)
    vm.guest.start()
    until(lambda: vm.guest.events, "the event")


def test_state_without_an_event_queue(daemon, start_vm, ring):
    vm = start_vm(daemon, order=orders.Qemu10)
    host, sock = open_pair(daemon, vm.guest)
    vm.stop()
    state = vm.fe.save_state()
    bases = vm.bases
    vm.kill()
    host.drain()
    go_on_at(vm, vm.paths.socket, bases, state, True)
    sock.tx(OP_RW, b"of a connection that is gone")
    until(lambda: sock.reset, "RST")
    assert_live(open_pair(daemon, vm.guest, 51, 5001))


def spoil(state, at, value):
    return state[:at] + bytes([value]) + state[at + 1:]


@pytest.mark.parametrize("bad", [
    lambda s: b"", lambda s: s[:-1], lambda s: s + b"x", lambda s: s * 5000,
    lambda s: spoil(s, 0, 0), lambda s: spoil(s, 8, 2), lambda s: spoil(s, 12, 0xff),
    lambda s: spoil(s, 23, 0x80)],
    ids=["empty", "short", "long", "endless", "other", "version", "flags", "features"])
def test_bad_state(daemon, start_vm, bad):
    """It is refused, what there was stays, and the right one is taken afterwards."""
    vm = start_vm(daemon)
    live = open_pair(daemon, vm.guest)
    vm.stop()
    fds = daemon.fd_count()
    state = vm.fe.save_state()
    assert vm.fe.load_state(bad(state)) != 0
    assert vm.fe.check_device_state() != 0
    assert daemon.fd_count() == fds
    vm.cont()
    assert_live(live)
    vm.stop()
    assert vm.fe.load_state(state) == 0
    live[0].drain()


def test_load_that_is_not_ended(daemon, start_vm):
    vm = start_vm(daemon)
    vm.stop()
    state = vm.fe.save_state()
    theirs, ours = os.pipe()
    vm.fe.set_device_state_fd(theirs, True)
    os.write(ours, state)
    assert vm.fe.check_device_state() != 0
    os.close(ours)
    os.close(theirs)


def test_channel_that_blocks(daemon, start_vm):
    """A pipe that is full, one that nobody reads: an error, and nobody waits."""
    vm = start_vm(daemon)
    vm.stop()
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    os.write(theirs, bytes(1 << 20))
    os.set_blocking(theirs, True)
    with pytest.raises(Nack):
        vm.fe.set_device_state_fd(theirs, False)
    os.close(ours)
    with pytest.raises(Nack):
        vm.fe.set_device_state_fd(theirs, False)
    os.close(theirs)
    assert vm.fe.check_device_state() != 0


def test_wrong_time_and_channel(daemon, start_vm):
    vm = start_vm(daemon)
    live = open_pair(daemon, vm.guest)
    ours, theirs = os.pipe()
    with pytest.raises(Nack):
        vm.fe.set_device_state_fd(theirs, False)
    vm.stop()
    for load, phase in ((2, 0), (0, 1), (1, 7)):
        with pytest.raises(Nack):
            vm.fe.send(42, load.to_bytes(4, "little") + phase.to_bytes(4, "little"), [theirs])
            if vm.fe.recv_reply(42)[0]:
                raise Nack()
    with pytest.raises(Nack):
        vm.fe.set_device_state_fd(vm.guest.mem.regions[0].fd, True)
    os.close(ours)
    os.close(theirs)
    vm.cont()
    assert_live(live)
