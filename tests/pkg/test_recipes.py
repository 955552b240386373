# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What can be checked of recipes without carrying them out. The RPM is built in test_rpm.py."""

import os
import re
import shutil
import subprocess

import pytest

from daemon import ROOT
from tree import version

PACKAGING = os.path.join(ROOT, "packaging")
PROFILE = os.path.join(PACKAGING, "apparmor", "vhost-device-vsock")
SPEC = os.path.join(PACKAGING, "rpm", "vhost-device-vsock.spec")
CONTAINERFILE = os.path.join(PACKAGING, "oci", "Containerfile")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}: scripts/install-deps package")
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def dependencies():
    """What meson.build needs to build the programs."""
    found = re.findall(r"dependency\('([\w.-]+)'", read(os.path.join(ROOT, "meson.build")))
    return set(found) - {"threads", "cmocka"}


def test_versions_agree():
    assert f"\nVersion:        {version()}\n" in read(SPEC)
    assert f"({version()}-" in read(os.path.join(ROOT, "debian", "changelog")).splitlines()[0]


def test_dependencies_agree():
    """Debian's names are those that scripts/install-deps knows."""
    known = dict(re.findall(r"need_library ([\w.-]+) ([\w.-]+)",
                            read(os.path.join(ROOT, "scripts", "install-deps"))))
    assert len(dependencies()) >= 4
    for name in dependencies():
        assert f"pkgconfig({name})" in read(SPEC), name
        assert f" {known[name]}" in read(os.path.join(ROOT, "debian", "control")), name
        assert f" {known[name]}" in read(CONTAINERFILE), name


def test_apparmor_profile_parses():
    done = run("apparmor_parser", "-Q", "-K", "-W", PROFILE)
    assert done.returncode == 0, done.stderr


def test_rpmlint_finds_no_error():
    done = run("rpmlint", SPEC)
    assert " 0 errors" in done.stdout, done.stdout + done.stderr


def test_containerfile():
    """Its stages fit together, and what it starts is not root."""
    text = read(CONTAINERFILE)
    stages = re.findall(r"^FROM \S+(?: AS (\w+))?$", text, re.M)
    assert stages == ["build", ""]
    assert set(re.findall(r"--from=(\w+)", text)) == {"build"}
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.M)
