# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A driver and a front-end that others wrote: virtio-drivers behind rust-vmm's crate vhost.

VDV_RUST_FRONTEND names the program of tests/rust-frontend, which has to be built by hand, as its
crates take minutes: cargo build --manifest-path tests/rust-frontend/Cargo.toml
"""

import os
import subprocess

import pytest

from waiting import SCALE, until

PROGRAM = os.environ.get("VDV_RUST_FRONTEND")
HOST_PORT, GUEST_PORT = 90, 50
LIMIT = 60
TOTAL = 300_000

pytestmark = pytest.mark.skipif(not PROGRAM, reason="VDV_RUST_FRONTEND is not set")


@pytest.fixture
def program(daemon):
    """The guest's process, which connects to HOST_PORT first."""
    with subprocess.Popen([PROGRAM, daemon.vm().socket], stdout=subprocess.PIPE) as child:
        yield child
        child.kill()


def echo(host):
    """Send back what comes until the guest closes."""
    def step():
        data = host.recv_now()
        if data:
            host.send_all(data)
        return host.ended
    until(step, "the guest to close", LIMIT, [host])


def there_and_back(host, data):
    """Send all bytes while reading as many."""
    got = bytearray()
    sent = 0

    def step():
        nonlocal sent
        if sent < len(data):
            sent += host.send_now(data[sent:sent + 4096])
        got.extend(host.recv_now())
        return len(got) >= len(data) or host.ended
    until(step, lambda: f"{len(data) - len(got)} bytes", LIMIT, [host])
    return bytes(got)


def test_virtio_drivers_behind_vhost(daemon, pattern, request):
    door = daemon.listen(HOST_PORT)
    guest = request.getfixturevalue("program")
    host = door.accept(LIMIT)
    echo(host)
    assert host.ended == "eof"
    for line in guest.stdout:
        if line == b"listening\n":
            break
    host = daemon.connect(GUEST_PORT)
    data = pattern(TOTAL)
    assert there_and_back(host, data) == data
    host.close()
    assert guest.stdout.read() == b"served: %d bytes\n" % TOTAL
    assert guest.wait(LIMIT * SCALE) == 0
