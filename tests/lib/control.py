# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A client of the daemon's control socket; see docs/control.md."""

import json
import os

import waiting
from hostsock import HostSocket
from vhost_user import connect_unix
from waiting import until


class Failure(Exception):
    """The daemon answered with an error."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.message = error["message"]


def path_of(daemon):
    return os.path.join(daemon.dir, "control.sock")


def options(directory):
    return ["--control", os.path.join(str(directory), "control.sock")]


class Control:
    """A connection; the emulated guests run while it waits."""

    def __init__(self, path):
        self.sock = HostSocket(connect_unix(path))
        self.received = b""
        self.events = []
        self.number = 0
        self.hello = self.line()["hello"]

    def close(self):
        self.sock.close()

    def line_now(self):
        """The next line that is there, or None."""
        if b"\n" not in self.received:
            self.received += self.sock.recv_now()
        line, end, rest = self.received.partition(b"\n")
        if not end:
            return None
        self.received = rest
        return json.loads(line)

    def line(self, timeout=waiting.DEFAULT_TIMEOUT):
        found = []

        def step():
            line = self.line_now()
            if line is not None:
                found.append(line)
            return found or self.sock.ended
        until(step, "a line of the control socket", timeout, [self.sock])
        assert found, f"the control socket ended ({self.sock.ended})"
        return found[0]

    def send(self, data):
        self.sock.send_all(data)

    def call(self, method, timeout=waiting.DEFAULT_TIMEOUT, **params):
        """The result; raises Failure. Events that come meanwhile are kept."""
        self.number += 1
        self.send(json.dumps({"id": self.number, "method": method,
                              "params": params}).encode() + b"\n")
        while True:
            line = self.line(timeout)
            if "event" not in line:
                break
            self.events.append(line)
        assert line["id"] == self.number
        if "error" in line:
            raise Failure(line["error"])
        return line["result"]

    def event(self, kind, timeout=waiting.DEFAULT_TIMEOUT, **fields):
        """The next event of a kind with these fields; others before it are dropped."""
        while True:
            event = self.events.pop(0) if self.events else self.line(timeout)
            wanted = {"event": kind, **fields}
            if {key: event.get(key) for key in wanted} == wanted:
                return event

    def vm(self, cid):
        """What list says about a VM."""
        found = [vm for vm in self.call("list")["vms"] if vm["cid"] == cid]
        return found[0] if found else None

    def counters(self, cid):
        return [vm for vm in self.call("stats")["vms"] if vm["cid"] == cid][0]
