# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guest memory: as many regions as there may be, huge pages, memory that stays the guest's own."""

import mmap
import os

import pytest

import gsocket
import orders
from guestmem import Region
from hostsock import stream
from vhost_user import Nack
from virtqueue import drain_eventfd
from waiting import until

RINGS = ("split", "packed")
REGIONS = 509  # GMEM_MAX_REGIONS
FAR = 1 << 40
HUGE = 2 << 20


def connected(daemon, guest):
    """A connection of the guest with the host: (host program's end, guest's end)."""
    door = daemon.listen(80)
    sock = gsocket.connect(guest, 7000, 80)
    host = door.accept()
    door.close()
    return host, sock


def test_regions_come_and_go_under_traffic(daemon, start_vm, pattern):
    """Up to the bound and back, with bytes under way in both directions all the time."""
    vm = start_vm(daemon, order=orders.Alioth)
    host, sock = connected(daemon, vm.guest)
    data = pattern(20_000)
    step = 1 << 16
    shared = Region(FAR, step)
    many = []
    try:
        for i in range(REGIONS - len(vm.guest.mem.regions)):
            region = Region.__new__(Region)
            region.__dict__.update(gpa=FAR + i * 2 * step, uva=(1 << 46) + i * 2 * step,
                                   size=step, offset=0, fd=shared.fd)
            many.append(region)
        for i, region in enumerate(many):
            if i % 50 == 0:
                out = sock.send_now(data)
                vm.fe.add_mem_reg(region, need_reply=True)
                assert stream([(sock, data, host, out), (host, data, sock)]) == [data, data]
            else:
                vm.fe.add_mem_reg(region, need_reply=True)
        beyond = Region(FAR * 2, step)
        with pytest.raises(Nack):
            vm.fe.add_mem_reg(beyond, need_reply=True)
        beyond.close()
        for i, region in enumerate(many[::-1]):
            out = sock.send_now(data) if i % 50 == 0 else None
            vm.fe.rem_mem_reg(region, need_reply=True)
            if out is not None:
                assert stream([(sock, data, host, out), (host, data, sock)]) == [data, data]
    finally:
        shared.close()
    assert "one too many" in daemon.stderr()


def huge_region(gpa, size):
    """A region on huge pages; skips where the host has none."""
    try:
        fd = os.memfd_create("huge", os.MFD_CLOEXEC | os.MFD_HUGETLB)
        os.ftruncate(fd, size)
        mapped = mmap.mmap(fd, size)
        mapped[0] = 1  # nothing is reserved before the mapping
    except OSError as exc:
        pytest.skip(f"no huge pages here: {exc.strerror}")
    region = Region.__new__(Region)
    view = memoryview(mapped)
    region.__dict__.update(gpa=gpa, size=size, offset=0, uva=(1 << 46) + gpa, fd=fd, map=mapped,
                           view=view, u16=view.cast("H"))
    return region


def test_huge_pages(daemon, start_vm, pattern):
    """A region on huge pages: buffers there, at an offset that is no multiple of one."""
    with open("/proc/meminfo", encoding="ascii") as info:
        free = [line for line in info if line.startswith("HugePages_Free")]
    if not free or int(free[0].split()[1]) < 2:
        pytest.skip("no free huge pages on this host")
    vm = start_vm(daemon, order=orders.Alioth)
    region = huge_region(FAR, 2 * HUGE)
    vm.guest.mem.regions.append(region)
    part = Region.__new__(Region)
    part.__dict__.update(region.__dict__, gpa=FAR + 4096, uva=region.uva + 4096, offset=4096,
                         size=2 * HUGE - 4096)
    vm.fe.add_mem_reg(part, need_reply=True)
    host, sock = connected(daemon, vm.guest)
    data = pattern(100_000)
    assert stream([(sock, data, host), (host, data, sock)]) == [data, data]
    vm.fe.rem_mem_reg(part, need_reply=True)
    vm.guest.mem.regions.remove(region)


class BounceOnly(orders.Qemu10):
    """A VMM of a confidential guest: it tells the shared bounce buffers and nothing else."""

    name = "confidential"

    def send_memory(self, fe, guest):
        fe.set_mem_table([guest.mem.home], need_reply=True)


@pytest.mark.parametrize("slots", ("on", "off"))
def test_private_memory_is_not_needed(start_daemon, start_vm, pattern, slots):
    """Rings and buffers lie in the bounce buffers; all works without the rest of the guest."""
    daemon = start_daemon(options={"mem-slots": slots})
    vm = start_vm(daemon, order=BounceOnly)
    host, sock = connected(daemon, vm.guest)
    data = pattern(300_000)
    assert stream([(sock, data, host), (host, data, sock)]) == [data, data]
    vm.reboot()
    host, sock = connected(daemon, vm.guest)
    assert stream([(sock, data, host), (host, data, sock)]) == [data, data]


def test_private_memory_is_not_reached(daemon, start_vm):
    """A buffer outside of the bounce buffers breaks the guest's own ring and nothing else."""
    vm = start_vm(daemon, order=BounceOnly)
    private = vm.guest.mem.regions[0]
    assert private is not vm.guest.mem.home
    vm.guest.tx.add([(private.gpa + 0x1000, 44, False)])
    vm.guest.tx.publish()
    until(lambda: drain_eventfd(vm.guest.tx.err), "the ring's error descriptor")
    assert vm.fe.is_alive()
    assert bytes(private.view[:0x2000]) == bytes(0x2000)
