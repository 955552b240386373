# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How connections end: half close, refusal, and either peer being killed."""

import errno
import multiprocessing
import os
import signal
import socket

import hostside
import peer
import pytest
from world import HOST_CID

DIRECTIONS = ("to_guest", "to_host")
SIZE = 300_000


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_host_half_close(world, guest, direction):
    """The host ends its stream; the guest sees that end and its answer still arrives."""
    inside, outside = getattr(world, direction)(
        guest, ("digest", {}), ("ask", {"seed": 1, "total": SIZE}))
    assert inside == dict(inside, bytes=SIZE, sha256=outside["sent"])
    assert outside["answer"] == outside["sent"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_guest_half_close(world, guest, direction):
    """The guest ends its stream; the host sees that end and its answer still arrives."""
    inside, outside = getattr(world, direction)(
        guest, ("ask", {"seed": 2, "total": SIZE}), ("digest", {}))
    assert outside == {"bytes": SIZE, "sha256": inside["sent"]}
    assert inside["answer"] == inside["sent"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_close_with_data_under_way(world, guest, direction):
    """What the guest wrote before it closed arrives all the same."""
    inside, outside = getattr(world, direction)(
        guest, ("source", {"seed": 3, "total": 5_000_000}), ("sink", {}))
    assert outside == {"bytes": 5_000_000, "sha256": inside["sent"]}


def test_no_listener_on_host(world, guest):
    """A host port that nobody serves is refused, not left to time out."""
    with pytest.raises(OSError) as failure:
        guest.call("connect", cid=HOST_CID, port=world.port(), mode="sink").result()
    assert failure.value.errno == errno.ECONNRESET


def test_stale_socket_on_host(world, guest):
    """A socket file whose listener is gone is refused in the same way."""
    port = world.port()
    hostside.listen(world.vm().port(port)).close()
    with pytest.raises(OSError) as failure:
        guest.call("connect", cid=HOST_CID, port=port, mode="sink").result()
    assert failure.value.errno == errno.ECONNRESET


def test_no_listener_in_guest(world, guest):
    """A guest port that nobody serves: the host's socket is closed without a text."""
    with pytest.raises(ConnectionError):
        hostside.dial(world.vm().uds, world.port())


def test_unknown_cid(world, guest):
    """A CID of no VM is refused."""
    with pytest.raises(OSError) as failure:
        guest.call("connect", cid=4242, port=world.port(), mode="sink").result()
    assert failure.value.errno == errno.ECONNRESET


def test_guest_program_killed(world, guest):
    """A program killed in the guest in mid-stream: the host's end ends."""
    port = world.port()
    with hostside.listen(world.vm().port(port)) as listener:
        calling = guest.call("connect", cid=HOST_CID, port=port, mode="flood")
        sock = hostside.accept(listener)
    with sock:
        assert sock.recv(1 << 16)
        calling.kill()
        assert hostside.ending(sock) in ("EOF", "RESET")
    assert calling.wait().code == -signal.SIGKILL


def host_program(uds, port, ready):
    """Body of a process that floods the guest until it is killed."""
    sock = hostside.dial(uds, port)
    sock.sendall(bytes(1000))
    ready.set()
    peer.act(sock, "flood")


def test_host_program_killed(world, guest):
    """A program killed on the host in mid-stream: the guest's end ends."""
    port = world.port()
    serving = guest.call("serve", port=port, mode="hold")
    serving.wait_out("listening")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=host_program, args=(world.vm().uds, port, ready), daemon=True)
    process.start()
    assert ready.wait(30)
    serving.wait_out("holding")
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    result = serving.result()
    assert result["end"] in ("EOF", "ECONNRESET")
    assert result["bytes"] >= 1000


def test_host_closes_unread(world, guest):
    """The host closes with data unread: the guest's writer fails, others go on."""
    port = world.port()
    with hostside.listen(world.vm().port(port)) as listener:
        calling = guest.call("connect", cid=HOST_CID, port=port, mode="flood")
        sock = hostside.accept(listener)
    assert sock.recv(100)
    sock.close()
    assert calling.result()["end"] in ("EPIPE", "ECONNRESET")
    inside, outside = world.to_host(guest, ("source", {"total": 1000}), ("sink", {}))
    assert outside == {"bytes": 1000, "sha256": inside["sent"]}


def test_client_leaves_at_once(world, guest):
    """Clients that leave before, during and after CONNECT leave the device working."""
    port = world.port()
    serving = guest.call("serve_forever", port=port, mode="echo")
    serving.wait_out("listening")
    for text in (b"", b"CONN", b"CONNECT %d\n" % port, b"CONNECT 99999999999\n", b"\0" * 300):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(world.vm().uds))
            sock.sendall(text)
    with hostside.dial(world.vm().uds, port) as sock:
        sock.sendall(b"still there?")
        sock.shutdown(socket.SHUT_WR)
        assert peer.receive(sock)["bytes"] == 12
    serving.kill()
