# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Credit in both directions, packet counts, and flows that do not hold each other up.

That the device never exceeds a guest's window is checked for every packet of
every test by driver.Flow.account().
"""

import pytest

import gsocket
import waiting
from hostsock import stream
from vsockpkt import (MAX_PAYLOAD, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE,
                      OP_RST, OP_RW)
from waiting import Timeout, until

RINGS = ("split", "packed")
WINDOW = 262144
ENDLESS = 16 << 20  # more than a window and what a host's socket buffers take
CREDIT = (OP_CREDIT_UPDATE, OP_CREDIT_REQUEST)


def raw_pair(daemon, guest, local=4000, port=90, **kw):
    door = daemon.listen(port)
    flow = guest.flow(local, port, **kw)
    flow.connect()
    host = door.accept()
    door.close()
    return host, flow


def fill(flow, data):
    """Send until the credit is used up for good; returns how much."""
    sent = 0
    while sent < len(data):
        room = min(flow.credit(), MAX_PAYLOAD, len(data) - sent)
        if room <= 0:
            flow.guest.sync()
            flow.guest.sync()
            if flow.credit() <= 0:
                break
            continue
        flow.tx(OP_RW, data[sent:sent + room])
        sent += room
    return sent


def settled(flow):
    """What the guest has received once the device stops sending."""
    seen = -1
    while seen != flow.received:
        seen = flow.received
        waiting.run_for(0.05)
        flow.guest.sync()
    return seen


# what the guest may send


@pytest.mark.parametrize("size", [4096, 65536, 262144, 1 << 20])
def test_window_is_as_configured(start_daemon, start_vm, pattern, size):
    daemon = start_daemon(options={"tx-buffer-size": size})
    guest = start_vm(daemon).guest
    host, flow = raw_pair(daemon, guest)
    assert flow.peer_buf_alloc == size
    data = pattern(ENDLESS)
    sent = fill(flow, data)
    assert size <= sent < ENDLESS
    assert not flow.pkts or all(pkt.op in CREDIT for pkt in flow.pkts)
    assert host.recv_exact(sent) == data[:sent]
    listener = guest.raw_listen(50)
    daemon.request(50)
    assert listener.accept().request.buf_alloc == size


def test_credit_request_is_answered(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    flow.tx(OP_CREDIT_REQUEST)
    flow.expect(OP_CREDIT_UPDATE, buf_alloc=WINDOW, fwd_cnt=0)
    flow.tx(OP_RW, b"12345")
    assert host.recv_exact(5) == b"12345"
    flow.tx(OP_CREDIT_REQUEST)
    flow.expect(OP_CREDIT_UPDATE, buf_alloc=WINDOW, fwd_cnt=5)


@pytest.mark.parametrize("own", [4096, 16384, 65536, 262144, 1 << 20])
def test_update_comes_by_half_of_the_window(daemon, guest, own):
    """The smaller of the two windows: Linux sends no more than its own buffer."""
    host, flow = raw_pair(daemon, guest, buf_alloc=own)
    half = min(own, WINDOW) // 2
    for _ in range(5):
        before = flow.peer_fwd_cnt
        done = 0
        while done < half:
            n = min(half - done, 1024)
            flow.tx(OP_RW, bytes(n))
            done += n
        assert host.recv_exact(half) == bytes(half)
        until(lambda: flow.peer_fwd_cnt > before, "a credit update")
        # what is left untold must never amount to half of the window
        until(lambda: flow.tx_cnt - flow.peer_fwd_cnt < half, "credit for all but a little")


@pytest.mark.parametrize("own", [2048, 4096, 65536])
def test_bulk_from_a_guest_with_a_small_buffer(daemon, guest, pattern, own):
    door = daemon.listen(90)
    sock = gsocket.connect(guest, 4000, 90, buf_alloc=own)
    host = door.accept()
    data = pattern(500_000)
    assert stream([(sock, data, host), (host, data, sock)]) == [data, data]


def test_nothing_is_lost_while_the_host_does_not_read(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest)
    data = pattern(ENDLESS)
    sent = fill(flow, data)
    assert WINDOW <= sent < ENDLESS, "the device takes without bound"
    assert host.recv_exact(sent) == data[:sent]
    until(lambda: flow.credit() == WINDOW, "the whole window again")
    more = fill(flow, data[sent:])
    assert host.recv_exact(more) == data[sent:sent + more]


def test_overrun_resets_that_flow_only(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest)
    good_host, good = raw_pair(daemon, guest, 4001, 91)
    fill(flow, bytes(ENDLESS))
    for _ in range(40):
        flow.tx(OP_RW, bytes(MAX_PAYLOAD))
        if any(pkt.op == OP_RST for pkt in flow.pkts):
            break
    flow.expect(OP_RST, ignore=CREDIT)
    host.drain()
    data = pattern(100_000)
    good.send_data(data)
    assert good_host.recv_exact(len(data)) == data
    good_host.send_all(data)
    assert good.expect_data(len(data)) == data
    flow.tx(OP_RW, b"late")
    flow.expect(OP_RST)


def test_small_packets_fill_the_window_too(daemon, guest, pattern):
    """Bytes count, not packets: many small ones must not overrun some table."""
    host, flow = raw_pair(daemon, guest)
    data = pattern(20_000)
    for i in range(0, len(data), 10):
        flow.tx(OP_RW, data[i:i + 10])
    assert host.recv_exact(len(data)) == data


def test_empty_packets(daemon, guest):
    host, flow = raw_pair(daemon, guest)
    for _ in range(1000):
        flow.tx(OP_RW)
    flow.tx(OP_RW, b"end")
    assert host.recv_exact(3) == b"end"
    guest.sync()
    assert host.is_quiet()


# what the device may send


@pytest.mark.parametrize("own", [1, 1000, 10_000, 65536, 300_000])
def test_device_respects_the_guests_window(daemon, guest, pattern, own):
    host, flow = raw_pair(daemon, guest, buf_alloc=own)
    data = pattern(400_000 if own > 1000 else own * 40)
    sent = host.send_now(data)
    until(lambda: flow.received, "the first data")
    assert 0 < settled(flow) <= own
    sock_data = flow.expect_data(flow.received, ack=False)
    assert sock_data == data[:len(sock_data)]
    flow.ack()
    rest = bytearray()
    while len(sock_data) + len(rest) < sent:
        pkt = flow.next()
        if pkt.op == OP_RW:
            rest += pkt.data
        flow.ack()
    assert sock_data + rest == data[:sent]


def test_guest_shrinks_its_window(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest, buf_alloc=65536)
    data = pattern(150_000)
    assert host.send_now(data) == len(data)
    until(lambda: flow.received > 32768, "data")
    first = settled(flow)
    flow.buf_alloc = 1000  # now far less than what is under way
    flow.fwd_cnt = first - 30_000
    flow.tx(OP_CREDIT_UPDATE)
    assert settled(flow) == first, "data beyond a window that shrank"
    flow.fwd_cnt = first - 1000
    flow.tx(OP_CREDIT_UPDATE)
    assert settled(flow) == first
    flow.fwd_cnt = first
    flow.tx(OP_CREDIT_UPDATE)
    until(lambda: flow.received > first, "data again")
    assert settled(flow) - first <= 1000
    flow.buf_alloc = 65536
    flow.ack()
    got = bytearray()
    while len(got) < len(data):
        pkt = flow.next()
        got += pkt.data
        if pkt.op == OP_CREDIT_REQUEST or flow.received - flow.fwd_cnt > 20_000:
            flow.ack()
    assert got == data


def test_guest_shrinks_its_window_with_few_packets(daemon, start_vm, pattern):
    """Large packets: here no count of packets stands in for the count of bytes."""
    guest = start_vm(daemon, rx_shape=(MAX_PAYLOAD + 44,), rx_count=20).guest
    host, flow = raw_pair(daemon, guest, buf_alloc=65536)
    data = pattern(130_000)
    assert host.send_now(data) == len(data)
    until(lambda: flow.received > 60_000, "data")
    first = settled(flow)
    assert len(flow.pkts) < 15
    flow.buf_alloc = 30_000
    for consumed in (1000, first - 31_000):
        flow.fwd_cnt = consumed
        flow.tx(OP_CREDIT_UPDATE)
        assert settled(flow) == first, "data beyond a window that shrank"
    flow.ack()
    until(lambda: flow.received > first, "data again")
    assert settled(flow) - first <= 30_000


def test_guest_without_any_window(daemon, guest):
    host, flow = raw_pair(daemon, guest, buf_alloc=0)
    host.send_all(b"data")
    assert settled(flow) == 0
    flow.buf_alloc = 4096
    flow.tx(OP_CREDIT_UPDATE)
    flow.expect(OP_RW, ignore=CREDIT, data=b"data")


def test_window_of_four_gigabytes(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest, buf_alloc=0xFFFFFFFF)
    data = pattern(1 << 20)
    sent = host.send_now(data)
    while sent < len(data):
        waiting.pump_once(5)
        sent += host.send_now(data[sent:])
    assert flow.expect_data(len(data)) == data


@pytest.mark.parametrize("fwd_cnt", [1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_absurd_acknowledgement(daemon, guest, fwd_cnt):
    """More consumed than was ever sent: that flow's own problem."""
    host, flow = raw_pair(daemon, guest, buf_alloc=4096)
    good_host, good = raw_pair(daemon, guest, 4001, 91)
    flow.tx(OP_CREDIT_UPDATE, fwd_cnt=fwd_cnt)
    flow.window_end = 1 << 40
    try:
        host.send_now(bytes(100_000))
    except BrokenPipeError:
        pass  # reset for it already
    guest.sync()
    good_host.send_all(b"fine")
    good.expect(OP_RW, ignore=CREDIT, data=b"fine")
    good.tx(OP_RW, b"fine")
    assert good_host.recv_exact(4) == b"fine"


def test_starved_sender_asks_and_goes_on(daemon, guest, pattern):
    """A guest that tells its consumption only when asked, like some small ones."""
    host, flow = raw_pair(daemon, guest, buf_alloc=16384)
    data = pattern(200_000)
    assert host.send_now(data) == len(data)
    got = bytearray()
    while len(got) < len(data):
        pkt = flow.next()
        got += pkt.data
        if pkt.op == OP_CREDIT_REQUEST:
            flow.ack()
    assert got == data


def test_starved_sender_asks_again(daemon, guest):
    host, flow = raw_pair(daemon, guest, buf_alloc=1000)
    host.send_now(bytes(50_000))
    for _ in range(2):
        flow.expect(OP_CREDIT_REQUEST, ignore=(OP_RW, OP_CREDIT_UPDATE), timeout=20)
    flow.ack()
    flow.expect(OP_RW)


def trickle(host, flow, limit):
    """Single bytes, each its own packet, until the device holds them back."""
    before = flow.guest.rx_packets
    for count in range(limit):
        host.send_all(b"x")
        try:
            until(lambda: flow.received > count, "a packet", timeout=0.5)
        except Timeout:
            return flow.guest.rx_packets - before
    return limit


@pytest.mark.parametrize("own", [8192, 32768, 262144])
def test_packet_count_is_limited(daemon, guest, own):
    """Newer kernels charge 576 bytes for a queued packet, however small."""
    host, flow = raw_pair(daemon, guest, buf_alloc=own)
    count = trickle(host, flow, 2 * own // 1024 + 10)
    data = [pkt for pkt in flow.pkts if pkt.op == OP_RW]
    assert count < 2 * own // 1024 + 10, "never held back"
    assert len(data) <= own // 1024
    assert len(data) >= own // 4096, "held back far too early"
    held = flow.received
    host.send_all(b"y" * 500)
    flow.guest.sync()
    assert flow.received == held
    flow.ack()
    until(lambda: flow.received == held + 1 + 500, "what was held back")


def test_many_tiny_writes_to_a_guest_that_does_not_read(daemon, guest):
    listener = gsocket.Listener(guest, 50, count_packets=True)
    host, sock = daemon.connect(50), listener.accept()
    written = bytearray()
    for _ in range(3):
        while host.send_now(b"%06d" % len(written)):
            written += b"%06d" % len(written)
            waiting.pump_once()
        settled(sock)
    assert len(written) > 6 * WINDOW // 1024, "the host's socket was full before the guest"
    assert sock.max_queued <= WINDOW // 1024
    assert sock.recv_exact(len(written)) == written


def test_ping_pong_is_not_held_back(daemon, guest):
    """A guest that reads but never volunteers an update, one byte at a time."""
    host, flow = raw_pair(daemon, guest, buf_alloc=4096)
    for i in range(200):
        host.send_all(b"%03d" % i)
        flow.expect(OP_RW, ignore=CREDIT, data=b"%03d" % i)
        flow.fwd_cnt = flow.received
        flow.tx(OP_RW, b"ack")
        assert host.recv_exact(3) == b"ack"


# flows among each other


def test_flow_without_credit_does_not_stop_others(daemon, guest, pattern):
    host, flow = raw_pair(daemon, guest, buf_alloc=1000)
    host.send_now(bytes(200_000))
    good_host, good = raw_pair(daemon, guest, 4001, 91)
    data = pattern(500_000)
    got = bytearray()
    for i in range(0, len(data), 50_000):
        good_host.send_all(data[i:i + 50_000])
        got += good.expect_data(50_000)
    assert got == data
    assert flow.received <= 1000


def test_host_that_does_not_read_does_not_stop_others(daemon, guest, pattern):
    _host, flow = raw_pair(daemon, guest)
    fill(flow, bytes(ENDLESS))
    good_host, good = raw_pair(daemon, guest, 4001, 91)
    data = pattern(500_000)
    got = bytearray()
    for i in range(0, len(data), 10_000):
        good.send_data(data[i:i + 10_000])
        got += good_host.recv_exact(10_000)
    assert got == data


@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("event_idx", [False, True], ids=["flags", "event-idx"])
def test_streams_in_both_directions_at_once(daemon, start_vm, pattern, event_idx, indirect):
    guest = start_vm(daemon, event_idx=event_idx, indirect=indirect).guest
    listener = gsocket.Listener(guest, 50)
    transfers, want = [], []
    for i in range(4):
        host, sock = daemon.connect(50), listener.accept()
        down, up = pattern(400_000 + i, 2 * i), pattern(300_000 + i, 2 * i + 1)
        transfers += [(host, down, sock), (sock, up, host)]
        want += [down, up]
    assert stream(transfers, 30) == want


def test_guest_that_posts_no_rx_buffers_still_sends(daemon, start_vm, pattern):
    """The device must take TX as long as nothing forces it to answer."""
    guest = start_vm(daemon).guest
    host, flow = raw_pair(daemon, guest, buf_alloc=4 << 20)
    guest.refill = False
    taken = 0
    until(lambda: host.send_now(bytes(1 << 20)) == 0 and not guest.rx.inflight,
          "all RX buffers to be used")
    data = pattern(100_000)
    for i in range(0, len(data), 10_000):
        flow.tx(OP_RW, data[i:i + 10_000])
        taken += 10_000
    assert host.recv_exact(taken) == data
    guest.refill = True
    guest.fill_rx()
    until(lambda: flow.peer_fwd_cnt == len(data), "a credit update")


def test_response_reaches_a_guest_that_was_short_of_buffers(daemon, start_vm):
    guest = start_vm(daemon, rx_count=1).guest
    guest.refill = False
    door = daemon.listen(90)
    flows = [guest.flow(5000 + i, 90) for i in range(10)]
    for flow in flows:
        flow.tx(OP_REQUEST)
    hosts = [door.accept() for _ in flows]
    until(lambda: not guest.rx.inflight, "the only buffer to be used")
    guest.refill = True
    guest.fill_rx()
    for flow in flows:
        flow.expect(OP_RESPONSE)
    assert len(hosts) == 10
