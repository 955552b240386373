# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The RPM: built by rpmbuild from an archive of the sources, and what is in it.

There is no Fedora here: fedora.macros stands in for the macros of its packages, the libraries
are this machine's, and the scripts that create users are not run.
"""

import os
import shutil
import stat
import subprocess
import tarfile

import pytest

from daemon import ROOT
from tree import copy_sources, version

NAME = "vhost-device-vsock"
SPEC = os.path.join(ROOT, "packaging", "rpm", f"{NAME}.spec")
MACROS = os.path.join(ROOT, "tests", "pkg", "fedora.macros")
BUILD_S = 900


@pytest.fixture(name="rpm", scope="module")
def fixture_rpm(tmp_path_factory):
    """The path of the package."""
    absent = [name for name in ("rpmbuild", "rpm2archive") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"no {', '.join(absent)}: scripts/install-deps package")
    top = tmp_path_factory.mktemp("rpm")
    release = f"{NAME}-{version()}"
    sources = copy_sources(top / release)
    os.mkdir(top / "SOURCES")
    with tarfile.open(top / "SOURCES" / f"{release}.tar.gz", "w:gz") as archive:
        archive.add(sources, release)
    done = subprocess.run(["rpmbuild", "-bb", "--nodeps", f"--load={MACROS}",
                           "--define", f"_topdir {top}", SPEC],
                          capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    found = list((top / "RPMS").rglob("*.rpm"))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(name="unpacked", scope="module")
def fixture_unpacked(rpm):
    """The folder where its files are."""
    subprocess.run(["rpm2archive", rpm], check=True, timeout=60)
    folder = rpm.parent / "unpacked"
    with tarfile.open(f"{rpm}.tgz") as archive:
        archive.extractall(folder)
    return folder


def test_programs_run(unpacked):
    for name in (NAME, "vsockctl"):
        done = subprocess.run([unpacked / "usr/bin" / name, "--version"], capture_output=True,
                              text=True, timeout=30, check=False)
        assert (done.returncode, version() in done.stdout) == (0, True), done


def test_configuration_is_accepted(unpacked):
    """The file it installs is one that the daemon it installs takes."""
    done = subprocess.run([unpacked / "usr/bin" / NAME, "--check-config", "--control",
                           "/run/control", "--config", unpacked / "etc" / NAME / "config.yaml"],
                          capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done


@pytest.mark.parametrize("path", [
    "usr/lib64/vhost-device-vsock/libvsockctl-preload.so",
    "usr/lib/systemd/system/vhost-device-vsock.service",
    "usr/lib/sysusers.d/vhost-device-vsock.conf",
    "usr/share/bash-completion/completions/vsockctl",
    "usr/share/qemu/vhost-user/50-vhost-device-vsock.json",
])
def test_is_inside(unpacked, path):
    mode = os.stat(unpacked / path).st_mode
    assert stat.S_ISREG(mode) and not mode & 0o022
