# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""ssh into a real guest by the systemd-ssh-proxy of two Debian suites, unmodified.

The older one (257) hands the socket to ssh with the OK line still in it, which OpenSSH skips as RFC
4253 section 4.2 has it; the newer one (262) takes the line away if there is one.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys

import pytest

import sshserver
import world as worlds
from qemu import FETCH


@functools.lru_cache(maxsize=None)
def ssh_proxy(suite):
    """Return the description of a suite's systemd-ssh-proxy."""
    done = subprocess.run([sys.executable, str(FETCH), "--ssh-proxy", suite], check=False,
                          stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


@pytest.fixture(params=["trixie", "forky"])
def proxy(request):
    found = ssh_proxy(request.param)
    if found is None:
        pytest.skip(f"systemd of {request.param} cannot be fetched")
    return found


@pytest.fixture(scope="module")
def silent_world(pair):
    """A daemon whose only VM has ack=off, with a guest."""
    made = worlds.World(pair, groups={worlds.FIRST: "default"}, options={"ack": "off"})
    yield made
    made.close(keep="VDV_KEEP" in os.environ)


@pytest.fixture
def client_key(tmp_path):
    return sshserver.make_key(tmp_path)


def log_in(world, proxy, key, port, *command, stdin=b""):
    """As the ssh_config that systemd installs says it."""
    settings = [f"ProxyCommand={proxy['ssh_proxy']} %h %p", "ProxyUseFdpass=yes",
                "CheckHostIP=no", f"Port={port}"]
    return sshserver.login(key, settings, f"vsock-mux{world.vm().uds}", *command, stdin=stdin)


def check(world, guest, proxy, key, directory):
    port = world.port()
    serving = sshserver.start(guest, port, key, directory)
    data = os.urandom(1 << 20)
    done = log_in(world, proxy, key, port, "sha256sum; exit 42", stdin=data)
    serving.kill()
    assert done.returncode == 42, done.stderr
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_without_ok(silent_world, proxy, client_key, tmp_path):
    [guest] = silent_world.ensure(worlds.FIRST)
    check(silent_world, guest, proxy, client_key, tmp_path)


def test_with_ok(world, guest, proxy, client_key, tmp_path):
    check(world, guest, proxy, client_key, tmp_path)
