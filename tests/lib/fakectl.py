# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A stand-in for the daemon's control socket: answers from a table, notes what was asked."""

import json
import os
import socket
import threading

HELLO = {"hello": {"program": "vhost-device-vsock", "version": "0.0.0", "protocol": 1}}


class Refused(Exception):
    """An error answer: its code and its message."""


class FakeControl:
    """methods: name to a function of the parameters that returns the result or raises Refused.

    events: sent after an answer to "subscribe". chunk: bytes per write, 0 for whole lines.
    """

    def __init__(self, path, methods=None, events=(), hello=None, chunk=0):
        self.path = str(path)
        self.methods = {"subscribe": lambda p: {}, **(methods or {})}
        self.events = events
        self.hello = HELLO if hello is None else hello
        self.chunk = chunk
        self.asked = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(self.path)
        self.sock.listen(8)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _say(self, conn, message):
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        data += b"\n"
        size = self.chunk or len(data)
        for i in range(0, len(data), size):
            conn.sendall(data[i:i + size])

    def _serve(self, conn):
        with conn, conn.makefile("rb") as lines:
            try:
                self._say(conn, self.hello)
                for line in lines:
                    self._answer(conn, json.loads(line))
            except ConnectionError:
                pass

    def _answer(self, conn, request):
        method, params = request["method"], request.get("params")
        self.asked.append((method, params))
        answer = {"id": request["id"]}
        try:
            answer["result"] = self.methods[method](params or {})
        except KeyError:
            answer["error"] = {"code": "unknown-method", "message": f"no method '{method}'"}
        except Refused as err:
            answer["error"] = {"code": err.args[0], "message": err.args[1]}
        self._say(conn, answer)
        if method == "subscribe":
            for event in self.events:
                self._say(conn, event)
            conn.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join()
        os.unlink(self.path)
