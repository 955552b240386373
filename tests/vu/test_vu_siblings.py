# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guests that talk to each other through one daemon."""

import pytest

import gsocket
import waiting
from hostsock import stream
from vsockpkt import (MAX_PAYLOAD, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE,
                      OP_RST, OP_RW, OP_SHUTDOWN, SHUT_BOTH, SHUT_SEND, TYPE_SEQPACKET)
from waiting import until

RINGS = ("split", "mixed")
CREDIT = (OP_CREDIT_UPDATE, OP_CREDIT_REQUEST)
WINDOW = 262144


@pytest.fixture(params=["1", "2"], ids=["one-thread", "two-threads"])
def threads(request):
    return ["--threads", request.param]


@pytest.fixture
def two(start_daemon, start_vm, threads):
    """(daemon, VM 3, VM 4) of one group."""
    daemon = start_daemon(cids=(3, 4), args=threads)
    return daemon, start_vm(daemon, 3), start_vm(daemon, 4)


def raw_pair(a, b, local=4000, port=90, **kw):
    """A connected pair of raw flows between two guests, asked for by a."""
    listener = b.raw_listen(port, **kw)
    left = a.flow(local, port, peer_cid=b.cid, **kw)
    left.tx(OP_REQUEST)
    right = listener.accept()
    right.respond()
    left.expect(OP_RESPONSE)
    return left, right


def socket_pair(a, b, local=4000, port=90, **kw):
    listener = gsocket.Listener(b, port, **kw)
    left = gsocket.connect(a, local, port, peer_cid=b.cid, **kw)
    return left, listener.accept()


def host_pair(daemon, guest, local=6000, port=95):
    door = daemon.listen(port, guest.cid)
    sock = gsocket.connect(guest, local, port)
    host = door.accept()
    return host, sock


def assert_host_flow(host, sock, data):
    assert stream([(host, data, sock), (sock, data, host)]) == [data, data]


def test_request_as_the_receiver_sees_it(two):
    _, a, b = two
    listener = b.guest.raw_listen(90)
    flow = a.guest.flow(4000, 90, peer_cid=4, buf_alloc=100_000)
    flow.tx(OP_REQUEST)
    right = listener.accept()
    req = right.request
    assert (req.src_cid, req.dst_cid, req.src_port, req.dst_port) == (3, 4, 4000, 90)
    assert req.buf_alloc == 100_000 and req.fwd_cnt == 0
    right.buf_alloc = 1 << 30
    right.respond()
    answer = flow.expect(OP_RESPONSE, src_cid=4, dst_cid=3, src_port=90, dst_port=4000)
    assert answer.buf_alloc <= WINDOW, "more credit than the daemon can hold"


def test_refused_by_the_sibling(two):
    _, a, b = two
    for first, second in ((a, b), (b, a)):
        flow = first.guest.flow(4000, 91, peer_cid=second.guest.cid)
        flow.tx(OP_REQUEST)
        flow.expect(OP_RST, src_cid=second.guest.cid, src_port=91)
        flow.drop()


def test_data_both_ways(two, pattern):
    _, a, b = two
    transfers, want = [], []
    for i in range(3):
        left, right = socket_pair(a.guest, b.guest, 4000 + i, 90 + i)
        right2, left2 = socket_pair(b.guest, a.guest, 4000 + i, 190 + i)
        down, up = pattern(300_000 + i, i), pattern(200_000 + i, i + 50)
        transfers += [(left, down, right), (right, up, left),
                      (left2, up, right2), (right2, down, left2)]
        want += [down, up, up, down]
    assert stream(transfers, 30) == want


@pytest.mark.parametrize("shape", [(3776,), (512,), (44, 4096), (10, 34, 100), (45,), (1 << 20,)],
                         ids=str)
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event-idx"])
def test_packets_are_cut_to_the_receivers_buffers(start_daemon, start_vm, threads, pattern, shape,
                                                  event_idx):
    daemon = start_daemon(cids=(3, 4), args=threads)
    a = start_vm(daemon, 3, event_idx=event_idx).guest
    b = start_vm(daemon, 4, rx_shape=shape, rx_count=100, event_idx=event_idx).guest
    left, right = raw_pair(a, b)
    sizes = []
    b.on_rx = lambda pkt: sizes.append(pkt.len)
    count = 8 if sum(shape) > 200 else 1
    data = pattern(count * MAX_PAYLOAD if count > 1 else 3000)
    got = bytearray()
    for i in range(0, len(data), MAX_PAYLOAD):
        left.tx(OP_RW, data[i:i + MAX_PAYLOAD], shape=(44, 32768))
        while len(got) < min(i + MAX_PAYLOAD, len(data)):
            got += _some(right)
    assert got == data
    assert max(sizes) <= max(sum(shape) - 44, 0)


def _some(flow):
    """Data of the next packet that carries some; consumed."""
    pkt = flow.next(ignore=CREDIT)
    assert pkt.op == OP_RW, str(pkt)
    flow.ack()
    return pkt.data


def test_half_close(two, pattern):
    _, a, b = two
    left, right = socket_pair(a.guest, b.guest)
    data, answer = pattern(100_000, 1), pattern(150_000, 2)
    left.send_all(data)
    left.shutdown(SHUT_SEND)
    assert right.recv_eof() == data
    assert right.peer_shut == SHUT_SEND
    assert stream([(right, answer, left)]) == [answer]
    right.close()
    assert left.recv_eof() == b""


def test_close_and_connect_again(two):
    _, a, b = two
    listener = gsocket.Listener(b.guest, 90)
    for i in range(30):
        left = gsocket.connect(a.guest, 4000, 90, peer_cid=4)
        right = listener.accept()
        left.send_all(b"%04d" % i)
        assert right.recv_exact(4) == b"%04d" % i
        (left if i % 2 else right).close()
        until(lambda: right.state == left.state == gsocket.CLOSED, "both ends to close")


def test_request_replaces_a_live_flow(two):
    """The first guest forgot: its driver was started again, say."""
    _, a, b = two
    left, right = raw_pair(a.guest, b.guest)
    left.tx(OP_RW, b"old")
    right.expect(OP_RW, ignore=CREDIT, data=b"old")
    left.drop()
    right.drop()
    left, right = raw_pair(a.guest, b.guest)
    left.tx(OP_RW, b"new")
    right.expect(OP_RW, ignore=CREDIT, data=b"new")


def test_reset_passes(two):
    _, a, b = two
    left, right = raw_pair(a.guest, b.guest)
    left.tx(OP_RST)
    right.expect(OP_RST, ignore=CREDIT, src_cid=3)
    right.tx(OP_RST)
    a.guest.sync()
    assert all(pkt.op in CREDIT for pkt in left.pkts)


def test_data_without_a_connection(two):
    _, a, b = two
    flow = a.guest.flow(4000, 90, peer_cid=4)
    for op in (OP_RW, OP_RESPONSE, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST, OP_SHUTDOWN):
        flow.tx(op, b"x" if op == OP_RW else b"", flags=SHUT_BOTH if op == OP_SHUTDOWN else 0)
        flow.expect(OP_RST)
    assert all(pkt.op != OP_RW for pkt in b.guest.inbox)


def test_wrong_type(two):
    _, a, b = two
    listener = b.guest.raw_listen(90)
    flow = a.guest.flow(4000, 90, peer_cid=4)
    flow.tx(OP_REQUEST, type=TYPE_SEQPACKET)
    flow.expect(OP_RST)
    assert not listener.queue


def test_forged_source_between_siblings(start_daemon, start_vm, threads):
    daemon = start_daemon(cids=(3, 4, 5), args=threads)
    a, b, c = (start_vm(daemon, cid).guest for cid in (3, 4, 5))
    left, right = raw_pair(a, b)
    thief = c.flow(4000, 90, peer_cid=4)
    thief.tx(OP_RW, b"stolen", src_cid=3)
    thief.tx(OP_RST, src_cid=3)
    c.sync()
    left.tx(OP_RW, b"mine")
    right.expect(OP_RW, ignore=CREDIT, data=b"mine")
    assert all(pkt.op in CREDIT for pkt in right.pkts)


def test_groups(start_daemon, start_vm, threads):
    groups = {3: "red+blue", 4: "blue", 5: "red", 6: "default"}
    daemon = start_daemon(cids=groups, args=threads,
                          per_vm={cid: {"groups": names} for cid, names in groups.items()})
    guests = {cid: start_vm(daemon, cid).guest for cid in groups}
    for a in groups:
        for b in groups:
            if a == b:
                continue
            if set(groups[a].split("+")) & set(groups[b].split("+")):
                left, right = raw_pair(guests[a], guests[b], 4000 + b, 90 + a)
                left.tx(OP_RW, b"hello")
                right.expect(OP_RW, ignore=CREDIT, data=b"hello")
            else:
                listener = guests[b].raw_listen(90 + a)
                flow = guests[a].flow(4000 + b, 90 + a, peer_cid=b)
                flow.tx(OP_REQUEST)
                flow.expect(OP_RST, src_cid=b)
                guests[b].sync()
                assert not listener.queue


def test_sibling_that_is_not_there(start_daemon, start_vm, threads):
    daemon = start_daemon(cids=(3, 4), args=threads)
    a = start_vm(daemon, 3).guest
    flow = a.flow(4000, 90, peer_cid=4)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST, src_cid=4)
    b = start_vm(daemon, 4)
    left, right = raw_pair(a, b.guest, 4001)
    left.tx(OP_RW, b"now")
    right.expect(OP_RW, ignore=CREDIT, data=b"now")
    assert not b.guest.inbox, "packets from before its start"


@pytest.mark.parametrize("end", ["killed", "rebooted", "reset"])
def test_sibling_that_goes(two, pattern, end):
    daemon, a, b = two
    left, right = raw_pair(a.guest, b.guest)
    back, forth = raw_pair(b.guest, a.guest, 4001, 91)
    host, sock = host_pair(daemon, a.guest)
    left.tx(OP_RW, b"x")
    right.expect(OP_RW, ignore=CREDIT)
    if end == "killed":
        b.kill()
    elif end == "rebooted":
        b.reboot()
    else:
        b.fe.reset_device()
        b.fe.get_features()
    left.expect(OP_RST, ignore=CREDIT, src_cid=4)
    forth.expect(OP_RST, ignore=CREDIT, src_cid=4)
    assert_host_flow(host, sock, pattern(100_000))
    left.drop()
    del back
    if end == "killed":
        b.replace()
    elif end == "reset":
        b.guest.reboot()
        b.order.activate(b.fe, b.guest)
        b.guest.start()
    left, right = raw_pair(a.guest, b.guest)
    left.tx(OP_RW, b"again")
    right.expect(OP_RW, ignore=CREDIT, data=b"again")
    assert not b.guest.inbox


def test_stop_and_continue_of_a_sibling(two, pattern):
    _, a, b = two
    left, right = socket_pair(a.guest, b.guest)
    data = pattern(400_000)
    b.stop()
    done = left.send_now(data)
    a.guest.sync()
    b.cont()
    assert stream([(left, data, right, done), (right, data, left)]) == [data, data]


def test_receiver_without_buffers(start_daemon, start_vm, threads, pattern):
    """Its flows wait within their credit; everything else of the sender goes on."""
    daemon = start_daemon(cids=(3, 4), args=threads)
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    host, sock = host_pair(daemon, a)
    host_b, sock_b = host_pair(daemon, b)
    left, right = socket_pair(a, b)
    b.refill = False
    data = pattern(1 << 20)
    done = left.send_now(data)
    for _ in range(20):
        a.sync()
        done += left.send_now(data[done:])
    assert 0 < done <= WINDOW, "sent beyond any credit the sibling gave"
    small = pattern(50_000)
    for _ in range(10):
        assert_host_flow(host, sock, small)
    sock_b.send_all(b"still sending")
    assert host_b.recv_exact(13) == b"still sending"
    b.refill = True
    b.fill_rx()
    assert stream([(left, data, right, done)], 20) == [data]


def test_receiver_without_buffers_and_control_packets(start_daemon, start_vm, threads):
    """Connects and closes towards a guest without RX buffers must wait or fail, not vanish."""
    daemon = start_daemon(cids=(3, 4), args=threads)
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    listener = gsocket.Listener(b, 90)
    b.refill = False
    flows = [gsocket.GuestSocket(a, 4000 + i, 90, peer_cid=4) for i in range(300)]
    for flow in flows:
        flow.tx(OP_REQUEST)
    a.sync()
    assert all(flow.state in (gsocket.CONNECTING, gsocket.ESTABLISHED, gsocket.CLOSED)
               for flow in flows)
    b.refill = True
    b.fill_rx()
    until(lambda: all(flow.state != gsocket.CONNECTING for flow in flows), "an answer for each")
    del listener
    a.sync()
    b.sync()


def test_flood_beyond_credit_resets_that_flow_only(start_daemon, start_vm, threads, pattern):
    daemon = start_daemon(cids=(3, 4), args=threads)
    a, b = start_vm(daemon, 3).guest, start_vm(daemon, 4).guest
    host, sock = host_pair(daemon, a)
    good_left, good_right = socket_pair(a, b, 4001, 91)
    left, right = raw_pair(a, b)
    b.refill = False
    for _ in range(40):
        left.tx(OP_RW, bytes(MAX_PAYLOAD))
        if any(pkt.op == OP_RST for pkt in left.pkts):
            break
    left.expect(OP_RST, ignore=CREDIT, src_cid=4)
    b.refill = True
    b.fill_rx()
    until(lambda: any(pkt.op == OP_RST for pkt in right.pkts), "the other end to hear of it")
    data = pattern(200_000)
    assert_host_flow(host, sock, data)
    assert stream([(good_left, data, good_right), (good_right, data, good_left)]) == [data, data]


def test_flood_into_a_small_window(two, pattern):
    """The receiver's own window bounds the sender, who ignores it."""
    _, a, b = two
    left, right = raw_pair(a.guest, b.guest, buf_alloc=4096)
    right.window_end = 1 << 40
    for _ in range(200):
        left.tx(OP_RW, bytes(4096))
        if any(pkt.op == OP_RST for pkt in left.pkts):
            break
    a.guest.sync()
    good_left, good_right = socket_pair(a.guest, b.guest, 4001, 91)
    data = pattern(100_000)
    assert stream([(good_left, data, good_right)]) == [data]


def test_slow_reader(two, pattern):
    """Bulk to a guest whose application reads little by little."""
    _, a, b = two
    left, right = socket_pair(a.guest, b.guest)
    data = pattern(1 << 20)
    done, got = 0, bytearray()
    while len(got) < len(data):
        done += left.send_now(data[done:])
        part = right.recv_now(30_000)
        got += part
        if not part:
            waiting.pump_once(5)
    assert got == data


@pytest.mark.parametrize("window", [1024, 65536, WINDOW])
def test_receiver_that_tells_nothing_unless_asked(two, pattern, window):
    """Its sender has used up the window and asks nobody: the device does."""
    _, a, b = two
    listener = gsocket.Listener(b.guest, 90, buf_alloc=window, volunteer=False)
    left = gsocket.connect(a.guest, 4000, 90, peer_cid=4)
    right = listener.accept()
    data = pattern(4 * window + 77)
    assert stream([(left, data, right)], 20) == [data]


def test_receiver_that_does_not_read_is_asked_until_its_sender_ends(two, pattern):
    """The device holds nothing of it."""
    _, a, b = two
    left, right = raw_pair(a.guest, b.guest, buf_alloc=4096)
    left.tx(OP_RW, pattern(4096))
    right.expect_data(4096, ack=False)
    for _ in range(3):
        right.expect(OP_CREDIT_REQUEST)
        right.tx(OP_CREDIT_UPDATE)
    left.tx(OP_SHUTDOWN, flags=SHUT_SEND)
    right.expect(OP_SHUTDOWN, ignore=(OP_CREDIT_REQUEST,))
    right.pkts.clear()
    socket_left, socket_right = socket_pair(a.guest, b.guest, 4001, 91)
    data = pattern(300_000)
    assert stream([(socket_left, data, socket_right)]) == [data]
    assert not right.pkts


@pytest.mark.parametrize("own", [1024, 4096, 65536, 1 << 20])
def test_windows_of_any_size(two, pattern, own):
    _, a, b = two
    left, right = socket_pair(a.guest, b.guest, buf_alloc=own)
    data = pattern(300_000 if own > 1024 else 50_000)
    assert stream([(left, data, right), (right, data, left)], 20) == [data, data]


def test_packet_count_towards_a_sibling(two):
    """Cut packets must not run into the count limit of newer kernels."""
    _, a, b = two
    listener = gsocket.Listener(b.guest, 90, count_packets=True)
    left = gsocket.connect(a.guest, 4000, 90, peer_cid=4)
    right = listener.accept()
    data = bytes(range(256)) * 1024
    done = left.send_now(data)
    a.guest.sync()
    assert stream([(left, data, right, done)]) == [data]


def test_queue_of_one_entry(start_daemon, start_vm, threads, pattern):
    daemon = start_daemon(cids=(3, 4), args=threads)
    a = start_vm(daemon, 3, queue_size=1).guest
    b = start_vm(daemon, 4, queue_size=2).guest
    left, right = socket_pair(a, b)
    data = pattern(50_000)
    assert stream([(left, data, right), (right, data, left)]) == [data, data]


@pytest.mark.parametrize("ring", ["split"])
def test_broken_rx_ring_of_a_sibling(two, pattern):
    """The sender's ring and its other flows must not suffer."""
    daemon, a, b = two
    left, _ = raw_pair(a.guest, b.guest)
    host, sock = host_pair(daemon, a.guest)
    b.guest.refill = False
    b.guest.rx.next_avail += b.guest.rx.size + 1
    b.guest.rx.publish()
    b.guest.rx.do_kick()
    for _ in range(3):
        left.tx(OP_RW, bytes(1000))
    a.guest.sync()
    assert_host_flow(host, sock, pattern(100_000))
    b.guest.refill = True
    b.reboot()
    left.expect(OP_RST, ignore=CREDIT)


def test_everybody_with_everybody(start_daemon, start_vm, pattern):
    cids = (3, 4, 5, 6)
    daemon = start_daemon(cids=cids, args=["--threads", "2"])
    guests = {cid: start_vm(daemon, cid).guest for cid in cids}
    transfers, want = [], []
    for a in cids:
        for b in cids:
            if a != b:
                left, right = socket_pair(guests[a], guests[b], 4000 + b, 90 + a)
                data = pattern(100_000, 10 * a + b)
                transfers += [(left, data, right), (right, data[::-1], left)]
                want += [data, data[::-1]]
    assert stream(transfers, 30) == want
