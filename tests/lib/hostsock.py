# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The host's side: Unix-socket clients and listeners that wait with the guests running."""

import os
import socket

import tally
import waiting
from vhost_user import connect_unix
from waiting import until


class HostSocket:
    """A socket; recv and send never block the emulated guests."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.setblocking(False)
        self.ended = None  # None, "eof" or "reset"

    def close(self):
        self.sock.close()

    def fileno(self):
        return self.sock.fileno()

    def recv_now(self, limit=1 << 20):
        """Bytes that are there; b"" if none (then see ended)."""
        if self.ended or not limit:
            return b""
        try:
            data = self.sock.recv(limit)
        except BlockingIOError:
            return b""
        except ConnectionError:
            self.ended = "reset"
            return b""
        if not data:
            self.ended = "eof"
        return data

    def allow_long_records(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def recv_record(self, timeout=waiting.DEFAULT_TIMEOUT):
        """One record of a SOCK_SEQPACKET socket; b"" at the end."""
        got = []

        def step():
            data = self.recv_now()
            if data:
                got.append(data)
            return got or self.ended
        until(step, "a record on the host", timeout, [self])
        return got[0] if got else b""

    def send_record(self, data, timeout=waiting.DEFAULT_TIMEOUT):
        sent = until(lambda: self.send_now(data), "a record to leave the host", timeout, (), [self])
        assert sent == len(data)

    def recv_exact(self, size, timeout=waiting.DEFAULT_TIMEOUT):
        out = bytearray()

        def step():
            out.extend(self.recv_now(size - len(out)))
            return len(out) == size or self.ended
        until(step, lambda: f"{size - len(out)} of {size} bytes on the host", timeout, [self])
        assert len(out) == size, f"{self.ended} after {len(out)} of {size} bytes"
        return bytes(out)

    def recv_line(self, timeout=waiting.DEFAULT_TIMEOUT):
        line = b""
        while not line.endswith(b"\n"):
            line += self.recv_exact(1, timeout)
        return line

    def drain_line(self, timeout=waiting.DEFAULT_TIMEOUT):
        """As recv_line(), or what there was until the end."""
        line = bytearray()

        def step():
            line.extend(self.recv_now(1))
            return line.endswith(b"\n") or self.ended
        until(step, "a line on the host", timeout, [self])
        return bytes(line)

    def recv_eof(self, timeout=waiting.DEFAULT_TIMEOUT):
        """Everything up to the end, which must not be a reset."""
        data = self.drain(timeout)
        assert self.ended == "eof", self.ended
        return data

    def drain(self, timeout=waiting.DEFAULT_TIMEOUT):
        """Everything up to the end, of whichever kind."""
        out = bytearray()

        def step():
            out.extend(self.recv_now())
            return self.ended
        until(step, "the end of the stream on the host", timeout, [self])
        return bytes(out)

    def is_quiet(self):
        """Neither data nor an end is waiting now."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except ConnectionError:
            pass
        return False

    def send_now(self, data):
        try:
            return self.sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0

    def send_all(self, data, timeout=waiting.DEFAULT_TIMEOUT):
        view = memoryview(data)
        done = 0

        def step():
            nonlocal done
            while done < len(data):
                n = self.send_now(view[done:])
                if not n:
                    return False
                done += n
            return True
        until(step, lambda: f"{len(data) - done} bytes to leave the host", timeout, (), [self])

    def shutdown(self, how=socket.SHUT_WR):
        self.sock.shutdown(how)


class HostListener:
    """A listener such as the one a guest's port is mapped to."""

    def __init__(self, path, backlog=128, kind=socket.SOCK_STREAM):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, kind)
        self.sock.bind(path)
        self.sock.listen(backlog)
        self.sock.setblocking(False)

    def close(self):
        self.sock.close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def accept_now(self):
        try:
            return HostSocket(self.sock.accept()[0])
        except BlockingIOError:
            return None

    def accept(self, timeout=waiting.DEFAULT_TIMEOUT):
        return until(self.accept_now, f"a connection at {self.path}", timeout, [self.sock])


def dial(uds_path):
    """A client of the daemon that has not said anything yet."""
    tally.add("clients")
    return HostSocket(connect_unix(uds_path))


def dial_seqpacket(uds_path):
    """The same by records."""
    tally.add("clients")
    return HostSocket(connect_unix(uds_path + "_seqpacket", kind=socket.SOCK_SEQPACKET))


PATTERN = bytes(range(256)) * 64


def assert_live(pair):
    """A host program's end and a guest's: a pattern passes each way."""
    host, sock = pair
    assert stream([(host, PATTERN, sock), (sock, PATTERN, host)]) == [PATTERN, PATTERN]


def stream(pairs, timeout=waiting.DEFAULT_TIMEOUT):
    """Run several transfers (sender, data, receiver[, bytes sent already]) at once.

    Ends are HostSocket or GuestSocket. Returns what each receiver got.
    """
    state = [[pair[0], memoryview(pair[1]), (pair[3:] or (0,))[0], pair[2], bytearray()]
             for pair in pairs]

    def step():
        busy = False
        for item in state:
            sender, view, done, receiver, got = item
            if done < len(view):
                item[2] += sender.send_now(bytes(view[done:done + (256 << 10)]))
            got.extend(receiver.recv_now())
            assert len(got) <= len(view), "more received than sent"
            busy |= len(got) < len(view)
        return not busy
    until(step, lambda: f"transfers, {[len(item[4]) for item in state]} bytes done", timeout,
          [item[3] for item in state if isinstance(item[3], HostSocket)])
    tally.add("bytes compared", sum(len(item[4]) for item in state))
    return [bytes(item[4]) for item in state]
