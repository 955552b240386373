# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Live migration: no byte that the device writes escapes the log of written pages."""

import os
import select

import pytest

import gsocket
import gseqpacket
import orders
from driver import HEADER_SIZE
from hostsock import assert_live, stream
from migration import Copier, DirtyLog, TrackedMemory
from vhost_user import F_SEQPACKET, F_STREAM, Closed, new_eventfd
from virtqueue import drain_eventfd
from waiting import until

RINGS = ("split", "packed")
SHAPES = {"4k": (3776,), "header-apart": (HEADER_SIZE, 4096), "pieces": (20, 24, 100, 3000, 5000)}


@pytest.fixture
def start(daemon, start_vm):
    """Start a VM whose memory is watched."""
    def make(cid=None, **kw):
        kw.setdefault("socket_types", F_STREAM | F_SEQPACKET)
        return start_vm(daemon, cid, mem=TrackedMemory(), **kw)
    return make


@pytest.fixture
def copying():
    """Start copying VMs; passes are made while packets come."""
    copiers = []

    def begin(vm, every=7, **kw):
        copier = Copier(vm, **kw)
        copiers.append(copier)
        copier.start()
        count = 0

        def on_rx(_pkt):
            nonlocal count
            count += 1
            if count % every == 0:
                copier.do_pass()
        vm.guest.on_rx = on_rx
        return copier
    yield begin
    for copier in copiers:
        copier.close()


def finish(copier):
    """Stop the rings, make the last pass, compare everything."""
    copier.vm.stop()
    copier.do_pass()
    bad = copier.differing()
    assert not bad, f"{len(bad)} pages were not logged, the first at {bad[0]:#x}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("event_idx", [True, False], ids=["event-idx", "flags"])
def test_no_page_is_missed_under_load(daemon, start, copying, pattern, ring, shape, event_idx):
    vm = start(rx_shape=SHAPES[shape], event_idx=event_idx, queue_size=64)
    host, sock = gsocket.open_pair(daemon, vm.guest)
    copier = copying(vm)
    data = pattern(600_000)
    for _ in range(3):
        assert stream([(host, data, sock), (sock, data[::-1], host)]) == [data, data[::-1]]
    assert copier.passes > 20
    finish(copier)
    vm.guest.on_rx = None
    vm.cont()
    assert_live((host, sock))


def test_no_page_is_missed_when_only_the_device_writes(daemon, start, copying, pattern, ring):
    """The guest stands still: whatever changes is the device's doing."""
    vm = start(queue_size=256)
    host, _sock = gsocket.open_pair(daemon, vm.guest)
    copier = copying(vm)
    vm.guest.sync()
    copier.do_pass()
    assert not copier.mem.written
    used = vm.guest.rx.used_index()
    host.send_now(pattern(200_000))
    select.select([vm.guest.rx.call], [], [], 10)
    copier.vm.stop()
    assert vm.guest.rx.used_index() != used
    assert not copier.mem.written
    pages = copier.do_pass()
    assert not copier.differing()
    # and the log does not just say everything
    assert 0 < len(pages) < 300


@pytest.mark.parametrize("size", [1, 5000, 200_000])
def test_messages(daemon, start, copying, pattern, ring, size):
    """A message longer than the ring's buffers goes another way than a short one."""
    vm = start(queue_size=32)
    listener = gseqpacket.SeqListener(vm.guest, 90)
    host = daemon.connect_seqpacket(90)
    sock = listener.accept()
    copier = copying(vm)
    data = pattern(size)
    for _ in range(8):
        host.send_record(data)
        assert sock.recv_message() == data
        sock.send_message(data)
        assert host.recv_record() == data
    finish(copier)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_siblings(start_daemon, start_vm, copying, pattern, ring, threads):
    """A sibling's thread writes into this guest's memory, and into this guest's log."""
    daemon = start_daemon(cids=(3, 4), args=["--threads", threads])
    vms = [start_vm(daemon, cid, mem=TrackedMemory(), queue_size=64) for cid in (3, 4)]
    listener = gsocket.Listener(vms[0].guest, 80)
    right = gsocket.connect(vms[1].guest, 4000, 80, peer_cid=3)
    left = listener.accept()
    copiers = [copying(vm) for vm in vms]
    data = pattern(500_000)
    assert stream([(left, data, right), (right, data[::-1], left)]) == [data, data[::-1]]
    for copier in copiers:
        finish(copier)


def test_connections_come_and_go(daemon, start, copying, ring):
    """Control packets and resets are written like everything else."""
    vm = start()
    copier = copying(vm, every=3)
    for i in range(30):
        host, sock = gsocket.open_pair(daemon, vm.guest, 60, 6000 + i)
        sock.close()
        host.recv_eof()
        vm.guest.sync()
    finish(copier)


def test_log_is_replaced_while_it_is_used(daemon, start, copying, pattern, ring):
    """The bits of the old log are complete once the new one is acknowledged."""
    vm = start()
    host, sock = gsocket.open_pair(daemon, vm.guest)
    copier = copying(vm)
    data = pattern(150_000)
    mappings = daemon.mapping_count()
    for turn in range(6):
        assert stream([(host, data, sock)]) == [data]
        old, copier.log = copier.log, DirtyLog(copier.mem, offset=4096 * (turn % 3))
        vm.fe.set_log_base(copier.log.fd, copier.log.size, copier.log.offset)
        copier.copy_pages(old.take())
        assert not old.take()
        old.close()
    assert daemon.mapping_count() == mappings
    finish(copier)


def test_switched_off_and_on_again(daemon, start, copying, pattern, ring):
    """A migration is given up; another one follows."""
    vm = start()
    live = gsocket.open_pair(daemon, vm.guest)
    copier = copying(vm)
    assert_live(live)
    copier.set_logging(False)
    copier.do_pass()
    assert_live(live)
    assert not copier.log.take()
    copier.start()
    assert_live(live)
    finish(copier)


def test_log_that_is_too_small(daemon, start, copying, ring):
    """Pages beyond it are left out, nothing else happens, and the log says so."""
    vm = start()
    live = gsocket.open_pair(daemon, vm.guest)
    small = DirtyLog(vm.guest.mem, size=64)
    copying(vm, log=small)
    assert_live(live)
    assert not small.take()
    until(lambda: "is not logged" in daemon.stderr(), "a line about it")


def test_log_that_shrinks(start_daemon, start_vm, copying, ring):
    """It costs the VM that did it its session; a neighbour does not notice."""
    daemon = start_daemon(cids=(3, 4))
    vm = start_vm(daemon, 3, mem=TrackedMemory())
    neighbour = start_vm(daemon, 4)
    live = gsocket.open_pair(daemon, neighbour.guest, 70, 7000)
    host, sock = gsocket.open_pair(daemon, vm.guest)
    log = DirtyLog(vm.guest.mem)
    vm.fe.set_log_base(log.fd, log.size)
    Copier.set_logging(CopierOf(vm), True)
    os.ftruncate(log.fd, 0)
    sock.send_now(b"one more")
    vm.fe.wait_closed()
    host.drain()
    assert_live(live)


class CopierOf:
    """Just enough of a Copier to switch logging."""

    set_rings = Copier.set_rings

    def __init__(self, vm):
        self.vm = vm


def test_log_descriptor_is_signalled(daemon, start, copying):
    vm = start()
    event = new_eventfd()
    vm.fe.set_log_fd(event, need_reply=True)
    drain_eventfd(event)
    live = gsocket.open_pair(daemon, vm.guest)
    assert not drain_eventfd(event)
    copying(vm)
    assert_live(live)
    until(lambda: drain_eventfd(event), "a signal for the log")
    os.close(event)


def test_feature_without_a_log(daemon, start_vm, pattern):
    """Cloud Hypervisor acknowledges the feature at once and brings a log when it migrates."""
    vm = start_vm(daemon, order=orders.CloudHypervisor, start=False)
    features = vm.order.driver_features
    vm.order.driver_features = lambda guest: features(guest) | 1 << 26
    vm.boot()
    assert_live(gsocket.open_pair(daemon, vm.guest))


def test_log_without_a_descriptor(daemon, start):
    """The kernel's way, an address in the front-end, cannot work here."""
    vm = start()
    vm.fe.send(6, bytes(8), need_reply=False)
    with pytest.raises(Closed):
        vm.fe.get_features()


