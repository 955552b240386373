# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The image: built from its Containerfile by buildah, and a guest's driver served out of it.

Only where VDV_OCI=1 says so: it loads some 300 MB of Debian's packages, twice. The base image is
made by debootstrap and goes by the name that the Containerfile has.
"""

import os
import shutil
import subprocess

import pytest

import gsocket
from daemon import ROOT, VmPaths
from hostsock import HostListener
from tree import copy_sources
from vm import Vm
from waiting import until

CONTAINERFILE = os.path.join(ROOT, "packaging", "oci", "Containerfile")
BASE = "docker.io/library/debian:12-slim"
MIRROR = "http://deb.debian.org/debian"
IMAGE = "vhost-device-vsock-test"
CID, PORT = 3, 5000
BUILD_S = 1500
USER = 65532


def buildah(*arguments):
    """Its output. Images are kept apart from those of the machine."""
    return subprocess.run(["buildah", *arguments], check=True, capture_output=True, text=True,
                          timeout=BUILD_S).stdout.strip()


@pytest.fixture(name="storage", scope="module")
def fixture_storage(tmp_path_factory):
    """A folder for everything, and buildah told to keep to it."""
    if os.environ.get("VDV_OCI") != "1":
        pytest.skip("VDV_OCI=1 runs it")
    absent = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if absent:
        pytest.skip(f"no {', '.join(absent)}")
    folder = tmp_path_factory.mktemp("oci")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n')
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        yield folder


@pytest.fixture(name="image", scope="module")
def fixture_image(storage):
    """The folder of the image's files."""
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", storage / "base", MIRROR],
                   check=True, stdout=subprocess.DEVNULL, timeout=BUILD_S)
    empty = buildah("from", "scratch")
    buildah("copy", "-q", empty, str(storage / "base"), "/")
    buildah("commit", "-q", empty, BASE)
    sources = copy_sources(storage / "sources")
    buildah("build", "--pull-never", "-t", IMAGE, "-f", CONTAINERFILE, sources)
    return buildah("from", IMAGE)


def test_serves_a_guest(image, storage):
    """As its user, with nothing but the directory of the sockets."""
    sockets = storage / "sockets"
    sockets.mkdir()
    os.chown(sockets, USER, USER)
    for folder in (storage, storage.parent):
        folder.chmod(0o755)
    paths = VmPaths(str(sockets), CID)
    daemon = subprocess.Popen(
        ["buildah", "run", "-v", f"{sockets}:{sockets}", image, "--",
         "/usr/bin/vhost-device-vsock", "--guest-cid", str(CID), "--socket", paths.socket,
         "--uds-path", paths.uds])
    try:
        until(lambda: os.path.exists(paths.socket), "the daemon's socket")
        assert os.stat(paths.socket).st_uid == USER
        machine = Vm(paths)
        listener = HostListener(paths.port(PORT))
        os.chmod(paths.port(PORT), 0o666)
        guest = gsocket.connect(machine.guest, 4000, PORT)
        host = listener.accept()
        guest.send_all(b"question")
        assert host.recv_exact(8) == b"question"
        host.send_all(b"answer")
        assert guest.recv_exact(6) == b"answer"
        listener.close()
        machine.close()
    finally:
        daemon.terminate()
        daemon.wait(20)
