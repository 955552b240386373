# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The README's examples, run as written but for the sockets' directory.

Each line that a person would type is in LINES, and must be in the README too.
"""

import os
import subprocess

import pytest
from daemon import ROOT
from hostside import wait_for

# What an example calls its VM; its CID is 4 there, and it has the sockets below.
README_UDS = "/tmp/vm4.vsock"
PORT = 1234

GUEST_LISTENS = {
    "ncat": "nc --vsock -l 1234",
    "socat": "socat VSOCK-LISTEN:1234 -",
}
HOST_CONNECTS = {
    "nc": "nc -U /tmp/vm4.vsock",
    "socat": "socat - UNIX-CONNECT:/tmp/vm4.vsock",
}
HOST_LISTENS = {
    "nc": "nc -l -U /tmp/vm4.vsock_1234",
    "socat": "socat UNIX-LISTEN:/tmp/vm4.vsock_1234 -",
}
GUEST_CONNECTS = {
    "ncat": "nc --vsock 2 1234",
    "socat": "socat - VSOCK-CONNECT:2:1234",
}
SIBLING = {"listen": "nc --vsock -l 1234", "connect": "nc --vsock 3 1234"}
PYTHON_GUEST = """\
import socket
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.connect((socket.VMADDR_CID_HOST, 1234))
s.sendall(b"from the guest\\n")
print(s.recv(100).decode(), end="")
"""

LINES = [line for table in (GUEST_LISTENS, HOST_CONNECTS, HOST_LISTENS, GUEST_CONNECTS, SIBLING)
         for line in table.values()] + PYTHON_GUEST.splitlines()


class HostCommand:
    """A command line of an example, run on the host with the sockets of this test."""

    def __init__(self, line, uds):
        line = line.replace(README_UDS, str(uds))
        self.process = subprocess.Popen(line.split(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def type(self, text):
        """Type a line."""
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def read(self):
        """Return the next line printed."""
        return self.process.stdout.readline()

    def end(self):
        """End it, by force if the other end's closing did not."""
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def wait_guest_listening(guest, port):
    """Wait until a program of the guest has its socket, as vsock_diag's table tells."""
    wait_for(lambda: guest.call("is_listening", port=port).result(), f"listener at {port}")


def converse(host, guest_process):
    """Exchange a line in each direction."""
    host.type(b"from the host\n")
    guest_process.wait_out("from the host\n")
    guest_process.write(b"from the guest\n")
    assert host.read() == b"from the guest\n"


@pytest.mark.parametrize("inside", GUEST_LISTENS)
@pytest.mark.parametrize("outside", HOST_CONNECTS)
def test_guest_listening(world, guest, inside, outside):
    """Guest listening: host connects with CONNECT and reads OK."""
    server = guest.popen(GUEST_LISTENS[inside].split())
    wait_guest_listening(guest, PORT)
    host = HostCommand(HOST_CONNECTS[outside], world.vm().uds)
    host.type(b"CONNECT %d\n" % PORT)
    assert host.read().startswith(b"OK ")
    converse(host, server)
    server.kill()
    server.wait()
    host.end()


@pytest.mark.parametrize("inside", GUEST_CONNECTS)
@pytest.mark.parametrize("outside", HOST_LISTENS)
def test_host_listening(world, guest, inside, outside):
    """Host listening: the guest connects to CID 2."""
    path = world.vm().port(PORT)
    if os.path.lexists(path):
        os.unlink(path)
    host = HostCommand(HOST_LISTENS[outside], world.vm().uds)
    wait_for(lambda: os.path.exists(path), "host listener")
    client = guest.popen(GUEST_CONNECTS[inside].split())
    converse(host, client)
    client.kill()
    client.wait()
    host.end()


def test_python_in_guest(world, guest):
    """The AF_VSOCK example in python."""
    path = world.vm().port(PORT)
    if os.path.lexists(path):
        os.unlink(path)
    host = HostCommand(HOST_LISTENS["nc"], world.vm().uds)
    wait_for(lambda: os.path.exists(path), "host listener")
    client = guest.popen(["python3", "-c", PYTHON_GUEST])
    assert host.read() == b"from the guest\n"
    host.type(b"from the host\n")
    assert client.wait().out == b"from the host\n"
    host.end()


def test_sibling_example(world, siblings):
    """Two guests talk with nc --vsock."""
    server = siblings[0].popen(SIBLING["listen"].split())
    wait_guest_listening(siblings[0], PORT)
    client = siblings[1].popen(SIBLING["connect"].split())
    client.write(b"from guest 4\n")
    server.wait_out("from guest 4\n")
    server.write(b"from guest 3\n")
    client.wait_out("from guest 3\n")
    server.kill()
    client.kill()


def test_readme_has_these_examples():
    """What is tested here is what the README says."""
    path = os.path.join(ROOT, "README.md")
    if not os.path.exists(path):
        pytest.skip("no README.md yet")
    with open(path, encoding="utf-8") as readme:
        text = readme.read()
    assert [line for line in LINES if line not in text] == []
