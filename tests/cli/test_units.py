# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The systemd units, as systemd's own tools see them. They run in tests/pkg."""

import os
import re
import shutil
import subprocess

import pytest

from daemon import binary

BUILD = os.path.dirname(os.path.abspath(binary()))
SERVICES = ["vhost-device-vsock.service", "vhost-device-vsock@.service"]
SOCKET = "vhost-device-vsock-vm@.socket"
MOST_EXPOSED = 15  # tenths

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


@pytest.fixture(name="units", scope="module")
def fixture_units(tmp_path_factory):
    """The installed units in a folder of their own, with programs that are there."""
    destination = tmp_path_factory.mktemp("install")
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir",
                    str(destination)], capture_output=True, timeout=120, check=True)
    units = tmp_path_factory.mktemp("units")
    programs = next(destination.rglob("bin/vhost-device-vsock")).parent
    for path in destination.rglob("system/vhost-device-vsock*"):
        text = re.sub(r"(?<==)/\S*/bin(?=/v)", str(programs), path.read_text())
        (units / path.name).write_text(text)
    assert {path.name for path in units.iterdir()} == {*SERVICES, SOCKET}
    return units


def analyze(*args, **options):
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60,
                          check=False, **options)


@pytest.mark.parametrize("name", SERVICES)
def test_exposure(units, name):
    """What an attacker has who took the service over, by systemd's own scale."""
    done = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", units / name)
    assert done.returncode == 0, done.stdout + done.stderr
    score = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout).group(1))
    assert 0 < score * 10 <= MOST_EXPOSED


def test_exposure_can_fail(units, tmp_path):
    """The threshold is looked at."""
    bare = tmp_path / "bare.service"
    bare.write_text(f"[Service]\nExecStart={units}\n")
    assert analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}",
                   bare).returncode != 0


def test_units_are_correct(units):
    """No unknown key, no missing program, nothing that systemd warns of."""
    done = analyze("verify", "--man=no", *(units / name.replace("@", "@3")
                                           for name in (*SERVICES, SOCKET)),
                   env=dict(os.environ, SYSTEMD_UNIT_PATH=f"{units}:"))
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "vhost-device" in line]
    assert done.returncode == 0 and ours == [], ours


def test_reload_asks_the_daemon_that_is_started(units):
    """The control socket of ExecReload= is the one of ExecStart=, in its RuntimeDirectory=."""
    for name in SERVICES:
        text = (units / name).read_text()
        paths = set(re.findall(r"^[^#\n]*--control (\S+)", text, re.M))
        directory = re.search(r"^RuntimeDirectory=(.*)$", text, re.M).group(1)
        assert paths == {f"/run/{directory}/control.sock"}
