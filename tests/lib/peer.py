# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the two ends of a test connection do; runs on the host and, pushed there, in the guest.

A "mode" is what one end does with a connected socket until it is over; it returns a dictionary of
plain values. All functions a test calls in a guest are at the end of the file.
"""

import errno
import hashlib
import os
import random
import socket
import sys
import threading

BLOCK = 65536
VMADDR_CID_ANY = 0xFFFFFFFF
BACKLOG = 256


def pattern(seed, total, chunk=BLOCK):
    """Yield total bytes in pieces of chunk, different for every seed and never periodic."""
    base = random.Random(seed).randbytes(chunk)
    number = 0
    while total > 0:
        piece = (b"%08x" % number + base[8:])[:chunk]
        number += 1
        yield piece[:total]
        total -= chunk


def digest_of(seed, total, chunk=BLOCK):
    """Return the SHA-256 of what pattern() yields."""
    sha = hashlib.sha256()
    for piece in pattern(seed, total, chunk):
        sha.update(piece)
    return sha.hexdigest()


def send_pattern(sock, seed, total, chunk=BLOCK):
    """Send the pattern, each piece by one write as far as the socket allows; return the digest."""
    sha = hashlib.sha256()
    for piece in pattern(seed, total, chunk):
        sha.update(piece)
        sock.sendall(piece)
    return sha.hexdigest()


def receive(sock, limit=None):
    """Read until the end of the stream or limit bytes; return {bytes, sha256}."""
    sha = hashlib.sha256()
    count = 0
    while limit is None or count < limit:
        data = sock.recv(min(BLOCK * 4, (limit or 1 << 40) - count))
        if not data:
            break
        sha.update(data)
        count += len(data)
    return {"bytes": count, "sha256": sha.hexdigest()}


def mode_sink(sock, expect=None):
    """Read everything, or as much as is expected."""
    return receive(sock, expect)


def mode_source(sock, seed=1, total=0, chunk=BLOCK):
    """Send the pattern and end the stream; then wait for the other end to do so too."""
    sent = send_pattern(sock, seed, total, chunk)
    sock.shutdown(socket.SHUT_WR)
    rest = receive(sock)
    return {"sent": sent, "rest": rest["bytes"]}


def mode_exchange(sock, seed=1, total=0, chunk=BLOCK, expect=None):
    """Send the pattern while reading everything, or as many bytes as are expected.

    With expect neither end relies on half close: the stream ends when both have it all.
    """
    result = {}
    failure = []

    def sender():
        try:
            result["sent"] = send_pattern(sock, seed, total, chunk)
            if expect is None:
                sock.shutdown(socket.SHUT_WR)
        except OSError as err:
            failure.append(err)

    thread = threading.Thread(target=sender, daemon=True)
    thread.start()
    result["received"] = receive(sock, expect)
    thread.join()
    if failure:
        raise failure[0]
    return result


def mode_echo(sock, expect=None):
    """Send back what comes until the stream ends or all is there that is expected."""
    count = 0
    while expect is None or count < expect:
        data = sock.recv(BLOCK)
        if not data:
            break
        sock.sendall(data)
        count += len(data)
    if expect is None:
        sock.shutdown(socket.SHUT_WR)
    return {"bytes": count}


def mode_digest(sock):
    """Read to the end of the stream and only then answer with the digest."""
    got = receive(sock)
    sock.sendall(got["sha256"].encode())
    sock.shutdown(socket.SHUT_WR)
    receive(sock)
    return got


def mode_ask(sock, seed=1, total=0, chunk=BLOCK):
    """Send the pattern, shut down writing, then read the answer; return {sent, answer}."""
    sent = send_pattern(sock, seed, total, chunk)
    sock.shutdown(socket.SHUT_WR)
    answer = b""
    while True:
        data = sock.recv(BLOCK)
        if not data:
            return {"sent": sent, "answer": answer.decode()}
        answer += data


def mode_last_words(sock, seed=1, total=0, chunk=BLOCK):
    """Refuse to read any more, but send the pattern still."""
    sock.shutdown(socket.SHUT_RD)
    return mode_source(sock, seed, total, chunk)


def mode_hold(sock, greeting=""):
    """Say something, then only wait; return how the connection ended."""
    sock.sendall(greeting.encode())
    print("holding", flush=True)
    count = 0
    try:
        while True:
            data = sock.recv(BLOCK)
            if not data:
                return {"end": "EOF", "bytes": count}
            count += len(data)
    except OSError as err:
        return {"end": errno.errorcode[err.errno], "bytes": count}


def mode_flood(sock, seed=1, chunk=BLOCK):
    """Send until the connection ends; return how it did."""
    print("flooding", flush=True)
    piece = random.Random(seed).randbytes(chunk)
    try:
        while True:
            sock.sendall(piece)
    except OSError as err:
        return {"end": errno.errorcode[err.errno]}


def mode_ask_forever(sock):
    """Send a byte and read one, again and again; return how it ended."""
    count = 0
    print("asking", flush=True)
    try:
        while True:
            sock.sendall(b"x")
            if not sock.recv(1):
                return {"end": "EOF", "rounds": count}
            count += 1
    except OSError as err:
        return {"end": errno.errorcode[err.errno], "rounds": count}


def mode_one_write(sock, seed=1, total=1 << 20):
    """Hand the whole pattern to the kernel in a single write; wait for the other end to close."""
    data = b"".join(pattern(seed, total, total))
    written = sock.send(data)
    rest = receive(sock)
    return {"sent": hashlib.sha256(data).hexdigest(), "written": written, "rest": rest["bytes"]}


def records(seed, count, largest):
    """Yield messages of 1 to largest bytes, small ones as likely as big ones."""
    rng = random.Random(seed)
    for _ in range(count):
        size = min(largest, int(2 ** rng.uniform(0, largest.bit_length())))
        yield rng.randbytes(max(1, size))


def digest_of_records(seed, count, largest):
    """Return a SHA-256 that depends on the bytes and on where each message ends."""
    sha = hashlib.sha256()
    for record in records(seed, count, largest):
        sha.update(b"%d:" % len(record) + record)
    return sha.hexdigest()


def mode_records(sock, seed=1, count=0, largest=1, expect=0):
    """Send messages while reading as many as are expected; return their digest."""
    failure = []

    def sender():
        try:
            for record in records(seed, count, largest):
                if sock.send(record) != len(record):
                    raise OSError(errno.EIO, "part of a message was sent")
        except OSError as err:
            failure.append(err)

    thread = threading.Thread(target=sender, daemon=True)
    thread.start()
    sha = hashlib.sha256()
    for _ in range(expect):
        data = sock.recv(1 << 20)
        sha.update(b"%d:" % len(data) + data)
    thread.join()
    if failure:
        raise failure[0]
    sock.shutdown(socket.SHUT_WR)
    return {"received": sha.hexdigest(), "rest": len(sock.recv(1 << 20))}


def mode_one_record(sock, size=1):
    """Send one message; return how that ended."""
    try:
        sock.send(bytes(size))
        return {"end": "sent", "rest": len(sock.recv(1))}
    except OSError as err:
        return {"end": errno.errorcode[err.errno]}


def act(sock, mode, options=None):
    """Run a mode on a connected socket and close it."""
    with sock:
        return globals()["mode_" + mode](sock, **(options or {}))


class Crowd:
    """Many connections, each in a thread with a mode of its own; results keep their order."""

    def __init__(self):
        self.threads = []
        self.results = []
        self.failures = []

    def add(self, make_socket, mode, options=None):
        """Start one more; make_socket() runs in its thread."""
        index = len(self.threads)
        self.results.append(None)

        def body():
            try:
                self.results[index] = act(make_socket(), mode, options)
            except OSError as err:
                self.failures.append(f"{index}: {err!r}")

        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=body, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self):
        """Wait for all; return the results."""
        for thread in self.threads:
            thread.join()
        if self.failures:
            raise OSError(errno.EIO, f"{len(self.failures)} failed: {self.failures[:3]}")
        return self.results


def random_sizes(seed, count, largest):
    """Return count sizes from 0 to largest, small ones as likely as big ones."""
    rng = random.Random(seed)
    return [min(largest, int(2 ** rng.uniform(0, largest.bit_length()))) - 1 for _ in range(count)]


# What follows is called in the guest by Guest.call().

def listener(port, backlog=BACKLOG):
    """Return a listening AF_VSOCK socket, announced on standard output."""
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    sock.bind((VMADDR_CID_ANY, port))
    sock.listen(backlog)
    print("listening", flush=True)
    return sock


def dial(cid, port, local_port=None):
    """Return a connected AF_VSOCK socket."""
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    if local_port is not None:
        sock.bind((VMADDR_CID_ANY, local_port))
    sock.connect((cid, port))
    return sock


def serve(port, mode, options=None):
    """Accept one connection and run a mode on it."""
    with listener(port) as server:
        sock, peer = server.accept()
    print("accepted", flush=True)
    return dict(act(sock, mode, options), peer=list(peer))


def connect(cid, port, mode, options=None, local_port=None):
    """Connect and run a mode."""
    return act(dial(cid, port, local_port), mode, options)


def serve_records(port, mode, options=None):
    """serve() for a SOCK_SEQPACKET socket."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET) as server:
        server.bind((VMADDR_CID_ANY, port))
        server.listen(BACKLOG)
        print("listening", flush=True)
        sock, _peer = server.accept()
    return act(sock, mode, options)


def connect_records(cid, port, mode, options=None):
    """connect() for a SOCK_SEQPACKET socket."""
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET)
    sock.connect((cid, port))
    return act(sock, mode, options)


def notify(cid, port, state):
    """As systemd tells its VMM (vmm.notify_socket): by message if it can, else by stream.

    It shuts down writing and waits for the other end before it closes. Return the type used.
    """
    for kind, name in ((socket.SOCK_SEQPACKET, "seqpacket"), (socket.SOCK_STREAM, "stream")):
        with socket.socket(socket.AF_VSOCK, kind) as sock:
            try:
                sock.connect((cid, port))
            except OSError:
                continue
            sock.sendall(state.encode())
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
            return name
    return None


def serve_crowd(port, mode, count, options=None):
    """Accept count connections and run a mode on each at the same time."""
    crowd = Crowd()
    with listener(port) as server:
        for _ in range(count):
            sock, _peer = server.accept()
            crowd.add(lambda sock=sock: sock, mode, options)
    return crowd.join()


def connect_crowd(cid, port, mode, options):
    """Make as many connections at once as there are options, each with its own."""
    crowd = Crowd()
    for option in options:
        crowd.add(lambda: dial(cid, port), mode, option)
    return crowd.join()


def serve_forever(port, mode, options=None):
    """Accept and serve connections until killed."""
    server = listener(port)
    while True:
        sock, _peer = server.accept()
        threading.Thread(target=act, args=(sock, mode, options), daemon=True).start()


def serve_late(port):
    """Accept one connection, but read it only after a line on standard input."""
    with listener(port) as server:
        sock, _peer = server.accept()
    print("accepted", flush=True)
    os.read(0, 100)
    with sock:
        data = b"".join(iter(lambda: sock.recv(BLOCK), b""))
    numbered = b"".join(b"%03d" % (n % 1000) for n in range(len(data) // 3 + 1))
    return {"bytes": len(data), "in_order": data == numbered[:len(data)]}


def is_listening(port):
    """Return whether a port is taken; binding to it without listening disturbs nobody."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        try:
            sock.bind((VMADDR_CID_ANY, port))
        except OSError as err:
            return err.errno == errno.EADDRINUSE
    return False


def is_tcp_listening(port):
    """Return whether a TCP port is listened at."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def exists(path):
    """Return whether a file is there."""
    return os.path.exists(path)


def local_cid():
    """Return the guest's own CID as the driver tells it."""
    import fcntl
    import struct
    with open("/dev/vsock", "rb") as dev:
        answer = fcntl.ioctl(dev, 0x7B9, bytes(4))
    return struct.unpack("<I", answer)[0]


if __name__ == "__main__":
    sys.exit("this file is a library")
