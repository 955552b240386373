# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A daemon with several real guests, kept for many tests.

Guests are booted when a test first asks for them. Whatever is found dead or was used by a test
that failed is replaced before the next test, so that tests do not depend on one another.
"""

import itertools
import shutil

import hostside
import peer
from daemon import Daemon
from guest import Guest, run_dir

HOST_CID = 2
# The guests: two of one group, and one of another.
FIRST, SECOND, STRANGER = 3, 4, 5
GROUPS = {FIRST: "red+green", SECOND: "green", STRANGER: "blue"}
# What a sibling's credit is cut to. vsock_test has receivers that take so much before they read.
WINDOW = 2 << 20


class World:
    """One daemon, one guest per CID.

    device: what the guests have instead of QEMU's usual one: one name, or a dict of them by CID.
    options: further keys of every VM.
    """

    def __init__(self, pair, groups=None, args=(), device=None, options=None):
        self.pair = pair
        self.groups = groups or GROUPS
        self.args = args
        self.options = options
        self.device = device
        self.dir = run_dir()
        self.daemon = None
        self.guests = {}
        self.suspect = False
        self.ports = itertools.count(2000)

    def port(self):
        """Return a port number no test used before."""
        return next(self.ports)

    def vm(self, cid=FIRST):
        """Return the paths of a VM's sockets."""
        return self.daemon.vm(cid)

    def ensure_daemon(self):
        """Have the daemon running; its guests are ended first when it has to be started."""
        if self.daemon and self.daemon.proc and self.daemon.is_running() and not self.suspect:
            return
        self.down()
        per_vm = {cid: {"groups": groups, "tx-buffer-size": WINDOW}
                  for cid, groups in self.groups.items()}
        self.daemon = Daemon(self.groups, self.options, per_vm=per_vm, args=self.args,
                             directory=str(self.dir))
        self.suspect = False

    def ensure(self, *cids):
        """Return guests that run and answer, one for each CID."""
        self.ensure_daemon()
        fresh = []
        for cid in cids:
            guest = self.guests.get(cid)
            if guest and not self.answers(guest):
                guest.kill()
                guest = None
            if guest is None:
                self.guests[cid] = Guest(self.pair, self.dir, f"guest{cid}",
                                         self.vm(cid).socket, cid, self.device_of(cid),
                                         extra=self.network(cid))
                fresh.append(self.guests[cid].start())
        for guest in fresh:
            guest.wait_ready()
        return [self.guests[cid] for cid in cids]

    def device_of(self, cid):
        """Return the device of one guest, None for the usual one."""
        return self.device.get(cid) if isinstance(self.device, dict) else self.device

    def network(self, cid):
        """Return QEMU's arguments for a cable between the first two guests, or for none."""
        other = {FIRST: SECOND, SECOND: FIRST}.get(cid)
        if other is None or self.pair.qemu_version < (7, 2):  # which has such cables
            return []
        ends = ",".join(f"{end}.type=unix,{end}.path={self.dir}/net{number}"
                        for end, number in (("local", cid), ("remote", other)))
        return ["-netdev", f"dgram,id=net,{ends}",
                "-device", f"virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:00:{cid:02x}"]

    @staticmethod
    def answers(guest):
        """Return whether a guest carries out commands."""
        if not guest.alive() or guest.agent is None or guest.agent.closed:
            return False
        try:
            guest.agent.request("sync", {}).wait(10)
            return True
        except (RuntimeError, TimeoutError, OSError):
            return False

    def down(self):
        """End everything at once."""
        for guest in self.guests.values():
            guest.kill()
        self.guests = {}
        if self.daemon:
            self.daemon.kill()
        self.daemon = None

    def close(self, keep):
        """End everything; the logs stay when a test failed."""
        self.down()
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def logs(self):
        """Return (title, text) of what daemon and guests said."""
        yield "daemon", (self.dir / "stderr").read_text(errors="replace")[-8000:]
        for cid, guest in self.guests.items():
            yield f"guest {cid}", guest.log()

    # Connections. Each returns (what the guest's end saw, what the host's end saw).

    def to_guest(self, guest, guest_side, host_side, timeout=120):
        """The host connects to the guest; each side is a mode of peer.py and its options."""
        port = self.port()
        serving = guest.call("serve", port=port, mode=guest_side[0], options=guest_side[1])
        serving.wait_out("listening")
        sock = hostside.dial(self.vm(guest.cid).uds, port)
        host = peer.act(sock, *host_side)
        return serving.result(timeout), host

    def to_host(self, guest, guest_side, host_side, timeout=120):
        """The guest connects to the host."""
        port = self.port()
        with hostside.listen(self.vm(guest.cid).port(port)) as listener:
            calling = guest.call("connect", cid=HOST_CID, port=port, mode=guest_side[0],
                                 options=guest_side[1])
            sock = hostside.accept(listener)
        host = peer.act(sock, *host_side)
        return calling.result(timeout), host

    def between(self, server, client, server_side, client_side, timeout=120):
        """One guest connects to another; returns (server's end, client's end)."""
        port = self.port()
        serving = server.call("serve", port=port, mode=server_side[0], options=server_side[1])
        serving.wait_out("listening")
        calling = client.call("connect", cid=server.cid, port=port, mode=client_side[0],
                              options=client_side[1])
        return serving.result(timeout), calling.result(timeout)
