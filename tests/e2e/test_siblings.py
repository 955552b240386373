# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guest to guest: groups, bulk data, refusal, and a sibling that dies."""

import errno

import pytest
from world import FIRST, SECOND, STRANGER

BULK = 16 << 20


def test_bulk_between_siblings(world, siblings):
    """16 MiB each way at once, in both roles, hashes equal."""
    first, second = siblings
    for server, client in ((first, second), (second, first)):
        served, called = world.between(
            server, client, ("exchange", {"seed": 1, "total": BULK, "expect": BULK}),
            ("exchange", {"seed": 2, "total": BULK, "expect": BULK}))
        assert served["received"] == {"bytes": BULK, "sha256": called["sent"]}
        assert called["received"] == {"bytes": BULK, "sha256": served["sent"]}
        assert served["peer"][0] == client.cid


def test_half_close_between_siblings(world, siblings):
    """The client ends its stream; the server's answer still arrives."""
    served, called = world.between(siblings[0], siblings[1], ("digest", {}),
                                   ("ask", {"seed": 4, "total": 200_000}))
    assert served["sha256"] == called["sent"] == called["answer"]


def test_one_large_write_between_siblings(world, siblings):
    """A single write of 1 MiB."""
    served, called = world.between(siblings[0], siblings[1], ("sink", {"expect": 1 << 20}),
                                   ("one_write", {"seed": 5, "total": 1 << 20}))
    assert (served["bytes"], served["sha256"]) == (1 << 20, called["sent"])


def test_sibling_without_listener(world, siblings):
    """A port nobody serves is refused by the sibling's kernel."""
    with pytest.raises(OSError) as failure:
        siblings[0].call("connect", cid=SECOND, port=world.port(), mode="sink").result()
    assert failure.value.errno == errno.ECONNRESET


def test_stranger_is_refused(world, siblings, stranger):
    """A guest of no common group cannot connect, nor be connected to."""
    port = world.port()
    servers = [siblings[0].call("serve", port=port, mode="sink"),
               stranger.call("serve", port=port, mode="sink")]
    for server in servers:
        server.wait_out("listening")
    for client, cid in ((stranger, FIRST), (siblings[0], STRANGER)):
        with pytest.raises(OSError) as failure:
            client.call("connect", cid=cid, port=port, mode="sink").result()
        assert failure.value.errno == errno.ECONNRESET
    for server in servers:
        assert server.running()
        server.kill()


def test_sibling_killed(world, siblings):
    """A sibling that dies ends its peer's connection; reborn, it is reachable again."""
    first, second = siblings
    port = world.port()
    serving = second.call("serve", port=port, mode="hold", options={"greeting": "hi"})
    serving.wait_out("listening")
    calling = first.call("connect", cid=SECOND, port=port, mode="hold")
    calling.wait_out("holding")
    serving.wait_out("holding")
    second.kill()
    assert calling.result()["end"] in ("EOF", "ECONNRESET")
    first, second = world.ensure(FIRST, SECOND)
    served, called = world.between(second, first, ("sink", {}), ("source", {"total": 100_000}))
    assert served["sha256"] == called["sent"]


def test_sibling_that_does_not_read(world, siblings):
    """A stalled connection to a sibling holds up neither guest's other connections."""
    first, second = siblings
    port = world.port()
    serving = second.call("serve_late", port=port)
    serving.wait_out("listening")
    stalled = first.call("connect", cid=SECOND, port=port, mode="flood")
    stalled.wait_out("flooding")
    served, called = world.between(second, first, ("sink", {}), ("source", {"total": 1 << 20}))
    assert served["sha256"] == called["sent"]
    inside, outside = world.to_host(first, ("source", {"total": 1 << 20}), ("sink", {}))
    assert outside["sha256"] == inside["sent"]
    assert stalled.running()
    stalled.kill()
    serving.write(b"go\n")
    assert serving.result()["bytes"] > 0
