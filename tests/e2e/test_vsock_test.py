# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Linux's own vsock_test between two sibling guests, each case in both roles.

The program is built, unmodified, from the linux-source package of the suite that the guests' kernel
comes from, so that no case asks for what that kernel lacks. Its control connection runs over a
network of the two guests' own; only the connections under test go through the device.
"""

import functools
import json
import re
import subprocess
import sys

import pytest
from hostside import wait_for
from qemu import FETCH

# Every case of every kernel so far, by name; numbers differ between kernels.
CASES = (
    "SOCK_STREAM connection reset",
    "SOCK_STREAM bind only",
    "SOCK_STREAM client close",
    "SOCK_STREAM server close",
    "SOCK_STREAM multiple connections",
    "SOCK_STREAM MSG_PEEK",
    "SOCK_SEQPACKET msg bounds",
    "SOCK_SEQPACKET MSG_TRUNC flag",
    "SOCK_SEQPACKET timeout",
    "SOCK_SEQPACKET invalid receive buffer",
    "SOCK_STREAM poll() + SO_RCVLOWAT",
    "SOCK_SEQPACKET big message",
    "SOCK_STREAM test invalid buffer",
    "SOCK_SEQPACKET test invalid buffer",
    "SOCK_STREAM virtio skb merge",
    "SOCK_SEQPACKET MSG_PEEK",
    "SOCK_STREAM SHUT_WR",
    "SOCK_STREAM SHUT_RD",
    "SOCK_STREAM MSG_ZEROCOPY",
    "SOCK_SEQPACKET MSG_ZEROCOPY",
    "SOCK_STREAM MSG_ZEROCOPY empty MSG_ERRQUEUE",
    "SOCK_STREAM double bind connect",
    "SOCK_STREAM virtio credit update + SO_RCVLOWAT",
    "SOCK_STREAM virtio credit update + low rx_bytes",
    "SOCK_STREAM ioctl(SIOCOUTQ) 0 unsent bytes",
    "SOCK_SEQPACKET ioctl(SIOCOUTQ) 0 unsent bytes",
    "SOCK_STREAM leak accept queue",
    "SOCK_STREAM MSG_ZEROCOPY leak MSG_ERRQUEUE",
    "SOCK_STREAM MSG_ZEROCOPY leak completion skb",
    "SOCK_STREAM transport release use-after-free",
    "SOCK_STREAM retry failed connect()",
    "SOCK_STREAM SO_LINGER null-ptr-deref",
    "SOCK_STREAM SO_LINGER close() on unread",
    "SOCK_STREAM transport change null-ptr-deref, lockdep warn",
    "SOCK_STREAM ioctl(SIOCINQ) functionality",
    "SOCK_SEQPACKET ioctl(SIOCINQ) functionality",
    "SOCK_STREAM accept()ed socket custom setsockopt()",
    "SOCK_STREAM virtio MSG_ZEROCOPY coalescence corruption",
    "SOCK_STREAM TX credit bounds",
    "SOCK_STREAM MSG_PEEK after partial recv",
    "SOCK_STREAM small packets backpressure",
)

CONTROL_PORT = 1234
CASE_SECONDS = 60


@functools.lru_cache(maxsize=None)
def vsock_test(suite):
    """Return (path of the program, {case: number}), built if the cache lacks it."""
    out = subprocess.run([sys.executable, str(FETCH), "--vsock-test", suite], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    path = json.loads(out)["vsock_test"]
    res = subprocess.run([path, "--list"], capture_output=True, text=True, check=False)
    found = re.findall(r"^(\d+)\t(.*)$", res.stdout + res.stderr, re.M)
    return path, {name.strip(): int(number) for number, name in found}


@pytest.fixture(scope="session")
def program(pair):
    """The program for this pair's kernel and the numbers of its cases."""
    return vsock_test(pair.suite)


def prepare(guest, path):
    """Put the program and an address into a guest, once per boot."""
    if guest.call("exists", path="/bin/vsock_test").result():
        return
    guest.load("virtio_net")
    guest.run(f"ip addr add {address(guest)}/24 dev eth0 && ip link set eth0 up")
    guest.agent.put_file(path, "/bin/vsock_test")


def address(guest):
    """Return the guest's address on the network of the control connection."""
    return f"192.168.77.{guest.cid}"


def only(numbers, case):
    """Return the options that leave one case to run."""
    return [f"--skip={n}" for name, n in numbers.items() if name != case]


def run_case(case, numbers, server, client):
    """Run one case; return the two results."""
    common = [f"--control-port={CONTROL_PORT}", *only(numbers, case)]
    serving = server.popen(["vsock_test", "--mode=server", f"--peer-cid={client.cid}",
                            f"--control-host={address(server)}", *common])
    # The client tries its control connection only once.
    wait_for(lambda: server.call("is_tcp_listening", port=CONTROL_PORT).result(), "vsock_test")
    calling = client.popen(["vsock_test", "--mode=client", f"--peer-cid={server.cid}",
                            f"--control-host={address(server)}", *common])
    try:
        return serving.wait(CASE_SECONDS), calling.wait(CASE_SECONDS)
    finally:
        for process in (serving, calling):
            if process.running():
                process.kill()


@pytest.mark.parametrize("server_index", (0, 1), ids=("3 serves", "4 serves"))
@pytest.mark.parametrize("case", CASES)
def test_case(siblings, program, case, server_index):
    """One case of vsock_test."""
    path, numbers = program
    if case not in numbers:
        pytest.skip("not in this kernel's vsock_test")
    for guest in siblings:
        prepare(guest, path)
    server, client = siblings[server_index], siblings[1 - server_index]
    served, called = run_case(case, numbers, server, client)
    assert (served.code, called.code) == (0, 0), f"server: {served}\nclient: {called}"
    assert b"...ok" in served.out + served.err, served


def test_cases_are_complete(program):
    """This kernel's vsock_test has no case that is missing here."""
    _path, numbers = program
    assert numbers
    assert sorted(set(numbers) - set(CASES)) == []
