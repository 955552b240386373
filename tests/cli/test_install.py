# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What "make install" puts where, and that it works there."""

import os
import re
import subprocess

import pytest

from daemon import ROOT, binary

BUILD = os.path.dirname(os.path.abspath(binary()))


def install(destination):
    done = subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir",
                           str(destination)], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(name="tree", scope="module")
def fixture_tree(tmp_path_factory):
    """The prefix below a DESTDIR."""
    destination = tmp_path_factory.mktemp("install")
    install(destination)
    return next(destination.rglob("bin/vhost-device-vsock")).parent.parent


def test_programs_run(tree):
    for name in ("vhost-device-vsock", "vsockctl"):
        done = subprocess.run([tree / "bin" / name, "--version"], capture_output=True, text=True,
                              timeout=60, check=True)
        assert done.stdout.startswith(name)


def test_what_is_installed(tree):
    wanted = ["bin/vhost-device-vsock", "bin/vsockctl",
              "share/man/man1/vhost-device-vsock.1", "share/man/man1/vsockctl.1",
              "share/bash-completion/completions/vsockctl", "share/zsh/site-functions/_vsockctl",
              "share/fish/vendor_completions.d/vsockctl.fish"]
    documents = "share/doc/vhost-device-vsock"
    wanted += [f"{documents}/{name}" for name in
               ("README.md", "CHANGELOG.md", "SECURITY.md", "examples/config.yaml",
                "docs/protocol.md", "docs/control.schema.json", "docs/adr/README.md")]
    for name in wanted:
        assert (tree / name).is_file(), name
    assert list(tree.rglob("libvsockctl-preload.so"))
    assert not list((tree / documents).rglob("*.1"))


def test_nothing_for_developers(tree):
    """No header, static library or test program."""
    assert [path for path in tree.rglob("*") if path.suffix in (".a", ".h", ".py")] == []
    assert sorted(os.listdir(tree / "bin")) == ["vhost-device-vsock", "vsockctl"]


def test_nothing_of_the_administrator(tree):
    """Nothing below /etc or /var is overwritten by an installation."""
    top = next(path for path in tree.parents if path.name.startswith("install"))
    assert not list(top.rglob("etc")) and not list(top.rglob("var"))


def test_example_is_correct(tree, tmp_path):
    """As it is installed, and with its VM."""
    program = tree / "bin/vhost-device-vsock"
    example = tree / "share/doc/vhost-device-vsock/examples/config.yaml"
    text = example.read_text()
    filled = tmp_path / "filled.yaml"
    vm = "".join(re.sub(r"  +\S[\w ,]*$", "", line[1:]) + "\n"
                 for line in text.splitlines() if re.match(r"#   [- ] ", line))
    filled.write_text(text.replace("vms: []\n", "vms:\n" + vm))
    for file, count in ((example, 0), (filled, 1)):
        done = subprocess.run([program, "--check-config", "--config", file, "--control", "/x/c"],
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert f"VMs: {count}" in done.stdout + done.stderr


def test_make_install(tmp_path):
    """The Makefile passes prefix and DESTDIR on."""
    log = tmp_path / "log"
    for name in ("meson", "ninja"):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" "DESTDIR=$DESTDIR" >>{log}\n')
        stub.chmod(0o755)
    subprocess.run(["make", "-C", ROOT, f"BUILD={BUILD}", "DESTDIR=/stage", "prefix=/opt/x",
                    "install"], capture_output=True, timeout=120, check=True,
                   env=dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert log.read_text().splitlines()[-2:] == [
        f"meson configure {BUILD} -Dprefix=/opt/x DESTDIR=/stage",
        f"meson install -C {BUILD} DESTDIR=/stage"]
