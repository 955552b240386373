# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl connect, listen and forward, with --uds and a stand-in for the daemon.

With the real daemon they run in tests/vu/test_vu_vsockctl.py.
"""

import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

import ctl
from daemon import listening_paths
from hybrid import Hybrid, digest, recv_all
from waiting import SCALE, listens, until

LIMIT = 60 * SCALE
BULK = 32 << 20


def pattern(size, seed=1):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def hybrid(tmp_path):
    made = Hybrid(tmp_path / "vm.vsock")
    yield made
    made.close()


def start(*args, **kw):
    return subprocess.Popen([ctl.binary(), *map(str, args)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def run(*args, stdin=b""):
    return subprocess.run([ctl.binary(), *map(str, args)], input=stdin, capture_output=True,
                          timeout=LIMIT, check=False)


@pytest.fixture
def spawn():
    """Start the program; whatever still runs at the end is killed."""
    running = []

    def spawn_one(*args, **kw):
        running.append(start(*args, **kw))
        return running[-1]
    yield spawn_one
    for child in running:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            pipe.close()


# connect

@pytest.mark.parametrize("split", [False, True], ids=["", "split"])
def test_connect_eats_the_ok_line(tmp_path, split):
    """Data may stand right behind it, in the same segment."""
    hybrid = Hybrid(tmp_path / "v", {80: lambda s: s.sendall(b"OK data\n")}, split=split)
    done = run("connect", "--uds", hybrid.path, 80)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"OK data\n", b"")
    assert hybrid.lines == [b"CONNECT 80\n"]
    hybrid.close()


def test_connect_data_in_the_segment_of_the_answer(tmp_path):
    hybrid = Hybrid(tmp_path / "v", {80: lambda s: None}, answer=b"OK 1073741824\nhello\nworld")
    assert run("connect", "--uds", hybrid.path, 80).stdout == b"hello\nworld"
    hybrid.close()


@pytest.mark.parametrize("answer", [b"NO 12\n", b"OK \n", b"OK x\n", b"\n", b"OK" * 100])
def test_connect_bad_answer(tmp_path, answer):
    hybrid = Hybrid(tmp_path / "v", {80: lambda s: s.recv(1)}, answer=answer)
    done = run("connect", "--uds", hybrid.path, 80)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1 and b"port 80" in done.stderr
    hybrid.close()


def test_connect_refused(hybrid):
    done = run("connect", "--uds", hybrid.path, 99)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"refuses port 99" in done.stderr


def test_connect_no_daemon(tmp_path):
    done = run("connect", "--uds", tmp_path / "absent", 99)
    assert done.returncode == 1 and b"No such file" in done.stderr


def test_connect_half_close_of_stdin(hybrid):
    """The guest sees the end and still answers."""
    def answer(sock):
        data = recv_all(sock)
        sock.sendall(digest(data).encode())
    hybrid.ports[7] = answer
    data = pattern(5_000_000)
    done = run("connect", "--uds", hybrid.path, 7, stdin=data)
    assert (done.returncode, done.stdout.decode()) == (0, digest(data))


def test_connect_half_close_of_the_guest(hybrid, spawn):
    """Standard output ends, standard input goes on."""
    got = []

    def halves(sock):
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        got.append(recv_all(sock))
    hybrid.ports[7] = halves
    child = spawn("connect", "--uds", hybrid.path, 7)
    assert child.stdout.read() == b"bye"
    assert child.poll() is None
    child.stdin.write(b"still here")
    child.stdin.close()
    assert child.wait(LIMIT) == 0
    until(lambda: got, "the guest's end")
    assert got == [b"still here"]


def test_connect_ends_when_the_guest_closes(hybrid, spawn):
    """Though standard input stays open: what ssh expects of a proxy command."""
    hybrid.ports[7] = lambda sock: sock.sendall(b"all")
    child = spawn("connect", "--uds", hybrid.path, 7)
    assert child.wait(LIMIT) == 0
    assert child.stdout.read() == b"all"


def test_connect_ends_with_standard_output(hybrid, spawn):
    """vsockctl connect ... | head -c 1"""
    def flood(sock):
        while True:
            sock.sendall(b"x" * 65536)
    hybrid.ports[7] = flood
    child = spawn("connect", "--uds", hybrid.path, 7)
    assert child.stdout.read(1) == b"x"
    child.stdout.close()
    assert child.wait(LIMIT) == 1
    until(lambda: hybrid.errors, "the guest's side learns it")


def test_connect_both_directions_full(hybrid):
    """Each side writes everything before it reads: nobody waits for the other for ever."""
    sizes = []

    def both(sock):
        reader = threading.Thread(target=lambda: sizes.append(digest(recv_all(sock))))
        reader.start()
        sock.sendall(pattern(BULK, 2))
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    hybrid.ports[7] = both
    data = pattern(BULK, 3)
    done = run("connect", "--uds", hybrid.path, 7, stdin=data)
    assert done.returncode == 0
    assert digest(done.stdout) == digest(pattern(BULK, 2))
    until(lambda: sizes, "the guest's end")
    assert sizes == [digest(data)]


def test_connect_stalled_reader_bounds_memory(hybrid, spawn):
    """Nobody reads standard output; what is sent the other way gets through all the same."""
    got = []

    def guest(sock):
        threading.Thread(target=lambda: got.append(digest(recv_all(sock))), daemon=True).start()
        sock.sendall(pattern(BULK, 2))
        sock.shutdown(socket.SHUT_WR)
        until(lambda: got, "the other direction", 30)
    hybrid.ports[7] = guest
    data = pattern(8 << 20, 3)
    child = spawn("connect", "--uds", hybrid.path, 7)
    child.stdin.write(data)
    child.stdin.close()
    until(lambda: got == [digest(data)], "the bytes in the guest", 30)
    with open(f"/proc/{child.pid}/status", encoding="ascii") as status:
        size = next(line for line in status if line.startswith("VmRSS"))
    assert int(size.split()[1]) < 64 << 10
    assert digest(child.stdout.read()) == digest(pattern(BULK, 2))
    assert child.wait(LIMIT) == 0


def test_connect_files_and_closed_descriptors(hybrid, tmp_path):
    hybrid.ports[7] = lambda sock: sock.sendall(recv_all(sock)[::-1])
    (tmp_path / "in").write_bytes(pattern(300_000))
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        done = subprocess.run([ctl.binary(), "connect", "--uds", hybrid.path, "7"], stdin=source,
                              stdout=sink, timeout=LIMIT, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes() == pattern(300_000)[::-1]
    done = subprocess.run(["sh", "-c", f"{ctl.binary()} connect --uds {hybrid.path} 7 <&-"],
                          capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_connect_leaves_the_flags_of_its_pipes(hybrid, spawn):
    """They are shared with other programs."""
    hybrid.ports[7] = lambda sock: sock.sendall(recv_all(sock))
    child = spawn("connect", "--uds", hybrid.path, 7)
    child.stdin.write(b"x")
    child.stdin.flush()
    until(lambda: hybrid.lines, "the connection")
    assert os.get_blocking(child.stdin.fileno()) and os.get_blocking(child.stdout.fileno())
    child.stdin.close()
    assert child.stdout.read() == b"x"


@pytest.mark.parametrize("args", [
    ["connect"], ["connect", "x", "1"], ["connect", "3"], ["connect", "3", "-1"],
    ["connect", "3", "4294967296"], ["connect", "--uds"], ["connect", "--bogus", "3", "4"],
    ["connect", "--limit", "3", "3", "4"], ["connect", "3", "4", "5"], ["bogus"], [],
    ["listen", "3"], ["forward", "3:4"], ["forward", "3:4", "5:6"],
    ["forward", "a:1", "b:2"], ["forward", "127.0.0.1:70000", "3:4"],
    ["forward", "127.0.0.1:0", "guest:4"], ["connect", "--uds", "v", "4", "5"],
])
def test_usage(args):
    done = run(*args)
    assert (done.returncode, done.stdout) == (2, b""), done
    assert done.stderr.startswith(b"vsockctl: ") and done.stderr.count(b"\n") == 1


# listen

def test_listen_joins_the_first_connection(hybrid, spawn):
    child = spawn("listen", "--uds", hybrid.path, 22)
    until(lambda: listens(f"{hybrid.path}_22"), "the socket")
    sock = hybrid.guest_connect(22)
    until(lambda: not os.path.exists(f"{hybrid.path}_22"), "the socket's end")
    sock.sendall(b"from the guest")
    sock.shutdown(socket.SHUT_WR)
    assert child.stdout.read() == b"from the guest"
    child.stdin.write(b"to the guest")
    child.stdin.close()
    assert recv_all(sock) == b"to the guest"
    assert child.wait(LIMIT) == 0


def test_listen_command_for_each_connection(hybrid, spawn):
    child = spawn("listen", "--uds", hybrid.path, 22, "--", "sh", "-c", "read a; echo \"got $a\"")
    until(lambda: listens(f"{hybrid.path}_22"), "the socket")
    socks = [hybrid.guest_connect(22) for _ in range(20)]
    for i, sock in reversed(list(enumerate(socks))):
        sock.sendall(b"%d\n" % i)
        assert recv_all(sock) == b"got %d\n" % i
    child.terminate()
    assert child.wait(LIMIT) == 0
    assert not os.path.exists(f"{hybrid.path}_22")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [[], ["--", "cat"]], ids=["stdio", "command"])
def test_listen_removes_the_socket_at_a_signal(hybrid, spawn, sig, command):
    child = spawn("listen", "--uds", hybrid.path, 22, *command)
    until(lambda: listens(f"{hybrid.path}_22"), "the socket")
    child.send_signal(sig)
    assert child.wait(LIMIT) == 0
    assert not os.path.exists(f"{hybrid.path}_22")


def test_listen_does_not_take_a_port_in_use(hybrid, spawn):
    first = spawn("listen", "--uds", hybrid.path, 22, "--", "cat")
    until(lambda: listens(f"{hybrid.path}_22"), "the socket")
    done = run("listen", "--uds", hybrid.path, 22, "--", "cat")
    assert done.returncode == 1 and b"in use" in done.stderr
    assert first.poll() is None
    with hybrid.guest_connect(22) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"


def test_listen_replaces_a_stale_socket(hybrid, spawn):
    path = f"{hybrid.path}_22"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    spawn("listen", "--uds", hybrid.path, 22, "--", "cat")
    until(lambda: path in listening_paths(), "the listener")


def test_listen_bad_command(hybrid, spawn):
    child = spawn("listen", "--uds", hybrid.path, 22, "--", "/nonexistent/program")
    until(lambda: listens(f"{hybrid.path}_22"), "the socket")
    assert recv_all(hybrid.guest_connect(22)) == b""
    child.terminate()
    child.wait(LIMIT)
    assert b"/nonexistent/program" in child.stderr.read()


# forward

def announced_port(child):
    line = child.stderr.readline().decode()
    assert " leads to " in line, line
    return int(line.split(" leads to ")[0].rsplit(":", 1)[1])


def test_forward_tcp_to_guest(hybrid, spawn):
    hybrid.ports[80] = lambda sock: sock.sendall(digest(recv_all(sock)).encode())
    child = spawn("forward", "--uds", hybrid.path, "127.0.0.1:0", "guest:80")
    port = announced_port(child)
    socks = [socket.create_connection(("127.0.0.1", port), LIMIT) for _ in range(30)]
    for i, sock in enumerate(socks):
        sock.sendall(pattern(100_000, i))
        sock.shutdown(socket.SHUT_WR)
    for i, sock in enumerate(socks):
        assert recv_all(sock).decode() == digest(pattern(100_000, i))
        sock.close()
    child.terminate()
    assert child.wait(LIMIT) == 0


def test_forward_refused_by_the_guest(hybrid, spawn):
    port = announced_port(spawn("forward", "--uds", hybrid.path, "127.0.0.1:0", "guest:81"))
    with socket.create_connection(("127.0.0.1", port), LIMIT) as sock:
        assert recv_all(sock) == b""


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_forward_guest_to_tcp(hybrid, spawn, host):
    family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
    try:
        server = socket.create_server((host.strip("[]"), 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        port = server.getsockname()[1]
        child = spawn("forward", "--uds", hybrid.path, "guest:80", f"{host}:{port}")
        assert b"leads to" in child.stderr.readline()
        sock = hybrid.guest_connect(80)
        conn, _ = server.accept()
        sock.sendall(b"request")
        sock.shutdown(socket.SHUT_WR)
        assert recv_all(conn) == b"request"
        conn.sendall(b"answer")
        conn.close()
        assert recv_all(sock) == b"answer"
        child.terminate()
        assert child.wait(LIMIT) == 0
        assert not os.path.exists(f"{hybrid.path}_80")


def test_forward_connections_end_with_it(hybrid, spawn):
    hybrid.ports[80] = recv_all
    child = spawn("forward", "--uds", hybrid.path, "127.0.0.1:0", "guest:80")
    sock = socket.create_connection(("127.0.0.1", announced_port(child)), LIMIT)
    until(lambda: hybrid.lines, "the connection")
    child.terminate()
    assert child.wait(LIMIT) == 0
    deadline = time.monotonic() + LIMIT
    assert sock.recv(1) == b"" and time.monotonic() < deadline
