# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Fixtures of the end-to-end tests: a daemon, real Linux guests under QEMU.

Environment:
  VDV_BIN      the daemon under test (default: build/vhost-device-vsock)
  VDV_SUITES   Debian suites to take QEMU and kernel from, by commas
               (default: bookworm,bookworm-backports; also trixie-backports, bullseye)
  VDV_ACCEL    tcg or kvm (default: kvm if a guest really boots with it)
  VDV_KEEP     when set, logs are kept even if all passes
"""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

import daemon  # noqa: E402
import qemu  # noqa: E402
import world as worlds  # noqa: E402

SUITES = os.environ.get("VDV_SUITES", "bookworm,bookworm-backports").split(",")


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Add what daemon and guests said to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for used in {v for v in getattr(item, "funcargs", {}).values() if isinstance(v, worlds.World)}:
        used.suspect = True
        item.session.e2e_failed = True
        report.sections.append(("logs kept in", str(used.dir)))
        report.sections.extend(used.logs())


@pytest.fixture(scope="session", params=SUITES)
def pair(request):
    """The QEMU and the kernel of one Debian suite."""
    return qemu.pair(request.param)


@pytest.fixture(scope="session")
def shared_world(request, pair):
    """The daemon and guests that the tests of one pair share."""
    if not os.access(daemon.binary(), os.X_OK):
        pytest.exit(f"no daemon to test: {daemon.binary()}", 2)
    shared = worlds.World(pair)
    yield shared
    shared.close(keep=bool(getattr(request.session, "e2e_failed", "VDV_KEEP" in os.environ)))


@pytest.fixture
def world(shared_world):
    """The shared daemon, running."""
    shared_world.ensure_daemon()
    return shared_world


@pytest.fixture
def guest(world):
    """A running guest."""
    return world.ensure(worlds.FIRST)[0]


@pytest.fixture
def siblings(world):
    """Two running guests that may reach each other."""
    return world.ensure(worlds.FIRST, worlds.SECOND)


@pytest.fixture
def stranger(world):
    """A running guest of another group."""
    return world.ensure(worlds.STRANGER)[0]
