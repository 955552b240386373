# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Lines of the log: what they are about, and --log-format=json."""

import json
import re

import pytest

import gsocket
from waiting import until

DEBUG = ["--log-level", "debug"]
AS_JSON = [*DEBUG, "--log-format", "json"]


def connect_and_close(daemon, vm):
    """A connection of the guest's port 4000, opened and closed; a refused one of port 4001."""
    listener = daemon.listen(80)
    sock = gsocket.connect(vm.guest, 4000, 80)
    listener.accept().close()
    sock.close()
    with pytest.raises(gsocket.Reset):
        gsocket.connect(vm.guest, 4001, 81)
    listener.close()


def test_connections_in_text(start_daemon, start_vm):
    daemon = start_daemon(args=DEBUG)
    connect_and_close(daemon, start_vm(daemon))
    for line in ("debug vm=3 conn=3:4000>2:80: opened", "debug vm=3 conn=3:4000>2:80: closed: ",
                 "debug vm=3 conn=3:4001>2:81: refused: "):
        until(lambda: line in daemon.stderr(), daemon.stderr)


def test_every_line_is_an_object(start_daemon, start_vm):
    daemon = start_daemon(args=AS_JSON)
    connect_and_close(daemon, start_vm(daemon))
    until(lambda: "refused" in daemon.stderr(), daemon.stderr)
    daemon.stop()
    lines = [json.loads(line) for line in daemon.stderr().splitlines()]
    assert len(lines) > 5
    for line in lines:
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in ("notice", "info", "debug") and line["message"]
    about = [(line["vm"], line["conn"], line["message"]) for line in lines if "conn" in line]
    assert about[0] == (3, "3:4000>2:80", "opened")
    assert about[1][:2] == (3, "3:4000>2:80") and about[1][2].startswith("closed: ")
