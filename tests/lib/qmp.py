# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A small client of QEMU's machine protocol; one command at a time, events are dropped."""

import json
import socket
import time


class QmpError(RuntimeError):
    """QEMU answered a command with an error."""


class Qmp:
    """A connection to a QMP server socket."""

    def __init__(self, path, timeout=30):
        deadline = time.monotonic() + timeout
        while True:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.sock.connect(str(path))
                break
            except OSError:
                self.sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.sock.settimeout(timeout)
        self.reader = self.sock.makefile("rb")
        self.reader.readline()
        self.execute("qmp_capabilities")

    def execute(self, command, **arguments):
        """Run a command; return its answer or raise QmpError."""
        text = json.dumps({"execute": command, "arguments": arguments})
        self.sock.sendall(text.encode() + b"\n")
        while True:
            line = self.reader.readline()
            if not line:
                raise QmpError(f"{command}: QEMU closed the connection")
            answer = json.loads(line)
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        """Close the connection."""
        self.reader.close()
        self.sock.close()
