# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The device status, and re-initialisation of a device without a new connection of its VMM."""

import pytest

from gsocket import open_pair
from hostsock import assert_live
from vhost_user import P_REPLY_ACK, P_STATUS, FrontEnd, Nack
from waiting import until

RINGS = ("split", "packed")
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET = 1, 2, 4, 8, 0x40
UP = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK


def restart(vm):
    """The guest's driver starts from nothing; the VMM says no memory again."""
    vm.guest.reboot()
    vm.order.activate(vm.fe, vm.guest)
    vm.guest.start()
    vm.fe.set_status(UP)


def test_driver_comes_up(daemon, start_vm, ring):
    vm = start_vm(daemon, start=False)
    vm.fe = FrontEnd(vm.paths.socket)
    vm.order.protocol |= P_STATUS
    vm.order.negotiate(vm.fe, vm.guest)
    assert vm.order.has(P_STATUS) and vm.fe.get_status() == 0
    for status in (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER):
        vm.fe.set_status(status)
        assert vm.fe.get_status() == status
    vm.order.activate(vm.fe, vm.guest)
    vm.guest.start()
    vm.fe.set_status(UP)
    assert vm.fe.get_status() == UP
    assert_live(open_pair(daemon, vm.guest))


def test_features_that_were_refused(daemon):
    with FrontEnd(daemon.vm().socket) as fe:
        fe.set_protocol_features(P_REPLY_ACK | P_STATUS)
        with pytest.raises(Nack):
            fe.set_features(1 << 63, need_reply=True)
        fe.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert fe.get_status() == ACKNOWLEDGE | DRIVER
        fe.set_features(fe.get_features(), need_reply=True)
        fe.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
        assert fe.get_status() == ACKNOWLEDGE | DRIVER | FEATURES_OK
        with pytest.raises(Nack):
            fe.set_status(0x100, need_reply=True)


def test_stop_with_status_zero(daemon, start_vm, ring):
    """QEMU: a VM that stops has status 0, and its driver goes on when it continues."""
    vm = start_vm(daemon)
    live = open_pair(daemon, vm.guest)
    vm.fe.set_status(UP)
    for _ in range(3):
        vm.stop()
        vm.fe.set_status(0)
        assert vm.fe.get_status() == 0
        vm.cont()
        vm.fe.set_status(UP)
        assert_live(live)


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "running"])
def test_reset_and_again(daemon, start_vm, ring, stopped):
    """Connections end each time, descriptors and memory stay what they are, the device works."""
    vm = start_vm(daemon)
    counts = None
    for _ in range(4):
        vm.fe.set_status(UP)
        host, sock = open_pair(daemon, vm.guest)
        assert_live((host, sock))
        if stopped:
            vm.stop()
        vm.fe.reset_device()
        assert vm.fe.get_status() == 0
        host.drain()
        host.close()
        restart(vm)
        assert_live(open_pair(daemon, vm.guest, 51))
        assert counts in (None, daemon.mapping_count())
        counts = daemon.mapping_count()


def test_status_zero_and_another_driver(daemon, start_vm, ring):
    """Without RESET_DEVICE the position of the rings tells that the guest has rebooted."""
    vm = start_vm(daemon)
    host, _sock = open_pair(daemon, vm.guest)
    vm.stop()
    vm.fe.set_status(0)
    restart(vm)
    host.drain()
    assert_live(open_pair(daemon, vm.guest, 51))


@pytest.mark.parametrize("ring", ["split"])
def test_broken_ring_needs_reset(daemon, start_vm, ring):
    vm = start_vm(daemon)
    vm.fe.set_status(UP)
    live = open_pair(daemon, vm.guest)  # its end would make the guest send, and repair the index
    assert_live(live)
    tx = vm.guest.tx
    tx.store16(tx.avail + 2, tx.next_avail + 5000)
    tx.do_kick()
    until(lambda: vm.fe.get_status() == UP | NEEDS_RESET, "a status that says so")
    vm.stop()
    vm.fe.reset_device()
    assert vm.fe.get_status() == 0
    restart(vm)
    assert vm.fe.get_status() == UP
    assert_live(open_pair(daemon, vm.guest, 51))
