# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A service manager as the daemon sees it: passes sockets and is notified.

It stands in for systemd, which is PID 1 or not there. The real one is asked by
tests/pkg.
"""

import os
import socket
import subprocess
import time

from daemon import binary
from waiting import SCALE

FIRST_FD = 3
# what the shell does after the fork: only then the process knows its own number
BECOME = 'export LISTEN_PID=$$ WATCHDOG_PID=${WATCHDOG_PID-$$}; exec "$@"'


class NotifySocket:
    """$NOTIFY_SOCKET: collects what was said."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.address = address
        self.heard = []

    def close(self):
        self.sock.close()

    def hear(self, timeout):
        """One more message, or None."""
        self.sock.settimeout(timeout)
        try:
            text = self.sock.recv(4096).decode()
        except (TimeoutError, BlockingIOError):
            return None
        self.heard.append(dict(line.split("=", 1) for line in text.splitlines()))
        return self.heard[-1]

    def until(self, wanted, timeout=10.0):
        """The first new message for which @wanted, a function, holds."""
        end = time.monotonic() + timeout * SCALE
        while time.monotonic() < end:
            message = self.hear(max(0.01, end - time.monotonic()))
            if message is not None and wanted(message):
                return message
        raise AssertionError(f"not heard; {self.heard}")


def listening(path, kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(path)
    sock.listen(16)
    return sock


class Service:
    """The daemon as a service: @passed are pairs of a name and a socket."""

    def __init__(self, args, log, passed=(), env=None, names=None):
        self.log = log
        environment = dict(os.environ, **(env or {}))
        if passed:
            environment["LISTEN_FDS"] = str(len(passed))
            environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in passed)
        if names is not None:
            environment["LISTEN_FDNAMES"] = names
        kept = [os.dup(sock.fileno()) for _, sock in passed]

        def arrange():
            high = [os.dup2(fd, 100 + i, inheritable=False) for i, fd in enumerate(kept)]
            for i, fd in enumerate(high):
                os.dup2(fd, FIRST_FD + i, inheritable=True)

        with open(log, "wb") as err:
            self.proc = subprocess.Popen(["sh", "-c", BECOME, "sh", binary(), *args],
                                         env=environment, stdin=subprocess.DEVNULL, stdout=err,
                                         stderr=err, close_fds=False, preexec_fn=arrange)
        for fd in kept:
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        """It must end by itself, successfully."""
        self.proc.terminate()
        assert self.proc.wait(10 * SCALE) == 0, self.text()
