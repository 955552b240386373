# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Fixtures of the protocol tests: daemons and VMs that are taken down again."""

import os
import random
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import control  # noqa: E402
import gsocket  # noqa: E402
import tally  # noqa: E402
import waiting  # noqa: E402
from daemon import Daemon  # noqa: E402
from vm import Vm  # noqa: E402


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Let fixtures know whether the test itself passed."""
    outcome = yield
    if call.when == "call":
        item.failed_in_call = outcome.get_result().failed


@pytest.fixture(autouse=True)
def tallied(request):
    """Each test's record says how much it tried."""
    tally.take()
    yield
    request.node.user_properties += sorted(tally.take().items())


@pytest.fixture
def start_daemon(request):
    """Start daemons; those still running at the end must stop cleanly."""
    running = []

    def start(*args, **kw):
        daemon = Daemon(*args, **kw)
        running.append(daemon)
        return daemon
    yield start
    failed = getattr(request.node, "failed_in_call", True)
    try:
        for daemon in running:
            if failed and daemon.proc is not None:
                daemon.proc.poll()
                print(f"daemon {daemon.argv}, exit code {daemon.proc.returncode}:\n"
                      f"{daemon.stderr()[-8000:]}")
            else:
                daemon.stop()
    finally:
        for daemon in running:
            daemon.remove()


def pytest_generate_tests(metafunc):
    """Run the tests of a module over the ring formats that it names in RINGS."""
    rings = getattr(metafunc.module, "RINGS", None)
    chosen = any("ring" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if rings and not chosen and "ring" in metafunc.fixturenames:
        metafunc.parametrize("ring", rings)


@pytest.fixture
def ring():
    """The format of the VMs' rings: "split", "packed", or "mixed" for packed and split in turn."""
    return "split"


@pytest.fixture
def start_vm(start_daemon, ring):
    """Start VMs; depends on start_daemon so that VMs go first at the end."""
    running = []

    def start(daemon, cid=None, **kw):
        kw.setdefault("ring", ("packed", "split")[len(running) % 2] if ring == "mixed" else ring)
        vm = Vm(daemon.vm(cid), **kw)
        running.append(vm)
        return vm
    yield start
    for vm in running:
        vm.close()
    waiting.unregister_all()


@pytest.fixture
def daemon(start_daemon):
    return start_daemon()


@pytest.fixture
def vm(daemon, start_vm):
    return start_vm(daemon)


@pytest.fixture
def guest(vm):
    return vm.guest


@pytest.fixture
def pattern():
    """Reproducible bytes that do not repeat."""
    def make(size, seed=1):
        return random.Random(seed).randbytes(size)
    return make


@pytest.fixture
def start_controlled(start_daemon, tmp_path):
    """Start a daemon with a control socket: (daemon, a client of it)."""
    clients = []

    def start(*args, **kw):
        kw["args"] = [*kw.get("args", ()), *control.options(tmp_path)]
        daemon = start_daemon(*args, directory=str(tmp_path), **kw)
        clients.append(control.Control(control.path_of(daemon)))
        return daemon, clients[-1]
    yield start
    for client in clients:
        client.close()


@pytest.fixture
def live(daemon, guest):
    """A connection that must not notice anything: the host program's end and the guest's."""
    door = daemon.listen(70)
    sock = gsocket.connect(guest, 7000, 70)
    return door.accept(), sock
