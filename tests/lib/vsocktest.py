# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Linux's own vsock_test and vsock_perf: where they are, and which cases there are.

They are built, unmodified, from the linux-source package of the suite that the guests' kernel comes
from, so that no case asks for what that kernel lacks.
"""

import functools
import json
import re
import subprocess
import sys

from qemu import FETCH

# Every case of every kernel so far, by name; numbers differ between kernels.
CASES = (
    "SOCK_STREAM connection reset",
    "SOCK_STREAM bind only",
    "SOCK_STREAM client close",
    "SOCK_STREAM server close",
    "SOCK_STREAM multiple connections",
    "SOCK_STREAM MSG_PEEK",
    "SOCK_SEQPACKET msg bounds",
    "SOCK_SEQPACKET MSG_TRUNC flag",
    "SOCK_SEQPACKET timeout",
    "SOCK_SEQPACKET invalid receive buffer",
    "SOCK_STREAM poll() + SO_RCVLOWAT",
    "SOCK_SEQPACKET big message",
    "SOCK_STREAM test invalid buffer",
    "SOCK_SEQPACKET test invalid buffer",
    "SOCK_STREAM virtio skb merge",
    "SOCK_SEQPACKET MSG_PEEK",
    "SOCK_STREAM SHUT_WR",
    "SOCK_STREAM SHUT_RD",
    "SOCK_STREAM MSG_ZEROCOPY",
    "SOCK_SEQPACKET MSG_ZEROCOPY",
    "SOCK_STREAM MSG_ZEROCOPY empty MSG_ERRQUEUE",
    "SOCK_STREAM double bind connect",
    "SOCK_STREAM virtio credit update + SO_RCVLOWAT",
    "SOCK_STREAM virtio credit update + low rx_bytes",
    "SOCK_STREAM ioctl(SIOCOUTQ) 0 unsent bytes",
    "SOCK_SEQPACKET ioctl(SIOCOUTQ) 0 unsent bytes",
    "SOCK_STREAM leak accept queue",
    "SOCK_STREAM MSG_ZEROCOPY leak MSG_ERRQUEUE",
    "SOCK_STREAM MSG_ZEROCOPY leak completion skb",
    "SOCK_STREAM transport release use-after-free",
    "SOCK_STREAM retry failed connect()",
    "SOCK_STREAM SO_LINGER null-ptr-deref",
    "SOCK_STREAM SO_LINGER close() on unread",
    "SOCK_STREAM transport change null-ptr-deref, lockdep warn",
    "SOCK_STREAM ioctl(SIOCINQ) functionality",
    "SOCK_SEQPACKET ioctl(SIOCINQ) functionality",
    "SOCK_STREAM accept()ed socket custom setsockopt()",
    "SOCK_STREAM virtio MSG_ZEROCOPY coalescence corruption",
    "SOCK_STREAM TX credit bounds",
    "SOCK_STREAM MSG_PEEK after partial recv",
    "SOCK_STREAM small packets backpressure",
)

CASE_SECONDS = 60


class Programs:
    """vsock_test of a suite with the numbers of its cases, and vsock_perf (None before 6.2)."""

    def __init__(self, info):
        self.test = info["vsock_test"]
        self.perf = info["vsock_perf"]
        res = subprocess.run([self.test, "--list"], capture_output=True, text=True, check=False)
        found = re.findall(r"^(\d+)\t(.*)$", res.stdout + res.stderr, re.M)
        self.numbers = {name.strip(): int(number) for number, name in found}

    def only(self, case):
        """Return the options that leave one case to run."""
        return [f"--skip={n}" for name, n in self.numbers.items() if name != case]


@functools.lru_cache(maxsize=None)
def programs(suite):
    """Return the Programs of a suite, built if the cache lacks them."""
    out = subprocess.run([sys.executable, str(FETCH), "--vsock-test", suite], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return Programs(json.loads(out))


def put(guest, path, name):
    """Put a program into a guest's path, once per boot."""
    if not guest.call("exists", path=f"/bin/{name}").result():
        guest.agent.put_file(path, f"/bin/{name}")
