# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Bytes between a guest and its host: whole, in order, both ways, whoever connected."""

import socket

import hostside
import peer
import pytest
from world import HOST_CID

BULK = 64 << 20
DIRECTIONS = ("to_guest", "to_host")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bulk_both_ways(world, guest, direction):
    """64 MiB each way at the same time, hashes equal."""
    inside, outside = getattr(world, direction)(
        guest, ("exchange", {"seed": 1, "total": BULK, "expect": BULK}),
        ("exchange", {"seed": 2, "total": BULK, "expect": BULK}))
    assert inside["received"] == {"bytes": BULK, "sha256": outside["sent"]}
    assert outside["received"] == {"bytes": BULK, "sha256": inside["sent"]}
    assert inside["sent"] == peer.digest_of(1, BULK)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_large_write(world, guest, direction):
    """A single write of 1 MiB: packets over 32 KiB, of many descriptors with newer kernels."""
    inside, outside = getattr(world, direction)(
        guest, ("one_write", {"seed": 3, "total": 1 << 20}), ("sink", {"expect": 1 << 20}))
    assert inside["written"] == 1 << 20
    assert outside == {"bytes": 1 << 20, "sha256": inside["sent"]}


@pytest.mark.parametrize("size", (1, 77, 4096, 40000))
def test_odd_writes_echoed(world, guest, size):
    """Writes of one size, echoed by the guest."""
    total = min(size * 300, 3_000_000)
    inside, outside = world.to_guest(
        guest, ("echo", {"expect": total}),
        ("exchange", {"seed": size, "total": total, "chunk": size, "expect": total}))
    assert inside["bytes"] == total
    assert outside["received"] == {"bytes": total, "sha256": outside["sent"]}


def test_small_writes_unread(world, guest):
    """Thousands of small packets pile up at a guest that reads late: none is lost or reset."""
    port = world.port()
    serving = guest.call("serve_late", port=port)
    serving.wait_out("listening")
    with hostside.dial(world.vm().uds, port) as sock:
        serving.wait_out("accepted")
        sock.settimeout(0.2)
        sent = 0
        try:
            # Until no byte is taken any more; the guest has read nothing so far.
            while sent < 20000:
                sock.sendall(b"%03d" % (sent % 1000))
                sent += 1
        except TimeoutError:
            pass
        sock.settimeout(hostside.TIMEOUT)
        sock.shutdown(socket.SHUT_WR)
        serving.write(b"go\n")
        got = serving.result()
        assert got["bytes"] >= sent * 3
        assert got["in_order"]


def test_many_connections_to_guest(world, guest):
    """200 connections at once with random sizes in both directions, host to guest."""
    port = world.port()
    sizes = peer.random_sizes(5, 200, 200_000)
    serving = guest.call("serve_crowd", port=port, mode="echo", count=len(sizes))
    serving.wait_out("listening")
    crowd = peer.Crowd()
    for index, size in enumerate(sizes):
        crowd.add(lambda: hostside.dial(world.vm().uds, port), "exchange",
                  {"seed": index, "total": size, "expect": size})
    for size, result in zip(sizes, crowd.join()):
        assert result["received"] == {"bytes": size, "sha256": result["sent"]}
    assert sorted(r["bytes"] for r in serving.result()) == sorted(sizes)


def test_many_connections_to_host(world, guest):
    """200 connections at once with random sizes in both directions, guest to host."""
    port = world.port()
    sizes = peer.random_sizes(6, 200, 200_000)
    crowd = peer.Crowd()
    with hostside.listen(world.vm().port(port)) as listener:
        calling = guest.call(
            "connect_crowd", cid=HOST_CID, port=port, mode="exchange",
            options=[{"seed": i, "total": size, "expect": size} for i, size in enumerate(sizes)])
        for _ in sizes:
            sock = hostside.accept(listener)
            crowd.add(lambda sock=sock: sock, "echo")
    echoed = crowd.join()
    for size, result in zip(sizes, calling.result(120)):
        assert result["received"] == {"bytes": size, "sha256": result["sent"]}
    assert sorted(r["bytes"] for r in echoed) == sorted(sizes)


def test_idle_neighbour_of_a_stalled_connection(world, guest):
    """A connection whose host end reads nothing does not hold up another one."""
    port = world.port()
    with hostside.listen(world.vm().port(port)) as listener:
        stalled = guest.call("connect", cid=HOST_CID, port=port, mode="flood")
        sock = hostside.accept(listener)
    with sock:
        stalled.wait_out("flooding")
        inside, outside = world.to_host(
            guest, ("exchange", {"seed": 1, "total": 1 << 20, "expect": 1 << 20}),
            ("exchange", {"seed": 2, "total": 1 << 20, "expect": 1 << 20}))
        assert inside["received"] == {"bytes": 1 << 20, "sha256": outside["sent"]}
        assert outside["received"] == {"bytes": 1 << 20, "sha256": inside["sent"]}
        assert stalled.running()
    assert stalled.result()["end"] in ("EPIPE", "ECONNRESET")
