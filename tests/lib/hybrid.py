# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A stand-in for a daemon and its guest: serves CONNECT on a Unix socket, with threads.

It is also what a program of another VMM with this convention looks like.
"""

import hashlib
import os
import socket
import threading

FIRST_HOST_PORT = 1 << 30


def recv_all(sock):
    """Everything up to the end of the stream."""
    out = bytearray()
    while chunk := sock.recv(1 << 16):
        out += chunk
    return bytes(out)


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Hybrid:
    """Guest ports by number: each a function that gets the connected socket.

    A port that is not there is refused. split: the answer comes byte by byte.
    """

    def __init__(self, path, ports=None, split=False, answer=None):
        self.path = str(path)
        self.ports = ports or {}
        self.split = split
        self.answer = answer
        self.next_port = FIRST_HOST_PORT
        self.lines = []
        self.errors = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(self.path)
        self.sock.listen(128)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        with conn:
            try:
                self._answer(conn)
            except ConnectionError as err:
                self.errors.append(err)

    def _answer(self, conn):
        line = b""
        while not line.endswith(b"\n"):
            byte = conn.recv(1)
            if not byte:
                return
            line += byte
        self.lines.append(line)
        handler = self.ports.get(int(line.split()[1]))
        if handler is None:
            return
        text = self.answer or b"OK %d\n" % self.next_port
        self.next_port += 1
        for piece in [text[i:i + 1] for i in range(len(text))] if self.split else [text]:
            conn.sendall(piece)
        handler(conn)

    def guest_connect(self, port):
        """What the daemon does when the guest connects to a port of the host."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        try:
            sock.connect(f"{self.path}_{port}")
        except OSError:
            sock.close()
            raise
        return sock

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join()
        if os.path.exists(self.path):
            os.unlink(self.path)
