# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""SOCK_SEQPACKET between guests: bounds stay whatever the rings and windows are."""

import random

import pytest

import gsocket
from gseqpacket import SeqListener, connect
from gsocket import Reset
from vhost_user import F_NO_IMPLIED_STREAM, F_SEQPACKET, F_STREAM
from vsockpkt import (OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, SEQ_EOM, SHUT_SEND,
                      TYPE_SEQPACKET, TYPE_STREAM)
from waiting import until

ALL_TYPES = F_STREAM | F_SEQPACKET | F_NO_IMPLIED_STREAM
CREDIT = (OP_CREDIT_UPDATE, 7)


@pytest.fixture(params=[("--threads", "1"), ("--threads", "2")], ids=["1 thread", "2 threads"])
def make(request, start_daemon, start_vm):
    """Two guests of one group; options are those of the second."""
    def start(first=None, types=(ALL_TYPES, ALL_TYPES), **kw):
        daemon = start_daemon(cids=(3, 4), args=request.param)
        return (start_vm(daemon, 3, socket_types=types[0], **(first or {})).guest,
                start_vm(daemon, 4, socket_types=types[1], **kw).guest)
    return start


def pair(client, server, port=90, **kw):
    listener = SeqListener(server, port, **kw)
    sock = connect(client, 4000, port, peer_cid=server.cid, **kw)
    return sock, listener.accept()


def raw_pair(client, server, kind=TYPE_SEQPACKET, port=90):
    listener = server.raw_listen(port, kind=kind)
    left = client.flow(4000, port, peer_cid=server.cid, kind=kind)
    left.tx(OP_REQUEST)
    right = listener.accept()
    right.respond()
    left.expect(OP_RESPONSE)
    return left, right


def exchange(left, right, count, largest, seed=1):
    """Messages both ways at once; a receiver that reads now and then."""
    rng = random.Random(seed)
    flows = []
    for sender, receiver in ((left, right), (right, left)):
        sent = [(rng.randbytes(rng.choice((1, 50, largest // 2, rng.randrange(1, largest)))),
                 rng.random() < 0.5) for _ in range(count)]
        flows.append({"from": sender, "to": receiver, "sent": sent, "next": 0, "done": 0,
                      "got": []})

    def send(flow):
        sender = flow["from"]
        while flow["next"] < count and not sender.guest.tx_waiting:
            data, eor = flow["sent"][flow["next"]]
            n = min(sender.credit(), rng.choice((700, 3000, 65536)), len(data) - flow["done"])
            if n <= 0:
                return
            end = flow["done"] + n == len(data)
            sender.send_part(data[flow["done"]:flow["done"] + n], end, eor and end, wait=False)
            flow["done"] = 0 if end else flow["done"] + n
            flow["next"] += end

    def step():
        for flow in flows:
            send(flow)
            message = flow["to"].recv_message_now() if rng.random() < 0.7 else None
            if message:
                flow["got"].append(message)
        return all(len(flow["got"]) == count for flow in flows)
    until(step, lambda: f"messages, {[len(flow['got']) for flow in flows]} came", 30)
    for flow in flows:
        assert flow["got"] == flow["sent"]


SHAPES = [{}, {"rx_shape": (44 + 512,)}, {"queue_size": 4}, {"rx_shape": (44, 4096)},
          {"queue_size": 2, "rx_shape": (300,)}, {"rx_shape": [(44,), (100,), (1000, 7)]}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bounds_and_records(make, shape):
    sock, other = pair(*make(**shape))
    exchange(sock, other, 60, 20_000)


def test_large_messages(make):
    sock, other = pair(*make())
    exchange(sock, other, 20, 200_000)


@pytest.mark.parametrize("buf_alloc", [4096, 32768])
def test_small_windows(make, buf_alloc):
    sock, other = pair(*make(), buf_alloc=buf_alloc)
    exchange(sock, other, 40, buf_alloc)


def test_more_packets_than_the_limit(make, pattern):
    """A message that has begun ends, however small the receiver's buffers are."""
    sock, other = pair(*make(rx_shape=(44 + 200,)))
    sock.send_message(pattern(200_000))
    assert other.recv_message() == pattern(200_000)


def test_parts_wait_for_buffers(make, pattern):
    first, second = make(queue_size=4)
    sock, other = pair(first, second)
    second.refill = False
    sock.send_part(pattern(50_000), end=False)
    sock.send_part(b"rest", end=True, eor=True)
    sock.send_message(b"another")
    first.sync()
    assert not other.messages
    second.refill = True
    second.fill_rx()
    assert other.recv_message_eor() == (pattern(50_000) + b"rest", True)
    assert other.recv_message_eor() == (b"another", False)


def test_an_end_without_bytes(make):
    first, second = make(queue_size=4)
    left, right = raw_pair(first, second)
    left.tx(OP_RW, b"part")
    right.expect(OP_RW, ignore=CREDIT, data=b"part", flags=0)
    left.tx(OP_RW, flags=SEQ_EOM)
    right.expect(OP_RW, ignore=CREDIT, data=b"", flags=SEQ_EOM)
    for _ in range(500):
        left.tx(OP_RW, flags=SEQ_EOM, wait=False)
    left.tx(OP_RW, b"next", flags=SEQ_EOM)
    right.expect(OP_RW, ignore=CREDIT, data=b"next", flags=SEQ_EOM)


def test_an_end_without_bytes_waits_for_a_buffer(make):
    first, second = make(queue_size=4)
    left, right = raw_pair(first, second)
    second.refill = False
    for _ in range(4):
        left.tx(OP_RW, b"part")
    first.sync()
    left.tx(OP_RW, flags=SEQ_EOM)
    first.sync()
    second.refill = True
    second.fill_rx()
    seen = []
    while not (seen and seen[-1].flags):
        seen.append(right.next(ignore=CREDIT))
    assert b"".join(pkt.data for pkt in seen) == b"part" * 4
    assert [pkt.flags for pkt in seen[:-1]] == [0] * (len(seen) - 1)


def test_one_byte_parts(make):
    """They cost their sender, not the receiver's kernel more packets than it may queue."""
    first, second = make()
    sock, other = pair(first, second)
    for i in range(3000):
        sock.send_part(b"x", end=i == 2999, wait=False)
    assert other.recv_message() == b"x" * 3000


def test_half_close(make):
    sock, other = pair(*make())
    sock.send_message(b"last")
    sock.shutdown(SHUT_SEND)
    assert other.recv_message() == b"last"
    assert other.recv_message() == b""
    other.send_message(b"answer")
    assert sock.recv_message() == b"answer"
    sock.close()


def test_sibling_without_seqpacket(make):
    first, second = make(types=(ALL_TYPES, 0))
    listener = second.raw_listen(90)
    with pytest.raises(Reset):
        connect(first, 4000, 90, peer_cid=4)
    assert not listener.queue
    gsocket.Listener(second, 91)
    gsocket.connect(first, 4001, 91, peer_cid=4)
    with pytest.raises(Reset):
        connect(second, 4000, 90, peer_cid=3)


@pytest.mark.parametrize("kind", [TYPE_STREAM, TYPE_SEQPACKET])
@pytest.mark.parametrize("op", [OP_RW, OP_RST, OP_CREDIT_UPDATE, OP_RESPONSE])
def test_packet_of_another_type(make, kind, op):
    first, second = make()
    left, right = raw_pair(first, second, kind)
    for end, other in ((left, right), (right, left)):
        end.tx(op, b"wrong" if op == OP_RW else b"", type=3 - kind)
        if op != OP_RST:
            end.expect(OP_RST, ignore=CREDIT, type=3 - kind)
        end.tx(OP_RW, b"right", flags=kind == TYPE_SEQPACKET)
        other.expect(OP_RW, ignore=CREDIT, data=b"right")


def test_request_of_another_type_replaces(make):
    first, second = make()
    left, right = raw_pair(first, second, TYPE_STREAM)
    left.drop()
    left = first.flow(4000, 90, peer_cid=4, kind=TYPE_SEQPACKET)
    left.tx(OP_REQUEST)
    right.expect(OP_RST, ignore=CREDIT, type=TYPE_STREAM)
    right.expect(OP_REQUEST, type=TYPE_SEQPACKET)


def test_siblings_of_a_stalled_receiver(start_daemon, start_vm, pattern):
    """Three senders to one guest that gives few buffers; each keeps its bounds."""
    daemon = start_daemon(cids=(3, 4, 5, 6))
    guests = [start_vm(daemon, cid, socket_types=ALL_TYPES,
                       queue_size=4 if cid == 3 else 128).guest for cid in (3, 4, 5, 6)]
    listener = SeqListener(guests[0], 90)
    ends = []
    for guest in guests[1:]:
        sock = connect(guest, 4000, 90, peer_cid=3)
        ends.append((sock, listener.accept()))
    for i, (sock, _other) in enumerate(ends):
        for size in (1, 5000, 100_000, 30):
            sock.send_message(pattern(size, size + i), chunk=9000)
    for i, (_sock, other) in enumerate(ends):
        for size in (1, 5000, 100_000, 30):
            assert other.recv_message() == pattern(size, size + i)
