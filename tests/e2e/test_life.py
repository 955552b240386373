# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guests and daemons that come and go: reboot, pause, VMM killed, daemon restarted."""

import signal
import socket

import hostside
import peer
import pytest
from guest import Guest
from world import FIRST, HOST_CID, World

PORT = 1024


def held_connections(world, guest):
    """Return host sockets of a connection made by each side, with traffic seen on both."""
    serving = guest.call("serve", port=PORT, mode="hold", options={"greeting": "hello"})
    serving.wait_out("listening")
    inward = hostside.dial(world.vm().uds, PORT)
    assert inward.recv(5) == b"hello"
    with hostside.listen(world.vm().port(PORT)) as listener:
        calling = guest.call("connect", cid=HOST_CID, port=PORT, mode="hold",
                             options={"greeting": "hello"})
        outward = hostside.accept(listener)
    assert outward.recv(5) == b"hello"
    calling.wait_out("holding")
    return [inward, outward]


def check_traffic(world, guest):
    """Connections of both directions work, over ports that were used before."""
    for sock in held_connections(world, guest):
        sock.close()
    for direction in (world.to_guest, world.to_host):
        inside, outside = direction(guest, ("source", {"seed": 9, "total": 500_000}), ("sink", {}))
        assert outside == {"bytes": 500_000, "sha256": inside["sent"]}


@pytest.mark.parametrize("hard", (False, True), ids=("by guest", "by reset"))
def test_reboot(world, guest, hard):
    """A reboot ends every connection on the host; the new guest is served, on the same ports."""
    before = held_connections(world, guest)
    guest.reboot(hard)
    assert [hostside.ending(sock) in ("EOF", "RESET") for sock in before] == [True, True]
    assert guest.call("local_cid").result() == FIRST
    check_traffic(world, guest)


def test_stop_and_continue(world, guest):
    """A paused guest keeps its connections, and the bytes sent meanwhile arrive."""
    port = world.port()
    serving = guest.call("serve", port=port, mode="digest")
    serving.wait_out("listening")
    with hostside.dial(world.vm().uds, port) as sock:
        early = peer.send_pattern(sock, 1, 100_000)
        guest.stop()
        sock.settimeout(0.5)
        sent = 0
        data = b"".join(peer.pattern(2, 8 << 20))
        try:
            while sent < len(data):
                sent += sock.send(data[sent:sent + 65536])
        except TimeoutError:
            pass
        assert 0 < sent < len(data), "a paused guest cannot have taken everything"
        guest.cont()
        sock.settimeout(hostside.TIMEOUT)
        sock.sendall(data[sent:])
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(100), b"")).decode()
    result = serving.result()
    assert result["bytes"] == 100_000 + len(data)
    assert answer == result["sha256"]
    assert early != answer
    check_traffic(world, guest)


def test_vmm_killed_and_replaced(world, guest):
    """QEMU dies in mid-stream; the same daemon serves the next one."""
    before = held_connections(world, guest)
    guest.kill()
    assert [hostside.ending(sock) in ("EOF", "RESET") for sock in before] == [True, True]
    again, = world.ensure(FIRST)
    assert again is not guest
    check_traffic(world, again)


def test_vmm_quits_and_is_replaced(world, guest):
    """QEMU ends in an orderly way; the same daemon serves the next one."""
    before = held_connections(world, guest)
    guest.quit()
    assert [hostside.ending(sock) in ("EOF", "RESET") for sock in before] == [True, True]
    again, = world.ensure(FIRST)
    check_traffic(world, again)


def test_daemon_restarted(world, guest):
    """The daemon stops on SIGTERM with connections open; a new one serves a new guest."""
    before = held_connections(world, guest)
    world.daemon.stop(signal.SIGTERM)
    assert [hostside.ending(sock) in ("EOF", "RESET") for sock in before] == [True, True]
    again, = world.ensure(FIRST)
    check_traffic(world, again)


@pytest.fixture
def replugged(pair):
    """A daemon and a guest of its own, whose QEMU comes back when the daemon does."""
    own = World(pair, options={"mem-slots": "off"})
    guest = Guest(pair, own.dir, "replugged", cid=FIRST,
                  extra=["-S", "-device", "pcie-root-port,id=root0,bus=pcie.0,chassis=1,slot=1"])
    try:
        own.ensure_daemon()
        own.guests[FIRST] = guest
        guest.start()
        guest.plug(own.vm().socket)
        guest.cont()
        guest.wait_ready()
        yield own
    finally:
        own.close(keep=own.suspect)


def test_daemon_restarted_under_a_running_vmm(replugged):
    """QEMU opens its session with the new daemon in the middle; a guest reboot brings it back."""
    world, guest = replugged, replugged.guests[FIRST]
    inside, outside = world.to_host(guest, ("source", {"total": 1000}), ("sink", {}))
    assert outside["sha256"] == inside["sent"]
    world.daemon.stop(signal.SIGTERM)
    hostside.wait_for(lambda: not guest.is_plugged(), "QEMU's notice of the daemon's end")
    world.daemon.start()
    hostside.wait_for(guest.is_plugged, "QEMU at the new daemon")
    guest.reboot()
    with pytest.raises(ConnectionResetError):  # refused, and not timed out on a dead device
        guest.call("connect", cid=HOST_CID, port=world.port(), mode="sink").result()
    inside, outside = world.to_host(guest, ("source", {"total": 1 << 20}), ("sink", {}))
    assert outside["sha256"] == inside["sent"]
