# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Listening sockets under vsockctl run that go, or stay, otherwise than by close()."""

import pytest

from hybrid import recv_all
from preloaded import LIMIT, Guests


@pytest.fixture
def guests(tmp_path):
    made = Guests(tmp_path)
    yield made
    made.close()


def test_child_keeps_nothing(guests):
    """of a listening socket that it inherited and closed."""
    assert guests.python("""
before = len(os.listdir("/proc/self/fd"))
door = listening(5000)
child = os.fork()
if child == 0:
    door.close()
    print(len(os.listdir("/proc/self/fd")) - before, flush=True)
    os._exit(0)
os.waitpid(child, 0)
""") == ["0"]


def test_closed_in_bulk(guests):
    """close_range() and closefrom() close listening sockets: their numbers are free for others."""
    assert guests.python("""
import ctypes
libc = ctypes.CDLL(None)
for bulk in (lambda fd: libc.close_range(fd, fd, 0), libc.closefrom):
    fd = listening(5000).detach()
    bulk(fd)
    socks = {sock.fileno(): sock for _ in range(8) for sock in socket.socketpair()}
    print(socks[fd].getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_UNIX)
    socks.pop(fd).close()
    for sock in socks.values():
        sock.close()
    listening(5000).close()
""") == ["True", "True"]


def test_others_closed_in_bulk(guests):
    """A server that closes all but its listening socket can be reached."""
    child = guests.start_python("""
import ctypes
door = listening(5000)
ctypes.CDLL(None).closefrom(door.fileno() + 1)
sock, _ = door.accept()
sock.sendall(b"here")
sock.close()
door.close()
""")
    guests.wait_port(5000)
    assert recv_all(guests.four.guest_connect(5000)) == b"here"
    assert child.wait(LIMIT) == 0, child.stderr.read()
    assert not guests.has_port(5000)


def test_refused_dup_closes_nothing(guests):
    assert guests.python("""
door = listening(5000)
print(error(os.dup2, 999, door.fileno()), error(os.dup2, 999, door.fileno(), False))
print(door.getsockname()[1], door.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
""") == ["EBADF EBADF", "5000 1"]
