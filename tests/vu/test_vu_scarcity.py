# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""No descriptors left: nobody spins, no listener is lost, what is open goes on."""

import contextlib
import os
import resource
import struct

import pytest

import control
import gsocket
import waiting
from guestmem import REGION, Region
from hostsock import HostSocket, assert_live
import vhost_user as vu
from vhost_user import Closed, FrontEnd, Nack, connect_unix
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RST
from waiting import until

ASK = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def no_descriptors(daemon):
    """The daemon cannot open one more, until the end of the block."""
    pid = daemon.proc.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest_free = next(n for n in range(len(used) + 1) if n not in used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def assert_idle(daemon):
    spent = daemon.cpu_seconds()
    waiting.run_for(1.0)
    assert daemon.cpu_seconds() - spent < 0.1, "the daemon spins"


def test_clients_wait(daemon, guest, live):
    listener = gsocket.Listener(guest, 50)
    with no_descriptors(daemon):
        clients = [daemon.request(50) for _ in range(20)]
        assert_idle(daemon)
        assert all(client.is_quiet() for client in clients)
        assert_live(live)
    for client in clients:
        assert client.recv_line().startswith(b"OK ")
        listener.accept()
    assert len(daemon.stderr()) < 5000


def test_front_ends_wait(start_daemon, start_vm):
    daemon = start_daemon(cids=(3, 4))
    guest = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(guest, 7000, 70)
    pair = (door.accept(), sock)
    with no_descriptors(daemon):
        with connect_unix(daemon.vm(3).socket):
            assert_idle(daemon)
            assert_live(pair)
    start_vm(daemon, 3).guest.sync()


@pytest.mark.parametrize("others", [0, 1])
def test_observers_wait(start_controlled, tmp_path, others):
    """Clients of the control socket and of metrics, whether others are there or not."""
    path = str(tmp_path / "http")
    daemon, ctl = start_controlled(args=["--metrics", f"unix:{path}"])
    early = [HostSocket(connect_unix(path)) for _ in range(others)]
    for sock in early:
        sock.send_all(ASK)
        sock.recv_line()
    with no_descriptors(daemon):
        http = HostSocket(connect_unix(path))
        http.send_all(ASK)
        late = HostSocket(connect_unix(control.path_of(daemon)))
        assert_idle(daemon)
        assert http.is_quiet() and late.is_quiet()
        ctl.call("list")
    for sock in early:
        sock.close()
    assert http.recv_line().startswith(b"HTTP/1.1 200 ")
    assert b"hello" in late.recv_line()
    http.close()
    late.close()


def test_added_vm_leaves_nothing(start_controlled, tmp_path):
    """when there is no descriptor for its sockets."""
    daemon, ctl = start_controlled()
    before = sorted(os.listdir(tmp_path))
    text = f"guest-cid=9,socket={tmp_path}/s9,uds-path={tmp_path}/u9"
    with no_descriptors(daemon):
        for _ in range(3):
            with pytest.raises(control.Failure, match="limit: "):
                ctl.call("add", vm=text)
            assert sorted(os.listdir(tmp_path)) == before
    ctl.call("add", vm=text)
    ctl.call("remove", cid=9)
    assert sorted(os.listdir(tmp_path)) == before


def test_guest_is_refused(daemon, guest, live):
    door = daemon.listen(80)
    with no_descriptors(daemon):
        for i in range(50):
            flow = guest.flow(5000 + i, 80)
            flow.tx(OP_REQUEST)
            flow.expect(OP_RST)
            flow.drop()
        assert_idle(daemon)
        assert_live(live)
    flow = guest.flow(6000, 80)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RESPONSE)
    door.accept()


def test_front_end_passes_descriptors(start_daemon, start_vm):
    """What cannot be received ends that session and leaves nothing behind."""
    daemon = start_daemon(cids=(3, 4))
    guest = start_vm(daemon, 4).guest
    door = daemon.listen(70, 4)
    sock = gsocket.connect(guest, 7000, 70)
    pair = (door.accept(), sock)
    region = Region(0, 1 << 20)
    for _ in range(5):
        with FrontEnd(daemon.vm(3).socket) as fe:
            fe.get_features()
            table = struct.pack("<II", 1, 0) + REGION.pack(0, 4096, 0x10000, 0)
            with no_descriptors(daemon), pytest.raises((Nack, Closed)):
                fe.tell(vu.SET_MEM_TABLE, table, [region.fd], need_reply=True)
                fe.get_features()
                raise AssertionError("memory was taken without a descriptor")
        assert_live(pair)
    region.close()
    start_vm(daemon, 3).guest.sync()


def test_over_and_over(daemon, guest, live):
    """Scarcity that comes and goes loses neither a listener nor a descriptor."""
    listener = gsocket.Listener(guest, 50)
    daemon.connect(50).close()
    listener.accept()
    guest.sync()
    before = daemon.fd_count()
    for _ in range(10):
        with no_descriptors(daemon):
            clients = [daemon.request(50) for _ in range(5)]
            guest.sync()
        for client in clients:
            assert client.recv_line().startswith(b"OK ")
            client.close()
            listener.accept()
    until(lambda: daemon.fd_count() <= before + 1, "the descriptors to be closed")
    assert_live(live)


def test_limit_is_raised(start_daemon):
    daemon = start_daemon(start=False)
    daemon.argv[:0] = ["prlimit", "--nofile=100:300"]
    daemon.start()
    assert resource.prlimit(daemon.proc.pid, resource.RLIMIT_NOFILE) == (300, 300)


def test_few_descriptors_for_many(start_daemon, start_vm):
    """By a low hard limit: some VMs use up what there is, each keeps what it is sure of."""
    daemon = start_daemon(cids=(3, 4), start=False)
    daemon.argv[:0] = ["prlimit", "--nofile=160:160"]
    daemon.start()
    greedy, modest = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    doors = [daemon.listen(60, 3), daemon.listen(60, 4)]
    accepted = []
    for i in range(150):
        flow = greedy.flow(4000 + i, 60)
        flow.tx(OP_REQUEST)
        flow.next()
        accepted.append(doors[0].accept_now())
    pairs = []
    for i in range(8):
        sock = gsocket.connect(modest, 4000 + i, 60)
        pairs.append((doors[1].accept(), sock))
    for pair in pairs:
        assert_live(pair)
    assert "limit reached: open files" in daemon.stderr()
    flow = greedy.flow(9000, 60)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
