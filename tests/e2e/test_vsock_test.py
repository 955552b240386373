# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Linux's own vsock_test between two sibling guests, each case in both roles.

Its control connection runs over a network of the two guests' own; only the connections under test
go through the device.
"""

import pytest
import vsocktest
from hostside import wait_for
from vsocktest import CASE_SECONDS, CASES

CONTROL_PORT = 1234

# In older versions the server tells of its shutdown() by the control connection, which may be
# faster than the shutdown's own packet; the client then sends once, too early. Later ones try
# again.
OVERTAKEN = {"SOCK_STREAM SHUT_RD": b"expected send(2) failure, got 1"}
TRIES = 10


@pytest.fixture(scope="session")
def program(pair):
    """The program for this pair's kernel and the numbers of its cases."""
    return vsocktest.programs(pair.suite)


def prepare(guest, path):
    """Put the program and an address into a guest, once per boot."""
    if guest.call("exists", path="/bin/vsock_test").result():
        return
    guest.load("virtio_net")
    guest.run(f"ip addr add {address(guest)}/24 dev eth0 && ip link set eth0 up")
    vsocktest.put(guest, path, "vsock_test")


def address(guest):
    """Return the guest's address on the network of the control connection."""
    return f"192.168.77.{guest.cid}"


def run_case(case, program, server, client):
    """Run one case; return the two results."""
    common = [f"--control-port={CONTROL_PORT}", *program.only(case)]
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


def run_until_in_order(case, program, server, client):
    """The same, again as long as the control connection overtook the one under test."""
    for _ in range(TRIES):
        served, called = run_case(case, program, server, client)
        if case not in OVERTAKEN or OVERTAKEN[case] not in called.err:
            break
    return served, called


@pytest.mark.parametrize("server_index", (0, 1), ids=("3 serves", "4 serves"))
@pytest.mark.parametrize("case", CASES)
def test_case(siblings, program, case, server_index):
    """One case of vsock_test."""
    if case not in program.numbers:
        pytest.skip("not in this kernel's vsock_test")
    for guest in siblings:
        prepare(guest, program.test)
    server, client = siblings[server_index], siblings[1 - server_index]
    served, called = run_until_in_order(case, program, server, client)
    assert (served.code, called.code) == (0, 0), f"server: {served}\nclient: {called}"
    assert b"...ok" in served.out + served.err, served


def test_cases_are_complete(program):
    """This kernel's vsock_test has no case that is missing here."""
    assert program.numbers
    assert sorted(set(program.numbers) - set(CASES)) == []
