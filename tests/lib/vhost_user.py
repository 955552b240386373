# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A vhost-user front-end: every request as a method, and a raw escape hatch.

Spec: QEMU docs/interop/vhost-user, "Front-end message types".
"""

import array
import errno
import os
import select
import socket
import struct
import time

import tally
from guestmem import GuestMemory, Region  # noqa: F401  (part of this module's interface)
from waiting import SCALE

HEADER = struct.Struct("<III")
U64 = struct.Struct("<Q")
VRING_STATE = struct.Struct("<II")
VRING_ADDR = struct.Struct("<IIQQQQ")
CONFIG = struct.Struct("<III")

VERSION = 0x1
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8
NOFD = 0x100

GET_FEATURES = 1
SET_FEATURES = 2
SET_OWNER = 3
RESET_OWNER = 4
SET_MEM_TABLE = 5
SET_LOG_BASE = 6
SET_LOG_FD = 7
SET_VRING_NUM = 8
SET_VRING_ADDR = 9
SET_VRING_BASE = 10
GET_VRING_BASE = 11
SET_VRING_KICK = 12
SET_VRING_CALL = 13
SET_VRING_ERR = 14
GET_PROTOCOL_FEATURES = 15
SET_PROTOCOL_FEATURES = 16
GET_QUEUE_NUM = 17
SET_VRING_ENABLE = 18
SET_BACKEND_REQ_FD = 21
IOTLB_MSG = 22
GET_CONFIG = 24
SET_CONFIG = 25
GET_INFLIGHT_FD = 31
RESET_DEVICE = 34
GET_MAX_MEM_SLOTS = 36
ADD_MEM_REG = 37
REM_MEM_REG = 38
SET_STATUS = 39
GET_STATUS = 40
SET_DEVICE_STATE_FD = 42
CHECK_DEVICE_STATE = 43

F_STREAM = 1 << 0
F_SEQPACKET = 1 << 1
F_NO_IMPLIED_STREAM = 1 << 2
NOTIFY_ON_EMPTY = 1 << 24
LOG_ALL = 1 << 26
INDIRECT_DESC = 1 << 28
EVENT_IDX = 1 << 29
PROTOCOL_FEATURES = 1 << 30
VERSION_1 = 1 << 32
ACCESS_PLATFORM = 1 << 33
RING_PACKED = 1 << 34
IN_ORDER = 1 << 35
NOTIFICATION_DATA = 1 << 38

P_MQ = 1 << 0
P_LOG_SHMFD = 1 << 1
P_REPLY_ACK = 1 << 3
P_BACKEND_REQ = 1 << 5
P_CONFIG = 1 << 9
P_RESET_DEVICE = 1 << 13
P_CONFIGURE_MEM_SLOTS = 1 << 15
P_STATUS = 1 << 16
P_DEVICE_STATE = 1 << 19


class Closed(Exception):
    """The back-end ended the session."""


class Nack(Exception):
    """The back-end answered a request with a failure."""


def connect_unix(path, timeout=5.0, kind=socket.SOCK_STREAM):
    """Connect, waiting for a listener that is only just coming up."""
    deadline = time.monotonic() + timeout * SCALE
    while True:
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            sock.connect(path)
            return sock
        except OSError as exc:
            sock.close()
            if exc.errno not in (errno.ECONNREFUSED, errno.ENOENT) or time.monotonic() > deadline:
                raise
        time.sleep(0.002)


class FrontEnd:
    """One connection to the device's vhost-user socket.

    SET-type methods return None, or the acknowledged value if need_reply is on
    for the message (per call, or by self.need_reply for all of them); a
    non-zero one raises Nack.
    """

    def __init__(self, path, timeout=5.0):
        """path: where the back-end listens, or a socket that is connected to it."""
        self.sock = connect_unix(path, timeout) if isinstance(path, str) else path
        self.timeout = timeout * SCALE
        self.sock.settimeout(self.timeout)
        self.need_reply = False

    def close(self):
        self.sock.close()

    def leave(self):
        """Close, and return when the daemon has let go of the guest's memory."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(4096):
                pass
        except TimeoutError:
            raise
        except OSError:
            pass  # it was faster, or is gone itself
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # raw level

    def send_bytes(self, data, fds=()):
        tally.add("messages of VMMs")
        """Exactly these bytes and descriptors, in one message."""
        control = []
        if fds:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            sent = self.sock.sendmsg([data], control, socket.MSG_NOSIGNAL)
            if sent < len(data):
                self.sock.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise Closed() from exc

    def send(self, request, payload=b"", fds=(), need_reply=False, flags=VERSION, size=None):
        """One message; size and flags may lie."""
        if need_reply:
            flags |= FLAG_NEED_REPLY
        size = len(payload) if size is None else size
        self.send_bytes(HEADER.pack(request, flags, size) + payload, fds)

    def _recv_exact(self, size):
        data = b""
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionResetError as exc:
                raise Closed() from exc
            if not part:
                raise Closed()
            data += part
        return data

    def recv_reply(self, request):
        """Payload of the next reply, which must be one to request."""
        got, flags, size = HEADER.unpack(self._recv_exact(HEADER.size))
        payload = self._recv_exact(size)
        assert got == request, f"reply to request {got}, expected one to {request}"
        assert flags & 0x7 == VERSION | FLAG_REPLY, f"reply flags {flags:#x}"
        return payload

    def ask(self, request, payload=b"", fds=()):
        """A request that has a reply of its own; need_reply adds nothing to it."""
        self.send(request, payload, fds, self.need_reply)
        return self.recv_reply(request)

    def tell(self, request, payload=b"", fds=(), need_reply=None):
        """A request without a reply of its own, acknowledged if wanted."""
        need_reply = self.need_reply if need_reply is None else need_reply
        self.send(request, payload, fds, need_reply)
        if not need_reply:
            return None
        value = U64.unpack(self.recv_reply(request))[0]
        if value:
            raise Nack(f"request {request}: {value:#x}")
        return value

    def wait_closed(self, timeout=5.0):
        """Wait for the back-end to hang up; stray replies are dropped."""
        deadline = time.monotonic() + timeout * SCALE
        while True:
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self.sock], [], [], left)
            assert ready, "the back-end kept a session it had to end"
            try:
                if not self.sock.recv(4096):
                    return
            except ConnectionResetError:
                return

    def is_alive(self):
        try:
            self.get_features()
            return True
        except Closed:
            return False

    # requests

    def get_features(self):
        return U64.unpack(self.ask(GET_FEATURES))[0]

    def set_features(self, features, **kw):
        return self.tell(SET_FEATURES, U64.pack(features), **kw)

    def set_owner(self, **kw):
        return self.tell(SET_OWNER, **kw)

    def reset_owner(self, **kw):
        return self.tell(RESET_OWNER, **kw)

    def set_mem_table(self, regions, **kw):
        payload = struct.pack("<II", len(regions), 0) + b"".join(r.entry() for r in regions)
        return self.tell(SET_MEM_TABLE, payload, [r.fd for r in regions], **kw)

    def set_log_base(self, fd, size, offset=0, need_reply=None):
        """Share a log; the answer comes in any case."""
        need_reply = self.need_reply if need_reply is None else need_reply
        self.send(SET_LOG_BASE, struct.pack("<QQ", size, offset), [fd], need_reply)
        value = U64.unpack(self.recv_reply(SET_LOG_BASE))[0]
        if value:
            raise Nack(f"SET_LOG_BASE: {value:#x}")

    def set_log_fd(self, fd, **kw):
        return self.tell(SET_LOG_FD, b"", [fd], **kw)

    def set_vring_num(self, index, size, **kw):
        return self.tell(SET_VRING_NUM, VRING_STATE.pack(index, size), **kw)

    def set_vring_addr(self, index, desc, used, avail, flags=0, log=0, **kw):
        payload = VRING_ADDR.pack(index, flags, desc, used, avail, log)
        return self.tell(SET_VRING_ADDR, payload, **kw)

    def set_vring_base(self, index, base, **kw):
        return self.tell(SET_VRING_BASE, VRING_STATE.pack(index, base), **kw)

    def get_vring_base(self, index):
        got, base = VRING_STATE.unpack(self.ask(GET_VRING_BASE, VRING_STATE.pack(index, 0)))
        assert got == index
        return base

    def _set_vring_fd(self, request, index, fd, **kw):
        if fd is None:
            return self.tell(request, U64.pack(index | NOFD), **kw)
        return self.tell(request, U64.pack(index), [fd], **kw)

    def set_vring_kick(self, index, fd, **kw):
        return self._set_vring_fd(SET_VRING_KICK, index, fd, **kw)

    def set_vring_call(self, index, fd, **kw):
        return self._set_vring_fd(SET_VRING_CALL, index, fd, **kw)

    def set_vring_err(self, index, fd, **kw):
        return self._set_vring_fd(SET_VRING_ERR, index, fd, **kw)

    def get_protocol_features(self):
        return U64.unpack(self.ask(GET_PROTOCOL_FEATURES))[0]

    def set_protocol_features(self, features, **kw):
        return self.tell(SET_PROTOCOL_FEATURES, U64.pack(features), **kw)

    def get_queue_num(self):
        return U64.unpack(self.ask(GET_QUEUE_NUM))[0]

    def set_vring_enable(self, index, enable, **kw):
        return self.tell(SET_VRING_ENABLE, VRING_STATE.pack(index, int(enable)), **kw)

    def get_config(self, offset, size, flags=0):
        payload = CONFIG.pack(offset, size, flags) + bytes(size)
        reply = self.ask(GET_CONFIG, payload)
        assert CONFIG.unpack_from(reply)[:2] == (offset, size), "config reply header"
        data = reply[CONFIG.size:]
        assert len(data) == size, f"{len(data)} config bytes in the reply, asked for {size}"
        return data

    def reset_device(self, **kw):
        return self.tell(RESET_DEVICE, **kw)

    def set_status(self, status, **kw):
        return self.tell(SET_STATUS, U64.pack(status), **kw)

    def get_status(self):
        return U64.unpack(self.ask(GET_STATUS))[0]

    def set_device_state_fd(self, fd, load, phase=0):
        payload = struct.pack("<II", int(load), phase)
        value = U64.unpack(self.ask(SET_DEVICE_STATE_FD, payload, [fd]))[0]
        assert value & NOFD, "a descriptor was announced"
        if value & 0xFF:
            raise Nack(f"SET_DEVICE_STATE_FD: {value:#x}")

    def check_device_state(self):
        return U64.unpack(self.ask(CHECK_DEVICE_STATE))[0]

    def save_state(self, by_socket=False):
        ours, theirs = _channel(by_socket)
        self.set_device_state_fd(theirs, False)
        os.close(theirs)
        with open(ours, "rb") as channel:
            data = channel.read()
        assert self.check_device_state() == 0
        return data

    def load_state(self, data, by_socket=False):
        """Returns what CHECK_DEVICE_STATE says."""
        theirs, ours = _channel(by_socket)
        self.set_device_state_fd(theirs, True)
        os.close(theirs)
        try:
            os.write(ours, data)
        except BrokenPipeError:
            pass
        os.close(ours)
        return self.check_device_state()

    def get_max_mem_slots(self):
        return U64.unpack(self.ask(GET_MAX_MEM_SLOTS))[0]

    def add_mem_reg(self, region, **kw):
        return self.tell(ADD_MEM_REG, bytes(8) + region.entry(), [region.fd], **kw)

    def rem_mem_reg(self, region, **kw):
        return self.tell(REM_MEM_REG, bytes(8) + region.entry(), **kw)

    def set_vring_addr_of(self, index, queue, **kw):
        """SET_VRING_ADDR of a driver.Virtqueue."""
        uva = queue.mem.uva
        return self.set_vring_addr(index, uva(queue.desc), uva(queue.used), uva(queue.avail), **kw)


def _channel(by_socket):
    """Descriptors to read from and to write to."""
    if by_socket:
        return tuple(end.detach() for end in socket.socketpair())
    return os.pipe()


def new_eventfd():
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
