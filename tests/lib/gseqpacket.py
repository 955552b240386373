# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Guest SOCK_SEQPACKET sockets with the semantics of Linux's virtio transport.

A message is read whole or not at all, and credit is told after each. A sender
sends parts of a message as credit comes; the last part says so.
"""

import waiting
from driver import DEFAULT_BUF_ALLOC
from gsocket import ESTABLISHED, GuestSocket, Listener, Reset
from vsockpkt import (HOST_CID, MAX_PAYLOAD, OP_CREDIT_UPDATE, OP_REQUEST, OP_RW, SEQ_EOM, SEQ_EOR,
                      TYPE_SEQPACKET)
from waiting import until


class SeqSocket(GuestSocket):
    """An AF_VSOCK seqpacket socket of the guest."""

    def __init__(self, guest, local_port, peer_port, peer_cid=HOST_CID,
                 buf_alloc=DEFAULT_BUF_ALLOC, **kw):
        super().__init__(guest, local_port, peer_port, peer_cid, buf_alloc, **kw)
        self.kind = TYPE_SEQPACKET
        self.messages = []  # complete and unread: (bytes, whether a record ends)
        self.parts = []

    def _on_data(self, pkt):
        assert pkt.type == TYPE_SEQPACKET, pkt
        assert pkt.len, f"Linux sends no packet without bytes: {pkt}"
        super()._on_data(pkt)
        self.parts.append(pkt.data)
        if pkt.flags & SEQ_EOM:
            self.messages.append((b"".join(self.parts), bool(pkt.flags & SEQ_EOR)))
            self.parts = []

    def recv_message_now(self):
        """(bytes, eor) or None."""
        if not self.messages:
            return None
        data, eor = self.messages.pop(0)
        left = len(data)
        while left:
            left -= len(self.queue.popleft()[0])
        assert left == 0
        self.fwd_cnt += len(data)
        if self.state == ESTABLISHED:
            self.tx(OP_CREDIT_UPDATE, wait=False)
            self._end_if_done()
        return data, eor

    def recv_message(self, timeout=waiting.DEFAULT_TIMEOUT):
        """The bytes of the next message; b"" at the end."""
        return self.recv_message_eor(timeout)[0]

    def recv_message_eor(self, timeout=waiting.DEFAULT_TIMEOUT):
        got = []

        def step():
            message = self.recv_message_now()
            if message:
                got.append(message)
            return got or (self.at_eof() and not self.messages)
        until(step, "a message in the guest", timeout)
        if not got and self.reset:
            raise Reset()
        return got[0] if got else (b"", False)

    def send_part(self, data, end, eor=False, **how):
        """One packet."""
        flags = (SEQ_EOM if end else 0) | (SEQ_EOR if eor else 0)
        self.tx(OP_RW, data, flags=flags, **how)

    def send_message(self, data, eor=False, chunk=MAX_PAYLOAD, timeout=waiting.DEFAULT_TIMEOUT,
                     **how):
        """Parts of at most chunk bytes as credit comes."""
        done = 0

        def step():
            nonlocal done
            while done < len(data) and self.writable() and not self.guest.tx_waiting:
                n = min(self.credit(), chunk, len(data) - done)
                if n <= 0:
                    break
                end = done + n == len(data)
                self.send_part(data[done:done + n], end, eor and end, wait=False, **how)
                done += n
            return done == len(data) or not self.writable()
        until(step, lambda: f"{len(data) - done} bytes of a message to leave the guest", timeout)
        if done < len(data):
            raise Reset() if self.reset else BrokenPipeError()


def connect(guest, local_port, peer_port, peer_cid=HOST_CID, **kw):
    """A connected socket; Reset if the peer refuses."""
    sock = SeqSocket(guest, local_port, peer_port, peer_cid, **kw)
    sock.tx(OP_REQUEST)
    return sock.wait_connected()


class SeqListener(Listener):
    """A listening guest socket for messages."""

    make = SeqSocket
