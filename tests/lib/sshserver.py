# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An sshd in a real guest, and ssh on the host.

The sshd is dropbear's, started for each connection by socat as inetd would.
"""

import os
import subprocess

import pytest

from hostside import wait_for
from initramfs import shared_objects

SSHD = "/usr/sbin/dropbear"
LIMIT = 120


def make_key(directory):
    """Return the path of a fresh key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "key"],
                   check=True)
    return directory / "key"


def start(guest, port, client_key, directory):
    """Have an sshd behind a port of the guest that knows the key; return the process."""
    if not os.path.exists(SSHD):
        pytest.skip("no dropbear: scripts/install-deps test")
    for path in [SSHD, *shared_objects(SSHD)]:
        guest.run(["mkdir", "-p", os.path.dirname(path)])
        if guest.run(["test", "-e", path], check=False).code:
            guest.agent.put_file(os.path.realpath(path), path)
    host_key = directory / "hostkey"
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", host_key], check=True,
                   capture_output=True)
    guest.agent.put_file(host_key, "/run/hostkey")
    guest.run("mkdir -p -m 700 /root/.ssh; chmod 700 /root; mount -t devpts devpts /dev/pts || :")
    guest.agent.put("/root/.ssh/authorized_keys", client_key.with_suffix(".pub").read_bytes(),
                    0o600)
    serving = guest.popen(["socat", f"VSOCK-LISTEN:{port},fork",
                           f"EXEC:{SSHD} -i -r /run/hostkey"])
    wait_for(lambda: guest.call("is_listening", port=port).result(), f"sshd at {port}")
    return serving


def login(key, settings, host, *command, stdin=b""):
    """Run a command by ssh; settings are what stands behind -o."""
    settings = [*settings, "BatchMode=yes", "StrictHostKeyChecking=no",
                "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    options = [word for setting in settings for word in ("-o", setting)]
    return subprocess.run(["ssh", "-F", "none", "-i", str(key), *options, f"root@{host}", *command],
                          input=stdin, capture_output=True, timeout=LIMIT, check=False)
