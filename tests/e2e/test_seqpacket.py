# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""SOCK_SEQPACKET of real guests: messages stay whole, both ways, whoever connected."""

import socket

import hostside
import peer
import pytest
from world import HOST_CID

WINDOW = 256 * 1024
COUNT = 400


def pair_of_options(largest):
    """Options of the two ends of an exchange."""
    return ({"seed": 1, "count": COUNT, "largest": largest, "expect": COUNT},
            {"seed": 2, "count": COUNT, "largest": largest, "expect": COUNT})


def check(inside, outside, largest):
    """Each end read what the other sent, message by message, and then the end."""
    assert inside == {"received": peer.digest_of_records(2, COUNT, largest), "rest": 0}
    assert outside == {"received": peer.digest_of_records(1, COUNT, largest), "rest": 0}


@pytest.mark.parametrize("largest", (100, 60_000, WINDOW))
def test_guest_connects(world, guest, largest):
    """To a socket of the host, both ways at once."""
    port = world.port()
    inner, outer = pair_of_options(largest)
    with hostside.listen(world.vm().port(port), kind=socket.SOCK_SEQPACKET) as listener:
        calling = guest.call("connect_records", cid=HOST_CID, port=port, mode="records",
                             options=inner)
        sock = hostside.accept(listener)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    outside = peer.act(sock, "records", outer)
    check(calling.result(120), outside, largest)


@pytest.mark.parametrize("largest", (100, 60_000, WINDOW))
def test_host_connects(world, guest, largest):
    """To a socket of the guest, both ways at once."""
    port = world.port()
    inner, outer = pair_of_options(largest)
    serving = guest.call("serve_records", port=port, mode="records", options=inner)
    serving.wait_out("listening")
    outside = peer.act(hostside.dial_records(world.vm().uds, port), "records", outer)
    check(serving.result(120), outside, largest)


@pytest.mark.parametrize("largest", (100, 60_000, WINDOW))
def test_between_siblings(world, siblings, largest):
    """Guest to guest, both ways at once."""
    port = world.port()
    inner, outer = pair_of_options(largest)
    serving = siblings[0].call("serve_records", port=port, mode="records", options=inner)
    serving.wait_out("listening")
    calling = siblings[1].call("connect_records", cid=siblings[0].cid, port=port, mode="records",
                               options=outer)
    check(serving.result(120), calling.result(120), largest)


def test_message_longer_than_the_guest_takes(world, guest):
    """The connection ends, both see it, and the daemon says why."""
    port = world.port()
    serving = guest.call("serve_records", port=port, mode="one_record", options={"size": 1})
    serving.wait_out("listening")
    sock = hostside.dial_records(world.vm().uds, port)
    with sock:
        sock.send(bytes(WINDOW + 1))
        assert hostside.ending(sock) in ("EOF", "RESET")
    serving.result(60)
    hostside.wait_for(lambda: "message of the host longer than its buffer"
                      in (world.dir / "stderr").read_text(errors="replace"), "line in the log")


@pytest.mark.parametrize("kind", (socket.SOCK_SEQPACKET, socket.SOCK_STREAM))
def test_readiness_as_systemd_tells_it(world, guest, kind):
    """vmm.notify_socket=vsock:2:PORT, with either type of socket on the host."""
    port = world.port()
    state = "READY=1\nSTATUS=up\n"
    with hostside.listen(world.vm().port(port), kind=kind) as listener:
        calling = guest.call("notify", cid=HOST_CID, port=port, state=state)
        with hostside.accept(listener) as sock:
            data = b"".join(iter(lambda: sock.recv(4096), b""))
    assert data == state.encode()
    used = "seqpacket" if kind == socket.SOCK_SEQPACKET else "stream"
    assert calling.result(60) == used
