# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""QEMU's conventions for back-end programs: capabilities, the discovery file, option names."""

import json
import os
import subprocess

import pytest

from daemon import binary

TYPES = ("9p", "balloon", "block", "caif", "console", "crypto", "gpu", "input", "net", "rng",
         "rpmsg", "rproc-serial", "scsi", "vsock", "fs")


@pytest.mark.parametrize("args", ((), ("--socket", "/nowhere"), ("--what",), ("--vm",)))
def test_print_capabilities(args):
    """Other options and arguments are ignored, be they right or wrong."""
    for line in ([*args, "--print-capabilities"], ["--print-capabilities", *args]):
        done = subprocess.run([binary(), *line], capture_output=True, text=True, timeout=20,
                              check=True)
        assert json.loads(done.stdout) == {"type": "vsock"}
        assert done.stderr == ""


def test_discovery_file(tmp_path):
    """What is installed names the program where it is installed."""
    build = os.path.dirname(binary())
    found = os.path.join(build, "50-vhost-device-vsock.json")
    if not os.path.exists(found):
        pytest.skip("not a build directory")
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", str(tmp_path)],
                   capture_output=True, timeout=120, check=True)
    installed = [os.path.join(folder, name) for folder, _, names in os.walk(tmp_path)
                 for name in names if name == os.path.basename(found)]
    assert len(installed) == 1
    assert installed[0].endswith("share/qemu/vhost-user/50-vhost-device-vsock.json")
    with open(installed[0], encoding="utf-8") as file:
        described = json.load(file)
    assert sorted(described) == ["binary", "description", "type"]
    assert described["type"] in TYPES and described["type"] == "vsock"
    assert os.access(f"{tmp_path}{described['binary']}", os.X_OK)


def test_socket_path_is_socket(tmp_path):
    done = subprocess.run([binary(), "--check-config", "--socket-path", "s", "--uds-path", "u"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True)
    assert "correct" in done.stdout
    done = subprocess.run([binary(), "--check-config", "--socket-path", "s", "--fd", "3",
                           "--uds-path", "u"], cwd=tmp_path, capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode == 2
