# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""SOCK_SEQPACKET between guest and host: bounds, flow control, ends, refusals."""

import array
import os
import random
import socket

import pytest

import gsocket
from gseqpacket import SeqListener, SeqSocket, connect
from gsocket import Reset
from hostsock import dial_seqpacket
from vhost_user import F_NO_IMPLIED_STREAM, F_SEQPACKET, F_STREAM, connect_unix
from vsockpkt import (OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN,
                      SHUT_BOTH, SHUT_RCV, SHUT_SEND, TYPE_SEQPACKET, TYPE_STREAM)
from waiting import until

ALL_TYPES = F_STREAM | F_SEQPACKET | F_NO_IMPLIED_STREAM
WINDOW = 256 * 1024
SIZES = [1, 2, 43, 44, 63, 64, 1000, 3732, 3733, 4096, 65535, 65536, 65537, 100_000, WINDOW]


def messages(count, largest, seed=1):
    """Messages of all sizes, small ones as likely as big ones."""
    rng = random.Random(seed)
    return [rng.randbytes(min(largest, int(2 ** rng.uniform(0, largest.bit_length()))))
            for _ in range(count)]


@pytest.fixture
def make(daemon, start_vm):
    """Start a guest whose driver knows both types."""
    def start(**kw):
        return start_vm(daemon, socket_types=kw.pop("socket_types", ALL_TYPES), **kw).guest
    return start


@pytest.fixture
def seq(make):
    return make()


def pair(daemon, guest, port=80, **kw):
    """(guest's end, host's end), asked for by the guest."""
    listener = daemon.listen_seqpacket(port)
    sock = connect(guest, 1000, port, **kw)
    return sock, listener.accept()


def pair_from_host(daemon, guest, port=90, **kw):
    listener = SeqListener(guest, port, **kw)
    host = daemon.connect_seqpacket(port)
    return listener.accept(), host


# both directions, bounds

@pytest.mark.parametrize("opened", [pair, pair_from_host])
def test_bounds_both_ways(daemon, seq, opened, pattern):
    sock, host = opened(daemon, seq)
    host.allow_long_records()
    for size in SIZES:
        data = pattern(size, size)
        sock.send_message(data)
        assert host.recv_record() == data
        host.send_record(data)
        assert sock.recv_message() == data


def test_many_messages_wait_for_the_host(daemon, seq):
    sock, host = pair(daemon, seq)
    sent = messages(300, 3000)
    total = sum(map(len, sent))
    assert total < WINDOW
    for data in sent:
        sock.send_message(data, chunk=700)
    assert [host.recv_record() for _ in sent] == sent
    sock.send_message(b"after")
    assert host.recv_record() == b"after"


def test_messages_longer_together_than_the_window(daemon, seq):
    """The device tells of credit before half of the window is free: nobody stands still."""
    sock, host = pair(daemon, seq)
    got = []
    for i, data in enumerate(messages(40, WINDOW, seed=3)):
        data = data or b"x"
        state = {"done": 0}

        def step(data=data, state=state):
            while state["done"] < len(data):
                n = min(sock.credit(), 65536, len(data) - state["done"])
                if n <= 0:
                    break
                part = data[state["done"]:state["done"] + n]
                state["done"] += n
                sock.send_part(part, state["done"] == len(data), wait=False)
            record = host.recv_now()
            if record:
                got.append(record)
            return state["done"] == len(data) and got
        until(step, "a message to pass", readers=[host])
        assert got.pop(0) == data, i


def test_host_sends_more_than_the_guest_takes(daemon, seq):
    sock, host = pair(daemon, seq)
    sent = [data or b"." for data in messages(80, 100_000, seed=5)]
    queue = list(sent)
    got = []

    def step():
        while queue and host.send_now(queue[0]):
            queue.pop(0)
        message = sock.recv_message_now()
        if message:
            got.append(message[0])
        return len(got) == len(sent)
    until(step, "the messages")
    assert got == sent


def test_end_of_record_flag(daemon, seq):
    """A Unix socket has no such mark, but nothing breaks."""
    sock, host = pair(daemon, seq)
    sock.send_message(b"one", eor=True)
    sock.send_message(b"two", eor=False)
    assert host.recv_record() == b"one"
    assert host.recv_record() == b"two"


@pytest.mark.parametrize("shape", [dict(rx_shape=(44 + 512,)), dict(rx_shape=(45,)),
                                   dict(rx_shape=(44, 4096)), dict(queue_size=4),
                                   dict(queue_size=2, rx_shape=(300,)),
                                   dict(rx_shape=[(44,), (200,), (20, 100)], rx_count=5)])
def test_any_rx_buffers(daemon, make, shape, pattern):
    guest = make(**shape)
    sock, host = pair(daemon, guest)
    for size in (1, 600, 4000, 20_000):
        host.send_record(pattern(size, size))
        host.send_record(b"next")
        assert sock.recv_message() == pattern(size, size)
        assert sock.recv_message() == b"next"


def test_largest_message_into_tiny_buffers(daemon, make, pattern):
    """More packets than the packet limit, but a message that has begun must end."""
    sock, host = pair(daemon, make(rx_shape=(44 + 300,)))
    host.allow_long_records()
    host.send_record(pattern(WINDOW))
    assert sock.recv_message() == pattern(WINDOW)


def test_message_in_pieces_while_the_ring_is_empty(daemon, make, pattern):
    guest = make(queue_size=8)
    sock, host = pair(daemon, guest)
    guest.refill = False
    host.send_record(pattern(100_000))
    host.send_record(b"behind")
    until(lambda: guest.rx_posted == 0, "all RX buffers to be used")
    assert not sock.messages
    guest.refill = True
    guest.fill_rx()
    assert sock.recv_message() == pattern(100_000)
    assert sock.recv_message() == b"behind"


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_many_parts(daemon, seq, chunk, pattern):
    sock, host = pair(daemon, seq)
    sock.send_message(pattern(3000), chunk=chunk)
    sock.send_message(b"next")
    assert host.recv_record() == pattern(3000)
    assert host.recv_record() == b"next"


def test_a_part_and_its_end_in_different_turns(daemon, seq):
    sock, host = pair(daemon, seq)
    sock.send_part(b"first ", end=False)
    seq.sync()
    assert host.is_quiet()
    sock.send_part(b"second", end=False)
    sock.send_part(b"", end=True)
    assert host.recv_record() == b"first second"


# refusals

def test_wrong_type_of_listener(daemon, seq):
    daemon.listen(80)
    daemon.listen_seqpacket(81)
    with pytest.raises(Reset):
        connect(seq, 1000, 80)
    with pytest.raises(Reset):
        gsocket.connect(seq, 1001, 81)


@pytest.mark.parametrize("kind", [TYPE_STREAM, TYPE_SEQPACKET])
@pytest.mark.parametrize("op", [OP_RW, OP_SHUTDOWN, OP_CREDIT_UPDATE, OP_RESPONSE])
def test_packet_of_another_type(daemon, seq, kind, op):
    """It is refused as Linux does; the connection lives."""
    if kind == TYPE_STREAM:
        host_listener = daemon.listen(80)
    else:
        host_listener = daemon.listen_seqpacket(80)
    flow = seq.flow(1000, 80, kind=kind)
    flow.connect()
    host = host_listener.accept()
    flow.tx(op, b"wrong" if op == OP_RW else b"", type=3 - kind, flags=3 if op != OP_RW else 1)
    flow.expect(OP_RST, type=3 - kind)
    flow.tx(OP_RW, b"right", flags=kind == TYPE_SEQPACKET)
    assert host.recv_exact(5) == b"right"


def test_reset_of_another_type(daemon, seq):
    listener = daemon.listen(80)
    flow = seq.flow(1000, 80)
    flow.connect()
    host = listener.accept()
    flow.tx(OP_RST, type=TYPE_SEQPACKET)
    seq.sync()
    assert host.is_quiet()
    assert not flow.pkts


@pytest.mark.parametrize("acked", [0, F_STREAM, F_STREAM | F_NO_IMPLIED_STREAM])
def test_guest_without_seqpacket(daemon, make, acked):
    guest = make(socket_types=acked)
    daemon.listen_seqpacket(80)
    flow = guest.flow(1000, 80, kind=TYPE_SEQPACKET)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST, type=TYPE_SEQPACKET)
    client = dial_seqpacket(daemon.vm().uds)
    assert client.recv_record() == b""
    assert not guest.inbox
    daemon.listen(81)
    gsocket.connect(guest, 1001, 81)


def test_guest_without_streams(daemon, make):
    guest = make(socket_types=F_SEQPACKET | F_NO_IMPLIED_STREAM)
    daemon.listen(81)
    flow = guest.flow(1000, 81)
    flow.tx(OP_REQUEST)
    flow.expect(OP_RST, type=TYPE_STREAM)
    assert daemon.request(90).drain() == b""
    sock, host = pair(daemon, guest)
    sock.send_message(b"message")
    assert host.recv_record() == b"message"


def test_streams_are_implied(daemon, make):
    guest = make(socket_types=F_SEQPACKET)
    daemon.listen(81)
    gsocket.connect(guest, 1001, 81)


def expect_line(daemon, text):
    until(lambda: text in daemon.stderr(), f"a line with {text!r}")


def test_guest_message_longer_than_the_window(daemon, seq, pattern):
    sock, host = pair(daemon, seq)
    sock.send_message(b"before")
    for i in range(4):
        sock.send_part(pattern(65536), end=False)
    until(lambda: sock.reset, "a reset")
    assert host.recv_record() == b"before"
    host.drain()
    expect_line(daemon, "message longer than the window")


def test_host_message_longer_than_the_guests_buffer(daemon, seq, pattern):
    sock, host = pair(daemon, seq, buf_alloc=8192)
    host.send_record(b"before")
    host.send_record(pattern(8193))
    assert sock.recv_message() == b"before"
    until(lambda: sock.reset, "a reset")
    host.drain()
    expect_line(daemon, "message of the host longer than its buffer")


def test_message_longer_than_the_socket_takes(start_daemon, start_vm, pattern):
    with open("/proc/sys/net/core/wmem_max", encoding="ascii") as file:
        size = max(2 * int(file.read()), 2 << 20) + 65536
    daemon = start_daemon(options={"tx-buffer-size": 4 * size})
    guest = start_vm(daemon, socket_types=ALL_TYPES).guest
    sock, host = pair(daemon, guest, buf_alloc=4 * size)
    try:
        sock.send_message(pattern(size))
    except (Reset, BrokenPipeError):
        pass
    until(lambda: sock.reset, "a reset")
    host.drain()
    expect_line(daemon, "message longer than the host's socket takes")


def test_guest_exceeds_its_credit_by_messages(daemon, seq):
    sock, _host = pair(daemon, seq)
    for _ in range(40):
        sock.send_part(b"x" * 65536, end=True, wait=False)
    until(lambda: sock.reset, "a reset")


def test_empty_messages_are_dropped(daemon, seq):
    sock, host = pair(daemon, seq)
    for _ in range(2000):
        sock.send_part(b"", end=True, wait=False)
    sock.send_message(b"bytes")
    assert host.recv_record() == b"bytes"
    for _ in range(60):
        assert host.sock.send(b"") == 0
    host.send_record(b"back")
    assert sock.recv_message() == b"back"
    host.sock.send(b"")
    host.close()
    assert sock.recv_message() == b""


@pytest.mark.parametrize("line", [b"CONNECT 90", b"CONNECT 90\nbytes", b"CONNECT x\n", b"\n",
                                  b"x" * 100])
def test_bad_first_record(daemon, seq, line):
    assert seq.cid == 3  # a guest runs, so it is the line that is refused
    sock = connect_unix(daemon.vm().seqpacket, kind=socket.SOCK_SEQPACKET)
    sock.send(line)
    sock.settimeout(10)
    try:
        assert sock.recv(100) == b""
    except ConnectionResetError:
        pass
    sock.close()


def test_records_right_behind_the_first(daemon, seq):
    listener = SeqListener(seq, 90)
    client = daemon.request_seqpacket(90)
    client.send_record(b"one")
    client.send_record(b"two")
    sock = listener.accept()
    assert sock.recv_message() == b"one"
    assert sock.recv_message() == b"two"
    assert client.recv_record().startswith(b"OK ")


# ends

def test_half_close_by_the_guest(daemon, seq):
    sock, host = pair(daemon, seq)
    sock.send_message(b"last")
    sock.shutdown(SHUT_SEND)
    assert host.recv_record() == b"last"
    assert host.recv_record() == b"" and host.ended == "eof"
    host.send_record(b"answer")
    assert sock.recv_message() == b"answer"
    host.close()
    assert sock.recv_message() == b""


def test_half_close_by_the_host(daemon, seq):
    sock, host = pair(daemon, seq)
    host.send_record(b"last")
    host.shutdown()
    assert sock.recv_message() == b"last"
    assert sock.recv_message() == b""
    sock.send_message(b"answer")
    assert host.recv_record() == b"answer"
    sock.close()
    assert host.recv_record() == b""


@pytest.mark.parametrize("how", [SHUT_SEND, SHUT_BOTH])
def test_shutdown_in_the_middle_of_a_message(daemon, seq, how):
    sock, host = pair(daemon, seq)
    sock.send_message(b"whole")
    sock.send_part(b"not who", end=False)
    sock.shutdown(how)
    assert host.recv_record() == b"whole"
    assert host.recv_record() == b"" and host.ended == "eof"


def test_nothing_is_lost_when_the_guest_closes(daemon, seq):
    """All that was sent before SHUTDOWN or RST is still read by a slow host."""
    for how in (SHUT_BOTH, None):
        listener = daemon.listen_seqpacket(80 if how else 81)
        sock = connect(seq, 1000, 80 if how else 81)
        host = listener.accept()
        sent = messages(50, 9000, seed=8)
        sent = [data or b"." for data in sent][:20] + [b"e" * 200_000]
        for data in sent[:-1]:
            sock.send_message(data)
        sock.send_message(b"n" * 30_000)
        if how:
            sock.shutdown(how)
        else:
            sock.tx(OP_RST)
        got = [host.recv_record() for _ in sent]
        assert got == sent[:-1] + [b"n" * 30_000]
        assert host.recv_record() == b""


def test_bytes_of_a_dead_client_arrive(daemon, seq, pattern):
    sock, host = pair(daemon, seq)
    host.send_record(b"one")
    host.send_record(pattern(50_000))
    host.close()
    assert sock.recv_message() == b"one"
    assert sock.recv_message() == pattern(50_000)
    assert sock.recv_message() == b""


def test_guest_stops_receiving(daemon, seq):
    sock, host = pair(daemon, seq)
    sock.shutdown(SHUT_RCV)
    seq.sync()
    sock.send_message(b"still")
    assert host.recv_record() == b"still"


def test_host_stops_receiving_while_its_message_is_under_way(daemon, make, pattern):
    """One direction ends; what has begun in the other comes to its end."""
    guest = make(queue_size=8)
    sock, host = pair(daemon, guest)
    guest.refill = False
    host.send_record(pattern(100_000))
    until(lambda: guest.rx_posted == 0, "all RX buffers to be used")
    host.shutdown(socket.SHUT_RD)
    sock.send_message(b"nobody reads this")
    until(guest.tx_idle, "the TX ring to be taken")
    guest.refill = True
    guest.fill_rx()
    assert sock.recv_message() == pattern(100_000)
    until(lambda: sock.peer_shut & SHUT_RCV, "SHUTDOWN")
    host.send_record(b"more")
    assert sock.recv_message() == b"more"


def test_descriptors_are_not_kept(daemon, seq):
    sock, host = pair(daemon, seq)
    before = daemon.fd_count()
    pipe = os.pipe()
    for _ in range(20):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", pipe))]
        try:
            host.sock.sendmsg([b"with descriptors"], rights)
        except PermissionError:  # newer kernels let a receiver refuse them
            host.send_record(b"with descriptors")
        assert sock.recv_message() == b"with descriptors"
    for fd in pipe:
        os.close(fd)
    assert daemon.fd_count() == before


def test_both_types_at_the_same_time(daemon, seq, pattern):
    stream = daemon.listen(80)
    one = gsocket.connect(seq, 1000, 80)
    byte_host = stream.accept()
    two, host = pair(daemon, seq, port=81)
    for i in range(30):
        one.send_all(pattern(1000, i))
        two.send_message(pattern(1000, i))
    for i in range(30):
        assert byte_host.recv_exact(1000) == pattern(1000, i)
        assert host.recv_record() == pattern(1000, i)


def test_request_replaces_a_connection_of_the_other_type(daemon, seq):
    stream = daemon.listen(80)
    flow = seq.flow(1000, 80)
    flow.connect()
    old = stream.accept()
    flow.drop()
    stream.close()
    sock = SeqSocket(seq, 1000, 80)
    listener = daemon.listen_seqpacket(80)
    sock.tx(OP_REQUEST)
    sock.wait_connected()
    host = listener.accept()
    old.drain()
    sock.send_message(b"new")
    assert host.recv_record() == b"new"


def test_stale_socket_of_records_is_replaced(start_daemon):
    daemon = start_daemon(start=False)
    path = daemon.vm().seqpacket
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale.bind(path)
    stale.close()
    daemon.start()
    daemon.stop()
    assert not os.path.lexists(path)
