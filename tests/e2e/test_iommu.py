# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A guest whose vsock device is behind a virtual IOMMU: every address is translated."""

import pytest

import qemu
from guest import Guest
from world import FIRST, World

DEVICE = "vhost-user-vsock-pci,iommu_platform=on,ats=on,disable-legacy=on"
ACCESS_PLATFORM = 33


@pytest.fixture
def behind_iommu(pair):
    """A daemon with iommu=on and a guest of its own behind QEMU's intel-iommu."""
    own = World(pair, groups={FIRST: "red"}, options={"iommu": "on"})
    try:
        own.ensure_daemon()
        guest = Guest(pair, own.dir, "iommu", cid=FIRST, extra=[
            "-device", "intel-iommu,device-iotlb=on",
            "-append", f"{qemu.COMMAND_LINE} intel_iommu=on iommu.strict=1",
            *qemu.vsock_args(pair, own.vm().socket, DEVICE)])
        own.guests[FIRST] = guest
        guest.boot()
        yield own, guest
    finally:
        own.close(keep=own.suspect)


def test_bytes_of_both_directions(behind_iommu):
    world, guest = behind_iommu
    if not guest.run("ls /sys/class/iommu").out.strip():
        pytest.skip("this kernel has no driver for intel-iommu")
    assert ACCESS_PLATFORM in guest.vsock_features()
    for direction in (world.to_guest, world.to_host):
        inside, outside = direction(guest, ("source", {"seed": 9, "total": 500_000}), ("sink", {}))
        assert outside == {"bytes": 500_000, "sha256": inside["sent"]}
    guest.reboot()
    inside, outside = world.to_host(guest, ("source", {"total": 1 << 16}), ("sink", {}))
    assert outside["sha256"] == inside["sent"]
