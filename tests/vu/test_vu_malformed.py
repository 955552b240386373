# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Hostile front-ends: a broken message costs its own session and nothing else."""

import os
import struct

import pytest

import vhost_user as vu
from guestmem import REGION, Region
from hostsock import stream
from vhost_user import Closed, FrontEnd, Nack
from waiting import until
import gsocket

STATE = struct.pack("<II", 0, 0)
INDEX = struct.pack("<Q", 0)
U64 = struct.pack("<Q", 0)

# request: (valid payload, descriptors that come with it)
REQUESTS = {
    "GET_FEATURES": (b"", 0),
    "SET_FEATURES": (struct.pack("<Q", vu.VERSION_1), 0),
    "SET_OWNER": (b"", 0),
    "SET_MEM_TABLE": (struct.pack("<II", 1, 0) + REGION.pack(0, 4096, 0x10000, 0), 1),
    "SET_VRING_NUM": (struct.pack("<II", 0, 128), 0),
    "SET_VRING_ADDR": (vu.VRING_ADDR.pack(0, 0, 0x10000, 0x10800, 0x10400, 0), 0),
    "SET_VRING_BASE": (STATE, 0),
    "GET_VRING_BASE": (STATE, 0),
    "SET_VRING_KICK": (INDEX, 1),
    "SET_VRING_CALL": (INDEX, 1),
    "SET_VRING_ERR": (INDEX, 1),
    "GET_PROTOCOL_FEATURES": (b"", 0),
    "SET_PROTOCOL_FEATURES": (struct.pack("<Q", vu.P_REPLY_ACK), 0),
    "GET_QUEUE_NUM": (b"", 0),
    "SET_VRING_ENABLE": (STATE, 0),
    "GET_CONFIG": (vu.CONFIG.pack(0, 8, 0) + bytes(8), 0),
    "RESET_DEVICE": (b"", 0),
    "GET_MAX_MEM_SLOTS": (b"", 0),
    "ADD_MEM_REG": (bytes(8) + REGION.pack(0, 4096, 0x10000, 0), 1),
    "REM_MEM_REG": (bytes(8) + REGION.pack(0, 4096, 0x10000, 0), 0),
}


@pytest.fixture
def files():
    """Descriptors of every kind a test wants to send."""
    region = Region(0, 1 << 20)
    eventfd = vu.new_eventfd()
    yield {"memory": region.fd, "event": eventfd}
    region.close()
    os.close(eventfd)


def open_session(daemon):
    fe = FrontEnd(daemon.vm().socket)
    fe.set_owner()
    offered = fe.get_features()
    fe.set_protocol_features(fe.get_protocol_features()
                             & (vu.P_REPLY_ACK | vu.P_MQ | vu.P_CONFIG | vu.P_RESET_DEVICE
                                | vu.P_CONFIGURE_MEM_SLOTS))
    fe.set_features(vu.VERSION_1 | offered & vu.PROTOCOL_FEATURES)
    return fe


def assert_refused(fe, request):
    """The session ends, or the request is answered with a failure."""
    try:
        header = vu.HEADER.unpack(fe._recv_exact(vu.HEADER.size))
        payload = fe._recv_exact(header[2])
    except Closed:
        return
    assert header[0] == request and len(payload) == 8 and payload != bytes(8), (
        f"a broken request {request} was answered: {header} {payload.hex()}")


def assert_serves(daemon):
    daemon.assert_healthy()
    with FrontEnd(daemon.vm().socket) as fe:
        fe.get_features()
        assert fe.get_config(0, 8) == (3).to_bytes(8, "little")


def fds_for(name, files, count):
    kind = "memory" if "MEM" in name else "event"
    return [files[kind]] * count


def variants(name):
    payload, fds = REQUESTS[name]
    yield "valid but too many descriptors", payload, fds + 1 + (name == "REM_MEM_REG"), None
    yield "very many descriptors", payload, 100, None
    yield "long", payload + bytes(8), fds, None
    yield "size beyond any message", payload, fds, 0xFFFFFFFF
    yield "size of 64 KiB", payload, fds, 65536
    if payload:
        yield "empty", b"", fds, None
        yield "short by one", payload[:-1], fds, None
        yield "short by half", payload[:len(payload) // 2], fds, None
    if fds:
        yield "no descriptor", payload, 0, None


@pytest.mark.parametrize("need_reply", [False, True], ids=["silent", "need-reply"])
@pytest.mark.parametrize("name", REQUESTS)
def test_broken_request(daemon, files, name, need_reply):
    request = getattr(vu, name)
    baseline = None
    for title, payload, fds, size in variants(name):
        with open_session(daemon) as fe:
            baseline = baseline or daemon.fd_count()
            fe.send(request, payload, fds_for(name, files, fds), need_reply, size=size)
            try:
                assert_refused(fe, request)
            except TimeoutError as exc:
                raise AssertionError(f"{name}: {title}: neither refused nor closed") from exc
            except AssertionError as exc:
                raise AssertionError(f"{name}: {title}: {exc}") from exc
            until(lambda: daemon.fd_count() <= baseline, f"{name}: {title}: descriptors to go")
        assert_serves(daemon)


@pytest.mark.parametrize("flags", [0x0, 0x2, 0x3, 0x5, 0x4])
def test_bad_version_or_direction(daemon, flags):
    with open_session(daemon) as fe:
        fe.send(vu.GET_FEATURES, flags=flags)
        fe.wait_closed()
    assert_serves(daemon)


@pytest.mark.parametrize("request_number", [0, 4, 6, 7, 19, 20, 22, 23, 25, 26, 28, 31, 32, 42, 60,
                                            1000, 0xFFFFFFFF])
@pytest.mark.parametrize("need_reply", [False, True], ids=["silent", "need-reply"])
def test_request_that_was_not_offered(daemon, request_number, need_reply):
    with open_session(daemon) as fe:
        fe.send(request_number, bytes(8), need_reply=need_reply)
        # whatever the answer is, it comes to an end
        fe.sock.shutdown(1)
        fe.wait_closed()
    assert_serves(daemon)


@pytest.mark.parametrize("size", [1, 6, 11])
def test_part_of_a_header_then_the_end(daemon, size):
    for _ in range(5):
        with open_session(daemon) as fe:
            fe.send_bytes(vu.HEADER.pack(vu.GET_FEATURES, vu.VERSION, 0)[:size])
        assert_serves(daemon)


def test_part_of_a_payload_then_the_end(daemon, files):
    payload, _ = REQUESTS["SET_MEM_TABLE"]
    for n in (0, 1, 20):
        with open_session(daemon) as fe:
            fe.send(vu.SET_MEM_TABLE, payload[:n], [files["memory"]], size=len(payload))
        assert_serves(daemon)


def test_messages_byte_by_byte_and_in_heaps(daemon):
    header = vu.HEADER.pack(vu.GET_FEATURES, vu.VERSION, 0)
    with open_session(daemon) as fe:
        want = fe.get_features()
        for byte in header:
            fe.send_bytes(bytes([byte]))
        assert fe.recv_reply(vu.GET_FEATURES) == struct.pack("<Q", want)
        fe.send_bytes(header * 50)
        for _ in range(50):
            assert fe.recv_reply(vu.GET_FEATURES) == struct.pack("<Q", want)


def test_silent_session_can_be_replaced_once_it_is_gone(daemon):
    fe = open_session(daemon)
    fe.send_bytes(b"\x01")
    fe.close()
    assert_serves(daemon)


@pytest.mark.parametrize("index", [3, 4, 255])
@pytest.mark.parametrize("name", ["SET_VRING_NUM", "SET_VRING_BASE", "GET_VRING_BASE",
                                  "SET_VRING_ENABLE", "SET_VRING_ADDR", "SET_VRING_KICK",
                                  "SET_VRING_CALL", "SET_VRING_ERR"])
def test_ring_that_does_not_exist(daemon, files, name, index):
    payload, fds = REQUESTS[name]
    with open_session(daemon) as fe:
        wrong = index.to_bytes(4, "little") + payload[4:]
        fe.send(getattr(vu, name), wrong, fds_for(name, files, fds), need_reply=True)
        assert_refused(fe, getattr(vu, name))
    assert_serves(daemon)


BAD_TABLES = {
    "size 0": [(0, 0, 0x10000, 0)],
    "wraps": [(0xFFFFFFFFFFFFF000, 0x2000, 0x10000, 0)],
    "front-end address wraps": [(0, 0x2000, 0xFFFFFFFFFFFFF000, 0)],
    "offset wraps": [(0, 0x2000, 0x10000, 0xFFFFFFFFFFFFF000)],
    "beyond the file": [(0, 2 << 20, 0x10000, 0)],
    "offset beyond the file": [(0, 0x1000, 0x10000, 4 << 20)],
    "overlap": [(0, 0x2000, 0x10000, 0), (0x1000, 0x2000, 0x20000, 0)],
    "same twice": [(0, 0x1000, 0x10000, 0), (0, 0x1000, 0x10000, 0)],
    "huge": [(0, 1 << 62, 0x10000, 0)],
}


@pytest.mark.parametrize("title", BAD_TABLES)
def test_bad_memory_table(daemon, files, title):
    regions = BAD_TABLES[title]
    table = struct.pack("<II", len(regions), 0) + b"".join(REGION.pack(*r) for r in regions)
    with open_session(daemon) as fe:
        fe.send(vu.SET_MEM_TABLE, table, [files["memory"]] * len(regions), need_reply=True)
        assert_refused(fe, vu.SET_MEM_TABLE)
    assert_serves(daemon)
    if title == "same twice":
        return  # saying a region again is what resuming front-ends do
    with open_session(daemon) as fe:
        try:
            for region in regions:
                fe.tell(vu.ADD_MEM_REG, bytes(8) + REGION.pack(*region), [files["memory"]],
                        need_reply=True)
        except (Nack, Closed):
            pass
        else:
            raise AssertionError("ADD_MEM_REG took what SET_MEM_TABLE must refuse")
    assert_serves(daemon)


@pytest.mark.parametrize("count", [0xFFFFFFFF, 9, 2])
def test_memory_table_counts_that_lie(daemon, files, count):
    table = struct.pack("<II", count, 0) + REGION.pack(0, 4096, 0x10000, 0)
    with open_session(daemon) as fe:
        fe.send(vu.SET_MEM_TABLE, table, [files["memory"]], need_reply=True)
        assert_refused(fe, vu.SET_MEM_TABLE)
    assert_serves(daemon)


def test_memory_that_cannot_be_mapped(daemon):
    table = struct.pack("<II", 1, 0) + REGION.pack(0, 4096, 0x10000, 0)
    reader, writer = os.pipe()
    with open_session(daemon) as fe:
        fe.send(vu.SET_MEM_TABLE, table, [reader], need_reply=True)
        assert_refused(fe, vu.SET_MEM_TABLE)
    os.close(reader)
    os.close(writer)
    assert_serves(daemon)


def test_more_regions_than_slots(daemon, files):
    with open_session(daemon) as fe:
        slots = fe.get_max_mem_slots()
        with pytest.raises((Nack, Closed)):
            for i in range(slots + 1):
                region = REGION.pack(i << 20, 4096, 0x10000 + (i << 20), 0)
                fe.tell(vu.ADD_MEM_REG, bytes(8) + region, [files["memory"]], need_reply=True)
        assert i == slots, f"only {i} of {slots} slots could be used"
    assert_serves(daemon)


@pytest.mark.parametrize("desc,avail,used", [
    (0x10000 + (1 << 20), 0x11000, 0x12000), (0x10000, 0x9000, 0x12000),
    (0x10000, 0x11000, 0x10000 + (1 << 20) - 8), (0x10001, 0x11000, 0x12000),
    (0x10000, 0x11001, 0x12000), (0x10000, 0x11000, 0x12002),
    (0, 0, 0), (0xFFFFFFFFFFFFFFF0, 0x11000, 0x12000),
], ids=["desc outside", "avail outside", "used across the end", "desc odd", "avail odd",
        "used odd", "null", "desc wraps"])
def test_bad_ring_addresses(daemon, files, desc, avail, used):
    """Refused, or the ring waits for memory that never comes; it must not run."""
    region = REGION.pack(0, 1 << 20, 0x10000, 0)
    with open_session(daemon) as fe:
        fe.need_reply = True
        fe.tell(vu.SET_MEM_TABLE, struct.pack("<II", 1, 0) + region, [files["memory"]])
        try:
            for i in (0, 1):
                fe.set_vring_num(i, 128)
                fe.set_vring_addr(i, desc, used, avail)
                fe.set_vring_base(i, 0)
                fe.set_vring_kick(i, files["event"])
                fe.set_vring_enable(i, 1)
            os.pwrite(files["memory"], b"\x01", 0x1002)  # avail->idx of most of these
            os.eventfd_write(files["event"], 1)
            fe.get_features()
            assert fe.get_vring_base(1) == 0
        except (Nack, Closed):
            pass
        assert os.pread(files["memory"], 0x2000, 0x2000) == bytes(0x2000), "used ring written"
    assert_serves(daemon)


def test_start_without_memory_or_addresses(daemon, files):
    with open_session(daemon) as fe:
        try:
            fe.set_vring_kick(0, files["event"], need_reply=True)
            fe.set_vring_enable(0, 1, need_reply=True)
            os.eventfd_write(files["event"], 1)
            fe.get_features()
        except (Nack, Closed):
            pass
    assert_serves(daemon)


def test_descriptors_that_are_no_eventfds(daemon, start_vm):
    """A kick that cannot be polled or is always readable: only that session suffers."""
    vm = start_vm(daemon, start=False)
    vm.fe = FrontEnd(vm.paths.socket)
    vm.order.negotiate(vm.fe, vm.guest)
    with open("/dev/zero", "rb") as zero, open("/etc/hostname", "rb") as plain:
        for file in (zero, plain):
            try:
                vm.fe.set_vring_call(0, file.fileno(), need_reply=True)
                vm.fe.set_vring_kick(0, file.fileno(), need_reply=True)
            except (Nack, Closed):
                vm.fe.close()
                vm.fe = FrontEnd(vm.paths.socket)
    vm.kill()
    assert_serves(daemon)


def test_other_vms_do_not_notice(start_daemon, start_vm, pattern):
    daemon = start_daemon(cids=(3, 4))
    other = start_vm(daemon, 4)
    listener = gsocket.Listener(other.guest, 50)
    host, sock = daemon.connect(50, 4), listener.accept()
    data = pattern(50_000)
    for name in REQUESTS:
        with open_session(daemon) as fe:
            fe.send(getattr(vu, name), b"\x5a" * 3)
        assert stream([(host, data, sock), (sock, data, host)]) == [data, data]


def test_descriptors_stay_flat_over_reconnects(daemon, start_vm):
    vm = start_vm(daemon, mem=None)
    listener = gsocket.Listener(vm.guest, 50)
    daemon.connect(50).close()
    listener.accept()
    for _ in range(3):
        vm.replace()
    until(lambda: daemon.fd_count(), "a count")
    vm.fe.get_features()
    baseline = daemon.fd_count()
    for i in range(200):
        vm.replace()
        if i % 20 == 0:
            listener = gsocket.Listener(vm.guest, 50)
            host = daemon.connect(50)
            listener.accept()
            host.close()
    vm.replace()
    vm.fe.get_features()
    until(lambda: daemon.fd_count() <= baseline,
          lambda: f"{daemon.fd_count()} descriptors to become {baseline}")
