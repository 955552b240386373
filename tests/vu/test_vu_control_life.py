# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""VMs that are added, removed and changed while others run."""

import errno
import json
import os
import signal

import pytest

import gsocket
import waiting
from control import Control, Failure, options, path_of
from daemon import Daemon, VmPaths, binary, has_sanitizer
from hostsock import stream
from vm import Vm
from vsockpkt import OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW
from waiting import listens, until


@pytest.fixture(params=["1", "3"], ids=["one-thread", "three-threads"])
def controlled(start_controlled, request):
    return start_controlled(cids=(3, 4), args=["--threads", request.param])


@pytest.fixture
def start_added(request):
    """Add a VM by the control socket and start it."""
    started = []

    def start(daemon, ctl, cid, **keys):
        paths = VmPaths(daemon.dir, cid)
        settings = {"guest-cid": cid, "socket": paths.socket, "uds-path": paths.uds, **keys}
        text = ",".join(f"{key}={value}" for key, value in settings.items())
        assert ctl.call("add", vm=text) == {"cid": cid}
        daemon.vms[cid] = paths
        started.append(Vm(paths))
        return started[-1]
    yield start
    for vm in started:
        vm.close()


def remove(daemon, ctl, cid):
    assert ctl.call("remove", cid=cid) == {}
    paths = daemon.vms.pop(cid)
    assert not os.path.lexists(paths.socket) and not os.path.lexists(paths.uds)


def sibling_pair(a, b, local, port):
    listener = gsocket.Listener(b, port)
    left = gsocket.connect(a, local, port, peer_cid=b.cid)
    return left, listener.accept()


def host_pair(daemon, guest, local=6000, port=95):
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, local, port)
    host = door.accept()
    door.close()
    return host, sock


def assert_flows(host, sock, data):
    assert stream([(host, data, sock), (sock, data, host)]) == [data, data]


def test_added_vm_works_like_any(controlled, start_vm, start_added, pattern):
    daemon, ctl = controlled
    old = start_vm(daemon, 3)
    new = start_added(daemon, ctl, 9)
    host, sock = host_pair(daemon, new.guest)
    assert_flows(host, sock, pattern(200_000))
    gsocket.Listener(new.guest, 50)
    daemon.connect(50, 9).close()
    left, right = sibling_pair(old.guest, new.guest, 4000, 90)
    right2, left2 = sibling_pair(new.guest, old.guest, 4001, 91)
    data = pattern(300_000)
    assert stream([(left, data, right), (left2, data, right2), (right, data, left)]) == [data] * 3
    assert [vm["cid"] for vm in ctl.call("list")["vms"]] == [3, 4, 9]


def test_removed_vm_ends_visibly(controlled, start_vm, pattern):
    daemon, ctl = controlled
    a, b = start_vm(daemon, 3), start_vm(daemon, 4)
    host, sock = host_pair(daemon, a.guest)
    gone, _ = host_pair(daemon, b.guest)
    left, _ = sibling_pair(a.guest, b.guest, 4000, 90)
    remove(daemon, ctl, 4)
    assert gone.drain() == b""
    b.fe.wait_closed()
    until(lambda: left.state == gsocket.CLOSED, "the reset of the sibling's connection")
    assert left.reset
    # as if it had never been there
    flow = a.guest.flow(4100, 90, peer_cid=4)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST, src_cid=4)
    assert_flows(host, sock, pattern(300_000))
    assert [vm["cid"] for vm in ctl.call("list")["vms"]] == [3]
    with pytest.raises(Failure, match="not-found"):
        ctl.call("remove", cid=4)


def test_removed_with_bytes_for_a_sibling_that_does_not_read(controlled, start_vm, start_added):
    """What the gone VM left in its sibling's inbox is dropped, and its successor starts anew."""
    daemon, ctl = controlled
    a, b = start_vm(daemon, 3, rx_count=4), start_vm(daemon, 4)
    for port in range(90, 95):
        b.guest.raw_listen(port)
        a.guest.raw_listen(port)
        flow = b.guest.flow(5000 + port, port, peer_cid=3)
        flow.tx(OP_REQUEST)
        right = a.guest.listeners[port].accept()
        right.respond()
        flow.expect(OP_RESPONSE)
        flow.tx(OP_RW, bytes(60_000))
        flow.tx(OP_RW, bytes(60_000))
    remove(daemon, ctl, 4)
    assert ctl.counters(3)["sibling_held_bytes"] == 0
    b.close()
    successor = start_added(daemon, ctl, 4)
    for port in range(90, 95):
        flow = successor.guest.flow(5000 + port, port, peer_cid=3)
        flow.tx(OP_REQUEST)
    daemon.assert_healthy()
    remove(daemon, ctl, 4)
    remove(daemon, ctl, 3)
    assert ctl.call("list") == {"vms": []}


class SlowRepair:
    """A daemon with one worker, which can be held where it finds truncated memory."""

    library = os.path.join(os.path.dirname(binary()), "tests", "vu", "slow-repair.so")

    def __init__(self, tmp_path, monkeypatch):
        self.fifo = str(tmp_path / "fifo")
        os.mkfifo(self.fifo)
        monkeypatch.setenv("LD_PRELOAD", self.library)
        monkeypatch.setenv("SLOW_REPAIR", self.fifo)
        monkeypatch.setenv("MALLOC_PERTURB_", "165")  # what was freed is not used unnoticed

    def wait_held(self):
        """Until the worker is there; the result lets it go by being closed."""
        def step():
            try:
                ends.append(os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK))
            except OSError as err:
                assert err.errno == errno.ENXIO
            return ends
        ends = []
        until(step, "the worker to repair its memory")
        os.unlink(self.fifo)
        os.mkfifo(self.fifo)  # for the next time
        return ends[0]


def sleeps(daemon):
    """How often the main thread went to sleep, or None while it does not sleep."""
    with open(f"/proc/{daemon.proc.pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    count = int(fields["voluntary_ctxt_switches"])
    return count if fields["State"].split()[0] == "S" else None


@pytest.mark.skipif(has_sanitizer() or not os.path.exists(SlowRepair.library),
                    reason="nothing can be preloaded")
def test_removed_while_its_memory_is_truncated(start_controlled, start_vm, tmp_path, monkeypatch):
    """What its worker finds out between the main thread's requests holds no freed VM."""
    slow = SlowRepair(tmp_path, monkeypatch)
    daemon, ctl = start_controlled(cids=(3, 4), per_vm={4: {"groups": "other"}},
                                   args=["--threads", "1", "--sandbox", "none"])
    guests = [start_vm(daemon, cid).guest for cid in (3, 4)]
    ctl.call("list")
    for guest in guests:
        waiting.unregister(guest)  # nobody looks into its memory any more
        os.ftruncate(guest.mem.home.fd, 0)
    os.eventfd_write(guests[0].tx.kick, 1)
    held = slow.wait_held()
    until(lambda: sleeps(daemon), "the main thread to be idle")
    before = sleeps(daemon)
    ctl.send(b'{"method":"remove","params":{"cid":4}}\n')
    until(lambda: (sleeps(daemon) or 0) > before, "the main thread to wait for the worker")
    before = sleeps(daemon)
    os.eventfd_write(guests[1].tx.kick, 1)
    os.close(held)
    held = slow.wait_held()
    until(lambda: (sleeps(daemon) or 0) > before, "the main thread to wait for the worker again")
    os.close(held)
    assert ctl.line()["result"] == {}
    daemon.vms.pop(4)
    assert ctl.vm(4) is None
    daemon.assert_healthy()


def test_added_and_removed_under_traffic(controlled, start_vm, start_added, pattern):
    """Neighbours lose and get no byte."""
    daemon, ctl = controlled
    a, b = start_vm(daemon, 3), start_vm(daemon, 4)
    host, sock = host_pair(daemon, a.guest)
    left, right = sibling_pair(a.guest, b.guest, 4000, 90)
    for turn in range(8):
        data, other = pattern(150_000, turn), pattern(120_000, turn + 100)
        new = start_added(daemon, ctl, 20 + turn)
        busy, to_new = sibling_pair(a.guest, new.guest, 4100 + turn, 190)
        from_new, _ = sibling_pair(new.guest, b.guest, 4100 + turn, 191)
        busy.send_now(bytes(100_000))
        from_new.send_now(bytes(100_000))
        to_new.send_now(bytes(50_000))
        for name in ("list", "stats"):
            ctl.call(name)
        assert stream([(host, data, sock), (sock, other, host), (left, other, right),
                       (right, data, left)]) == [data, other, other, data]
        remove(daemon, ctl, 20 + turn)
        until(lambda: busy.state == gsocket.CLOSED, "the end of the removed one's connection")
    assert daemon.is_running()


def test_everything_at_once(start_controlled, start_vm, start_added, pattern):
    """Four workers, six guests that all talk to each other, and requests all the time."""
    daemon, ctl = start_controlled(cids=(3, 4, 5, 6, 7, 8), args=["--threads", "4"])
    subscriber = Control(path_of(daemon))
    subscriber.call("subscribe")
    guests = [start_vm(daemon, cid).guest for cid in daemon.vms]
    pairs = [sibling_pair(a, b, 4000 + i, 90 + i)
             for i, (a, b) in enumerate(zip(guests, guests[1:] + guests[:1]))]
    hosts = [host_pair(daemon, guest) for guest in guests]
    groups = [["default"], ["default", "x"]]
    for turn in range(6):
        data = pattern(60_000, turn)
        new = start_added(daemon, ctl, 30 + turn)
        extra = [sibling_pair(new.guest, guest, 4500 + turn, 200 + turn)[0] for guest in guests]
        transfers = [(left, data, right) for left, right in pairs]
        transfers += [(right, data, left) for left, right in pairs]
        transfers += [(host, data, sock) for host, sock in hosts]
        transfers += [(sock, data, host) for host, sock in hosts]
        for sock in extra:
            sock.send_now(data)
        # requests that are answered while the bytes flow
        ctl.send(b"".join(json.dumps({"method": method, "params": params}).encode() + b"\n"
                          for method, params in (("list", {}), ("stats", {}), ("connections", {}),
                                                 ("show", {"cid": 3}),
                                                 ("set", {"cid": 4, "groups": groups[turn % 2]}),
                                                 ("drain", {"cid": 30 + turn}),
                                                 ("remove", {"cid": 30 + turn}))))
        assert stream(transfers, 60) == [data] * len(transfers)
        for _ in range(7):
            assert "result" in ctl.line(60)
        daemon.vms.pop(30 + turn)
    subscriber.close()


def test_cids_and_paths_are_unique(controlled):
    daemon, ctl = controlled
    taken, free = daemon.vm(3), VmPaths(daemon.dir, 9)
    for text in (f"guest-cid=3,socket={free.socket},uds-path={free.uds}",
                 f"guest-cid=9,socket={taken.socket},uds-path={free.uds}",
                 f"guest-cid=9,socket={free.socket},uds-path={taken.uds}",
                 f"guest-cid=9,socket={taken.uds}_80,uds-path={free.uds}"):
        with pytest.raises(Failure) as caught:
            ctl.call("add", vm=text)
        assert caught.value.code == "exists" and "VM 3" in caught.value.message, text
    with pytest.raises(Failure) as caught:
        ctl.call("add", vm=f"guest-cid=9,socket=/nonexistent/s,uds-path={free.uds}")
    assert "/nonexistent/s" in caught.value.message
    assert not os.path.lexists(free.uds) and not os.path.lexists(free.socket)
    # nothing of the failures is left behind
    assert ctl.call("add", vm=f"guest-cid=9,socket={free.socket},uds-path={free.uds}")
    assert ctl.call("remove", cid=9) == {}


@pytest.mark.parametrize("option, prefix", [("control", ""), ("metrics", "unix:")])
def test_no_guest_reaches_the_sockets_of_the_daemon(start_daemon, tmp_path, option, prefix):
    """A port of a guest is no way to the control socket; as the broker's it would be welcome."""
    here = str(tmp_path)
    args = ["--" + option, f"{prefix}{here}/vm9.vsock_80", *(options(here) * (option == "metrics"))]
    daemon = start_daemon(args=args, directory=here)
    ctl = Control(f"{here}/vm9.vsock_80" if option == "control" else path_of(daemon))
    with pytest.raises(Failure) as failure:
        ctl.call("add", vm=f"guest-cid=9,socket={here}/s9,uds-path={here}//vm9.vsock")
    assert failure.value.code == "exists" and option in failure.value.message
    ctl.call("add", vm=f"guest-cid=9,socket={here}/s9,uds-path={here}/vm9.vsock_8")
    ctl.call("remove", cid=9)
    ctl.close()
    for more in ([], ["--check-config"]):
        late = Daemon(cids=(9,), args=[*args, *more], directory=here, start=False)
        assert late.spawn().wait(30) == 2
        assert f"expected a path that with '_PORT' is not the socket of --{option}\n" in \
            late.stderr()


def test_groups(controlled, start_vm, pattern):
    """Connections with guests that share no group any more end; others stay."""
    daemon, ctl = controlled
    a, b = start_vm(daemon, 3), start_vm(daemon, 4)
    host, sock = host_pair(daemon, a.guest)
    left, right = sibling_pair(a.guest, b.guest, 4000, 90)
    assert ctl.call("set", cid=3, groups=["default", "red"]) == {}
    assert ctl.vm(3)["groups"] == ["default", "red"]
    data = pattern(100_000)
    assert stream([(left, data, right)]) == [data]
    ctl.call("set", cid=3, groups=["red"])
    until(lambda: left.state == right.state == gsocket.CLOSED, "both ends to be reset")
    flow = a.guest.flow(4100, 90, peer_cid=4)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    assert_flows(host, sock, data)
    ctl.call("set", cid=4, groups=["blue", "red"])
    left, right = sibling_pair(a.guest, b.guest, 4001, 90)
    assert stream([(left, data, right)]) == [data]


def test_drain(controlled, start_vm, pattern):
    daemon, ctl = controlled
    a, b = start_vm(daemon, 3), start_vm(daemon, 4)
    host, sock = host_pair(daemon, a.guest)
    left, right = sibling_pair(a.guest, b.guest, 4000, 90)
    gsocket.Listener(a.guest, 50)
    daemon.listen(80, 3)
    assert ctl.call("drain", cid=3) == {}
    assert ctl.vm(3)["draining"] and not ctl.vm(4)["draining"]
    assert daemon.request(50, 3).drain() == b""
    for peer, port in ((2, 80), (4, 90)):
        flow = a.guest.flow(4200, port, peer_cid=peer)
        flow.tx(OP_REQUEST)
        flow.expect(OP_RST)
        flow.drop()
    flow = b.guest.flow(4200, 50, peer_cid=3)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST)
    assert ctl.counters(3)["refused"]["draining"] == 2
    data = pattern(200_000)
    assert_flows(host, sock, data)
    assert stream([(left, data, right)]) == [data]
    ctl.call("drain", cid=3, off=True)
    daemon.connect(50, 3).close()
    ctl.call("drain")
    assert [vm["draining"] for vm in ctl.call("list")["vms"]] == [True, True]
    ctl.call("drain", off=True)
    assert [vm["draining"] for vm in ctl.call("list")["vms"]] == [False, False]


def test_added_ones_spread_over_workers(start_controlled, tmp_path):
    daemon, ctl = start_controlled(cids=(3,), args=["--threads", "3"])
    for cid in range(10, 15):
        paths = VmPaths(daemon.dir, cid)
        ctl.call("add", vm=f"guest-cid={cid},socket={paths.socket},uds-path={paths.uds}")
    workers = [vm["worker"] for vm in ctl.call("list")["vms"]]
    assert sorted(workers) == [0, 0, 1, 1, 2, 2]


def test_starts_without_vms(start_daemon, tmp_path, start_added):
    daemon = start_daemon(cids=(), directory=str(tmp_path), args=options(tmp_path), start=False)
    daemon.spawn()
    until(lambda: listens(path_of(daemon)), "the control socket")
    ctl = until(lambda: connect_or_none(path_of(daemon)), "somebody to answer there")
    assert ctl.call("list") == {"vms": []}
    vm = start_added(daemon, ctl, 3)
    gsocket.Listener(vm.guest, 50)
    daemon.connect(50, 3).close()
    ctl.close()


def connect_or_none(path):
    try:
        return Control(path)
    except OSError:
        return None


# the configuration file

def write_file(daemon, vms, **more):
    """As JSON, which is YAML."""
    items = []
    for cid, keys in vms.items():
        paths = VmPaths(daemon.dir, cid)
        items.append({"guest-cid": cid, "socket": paths.socket, "uds-path": paths.uds, **keys})
    with open(os.path.join(daemon.dir, "vms.yaml"), "w", encoding="ascii") as file:
        json.dump({"vms": items, **more}, file)
    daemon.vms = {cid: VmPaths(daemon.dir, cid) for cid in vms}


@pytest.fixture
def filed(start_daemon, tmp_path):
    """A daemon of the VMs 3, 4 and 5 by a file: (daemon, control)."""
    daemon = start_daemon(cids=(), directory=str(tmp_path), start=False,
                          args=["--config", str(tmp_path / "vms.yaml"), *options(tmp_path)])
    write_file(daemon, {3: {}, 4: {}, 5: {}})
    daemon.start()
    ctl = until(lambda: connect_or_none(path_of(daemon)), "the control socket")
    yield daemon, ctl
    ctl.close()


def sort(answer):
    return {key: sorted(value) for key, value in answer.items() if value}


def test_reload(filed, start_vm, pattern):
    """Unchanged VMs keep every connection; so do those whose groups changed, if they may."""
    daemon, ctl = filed
    vms = {cid: start_vm(daemon, cid) for cid in (3, 4, 5)}
    pairs = {cid: host_pair(daemon, vm.guest) for cid, vm in vms.items()}
    left, right = sibling_pair(vms[3].guest, vms[4].guest, 4000, 90)
    assert sort(ctl.call("reload")) == {"unchanged": [3, 4, 5]}
    write_file(daemon, {3: {}, 4: {"groups": ["default", "more"]}, 5: {"queue-size": 512}, 6: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [3], "changed": [4, 5], "added": [6]}
    data = pattern(200_000)
    for cid in (3, 4):
        assert_flows(*pairs[cid], data)
    assert stream([(left, data, right)]) == [data]
    assert pairs[5][0].drain() == b"", "its queue size changed: it was made anew"
    assert ctl.call("show", cid=5)["limits"]["queue_size"] == 512
    write_file(daemon, {3: {}, 6: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [3, 6], "removed": [4, 5]}
    assert pairs[4][0].drain() == b""
    assert_flows(*pairs[3], data)
    left_behind = [name for name in os.listdir(daemon.dir) if "4" in name or "5" in name]
    assert left_behind == []


def test_reload_of_limits_keeps_connections(filed, start_vm, pattern):
    daemon, ctl = filed
    pair = host_pair(daemon, start_vm(daemon, 3).guest)
    write_file(daemon, {3: {"tx-rate": "100M", "max-connections": 7}, 4: {}, 5: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [4, 5], "changed": [3]}
    limits = ctl.call("show", cid=3)["limits"]
    assert (limits["tx_rate"], limits["max_connections"]) == (100 << 20, 7)
    assert_flows(*pair, pattern(100_000))
    assert sort(ctl.call("reload")) == {"unchanged": [3, 4, 5]}


def test_reload_leaves_added_ones(filed, start_added):
    daemon, ctl = filed
    vm = start_added(daemon, ctl, 9)
    vms = dict(daemon.vms)
    write_file(daemon, {3: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [3], "removed": [4, 5]}
    assert [vm["cid"] for vm in ctl.call("list")["vms"]] == [3, 9]
    write_file(daemon, {3: {}, 9: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [3, 9]}
    write_file(daemon, {3: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [3], "removed": [9]}, "it is the file's now"
    vm.close()
    assert set(vms) == {3, 4, 5, 9}


@pytest.mark.parametrize("text", ["vms: [", "", "vms:\n- guest-cid: 3\n", "vmms: []"])
def test_reload_of_a_wrong_file_changes_nothing(filed, text):
    daemon, ctl = filed
    with open(os.path.join(daemon.dir, "vms.yaml"), "w", encoding="ascii") as file:
        file.write(text)
    with pytest.raises(Failure) as caught:
        ctl.call("reload")
    assert caught.value.code == "invalid" and "vms.yaml:" in caught.value.message
    assert [vm["cid"] for vm in ctl.call("list")["vms"]] == [3, 4, 5]
    write_file(daemon, {3: {}, 4: {}, 5: {}})


def test_reload_swaps_paths(filed):
    daemon, ctl = filed
    three, four = VmPaths(daemon.dir, 3), VmPaths(daemon.dir, 4)
    write_file(daemon, {3: {"socket": four.socket, "uds-path": four.uds},
                        4: {"socket": three.socket, "uds-path": three.uds}, 5: {}})
    assert sort(ctl.call("reload")) == {"unchanged": [5], "changed": [3, 4]}
    assert ctl.vm(3)["socket"] == four.socket


def test_reload_that_fails_for_one(filed):
    daemon, ctl = filed
    write_file(daemon, {3: {}, 4: {}, 5: {}, 6: {"socket": "/nonexistent/s"}, 7: {}})
    answer = ctl.call("reload")
    assert answer["added"] == [7] and answer["unchanged"] == [3, 4, 5]
    [failed] = answer["failed"]
    assert failed["cid"] == 6 and "/nonexistent/s" in failed["message"]
    daemon.vms.pop(6)


def test_hangup_signal_reloads(filed, start_vm, pattern):
    daemon, ctl = filed
    pair = host_pair(daemon, start_vm(daemon, 3).guest)
    write_file(daemon, {3: {}, 8: {}}, **{"log-level": "info"})
    daemon.proc.send_signal(signal.SIGHUP)
    until(lambda: [vm["cid"] for vm in ctl.call("list")["vms"]] == [3, 8], "the reload")
    assert "vm=8: reload: added" in daemon.stderr()
    assert_flows(*pair, pattern(100_000))
    with open(os.path.join(daemon.dir, "vms.yaml"), "w", encoding="ascii") as file:
        file.write("nonsense")
    daemon.proc.send_signal(signal.SIGHUP)
    until(lambda: "reload: nothing was changed" in daemon.stderr(), "the complaint")
    assert ctl.vm(8)
