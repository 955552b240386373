# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guests whose virtqueues are packed, and one beside them whose are split.

QEMU's vsock device has packed rings when it is told to: `packed=on`.
"""

import hostside
import pytest
import world as worlds

RING_PACKED = 34
DEVICE = "vhost-user-vsock-pci,packed=on"
TOTAL = 4 << 20


@pytest.fixture(scope="module")
def packed_world(request, pair):
    """A daemon whose first guest has packed rings."""
    made = worlds.World(pair, device={worlds.FIRST: DEVICE})
    yield made
    made.close(keep=bool(getattr(request.session, "e2e_failed", False)))


@pytest.fixture
def packed(packed_world):
    """A running guest with packed rings."""
    return packed_world, packed_world.ensure(worlds.FIRST)[0]


def test_rings_are_packed(packed):
    """Otherwise the other tests show nothing."""
    _world, guest = packed
    assert RING_PACKED in guest.vsock_features()


@pytest.mark.parametrize("direction", ("to_guest", "to_host"))
def test_both_ways(packed, direction):
    """Bytes each way at once."""
    world, guest = packed
    inside, outside = getattr(world, direction)(
        guest, ("exchange", {"seed": 1, "total": TOTAL, "expect": TOTAL}),
        ("exchange", {"seed": 2, "total": TOTAL, "expect": TOTAL}))
    assert inside["received"] == {"bytes": TOTAL, "sha256": outside["sent"]}
    assert outside["received"] == {"bytes": TOTAL, "sha256": inside["sent"]}


def test_one_large_write(packed):
    """A single write of 1 MiB: packets of several descriptors, chained or indirect."""
    world, guest = packed
    inside, outside = world.to_host(guest, ("one_write", {"seed": 3, "total": 1 << 20}),
                                    ("sink", {"expect": 1 << 20}))
    assert outside == {"bytes": 1 << 20, "sha256": inside["sent"]}


@pytest.mark.parametrize("server", (worlds.FIRST, worlds.SECOND))
def test_sibling_with_split_rings(packed_world, server):
    """Bytes each way between a guest with packed and one with split rings."""
    guests = {guest.cid: guest for guest in packed_world.ensure(worlds.FIRST, worlds.SECOND)}
    assert RING_PACKED not in guests[worlds.SECOND].vsock_features()
    one = guests.pop(server)
    (other,) = guests.values()
    serving, calling = packed_world.between(
        one, other, ("exchange", {"seed": 1, "total": TOTAL, "expect": TOTAL}),
        ("exchange", {"seed": 2, "total": TOTAL, "expect": TOTAL}))
    assert serving["received"] == {"bytes": TOTAL, "sha256": calling["sent"]}
    assert calling["received"] == {"bytes": TOTAL, "sha256": serving["sent"]}


def test_stop_and_continue(packed):
    """Both places of the rings go to QEMU and come back."""
    world, guest = packed
    port = world.port()
    serving = guest.call("serve", port=port, mode="hold", options={"greeting": "hello"})
    serving.wait_out("listening")
    sock = hostside.dial(world.vm().uds, port)
    assert sock.recv(5) == b"hello"
    for _ in range(3):
        guest.stop()
        guest.cont()
        inside, outside = world.to_host(guest, ("source", {"total": 100_000}), ("sink", {}))
        assert outside == {"bytes": 100_000, "sha256": inside["sent"]}
    sock.close()


def test_reboot(packed):
    """A reboot ends connections; the rings start anew."""
    world, guest = packed
    port = world.port()
    serving = guest.call("serve", port=port, mode="hold", options={"greeting": "hello"})
    serving.wait_out("listening")
    sock = hostside.dial(world.vm().uds, port)
    assert sock.recv(5) == b"hello"
    guest.reboot()
    assert hostside.ending(sock) in ("EOF", "RESET")
    assert RING_PACKED in guest.vsock_features()
    inside, outside = world.to_host(guest, ("source", {"total": 100_000}), ("sink", {}))
    assert outside == {"bytes": 100_000, "sha256": inside["sent"]}
