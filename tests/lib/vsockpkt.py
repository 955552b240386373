# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The 44-byte vsock header. Spec: virtio 1.3, "Socket Device", "Device Operation"."""

import struct
from dataclasses import dataclass, field

HEADER = struct.Struct("<QQIIIHHIII")
HEADER_SIZE = HEADER.size
assert HEADER_SIZE == 44

MAX_PAYLOAD = 64 * 1024
HOST_CID = 2

OP_REQUEST = 1
OP_RESPONSE = 2
OP_RST = 3
OP_SHUTDOWN = 4
OP_RW = 5
OP_CREDIT_UPDATE = 6
OP_CREDIT_REQUEST = 7
OP_NAMES = {
    0: "INVALID", OP_REQUEST: "REQUEST", OP_RESPONSE: "RESPONSE", OP_RST: "RST",
    OP_SHUTDOWN: "SHUTDOWN", OP_RW: "RW", OP_CREDIT_UPDATE: "CREDIT_UPDATE",
    OP_CREDIT_REQUEST: "CREDIT_REQUEST",
}

TYPE_STREAM = 1
TYPE_SEQPACKET = 2

SEQ_EOM = 1  # a message ends here
SEQ_EOR = 2  # and a record

SHUT_RCV = 1   # the sender of the packet will not receive any more
SHUT_SEND = 2  # the sender of the packet will not send any more
SHUT_BOTH = 3


@dataclass
class Pkt:
    """One packet, as sent or as received."""

    src_cid: int = 0
    dst_cid: int = HOST_CID
    src_port: int = 0
    dst_port: int = 0
    len: int = 0
    type: int = TYPE_STREAM
    op: int = 0
    flags: int = 0
    buf_alloc: int = 0
    fwd_cnt: int = 0
    data: bytes = field(default=b"", repr=False)

    def pack(self):
        return HEADER.pack(self.src_cid, self.dst_cid, self.src_port, self.dst_port, self.len,
                           self.type, self.op, self.flags, self.buf_alloc, self.fwd_cnt)

    @classmethod
    def unpack(cls, raw):
        return cls(*HEADER.unpack_from(raw), data=raw[HEADER_SIZE:])

    def __str__(self):
        return (f"{OP_NAMES.get(self.op, self.op)} {self.src_cid}:{self.src_port}>"
                f"{self.dst_cid}:{self.dst_port} len={self.len} flags={self.flags} "
                f"buf_alloc={self.buf_alloc} fwd_cnt={self.fwd_cnt}")
