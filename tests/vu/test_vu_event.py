# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A guest that goes on without its connections is told so on its event queue, before anything else.

That is a guest whose VMM connects again: after the daemon was restarted, or after the VM was
restored from a snapshot or came from another host.
"""

import pytest

import orders
from gsocket import open_pair
from hostsock import assert_live
from vhost_user import FrontEnd
from vsockpkt import OP_RST, OP_RW
from waiting import until

RINGS = ("split", "packed")
TRANSPORT_RESET = bytes(4)
RESTORED = pytest.mark.parametrize(
    "order", [orders.QemuGeneric, orders.Crosvm, orders.CloudHypervisor, orders.OpenVmm,
              orders.Alioth], ids=lambda o: o.name)


def restore(vm, bases, order=None):
    """The VMM's process ends; another one goes on with the same memory."""
    vm.kill()
    vm.order = (order or type(vm.order))()
    vm.fe = FrontEnd(vm.paths.socket)
    vm.order.negotiate(vm.fe, vm.guest)
    vm.order.activate(vm.fe, vm.guest, bases)
    vm.fe.get_features()


def forget_flows(guest):
    """What the guest's driver does when it is told."""
    guest.flows.clear()


@RESTORED
def test_restored_guest_is_told(daemon, start_vm, ring, order):
    vm = start_vm(daemon, order=order)
    host, _sock = open_pair(daemon, vm.guest)
    vm.stop()
    bases = vm.bases
    vm.kill()
    host.drain()
    restore(vm, bases)
    until(lambda: vm.guest.events, "the event")
    forget_flows(vm.guest)
    assert_live(open_pair(daemon, vm.guest, 51, 5001))
    assert vm.guest.events == [TRANSPORT_RESET]


@pytest.mark.parametrize("event_idx", [True, False], ids=["event-idx", "flags"])
def test_nothing_is_received_before_the_event_was_taken(daemon, start_vm, ring, event_idx):
    vm = start_vm(daemon, order=orders.QemuGeneric, event_idx=event_idx)
    host, _sock = open_pair(daemon, vm.guest)
    vm.stop()
    vm.kill()
    host.drain()
    seen = []
    guest, post = vm.guest, vm.guest._post_event

    def taken():
        seen.append("taken")
        post()
    guest._post_event = taken
    guest.on_rx = lambda pkt: seen.append(pkt.op)
    forget_flows(guest)
    flow = guest.flow(4444, 9999)
    restore(vm, vm.bases)
    flow.tx(OP_RW, b"of a connection that is gone", wait=False)
    flow.expect(OP_RST)
    assert seen[0] == "taken" and OP_RST in seen
    assert guest.events == [TRANSPORT_RESET]


def test_new_guest_is_told_nothing(daemon, start_vm, ring):
    vm = start_vm(daemon, order=orders.QemuGeneric)
    assert_live(open_pair(daemon, vm.guest))
    vm.stop()
    vm.cont()
    vm.stop()
    vm.fe.reset_device()
    vm.guest.reboot()
    vm.order.activate(vm.fe, vm.guest)
    vm.guest.start()
    assert_live(open_pair(daemon, vm.guest, 51))
    assert not vm.guest.events


def test_without_an_event_queue(daemon, start_vm, ring):
    """QEMU keeps it: the guest learns by RST, and new connections work."""
    vm = start_vm(daemon, order=orders.Qemu10)
    host, sock = open_pair(daemon, vm.guest)
    vm.stop()
    vm.kill()
    host.drain()
    restore(vm, vm.bases)
    sock.tx(OP_RW, b"of a connection that is gone")
    until(lambda: sock.reset, "RST")
    assert_live(open_pair(daemon, vm.guest, 51, 5001))


def test_driver_without_event_buffers(daemon, start_vm, ring):
    """It cannot be told; it is not kept waiting for ever."""
    vm = start_vm(daemon, order=orders.QemuGeneric)
    vm.guest.sync()
    vm.stop()
    bases = vm.bases
    vm.kill()
    vm.guest.ev.reset()
    bases[2] = vm.guest.ev.first_base
    restore(vm, bases)
    assert_live(open_pair(daemon, vm.guest, 51, 5001))
    assert not vm.guest.events


def test_after_a_crash_of_the_daemon(start_daemon, start_vm, ring):
    """A front-end that reconnects says where its rings are: the guest is told."""
    daemon = start_daemon()
    vm = start_vm(daemon, order=orders.QemuGeneric)
    host, _sock = open_pair(daemon, vm.guest)
    vm.guest.sync()
    vm.stop()
    bases = vm.bases
    daemon.kill()
    host.drain()
    daemon.spawn()
    restore(vm, bases)
    until(lambda: vm.guest.events, "the event")
    forget_flows(vm.guest)
    assert_live(open_pair(daemon, vm.guest, 51, 5001))
