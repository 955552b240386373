# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Host side of the agent that runs in every test guest; guest/agent.py describes the protocol."""

import errno
import json
import signal
import socket
import struct
import threading
import time
from pathlib import Path

MAGIC = b"\0vdv-agent-ready\0"
CHUNK = 65536


class GuestGone(RuntimeError):
    """The guest rebooted or died while something was still expected of it."""


class Result:
    """What a finished guest process left: exit code, output, and the answer of a call."""

    def __init__(self, code, out, err, answer):
        self.code = code
        self.out = out
        self.err = err
        self.answer = answer

    def __repr__(self):
        return f"Result(code={self.code}, answer={self.answer}, out={self.out!r}, err={self.err!r})"


class Process:
    """A process in the guest; all methods may be called from any host thread."""

    def __init__(self, agent, ident, what):
        self.agent = agent
        self.ident = ident
        self.what = what
        self.out = bytearray()
        self.err = bytearray()
        self.code = None
        self.answer = None
        self.failure = None

    def _until(self, ready, timeout, what):
        """Wait until ready() or the process failed."""
        deadline = time.monotonic() + timeout
        with self.agent.changed:
            while not ready():
                if self.failure:
                    raise GuestGone(f"{self.what}: {self.failure}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{self.what}: no {what} within {timeout} s; "
                                       f"out={bytes(self.out)!r} err={bytes(self.err)!r}")
                self.agent.changed.wait(left)

    def wait(self, timeout=60):
        """Wait for the end; return a Result."""
        self._until(lambda: self.code is not None, timeout, "end")
        return Result(self.code, bytes(self.out), bytes(self.err), self.answer)

    def result(self, timeout=60):
        """Wait for a call's end and return the function's value; OSError comes back as itself."""
        res = self.wait(timeout)
        answer = res.answer or {}
        if answer.get("errno"):
            raise OSError(answer["errno"],
                          errno.errorcode.get(answer["errno"], "?") + " in the guest", self.what)
        if "result" not in answer:
            raise RuntimeError(f"{self.what} failed in the guest: {res}")
        return answer["result"]

    def wait_out(self, text, timeout=30):
        """Wait until the standard output holds text."""
        text = text.encode() if isinstance(text, str) else text
        self._until(lambda: text in self.out or self.code is not None, timeout, repr(text))
        if text not in self.out:
            raise RuntimeError(f"{self.what} ended without {text!r}: "
                               f"code={self.code} answer={self.answer} err={bytes(self.err)!r}")
        return bytes(self.out)

    def running(self):
        """Return whether the process has not ended, as far as the host was told."""
        return self.code is None and self.failure is None

    def write(self, data):
        """Write to the standard input."""
        for start in range(0, len(data), CHUNK):
            self.agent.request("stdin", {"of": self.ident}, data[start:start + CHUNK])

    def close_stdin(self):
        """Close the standard input."""
        self.agent.request("stdin", {"of": self.ident})

    def kill(self, signum=signal.SIGKILL):
        """Send a signal."""
        self.agent.request("kill", {"of": self.ident, "sig": int(signum)})


class Agent:
    """The connection to one guest's agent, kept over reboots of the guest."""

    def __init__(self, path):
        self.changed = threading.Condition()
        self.procs = {}
        self.boots = 0
        self.last_id = 0
        self.closed = False
        self.sending = threading.Lock()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(path))
        self.thread = threading.Thread(target=self._reader, daemon=True)
        self.thread.start()

    def _reader(self):
        """Take in everything the guest says; runs in a thread of its own."""
        inbox = bytearray()
        try:
            while True:
                data = self.sock.recv(CHUNK)
                if not data:
                    break
                inbox += data
                self._take(inbox)
        except OSError:
            pass
        with self.changed:
            self.closed = True
            self._lose("the guest is gone")

    def _take(self, inbox):
        """Consume every complete frame, starting afresh at a reboot."""
        start = inbox.rfind(MAGIC)
        if start >= 0:
            del inbox[:start + len(MAGIC)]
            with self.changed:
                self.boots += 1
                self._lose("the guest rebooted")
        while self.boots and len(inbox) >= 8:
            text_len, data_len = struct.unpack_from("<II", inbox)
            end = 8 + text_len + data_len
            if len(inbox) < end:
                return
            head = json.loads(bytes(inbox[8:8 + text_len]))
            payload = bytes(inbox[8 + text_len:end])
            del inbox[:end]
            with self.changed:
                self._event(head, payload)

    def _lose(self, why):
        """Fail everything that waits for the guest."""
        for proc in self.procs.values():
            if proc.code is None:
                proc.failure = why
        self.procs.clear()
        self.changed.notify_all()

    def _event(self, head, payload):
        """Book one frame."""
        proc = self.procs.get(head["id"])
        if proc is None:
            return
        kind = head["ev"]
        if kind == "out":
            proc.out += payload
        elif kind == "err":
            proc.err += payload
        elif kind == "failed":
            proc.failure = head["error"]
        else:
            proc.out += payload
            proc.code = head.get("code", 0)
            proc.answer = head.get("answer")
            del self.procs[head["id"]]
        self.changed.notify_all()

    def wait_boot(self, count, timeout):
        """Wait until the guest has announced itself count times."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while self.boots < count:
                left = deadline - time.monotonic()
                if self.closed or left <= 0:
                    raise GuestGone(f"the guest did not come up within {timeout} s")
                self.changed.wait(left)

    def request(self, operation, head, data=b""):
        """Send a request; return the Process that collects what comes of it."""
        with self.changed:
            self.last_id += 1
            proc = Process(self, self.last_id, f"{operation} {head}")
            if operation not in ("stdin", "kill"):
                self.procs[proc.ident] = proc
        text = json.dumps(dict(head, op=operation, id=proc.ident)).encode()
        with self.sending:
            self.sock.sendall(struct.pack("<II", len(text), len(data)) + text + data)
        return proc

    def put(self, path, data, mode=0o644):
        """Write a file in the guest."""
        for start in range(0, max(len(data), 1), CHUNK):
            head = {"path": str(path), "mode": mode, "append": start > 0}
            self.request("put", head, data[start:start + CHUNK]).wait()

    def put_file(self, source, path):
        """Copy a file of the host into the guest with its permissions."""
        source = Path(source)
        self.put(path, source.read_bytes(), source.stat().st_mode & 0o777)

    def get(self, path):
        """Read a file of the guest."""
        return self.request("get", {"path": str(path)}).wait().out

    def close(self):
        """Close the connection; whatever still waits fails."""
        self.sock.close()
