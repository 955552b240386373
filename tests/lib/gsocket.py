# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guest sockets with the semantics of Linux's virtio transport.

Credit is kept as net/vmw_vsock/virtio_transport_common.c keeps it: the sender is
also bounded by its own buffer, consumption is told by whole packets, an update
is volunteered when little window is left or the reader drained the queue.
"""

from collections import deque

import waiting
from driver import DEFAULT_BUF_ALLOC, Flow
from vsockpkt import (HOST_CID, MAX_PAYLOAD, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST,
                      OP_RESPONSE, OP_RST, OP_RW, OP_SHUTDOWN, SHUT_BOTH, SHUT_RCV, SHUT_SEND)
from waiting import until

UPDATE_BELOW = 64 * 1024
SKB_COST = 576  # what newer kernels charge a queued packet for

CONNECTING, ESTABLISHED, CLOSING, CLOSED = range(4)


class Reset(Exception):
    """The connection was reset."""


class GuestSocket(Flow):
    """An AF_VSOCK stream socket of the guest.

    count_packets: refuse what newer kernels refuse, too many queued packets.
    drain_update: tell consumption whenever the queue is empty (kernel 6.10+).
    volunteer: tell it at all unless asked; drivers other than Linux's may not.
    """

    def __init__(self, guest, local_port, peer_port, peer_cid=HOST_CID,
                 buf_alloc=DEFAULT_BUF_ALLOC, count_packets=False, drain_update=True,
                 volunteer=True):
        super().__init__(guest, local_port, peer_port, peer_cid, buf_alloc)
        self.count_packets = count_packets
        self.drain_update = drain_update
        self.volunteer = volunteer
        self.state = CONNECTING
        self.reset = False
        self.peer_shut = 0
        self.shut = 0
        self.queue = deque()  # unread packets: [data, offset]
        self.told = 0         # fwd_cnt in the last header sent
        self.max_queued = 0

    def tx(self, op, data=b"", **kw):
        self.told = self.fwd_cnt
        super().tx(op, data, **kw)

    # packets

    def on_pkt(self, pkt):
        self.account(pkt)
        if pkt.op == OP_RST:
            alive = self.state in (CONNECTING, ESTABLISHED)
            self._gone(reset=alive and self.peer_shut != SHUT_BOTH)
        elif self.state == CONNECTING:
            assert pkt.op == OP_RESPONSE, f"Linux fails a connect with EPROTO at {pkt}"
            self.state = ESTABLISHED
        elif pkt.op == OP_RW:
            self._on_data(pkt)
        elif pkt.op == OP_CREDIT_REQUEST:
            self.tx(OP_CREDIT_UPDATE)
        elif pkt.op == OP_SHUTDOWN:
            self.peer_shut |= pkt.flags
            self._end_if_done()
        else:
            assert pkt.op == OP_CREDIT_UPDATE, f"unexpected in state {self.state}: {pkt}"

    def _on_data(self, pkt):
        assert not self.peer_shut & SHUT_SEND, f"data after SHUTDOWN(SEND): {pkt}"
        if self.state == CLOSING:
            self.fwd_cnt += pkt.len
            return
        if self.count_packets and (len(self.queue) + 1) * SKB_COST > self.buf_alloc:
            self.tx(OP_RST)
            self._gone(reset=True)
            raise AssertionError("ENOBUFS: too many packets queued in the guest")
        self.queue.append([pkt.data, 0])
        self.max_queued = max(self.max_queued, len(self.queue))

    def _end_if_done(self):
        if self.peer_shut == SHUT_BOTH and not self.queue and self.state != CLOSED:
            self.tx(OP_RST)
            self._gone(reset=False)

    def _gone(self, reset):
        self.state = CLOSED
        self.reset = reset
        self.drop()

    # the application's side

    def wait_connected(self, timeout=waiting.DEFAULT_TIMEOUT):
        until(lambda: self.state != CONNECTING, "the connection", timeout)
        if self.state != ESTABLISHED:
            raise Reset()
        return self

    def recv_now(self, limit=1 << 30):
        """What can be read at once, at most limit bytes; b"" if nothing."""
        out = bytearray()
        while self.queue and len(out) < limit:
            head = self.queue[0]
            take = min(limit - len(out), len(head[0]) - head[1])
            out += head[0][head[1]:head[1] + take]
            head[1] += take
            if head[1] == len(head[0]):
                self.fwd_cnt += len(head[0])
                self.queue.popleft()
        if out and self.state == ESTABLISHED:
            left = self.buf_alloc - (self.fwd_cnt - self.told)
            drained = self.drain_update and not self.queue
            due = self.fwd_cnt != self.told and (left < UPDATE_BELOW or drained)
            if due and self.volunteer:
                self.tx(OP_CREDIT_UPDATE)
            self._end_if_done()
        return bytes(out)

    def at_eof(self):
        return not self.queue and (self.state == CLOSED or bool(self.peer_shut & SHUT_SEND))

    def recv_exact(self, size, timeout=waiting.DEFAULT_TIMEOUT):
        out = bytearray()

        def step():
            out.extend(self.recv_now(size - len(out)))
            return len(out) == size or self.at_eof()
        until(step, lambda: f"{size - len(out)} of {size} bytes in the guest", timeout)
        if self.reset and len(out) < size:
            raise Reset()
        assert len(out) == size, f"end of stream after {len(out)} of {size} bytes"
        return bytes(out)

    def recv_eof(self, timeout=waiting.DEFAULT_TIMEOUT):
        """Everything up to the end of the stream."""
        out = bytearray()

        def step():
            out.extend(self.recv_now())
            return self.at_eof()
        until(step, "the end of the stream in the guest", timeout)
        if self.reset:
            raise Reset()
        return bytes(out)

    def credit(self):
        """As newer kernels: never more than the own buffer in flight."""
        return min(self.peer_buf_alloc, self.buf_alloc) - (self.tx_cnt - self.peer_fwd_cnt)

    def writable(self):
        return (self.state == ESTABLISHED and not self.shut & SHUT_SEND
                and not self.peer_shut & SHUT_RCV)

    def send_now(self, data, chunk=MAX_PAYLOAD, **how):
        """Bytes that could be sent at once."""
        done = 0
        while done < len(data) and self.writable() and not self.guest.tx_waiting:
            n = min(self.credit(), chunk, len(data) - done)
            if n <= 0:
                break
            self.tx(OP_RW, data[done:done + n], wait=False, **how)
            done += n
        return done

    def send_all(self, data, chunk=MAX_PAYLOAD, timeout=waiting.DEFAULT_TIMEOUT, **how):
        view = memoryview(data)
        done = 0

        def step():
            nonlocal done
            done += self.send_now(bytes(view[done:done + 8 * chunk]), chunk, **how)
            return done == len(data) or not self.writable()
        until(step, lambda: f"{len(data) - done} bytes to leave the guest", timeout)
        if done < len(data):
            raise Reset() if self.reset else BrokenPipeError()

    def shutdown(self, how):
        self.shut |= how
        self.tx(OP_SHUTDOWN, flags=self.shut)

    def close(self, timeout=waiting.DEFAULT_TIMEOUT):
        """Close and wait until the device has confirmed it."""
        if self.state == CLOSED:
            return
        self.queue.clear()
        self.state = CLOSING
        self.shutdown(SHUT_BOTH)
        until(lambda: self.state == CLOSED, "RST after SHUTDOWN", timeout)


def connect(guest, local_port, peer_port, peer_cid=HOST_CID, **kw):
    """A connected socket; Reset if the peer refuses."""
    sock = GuestSocket(guest, local_port, peer_port, peer_cid, **kw)
    sock.tx(OP_REQUEST)
    return sock.wait_connected()


def open_pair(daemon, guest, port=50, local=5000):
    """(host end, guest end) of a connection that the guest asks for."""
    door = daemon.listen(port, guest.cid)
    sock = connect(guest, local, port)
    host = door.accept()
    door.close()
    return host, sock


class Listener:
    """A listening guest socket: connections are accepted by themselves."""

    make = GuestSocket

    def __init__(self, guest, port, **kw):
        self.guest = guest
        self.kw = kw
        self.queue = deque()
        guest.listeners[port] = self

    def on_request(self, pkt):
        sock = self.make(self.guest, pkt.dst_port, pkt.src_port, pkt.src_cid, **self.kw)
        sock.account(pkt)
        sock.state = ESTABLISHED
        sock.tx(OP_RESPONSE)
        self.queue.append(sock)

    def accept(self, timeout=waiting.DEFAULT_TIMEOUT):
        until(lambda: self.queue, "a connection in the guest", timeout)
        return self.queue.popleft()
