# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The stream of packets of the control socket's method "capture"; see docs/control.md."""

import struct
from dataclasses import dataclass

from control import Control, path_of
from vsockpkt import (HEADER_SIZE, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE,
                      OP_RST, OP_RW, OP_SHUTDOWN, Pkt)
from waiting import until

RECORD = struct.Struct("<IIQQ")
VSOCKMON = struct.Struct("<QQIIHHH2x")
HEADERS = VSOCKMON.size + HEADER_SIZE
VIRTIO = 2
CONNECT, DISCONNECT, CONTROL, PAYLOAD = 1, 2, 3, 4
MON_OPS = {OP_REQUEST: CONNECT, OP_RESPONSE: CONNECT, OP_RST: DISCONNECT, OP_SHUTDOWN: DISCONNECT,
           OP_RW: PAYLOAD, OP_CREDIT_UPDATE: CONTROL, OP_CREDIT_REQUEST: CONTROL}


@dataclass
class Record:
    """A packet with what stands beside it."""

    length: int
    time_ns: int
    lost: int
    pkt: Pkt


def parse(raw, length, time_ns, lost):
    mon = VSOCKMON.unpack_from(raw)
    pkt = Pkt.unpack(raw[VSOCKMON.size:])
    assert mon == (pkt.src_cid, pkt.dst_cid, pkt.src_port, pkt.dst_port, MON_OPS.get(pkt.op, 0),
                   VIRTIO, HEADER_SIZE)
    assert length <= HEADERS + pkt.len  # a guest may claim more than there is
    return Record(length, time_ns, lost, pkt)


class Capture:
    """A client that has asked for packets."""

    def __init__(self, daemon, cid, **params):
        client = Control(path_of(daemon))
        self.result = client.call("capture", cid=cid, **params)
        self.sock = client.sock
        self.data = client.received
        self.records = []
        self.lost = None  # told by the last record

    def close(self):
        self.sock.close()

    def read_now(self):
        """Take what is there; all records so far."""
        self.data += self.sock.recv_now()
        at = 0
        while len(self.data) - at >= RECORD.size and self.lost is None:
            kept, length, time_ns, lost = RECORD.unpack_from(self.data, at)
            if len(self.data) - at - RECORD.size < kept:
                break
            at += RECORD.size + kept
            if kept:
                raw = self.data[at - kept:at]
                self.records.append(parse(raw, length, time_ns, lost))
            else:
                assert length == 0
                self.lost = lost
        self.data = self.data[at:]
        return self.records

    def wait(self, count):
        until(lambda: len(self.read_now()) >= count or self.sock.ended,
              lambda: f"{count} packets, {len(self.records)} came", readers=[self.sock])
        return self.records

    def wait_end(self):
        """Read up to the last record and the end of the stream."""
        until(lambda: self.read_now() is None or self.sock.ended, "the end of the capture",
              readers=[self.sock])
        assert (self.sock.ended, self.data) == ("eof", b"") and self.lost is not None
        return self.records

    def finish(self):
        """Ask for the end."""
        self.sock.sock.shutdown(1)
        return self.wait_end()

    def payload(self, src_port, dst_port, lossless=False):
        """The bytes that went one way; lossless: until the first packet was lost."""
        return b"".join(record.pkt.data for record in self.records
                        if record.pkt.op == OP_RW and not (lossless and record.lost)
                        and (record.pkt.src_port, record.pkt.dst_port) == (src_port, dst_port))

    def ops(self, *ports):
        return [record.pkt.op for record in self.records
                if not ports or {record.pkt.src_port, record.pkt.dst_port} & set(ports)]
