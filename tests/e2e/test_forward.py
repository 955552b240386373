# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""forward-cid: AF_VSOCK behind the device, in a guest that has vsock_loopback.

The daemon runs inside a real guest, which stands for the host; guest/forward.py does the work.
"""

import json
from pathlib import Path

import daemon
import pytest
import world as worlds
from initramfs import GUEST_DIR, shared_objects

LIB_DIR = Path(__file__).resolve().parent.parent / "lib"
TARGET = "/run/vdv"
CHECKS = ("guest_to_host", "guest_to_any_cid", "host_to_guest", "guest_refused", "host_refused",
          "port_not_listed", "many", "messages_to_host", "messages_to_guest", "wrong_type")


def push_program(guest):
    """Put the daemon with its libraries and the test's own files into the guest."""
    program = daemon.binary()
    for library in shared_objects(program):
        if not guest.call("exists", path=library).result():
            guest.agent.put_file(library, library)
    guest.agent.put_file(program, f"{TARGET}/vhost-device-vsock")
    for source in [*LIB_DIR.glob("*.py"), GUEST_DIR / "forward.py"]:
        guest.agent.put_file(source, f"{TARGET}/{source.name}")


@pytest.fixture(scope="module")
def results(shared_world):
    """What each check said; they run once per pair."""
    guest, = shared_world.ensure(worlds.STRANGER)
    guest.load("vsock_loopback")
    push_program(guest)
    process = guest.popen(["python3", f"{TARGET}/forward.py", f"{TARGET}/vhost-device-vsock"],
                          PYTHONPATH=TARGET, VDV_TIME_SCALE="4")
    res = process.wait(240)
    found = {}
    for line in res.out.decode().splitlines():
        item = json.loads(line)
        found[item["check"]] = item["result"]
    return found, res


@pytest.mark.parametrize("name", CHECKS)
def test_forward(results, name):
    """One check of guest/forward.py."""
    found, res = results
    assert found.get(name) == "ok", found.get(name) or res


def test_daemon_in_guest_stops(results):
    """The daemon ended by itself on SIGTERM."""
    found, res = results
    assert res.code == 0, res
    assert found["exit"] == 0
