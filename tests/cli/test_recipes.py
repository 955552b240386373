# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Recipes that need no guest, and what each recipe says of itself."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

import recipes
from daemon import ROOT, binary, is_socket
from test_docs import has_vsock, serve
from waiting import until

NOBODY = 65534
TEST = re.compile(r"`([\w-]+/[\w.]+):(\w+)`")


@pytest.mark.parametrize("heading", recipes.sections())
def test_says_who_runs_it(heading):
    """Each recipe names an existing test that runs it, or says why none does."""
    text = " ".join(recipes.sections()[heading].split())
    last = text[text.rindex("xecuted by"):]
    assert re.search(r"Executed by `", text) or "ot executed by our tests: " in text, last
    for file, name in TEST.findall(text):
        with open(os.path.join(ROOT, "tests", file), encoding="utf-8") as source:
            assert f"def {name}(" in source.read(), f"{file}:{name}"


def sockets_in(text):
    return re.findall(r"/tmp/[\w.]+\.(?:socket|vsock)\b", text)


@pytest.mark.parametrize("command", recipes.blocks("sh daemon"))
def test_daemon(command, tmp_path):
    ports = re.findall(r"forward-listen=([\d+]+)", command)
    if not has_vsock([int(port) for group in ports for port in group.split("+")]):
        pytest.skip("no AF_VSOCK on this host")
    (words,) = recipes.commands(command.replace("/tmp/", f"{tmp_path}/"))
    assert words[0] == "vhost-device-vsock"
    serve(words[1:], [path.replace("/tmp", str(tmp_path)) for path in sockets_in(command)])


def test_configuration_file(tmp_path):
    text = recipes.block("yaml daemon")
    path = tmp_path / "vms.yaml"
    path.write_text(text.replace("/tmp/", f"{tmp_path}/"))
    sockets = [name.replace("/tmp", str(tmp_path)) for name in sockets_in(text)]
    assert len(sockets) == 4
    serve(["--config", str(path)], sockets)


def words_of(manifest, key, near):
    """The list behind a key that follows a line of the manifest."""
    return json.loads(re.search(rf"{key}: (\[.*?\])", manifest[manifest.index(near):]).group(1))


@pytest.fixture
def volume():
    """A directory for the sockets that a user without rights owns."""
    path = tempfile.mkdtemp(prefix="vdv-", dir="/tmp")
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_pod(volume):
    """The sidecar's arguments, and the question of its probe."""
    manifest = recipes.block("yaml pod").replace("/run/vsock", volume)
    args = words_of(manifest, "args", "name: vsock\n")
    probe = words_of(manifest, "command", "startupProbe")
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen([binary(), *args], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          cwd="/", **user) as child:
        try:
            until(lambda: child.poll() is not None or is_socket(probe[-1]), "the socket")
            assert child.poll() is None, child.stderr.read()
            assert subprocess.run(probe, check=False).returncode == 0
            vmm = words_of(manifest, "args", "name: vmm\n")
            assert any(f"path={probe[-1]}" in word for word in vmm)
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0, child.stderr.read()
        finally:
            child.kill()
