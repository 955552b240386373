# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Sessions: start-up in every known message order, restart, stop, reset."""

import pytest

import gsocket
import orders
import waiting
from hostsock import stream
from vhost_user import (EVENT_IDX, F_NO_IMPLIED_STREAM, F_SEQPACKET, F_STREAM, IN_ORDER,
                        INDIRECT_DESC, LOG_ALL, NOTIFICATION_DATA, NOTIFY_ON_EMPTY, P_CONFIG,
                        P_CONFIGURE_MEM_SLOTS, P_LOG_SHMFD, P_MQ, P_REPLY_ACK, P_RESET_DEVICE,
                        P_STATUS, PROTOCOL_FEATURES, RING_PACKED, VERSION_1, Closed, FrontEnd, Nack)
from virtqueue import drain_eventfd
from vsockpkt import OP_RW, Pkt
from waiting import until

RINGS = ("split", "packed")
ALL = pytest.mark.parametrize("order", orders.ALL, ids=lambda o: o.name)
RESUMABLE = pytest.mark.parametrize(
    "order", [o for o in orders.ALL if o is not orders.Libkrun], ids=lambda o: o.name)


def exchange(daemon, guest, data, ports=(1024, 2048)):
    """A connection each way, each carrying data both ways."""
    listener = gsocket.Listener(guest, ports[0])
    host = daemon.connect(ports[0], guest.cid)
    inner = listener.accept()
    assert stream([(host, data, inner), (inner, data[::-1], host)]) == [data, data[::-1]]
    door = daemon.listen(ports[1], guest.cid)
    out = gsocket.connect(guest, 5000, ports[1])
    host_in = door.accept()
    assert stream([(host_in, data, out), (out, data[::-1], host_in)]) == [data, data[::-1]]
    out.close()
    inner.close()
    assert host.recv_eof() == b"" and host_in.recv_eof() == b""
    door.close()
    del guest.listeners[ports[0]]


def open_connections(daemon, guest):
    """One connection in each direction, with some bytes exchanged."""
    listener = gsocket.Listener(guest, 700)
    first = daemon.connect(700, guest.cid), listener.accept()
    door = daemon.listen(701, guest.cid)
    inner = gsocket.connect(guest, 5001, 701)
    second = door.accept(), inner
    for host, sock in (first, second):
        host.send_all(b"ping")
        assert sock.recv_exact(4) == b"ping"
        sock.send_all(b"pong")
        assert host.recv_exact(4) == b"pong"
    door.close()
    return first, second


@ALL
def test_message_order(daemon, start_vm, pattern, order):
    vm = start_vm(daemon, order=order)
    exchange(daemon, vm.guest, pattern(100_000))


@ALL
def test_new_front_end_after_the_old_one_died(daemon, start_vm, pattern, order):
    vm = start_vm(daemon, order=order)
    pairs = open_connections(daemon, vm.guest)
    vm.kill()
    for host, _ in pairs:
        assert host.drain() == b""
    vm.replace()
    exchange(daemon, vm.guest, pattern(20_000))


def test_second_front_end_is_refused_at_once(daemon, vm, pattern):
    for _ in range(3):
        with FrontEnd(vm.paths.socket) as second:
            second.wait_closed()
    assert vm.fe.is_alive()
    exchange(daemon, vm.guest, pattern(20_000))


def test_front_end_that_only_probes(daemon, start_vm, pattern):
    vm = start_vm(daemon, start=False)
    for _ in range(20):
        FrontEnd(vm.paths.socket).close()
    vm.boot()
    exchange(daemon, vm.guest, pattern(20_000))


@RESUMABLE
def test_stop_and_continue_keeps_connections_and_bytes(daemon, start_vm, pattern, order):
    vm = start_vm(daemon, order=order)
    (host, sock), (host2, sock2) = open_connections(daemon, vm.guest)
    down, up = pattern(300_000, 2), pattern(300_000, 3)
    done = [sock.send_now(up), sock2.send_now(up)]
    vm.stop()
    indices = [queue.used_index() for queue in vm.guest.queues[:2]]
    sent = [host.send_now(down), host2.send_now(down)]
    waiting.run_for(0.05)
    vm.fe.get_features()
    assert indices == [queue.used_index() for queue in vm.guest.queues[:2]], "ring used after stop"
    vm.cont()
    assert stream([(sock, up, host, done[0]), (host, down, sock, sent[0]),
                   (sock2, up, host2, done[1]), (host2, down, sock2, sent[1])]) == [
                       up, down, up, down]
    exchange(daemon, vm.guest, pattern(20_000), (1025, 2049))


def test_stop_and_continue_many_times(daemon, start_vm, pattern):
    vm = start_vm(daemon)
    (host, sock), _ = open_connections(daemon, vm.guest)
    data = pattern(200_000)
    for i in range(10):
        vm.stop()
        vm.cont()
        piece = data[i * 20_000:(i + 1) * 20_000]
        assert stream([(host, piece, sock), (sock, piece, host)]) == [piece, piece]


@ALL
def test_guest_reboot_ends_connections(daemon, start_vm, pattern, order):
    """The rings start again from 0 after they had been used."""
    vm = start_vm(daemon, order=order)
    pairs = open_connections(daemon, vm.guest)
    vm.reboot()
    for host, _ in pairs:
        assert host.drain() == b""
    exchange(daemon, vm.guest, pattern(20_000))
    vm.reboot()
    exchange(daemon, vm.guest, pattern(20_000))


def test_reset_device_ends_connections(daemon, start_vm, pattern):
    vm = start_vm(daemon, order=orders.OpenVmm)
    pairs = open_connections(daemon, vm.guest)
    vm.order.reset(vm.fe, vm.guest)
    for host, _ in pairs:
        assert host.drain() == b""
    vm.guest.reboot()
    vm.order.activate(vm.fe, vm.guest)
    vm.guest.start()
    exchange(daemon, vm.guest, pattern(20_000))


def test_reset_device_while_rings_run(daemon, start_vm, pattern):
    vm = start_vm(daemon, order=orders.Qemu10)
    pairs = open_connections(daemon, vm.guest)
    vm.fe.reset_device()
    vm.fe.get_features()
    for host, _ in pairs:
        assert host.drain() == b""
    vm.guest.reboot()
    vm.order.activate(vm.fe, vm.guest)
    vm.guest.start()
    exchange(daemon, vm.guest, pattern(20_000))


@pytest.mark.parametrize("order", [orders.Qemu7, orders.Qemu10, orders.Qemu11],
                         ids=lambda o: o.name)
def test_driver_reset_after_daemon_restart(daemon, start_vm, pattern, order):
    """QEMU opens the socket again and starts in the middle of the protocol."""
    vm = start_vm(daemon, order=order, start=False)
    vm.order.offered = (VERSION_1 | EVENT_IDX | INDIRECT_DESC | NOTIFY_ON_EMPTY
                        | PROTOCOL_FEATURES | RING_PACKED)
    vm.fe = FrontEnd(vm.paths.socket)
    vm.order.reconnect(vm.fe, vm.guest)
    vm.guest.start()
    exchange(daemon, vm.guest, pattern(100_000))


def test_rings_filled_before_they_start(daemon, start_vm, pattern):
    """Older kernels post buffers before DRIVER_OK."""
    vm = start_vm(daemon, start=False)
    vm.guest.start()
    vm.fe = FrontEnd(vm.paths.socket)
    vm.order.negotiate(vm.fe, vm.guest)
    vm.order.activate(vm.fe, vm.guest)
    exchange(daemon, vm.guest, pattern(20_000))


def test_features_offered(daemon):
    with FrontEnd(daemon.vm().socket) as fe:
        features = fe.get_features()
        for bit in (VERSION_1, EVENT_IDX, INDIRECT_DESC, NOTIFY_ON_EMPTY, PROTOCOL_FEATURES,
                    RING_PACKED, IN_ORDER, F_STREAM, F_SEQPACKET, F_NO_IMPLIED_STREAM, LOG_ALL):
            assert features & bit, f"{bit:#x} is missing in {features:#x}"
        for bit in (33, 38, 40):  # ACCESS_PLATFORM, NOTIFICATION_DATA, RING_RESET
            assert not features >> bit & 1, f"bit {bit} must not be offered"
        protocol = fe.get_protocol_features()
        for bit in (P_CONFIG, P_MQ, P_REPLY_ACK, P_CONFIGURE_MEM_SLOTS, P_RESET_DEVICE,
                    P_LOG_SHMFD, P_STATUS):
            assert protocol & bit, f"{bit:#x} is missing in {protocol:#x}"
        for bit in (12, 21, 22):  # INFLIGHT_SHMFD and numbers that were reused
            assert not protocol >> bit & 1, f"protocol bit {bit} must not be offered"
        fe.set_protocol_features(protocol)
        assert fe.get_queue_num() >= 3
        assert fe.get_max_mem_slots() >= 8


def test_notification_data_is_accepted_unoffered(daemon, start_vm, pattern):
    """The data is for the VMM's eyes; a front-end may pass its guest's features on as they are."""
    vm = start_vm(daemon, start=False)
    vm.order.driver_features = lambda guest: (
        orders.Order.driver_features(vm.order, guest) | NOTIFICATION_DATA)
    vm.boot()
    exchange(daemon, vm.guest, pattern(20_000))


def test_set_owner_twice(daemon):
    with FrontEnd(daemon.vm().socket) as fe:
        fe.set_owner()
        fe.set_owner()
        assert fe.is_alive()


def test_config_space(daemon):
    cid = (3).to_bytes(8, "little")
    space = cid + bytes(512)
    with FrontEnd(daemon.vm().socket) as fe:
        for offset in (0, 1, 4, 7, 8, 9, 60, 200):
            for size in (1, 2, 4, 8, 13, 56):
                assert fe.get_config(offset, size) == space[offset:offset + size], (offset, size)
        assert fe.get_config(0, 256) == space[:256]
        assert fe.get_config(0, 4, flags=1) == cid[:4]
        assert fe.get_config(0xFFFFFFF8, 8) == bytes(8)
        assert fe.is_alive()


def test_kick_without_descriptor_is_tolerated(daemon, start_vm, pattern):
    vm = start_vm(daemon, start=False)
    vm.fe = FrontEnd(vm.paths.socket)
    vm.order.negotiate(vm.fe, vm.guest)
    for i in range(2):
        vm.fe.set_vring_kick(i, None)
        vm.fe.set_vring_call(i, None)
        vm.fe.set_vring_err(i, None)
    vm.order.activate(vm.fe, vm.guest)
    vm.guest.start()
    exchange(daemon, vm.guest, pattern(20_000))


def test_call_descriptor_replaced_while_running(daemon, vm, pattern):
    """What masking and unmasking an interrupt vector looks like."""
    for _ in range(5):
        for i, queue in enumerate(vm.guest.queues[:2]):
            vm.fe.set_vring_call(i, queue.err)
            vm.fe.set_vring_call(i, queue.call)
        exchange(daemon, vm.guest, pattern(20_000))


def test_memory_table_replaced_while_running(daemon, start_vm, pattern):
    vm = start_vm(daemon, order=orders.Crosvm)
    (host, sock), _ = open_connections(daemon, vm.guest)
    data = pattern(100_000)
    for i in range(4):
        vm.guest.mem.add_region(0x2_0000_0000 + (i << 24), 1 << 20)
        vm.fe.set_mem_table(vm.guest.mem.regions)
        assert stream([(host, data, sock), (sock, data, host)]) == [data, data]


def test_memory_regions_come_and_go(daemon, start_vm, pattern):
    vm = start_vm(daemon, order=orders.Alioth)
    guest = vm.guest
    door = daemon.listen(80)
    flow = guest.flow(1, 80)
    flow.connect()
    host = door.accept()
    region = guest.mem.add_region(0x4_0000_0000, 1 << 20, offset=8192)
    vm.fe.add_mem_reg(region)
    data = pattern(5000)
    pkt = Pkt(guest.cid, 2, 1, 80, len(data), op=OP_RW, buf_alloc=flow.buf_alloc)
    flow.tx_cnt += len(data)
    guest.mem.write(region.gpa + 100, pkt.pack() + data)
    guest.tx.add([(region.gpa + 100, 44 + len(data), False)])
    guest.tx.publish()
    assert host.recv_exact(len(data)) == data
    vm.fe.rem_mem_reg(region)
    flow.tx(OP_RW, data)
    assert host.recv_exact(len(data)) == data
    with pytest.raises((Nack, Closed)):
        vm.fe.rem_mem_reg(region)


def test_region_that_was_removed_is_not_used(start_daemon, start_vm):
    daemon = start_daemon(cids=(3, 4))
    vm, other = start_vm(daemon, 3, order=orders.Alioth), start_vm(daemon, 4)
    region = vm.guest.mem.add_region(0x4_0000_0000, 1 << 20)
    vm.fe.add_mem_reg(region)
    vm.fe.rem_mem_reg(region)
    vm.guest.tx.add([(region.gpa, 44, False)])
    vm.guest.tx.publish()
    until(lambda: drain_eventfd(vm.guest.tx.err), "the ring's error descriptor")
    daemon.assert_healthy()
    other.guest.sync()


@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event-idx"])
@pytest.mark.parametrize("size", [1, 2, 16, 128, 1024])
def test_queue_size(daemon, start_vm, pattern, size, event_idx):
    vm = start_vm(daemon, queue_size=size, event_idx=event_idx)
    exchange(daemon, vm.guest, pattern(60_000 if size < 16 else 300_000))


@pytest.mark.parametrize("ring", ["packed"])
@pytest.mark.parametrize("size", [3, 100, 1023])
def test_packed_queue_of_any_size(daemon, start_vm, pattern, size):
    vm = start_vm(daemon, queue_size=size)
    exchange(daemon, vm.guest, pattern(60_000 if size < 16 else 300_000))
    vm.stop()
    vm.cont()
    exchange(daemon, vm.guest, pattern(60_000), (1025, 2049))


def test_largest_queue(start_daemon, start_vm, pattern):
    daemon = start_daemon(options={"queue-size": 32768})
    vm = start_vm(daemon, queue_size=32768, order=orders.Crosvm)
    exchange(daemon, vm.guest, pattern(300_000))


@pytest.mark.parametrize("size", [0, 3, 100, 2048, 65536, 0x80000000])
def test_queue_size_refused(daemon, size):
    with FrontEnd(daemon.vm().socket) as fe:
        fe.set_owner()
        fe.set_protocol_features(P_REPLY_ACK)
        with pytest.raises((Nack, Closed)):
            fe.set_vring_num(0, size, need_reply=True)
    with FrontEnd(daemon.vm().socket) as fe:
        assert fe.is_alive()
