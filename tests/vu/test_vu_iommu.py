# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guests behind a virtual IOMMU: translations come late, wrong, never, and go again."""

import struct
import threading
import time

import pytest

import gsocket
import iommu
from hostsock import stream
from iommu import ELSEWHERE, PAGE, READ, WRITE, QemuIommu
from migration import Copier, DirtyLog, TrackedMemory
from vhost_user import (ACCESS_PLATFORM, IOTLB_MSG, P_BACKEND_REQ, SET_BACKEND_REQ_FD, Closed,
                        FrontEnd, Nack)
from vsockpkt import HEADER_SIZE, OP_RW, Pkt
from waiting import SCALE, until

RINGS = ("split", "packed")
ENTRIES = 4096  # IOTLB_MAX_ENTRIES


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(options={"iommu": "on"})


@pytest.fixture
def start_iommu(daemon, start_vm):
    """Start a VM behind an IOMMU, and see it run if its VMM answers well. The VMM's channel is
    closed at the end."""
    running = []

    def start(cid=None, answer=None, where=None, **kw):
        order = type("Order", (QemuIommu,), {"answer": staticmethod(answer) if answer else None})
        vm = start_vm(where or daemon, cid, order=order, **kw)
        running.append(vm)
        if answer is None:
            wait_located(vm)
        return vm
    yield start
    for vm in running:
        vm.order.iommu.close()


def wait_located(vm):
    """Its rings run when the VMM has said where they are: until then there is no guest."""
    vm.guest.sync()


def exchange(daemon, guest, data, port=1024):
    """A connection of the host to the guest, data both ways."""
    listener = gsocket.Listener(guest, port)
    host = daemon.connect(port, guest.cid)
    inner = listener.accept()
    assert stream([(host, data, inner), (inner, data[::-1], host)]) == [data, data[::-1]]
    host.close()
    del guest.listeners[port]


@pytest.mark.parametrize("indirect", (False, True), ids=("direct", "indirect"))
def test_bytes_both_ways(daemon, start_iommu, pattern, indirect):
    vm = start_iommu(indirect=indirect)
    exchange(daemon, vm.guest, pattern(300_000))
    assert vm.order.iommu.misses


def test_stop_continue_reboot(daemon, start_iommu, pattern):
    vm = start_iommu()
    exchange(daemon, vm.guest, pattern(10_000))
    vm.stop()
    vm.cont()
    wait_located(vm)
    exchange(daemon, vm.guest, pattern(10_000))
    vm.reboot()
    wait_located(vm)
    exchange(daemon, vm.guest, pattern(10_000))


def test_invalidations_under_load(daemon, start_iommu, pattern):
    """Everything is forgotten over and over, rings included; no byte is lost or wrong."""
    vm = start_iommu()
    stop = threading.Event()
    count = 0

    def forget():
        nonlocal count
        while not stop.is_set():
            vm.order.iommu.invalidate(0, 0, need_reply=False)
            count += 1
            time.sleep(0.002)
    thread = threading.Thread(target=forget)
    thread.start()
    try:
        while count < 10 and thread.is_alive():  # a machine may be too fast or too busy for one
            exchange(daemon, vm.guest, pattern(300_000))
    finally:
        stop.set()
        thread.join()
    assert count >= 10
    exchange(daemon, vm.guest, pattern(1000))


def test_log_of_written_pages(daemon, start_iommu, pattern, monkeypatch):
    """It is of guest-physical addresses, and SET_VRING_ADDR tells the used ring's as an IOVA."""
    shift = 1 << 34
    monkeypatch.setattr(iommu, "ELSEWHERE", shift)
    vm = start_iommu(mem=TrackedMemory(), queue_size=64)
    top = max(region.gpa + region.size for region in vm.guest.mem.regions)
    copier = Copier(vm, DirtyLog(vm.guest.mem, (shift + top) // PAGE // 8))
    logged = copier.log.take
    copier.log.take = lambda: {page - shift // PAGE for page in logged()}
    copier.start()
    pages = set()
    for _ in range(3):
        exchange(daemon, vm.guest, pattern(200_000))
        pages |= copier.do_pass()
    vm.stop()
    pages |= copier.do_pass()
    assert not copier.differing()
    assert min(pages) >= 0, "an IOVA was taken for a guest-physical address"
    copier.close()


def send_from(guest, flow, iova, size):
    """A packet whose payload is what the device finds at this address."""
    pkt = Pkt(guest.cid, flow.peer_cid, flow.local_port, flow.peer_port, size, type=flow.kind,
              op=OP_RW, buf_alloc=flow.buf_alloc)
    header = guest.mem.alloc(HEADER_SIZE)
    guest.mem.write(header, pkt.pack())
    guest.tx.add([(header, HEADER_SIZE, False), (iova, size, False)])
    flow.tx_cnt += size
    guest.tx.publish()


def connected(daemon, guest, port):
    """A connection of the guest: the host's end, and the guest's packet by packet."""
    listener = daemon.listen(port)
    flow = guest.flow(7000, port)
    flow.connect()
    host = listener.accept()
    listener.close()
    return host, flow


class MovingPage:
    """One page of I/O virtual addresses, and four places where it may lie, each with its data."""

    def __init__(self, vm, pattern):
        self.iommu = vm.order.iommu
        self.mem = vm.guest.mem
        self.places = [self.mem.alloc(PAGE, PAGE) for _ in range(4)]
        self.iova = self.place = self.places[0]
        self.pages = [pattern(PAGE, seed) for seed in range(len(self.places))]
        for place, data in zip(self.places, self.pages):
            self.mem.write(place, data)
        self.iommu.answer = self.answer

    def answer(self, address, _access):
        at = address // PAGE * PAGE
        return [(at, PAGE, self.mem.uva(self.place if at == self.iova else at), READ | WRITE)]

    def moves(self):
        """Yield the data of each place when the page lies there."""
        for self.place, data in zip(self.places, self.pages):
            yield data


def test_pages_that_move(daemon, start_iommu, pattern):
    """After the acknowledged invalidation nothing is read from where a page was."""
    vm = start_iommu()
    page = MovingPage(vm, pattern)
    host, flow = connected(daemon, vm.guest, 77)
    for data in page.moves():
        page.iommu.invalidate(page.iova, PAGE)
        send_from(vm.guest, flow, page.iova, PAGE)
        assert host.recv_exact(PAGE) == data


@pytest.mark.parametrize("late", (False, True), ids=("silent", "late-answer"))
def test_pages_that_move_while_it_stands(daemon, start_iommu, pattern, late):
    """Nobody tells of translations that change between a stop and the next start, and an answer
    that is on its way then is of the time before."""
    vm = start_iommu()
    page = MovingPage(vm, pattern)
    host, flow = connected(daemon, vm.guest, 77)
    before = page.place
    for data in page.moves():
        vm.stop()
        if late:
            page.iommu.update(page.iova, PAGE, page.mem.uva(before), READ | WRITE)
        vm.cont()
        send_from(vm.guest, flow, page.iova, PAGE)
        assert host.recv_exact(PAGE) == data
        before = page.place


def test_late_answers(daemon, start_iommu, pattern):
    """While answers are late the ring waits; neighbours and kicks are not lost."""
    vm = start_iommu()
    iommu = vm.order.iommu
    page = iommu.page

    def late(iova, access):
        time.sleep(0.05)
        return page(iova, access)
    iommu.answer = late
    iommu.invalidate(0, 0)
    exchange(daemon, vm.guest, pattern(20_000))


def test_chain_over_pages_that_are_elsewhere(daemon, start_iommu, pattern):
    """What lies side by side for the driver is in pieces, in several regions."""
    vm = start_iommu()
    iommu, mem = vm.order.iommu, vm.guest.mem
    low = mem.regions[0]
    first = mem.alloc(3 * PAGE, PAGE)
    data = pattern(3 * PAGE)
    for at, place in enumerate((first, low.gpa + 8 * PAGE, first + PAGE)):
        mem.write(place, data[at * PAGE:(at + 1) * PAGE])
        iommu.update(first + at * PAGE, PAGE, mem.uva(place), READ, need_reply=True)
    host, flow = connected(daemon, vm.guest, 77)
    send_from(vm.guest, flow, first, 3 * PAGE)
    assert host.recv_exact(3 * PAGE) == data
    send_from(vm.guest, flow, first + PAGE - 1, PAGE + 2)  # across both bounds
    assert host.recv_exact(PAGE + 2) == data[PAGE - 1:2 * PAGE + 1]


def test_answer_that_never_comes(daemon, start_iommu, pattern):
    """The ring breaks, the session goes on, and a reset of the device repairs it."""
    vm = start_iommu()
    iommu = vm.order.iommu
    exchange(daemon, vm.guest, pattern(1000))
    queues = vm.guest.queues[:2]
    rings = [part // PAGE * PAGE for queue in queues for part in (queue.desc, queue.avail,
                                                                 queue.used)]
    page = iommu.page
    iommu.answer = lambda iova, access: page(iova, access) if iova // PAGE * PAGE in rings else []
    iommu.invalidate(0, 0)
    client = daemon.request(1024)
    until(lambda: "did not say in 5000 ms" in daemon.stderr(), "the end of the wait", 20)
    until(lambda: "the driver broke ring" in daemon.stderr(), "the end of the ring", 20)
    assert vm.fe.is_alive()
    assert client.drain() == b""
    iommu.answer = page
    vm.reboot()
    wait_located(vm)
    exchange(daemon, vm.guest, pattern(1000))


def test_wrong_answers_are_no_answers(daemon, start_iommu, pattern):
    vm = start_iommu()
    iommu = vm.order.iommu
    page = iommu.page
    wrong = []

    def answer(iova, access):
        right = page(iova, access)
        if len(wrong) < 20:
            wrong.append(iova)
            other = right[0][0] + PAGE * 1000
            return [(other, PAGE, vm.guest.mem.regions[0].uva, READ), *right]
        return right
    iommu.answer = answer
    iommu.invalidate(0, 0)
    exchange(daemon, vm.guest, pattern(50_000))


def test_write_without_permission(daemon, start_iommu, pattern):
    """RX buffers that may only be read: nothing is written, the ring breaks, the VMM is told."""
    vm = start_iommu()
    iommu, mem = vm.order.iommu, vm.guest.mem
    exchange(daemon, vm.guest, pattern(1000))
    queues = vm.guest.queues[:2]
    rings = [part // PAGE * PAGE for queue in queues for part in (queue.desc, queue.avail,
                                                                 queue.used)]
    page = iommu.page

    def answer(iova, access):
        if iova // PAGE * PAGE in rings:
            return page(iova, access)
        return [(iova // PAGE * PAGE, PAGE, mem.uva(iova // PAGE * PAGE), READ)]
    iommu.answer = answer
    iommu.invalidate(0, 0)
    client = daemon.request(1024)
    until(lambda: iommu.fails, "the message about it", 20)
    assert all(access & WRITE for _, access in iommu.fails)
    until(lambda: "the driver broke ring" in daemon.stderr(), "the end of the ring", 20)
    assert client.drain() == b""
    assert vm.fe.is_alive()


def test_more_pages_than_entries(daemon, start_iommu, pattern):
    """The cache is full of others: what is needed comes again."""
    vm = start_iommu()
    iommu, mem = vm.order.iommu, vm.guest.mem
    for page in range(ENTRIES + 500):
        iommu.update((1 << 50) + page * 2 * PAGE, PAGE, mem.regions[0].uva, READ,
                     need_reply=page % 256 == 255)
    exchange(daemon, vm.guest, pattern(100_000))


@pytest.mark.parametrize("size, uva, access, why", (
    (0, 0, READ, "empty"), (PAGE, -1, READ, "outside"), ((1 << 64) - 1, 0, READ, "huge"),
    (PAGE, 0, 7, "permission"), (1 << 30, 0, READ, "longer than its region")))
def test_updates_that_cannot_be(daemon, start_iommu, pattern, size, uva, access, why):
    """They are refused by a NACK, and change nothing."""
    vm = start_iommu()
    base = vm.guest.mem.regions[0].uva
    with pytest.raises(Nack):
        vm.order.iommu.update(0x1000, size, base + uva if uva >= 0 else 0x10, access,
                              need_reply=True)
    assert why
    exchange(daemon, vm.guest, pattern(1000))


@pytest.mark.parametrize("kind", (0, 1, 4, 5, 255))
def test_kinds_that_are_not_for_a_back_end(daemon, start_iommu, pattern, kind):
    vm = start_iommu()
    with pytest.raises(Nack):
        vm.order.iommu.message(kind, 0, PAGE, 0, READ, need_reply=True)
    exchange(daemon, vm.guest, pattern(1000))


def test_memory_that_goes(daemon, start_iommu, pattern):
    """A region is removed: what led there is forgotten with it."""
    vm = start_iommu()
    iommu, low = vm.order.iommu, vm.guest.mem.regions[0]
    iommu.update(1 << 50, PAGE, low.uva, READ | WRITE, need_reply=True)
    vm.fe.rem_mem_reg(low, need_reply=True)
    with pytest.raises(Nack):
        iommu.update(1 << 50, PAGE, low.uva, READ | WRITE, need_reply=True)
    exchange(daemon, vm.guest, pattern(10_000))
    vm.fe.add_mem_reg(low, need_reply=True)
    iommu.update(1 << 50, PAGE, low.uva, READ | WRITE, need_reply=True)
    exchange(daemon, vm.guest, pattern(10_000))


def test_siblings(start_daemon, start_iommu, start_vm, pattern):
    """One behind an IOMMU, one not; each finds the other's memory."""
    daemon = start_daemon((3, 4), options={"iommu": "on"}, args=("--threads", "2"))
    first = start_iommu(3, where=daemon)
    second = start_vm(daemon, 4)
    data = pattern(200_000)
    for server, client in ((first, second), (second, first)):
        listener = gsocket.Listener(server.guest, 900)
        out = gsocket.connect(client.guest, 6000, 900, server.guest.cid)
        inner = listener.accept()
        first.order.iommu.invalidate(0, 0)
        assert stream([(out, data, inner), (inner, data[::-1], out)]) == [data, data[::-1]]
        del server.guest.listeners[900]


def test_not_offered_unless_asked_for(start_daemon):
    daemon = start_daemon()
    with FrontEnd(daemon.vm().socket) as fe:
        assert not fe.get_features() & ACCESS_PLATFORM
        assert not fe.get_protocol_features() & P_BACKEND_REQ
        with pytest.raises(Nack):
            fe.set_features(1 << 32 | ACCESS_PLATFORM, need_reply=True)
        with pytest.raises(Nack):
            fe.tell(IOTLB_MSG, bytes(32), need_reply=True)
    until(lambda: "needs iommu=on" in daemon.stderr(), "the hint")


def test_channel_that_is_none(daemon):
    """A descriptor that is no Unix stream socket is refused."""
    with FrontEnd(daemon.vm().socket) as fe, open("/dev/null", "rb") as null:
        with pytest.raises(Nack):
            fe.tell(SET_BACKEND_REQ_FD, fds=[null.fileno()], need_reply=True)
        assert fe.is_alive()
        with pytest.raises((Nack, Closed)):
            fe.tell(SET_BACKEND_REQ_FD, need_reply=True)


def test_table_addresses_are_not_used(daemon, start_iommu, pattern):
    """The memory table's guest addresses mean nothing: an IOVA of that number is missed."""
    vm = start_iommu()
    exchange(daemon, vm.guest, pattern(1000))
    assert all(iova < ELSEWHERE for iova, _ in vm.order.iommu.misses)
    assert struct.calcsize("Q") == 8 and SCALE
