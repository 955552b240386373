# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl with real guests: ssh into one, and AF_VSOCK programs at both ends."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ctl
import sshserver
from hostside import wait_for
from initramfs import shared_objects

LIMIT = 120
BULK = 1 << 20


def vsockctl(*args, **kw):
    return subprocess.Popen([ctl.binary(), *map(str, args)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def wait_guest_listening(guest, port):
    wait_for(lambda: guest.call("is_listening", port=port).result(), f"listener at {port}")


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def client_key(tmp_path):
    return sshserver.make_key(tmp_path)


@pytest.fixture
def sshd(world, guest, client_key, tmp_path):
    """A port of the guest with an sshd behind it."""
    port = world.port()
    serving = sshserver.start(guest, port, client_key, tmp_path)
    yield port
    serving.kill()


def ssh(proxy, key, *command, stdin=b""):
    return sshserver.login(key, [f"ProxyCommand={proxy}"], "guest", *command, stdin=stdin)


def test_ssh_by_proxy_command(world, sshd, client_key):
    """A command, its exit status, and bulk both ways; the proxy ends with the session."""
    proxy = f"{ctl.binary()} connect --uds {world.vm().uds} {sshd}"
    done = ssh(proxy, client_key, "echo $SSH_CONNECTION; uname -s; exit 42")
    assert (done.returncode, done.stdout.split()[-1:]) == (42, [b"Linux"]), done.stderr
    data = os.urandom(BULK)
    done = ssh(proxy, client_key, "cat", stdin=data)
    assert done.returncode == 0 and digest(done.stdout) == digest(data), done.stderr
    done = ssh(proxy, client_key, "sha256sum", stdin=data)
    assert done.stdout.split()[0].decode() == digest(data)


def test_ssh_by_a_program_of_af_vsock(world, sshd, client_key):
    """The proxy that people use with the kernel's vhost-vsock works unchanged."""
    proxy = f"{ctl.binary()} run --uds 3={world.vm().uds} ncat --vsock 3 {sshd}"
    done = ssh(proxy, client_key, "echo hello")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr


def test_ssh_to_a_port_without_sshd(world, guest, client_key):
    proxy = f"{ctl.binary()} connect --uds {world.vm().uds} {world.port()}"
    done = ssh(proxy, client_key, "true")
    assert done.returncode == 255 and b"refuses port" in done.stderr


@pytest.mark.parametrize("client", ["ncat", "socat"])
def test_host_client_of_af_vsock(world, guest, client):
    port = world.port()
    guest.popen(f"socat VSOCK-LISTEN:{port} 'SYSTEM:sha256sum'")
    wait_guest_listening(guest, port)
    argv = {"ncat": ["ncat", "--vsock", "3", port],
            "socat": ["socat", "-t60", "-", f"VSOCK-CONNECT:3:{port}"]}[client]
    data = os.urandom(BULK)
    child = vsockctl("run", "--uds", f"3={world.vm().uds}", "--", *argv)
    out, err = child.communicate(data, timeout=LIMIT)
    assert out.split()[0].decode() == digest(data), err


def test_host_server_of_af_vsock(world, siblings):
    """Two guests reach one program of the host, which is told who they are."""
    port = world.port()
    code = ("import socket, sys\n"
            "door = socket.socket(socket.AF_VSOCK)\n"
            f"door.bind((socket.VMADDR_CID_ANY, {port}))\n"
            "door.listen()\n"
            "while True:\n"
            "    conn, (cid, _) = door.accept()\n"
            "    conn.sendall(b'you are %d' % cid)\n"
            "    conn.close()\n")
    known = [f"--uds={guest.cid}={world.vm(guest.cid).uds}" for guest in siblings]
    child = vsockctl("run", *known, "--", sys.executable, "-c", code)
    try:
        for guest in siblings:
            wait_for(lambda path=world.vm(guest.cid).port(port): Path(path).exists(), "listener")
        for guest in siblings * 2:
            argv = ["socat", "-t60", "-", f"VSOCK-CONNECT:2:{port}"]
            # The path is there a moment before somebody listens.
            said = wait_for(lambda g=guest, a=argv: g.run(a, check=False).out, "an answer")
            assert said == b"you are %d" % guest.cid
    finally:
        child.kill()
        child.communicate()


def test_listen_and_forward(world, guest):
    """Everyday use: a command for the guest, and a TCP port for it."""
    port = world.port()
    child = vsockctl("listen", "--uds", world.vm().uds, port, "--", "sha256sum")
    wait_for(lambda: Path(world.vm().port(port)).exists(), "listener")
    data = os.urandom(1 << 20)
    said = guest.run(["socat", "-t60", "-", f"VSOCK-CONNECT:2:{port}"], stdin=data).out
    assert said.split()[0].decode() == digest(data)
    child.terminate()
    child.communicate(timeout=LIMIT)
    assert child.returncode == 0


def put_vsockctl(guest):
    """Give a guest the program and those of its libraries that it lacks."""
    for library in shared_objects(ctl.binary()):
        if not guest.call("exists", path=library).result():
            guest.agent.put_file(library, library)
    guest.agent.put_file(ctl.binary(), "/bin/vsockctl")


def test_bench(world, guest):
    """Both ends are vsockctl's; the guest's uses the kernel's AF_VSOCK."""
    port = world.port()
    put_vsockctl(guest)
    server = guest.popen(["vsockctl", "bench", "--serve", str(port)])
    wait_guest_listening(guest, port)
    child = vsockctl("bench", "--uds", world.vm().uds, "--seconds", 2, "--json", port)
    out, err = child.communicate(timeout=LIMIT)
    server.kill()
    assert child.returncode == 0, err
    figures = json.loads(out)
    assert len(figures) == 5 and all(value > 0 for value in figures.values()), figures
