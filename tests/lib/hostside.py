# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The host's ends of connections to a real guest: plain blocking sockets.

hostsock.py is for emulated guests, which run inside the test itself; a real one runs by itself.
"""

import os
import socket
import time

TIMEOUT = 60


def wait_for(ready, what, timeout=30):
    """Poll until ready() is true; return its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = ready()
        if value:
            return value
        assert time.monotonic() < deadline, f"no {what} within {timeout} s"
        time.sleep(0.01)


def dial(uds, port):
    """Connect to a port of the guest; return the socket once the daemon has said OK.

    Raises ConnectionError when the daemon closes without it, as for a port that nobody serves.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(TIMEOUT)
        sock.connect(str(uds))
        sock.sendall(f"CONNECT {port}\n".encode())
        line = b""
        while not line.endswith(b"\n"):
            byte = sock.recv(1)
            if not byte:
                raise ConnectionError(f"closed after {line!r}")
            line += byte
        if not line.startswith(b"OK "):
            raise ConnectionError(f"unexpected answer {line!r}")
        return sock
    except BaseException:
        sock.close()
        raise


def listen(path, backlog=256, kind=socket.SOCK_STREAM):
    """Return a listening socket at a path, replacing what an earlier listener left there."""
    if os.path.lexists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(TIMEOUT)
    sock.bind(str(path))
    sock.listen(backlog)
    return sock


def dial_records(uds, port):
    """Connect to a port of the guest for whole messages."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    sock.connect(f"{uds}_seqpacket")
    sock.send(f"CONNECT {port}\n".encode())
    answer = sock.recv(100)
    if not answer.startswith(b"OK ") or not answer.endswith(b"\n"):
        sock.close()
        raise ConnectionError(f"unexpected answer {answer!r}")
    return sock


def accept(listener):
    """Accept one connection, within the usual time."""
    sock, _ = listener.accept()
    sock.settimeout(TIMEOUT)
    return sock


def ending(sock):
    """Read to the end; return "EOF" or "RESET". A connection that stays open fails."""
    try:
        while sock.recv(65536):
            pass
        return "EOF"
    except ConnectionError:
        return "RESET"
