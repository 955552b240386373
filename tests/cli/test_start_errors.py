# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Where the daemon cannot serve it says which place it could not have, and what is wrong."""

import os
import socket
import subprocess

import pytest

from daemon import binary

NOBODY = 65534


def refused(folder, option=None, before=None):
    """The last line of a daemon that does not start; status 1 is for what the system lacks."""
    given = [f"--{key}={folder}/{key}" for key in ("socket", "uds-path")
             if option is None or not option.startswith(f"--{key}=")]
    done = subprocess.run([binary(), *given, *([option] if option else [])], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False,
                          preexec_fn=before)
    assert done.returncode == 1, done
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("option, text", [
    ("--socket={}/none/s", "error vm=3: {}/none/s: cannot listen: its directory does not exist"),
    ("--uds-path={}/none/u", "error vm=3: {}/none/u: cannot listen: its directory does not exist"),
    ("--control={}/none/c",
     "error: control socket {}/none/c: cannot listen: its directory does not exist"),
    ("--metrics=unix:{}/none/m",
     "error: metrics at unix:{}/none/m: cannot listen: its directory does not exist"),
    ("--socket={}/file/s",
     "error vm=3: {}/file/s: cannot listen: what should be its directory is a file"),
    ("--socket={}/file", "error vm=3: {}/file: something that is no socket is there already"),
    ("--control={}/file",
     "error: control socket {}/file: something that is no socket is there already"),
    ("--socket={}/busy", "error vm=3: {}/busy: another program listens there"),
    ("--metrics=unix:{}/busy", "error: metrics at unix:{}/busy: another program listens there"),
], ids=lambda text: text.replace("{}", ""))
def test_place_that_cannot_be_had(tmp_path, option, text):
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "busy"))
        busy.listen()
        assert refused(tmp_path, option.format(tmp_path)) == text.format(tmp_path)


def test_port_of_metrics_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        where = f"127.0.0.1:{busy.getsockname()[1]}"
        assert refused(tmp_path, f"--metrics={where}") == \
            f"error: metrics at {where}: another program listens there"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_directory_of_another_user(tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)
    line = refused(tmp_path, before=lambda: os.setresuid(NOBODY, NOBODY, NOBODY))
    assert line == (f"error vm=3: {tmp_path}/socket: cannot listen: this user may make no socket "
                    "in its directory")
