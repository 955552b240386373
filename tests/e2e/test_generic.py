# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The same device behind QEMU's generic vhost-user frontend, where the version has it.

It gives the guest every feature the daemon offers, a third ring for events, and reads the
configuration space from the daemon at each access.
"""

import hostside
import pytest
import world as worlds

RING_PACKED, IN_ORDER = 34, 35


@pytest.fixture(scope="module")
def generic_world(request, pair):
    """A daemon whose guests have the generic device."""
    if pair.generic_device is None:
        pytest.skip(f"{pair} has no generic vhost-user device")
    made = worlds.World(pair, device="generic")
    yield made
    made.close(keep=bool(getattr(request.session, "e2e_failed", False)))


@pytest.fixture
def generic(generic_world):
    """A running guest with the generic device."""
    return generic_world, generic_world.ensure(worlds.FIRST)[0]


def test_cid_is_read_from_the_daemon(generic):
    """The driver finds its CID in the configuration space."""
    _world, guest = generic
    assert guest.call("local_cid").result() == worlds.FIRST


def test_ring_features(generic):
    """Packed rings, and in-order use where the guest's kernel knows it."""
    world, guest = generic
    wanted = {RING_PACKED, IN_ORDER} if world.pair.kernel_version >= (7, 0) else {RING_PACKED}
    assert guest.vsock_features() >= wanted


@pytest.mark.parametrize("direction", ("to_guest", "to_host"))
def test_both_ways(generic, direction):
    """8 MiB each way at once."""
    world, guest = generic
    total = 8 << 20
    inside, outside = getattr(world, direction)(
        guest, ("exchange", {"seed": 1, "total": total, "expect": total}),
        ("exchange", {"seed": 2, "total": total, "expect": total}))
    assert inside["received"] == {"bytes": total, "sha256": outside["sent"]}
    assert outside["received"] == {"bytes": total, "sha256": inside["sent"]}


def test_one_large_write(generic):
    """A single write of 1 MiB, in indirect descriptors where the guest likes them."""
    world, guest = generic
    inside, outside = world.to_host(guest, ("one_write", {"seed": 3, "total": 1 << 20}),
                                    ("sink", {"expect": 1 << 20}))
    assert outside == {"bytes": 1 << 20, "sha256": inside["sent"]}


def test_reboot(generic):
    """A reboot ends connections; the device works afterwards."""
    world, guest = generic
    port = world.port()
    serving = guest.call("serve", port=port, mode="hold", options={"greeting": "hello"})
    serving.wait_out("listening")
    sock = hostside.dial(world.vm().uds, port)
    assert sock.recv(5) == b"hello"
    guest.reboot()
    assert hostside.ending(sock) in ("EOF", "RESET")
    inside, outside = world.to_host(guest, ("source", {"total": 100_000}), ("sink", {}))
    assert outside == {"bytes": 100_000, "sha256": inside["sent"]}
