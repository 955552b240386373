#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""One daemon, several VMs that live and die, for as long as wanted.

Each part below runs in a process of its own with its own VMs, as often as time allows, and counts
what it did: bytes compared, connections, faults. One VM only measures round trips meanwhile. At
the end everything goes away, and the daemon must be as it was: descriptors, memory, clean exit.

  tests/soak/soak.py [MINUTES] [--threads N] [--seed N]

The exit status is 0 only if nothing differed, nothing stood still and nothing grew.
"""

import argparse
import multiprocessing
import os
import random
import socket
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lib"))

# pylint: disable=wrong-import-position
import gsocket  # noqa: E402
import waiting  # noqa: E402
from daemon import Daemon  # noqa: E402
from hostsock import HostSocket, stream  # noqa: E402
from vm import Vm  # noqa: E402

BULK, CHURN, MORTAL, LEFT, RIGHT, ABUSED, NEIGHBOUR = CIDS = range(3, 10)
ANSWER_S = 1.5  # after which refusals begin: DIAL_TIMEOUT_MS, CONN_REQUEST_TIMEOUT_MS
ALLOWED_GROWTH_KIB = 4096  # between a third of the time and the end
SETTLE_S = 30


class Part:
    """What one process does; step() again and again until the time is over."""

    def __init__(self, daemon, seed):
        self.daemon = daemon
        self.random = random.Random(seed)
        self.count = Counter()
        self.delays = []
        self.port = 5000
        self.vms = {}

    def vm(self, cid, **kw):
        """Boot a VM."""
        self.vms[cid] = Vm(self.daemon.vm(cid), **kw)
        return self.vms[cid]

    def restart(self, cid):
        """The VMM dies and another one comes, with memory of its own."""
        self.vms[cid].close()
        waiting.unregister(self.vms[cid].guest)
        self.vms[cid] = Vm(self.daemon.vm(cid))
        self.count["faults"] += 1

    def reboot(self, cid):
        """The guest starts anew under the same VMM."""
        self.vms[cid].reboot()
        self.count["faults"] += 1

    def next_port(self):
        """A port no connection of this part has used lately."""
        self.port = 5000 + (self.port - 4999) % 50000
        return self.port

    def compare(self, pairs):
        """Stream, and count what was compared."""
        got = stream(pairs, timeout=120)
        for pair, received in zip(pairs, got):
            if received != pair[1]:
                raise AssertionError(f"{len(pair[1])} bytes arrived different")
            self.count["bytes"] += len(received)

    def data(self, most):
        """Random bytes."""
        return self.random.randbytes(self.random.randrange(1, most))

    def ask_guest(self, cid):
        """A host program asks: (host's end, guest's end), or None when it was refused."""
        guest = self.vms[cid].guest
        port = self.next_port()
        listener = gsocket.Listener(guest, port)
        host = self.daemon.request(port, cid)
        line = host.drain_line()
        sock = listener.accept() if line.startswith(b"OK ") else None
        del guest.listeners[port]
        if sock is None:
            host.close()
        return sock and (host, sock)

    def ask_host(self, cid):
        """The guest asks; as ask_guest()."""
        port = self.next_port()
        door = self.daemon.listen(port, cid)
        try:
            sock = gsocket.connect(self.vms[cid].guest, port, port)
            return door.accept(), sock
        except gsocket.Reset:
            return None
        finally:
            door.close()
            self.daemon.listeners.remove(door)

    def host_pair(self, cid):
        """(host's end, guest's end), asked for by one of them. Both are this process: if it was not
        given the processor for as long as an answer may take, a refusal is right."""
        while True:
            asked = time.monotonic()
            pair = self.random.choice((self.ask_guest, self.ask_host))(cid)
            if pair:
                self.count["connections"] += 1
                return pair
            took = time.monotonic() - asked
            if took < ANSWER_S:
                raise AssertionError(f"refused after {took:.3f} s")
            self.count["late"] += 1

    def end(self, host, sock):
        """Both closing orders."""
        if self.random.random() < 0.5:
            host.close()
            waiting.until(sock.at_eof, "the end at the guest")
            sock.close()
        else:
            sock.close()
            host.drain()
            host.close()

    def close(self):
        """End the VMs."""
        for vm in self.vms.values():
            vm.close()
        waiting.unregister_all()


class Bulk(Part):
    """Two connections with much data in both directions at once."""

    def start(self):
        self.vm(BULK)

    def step(self):
        pairs = [self.host_pair(BULK) for _ in range(2)]
        transfers = []
        for host, sock in pairs:
            transfers += [(host, self.data(2 << 20), sock), (sock, self.data(2 << 20), host)]
        self.compare(transfers)
        for host, sock in pairs:
            self.end(host, sock)


class Churn(Part):
    """Many short connections, some refused, half closed or left."""

    def start(self):
        self.vm(CHURN, event_idx=False)

    def step(self):
        host, sock = self.host_pair(CHURN)
        self.compare([(host, self.data(3000), sock), (sock, self.data(3000), host)])
        if self.random.random() < 0.3:
            host.shutdown()
            waiting.until(sock.at_eof, "half of the end")
            last = self.data(2000)
            self.compare([(sock, last, host)])
        self.end(host, sock)
        if self.random.random() < 0.2:
            try:
                gsocket.connect(self.vms[CHURN].guest, self.next_port(), 4)
                raise AssertionError("nobody listens there")
            except gsocket.Reset:
                self.count["faults"] += 1


class Mortal(Part):
    """A VM that is killed or rebooted with connections full of data."""

    def start(self):
        self.vm(MORTAL)

    def step(self):
        pairs = [self.host_pair(MORTAL) for _ in range(3)]
        for host, sock in pairs:
            host.send_now(self.data(200000))
            sock.send_now(self.data(100000))
        self.random.choice((self.restart, self.reboot))(MORTAL)
        for host, _ in pairs:
            host.drain()  # what was sent, then an end
            host.close()


class Siblings(Part):
    """Two guests that stream to each other; now and then one of them starts anew."""

    def start(self):
        self.vm(LEFT)
        self.vm(RIGHT)

    def step(self):
        left, right = self.vms[LEFT].guest, self.vms[RIGHT].guest
        port = self.next_port()
        listener = gsocket.Listener(right, port)
        a = gsocket.connect(left, port, port, peer_cid=RIGHT)
        b = listener.accept()
        del right.listeners[port]
        self.count["connections"] += 1
        self.compare([(a, self.data(1 << 20), b), (b, self.data(1 << 20), a)])
        if self.random.random() < 0.2:
            a.send_now(self.data(100000))
            self.random.choice((self.restart, self.reboot))(self.random.choice((LEFT, RIGHT)))
            for vm in self.vms.values():
                vm.guest.sync()
                vm.guest.flows.clear()
        else:
            a.close()


class Abuse(Part):
    """Clients that do not do what clients should."""

    def start(self):
        self.vm(ABUSED)

    def client(self):
        """A connected client, or None when the backlog is full."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(self.daemon.vm(ABUSED).uds)
        except OSError:
            sock.close()
            return None
        return HostSocket(sock)

    def step(self):
        lines = [b"", b"CONNECT", b"CONNECT 0 \n", b"\n", b"GET / HTTP/1.0\r\n\r\n",
                 b"CONNECT 99999999999\n", b"x" * 300, self.random.randbytes(40),
                 b"CONNECT 4\n" + b"y" * 5000]
        clients = [self.client() for _ in range(20)]
        for client in filter(None, clients):
            try:
                client.send_now(self.random.choice(lines))
            except OSError:
                pass
            self.count["faults"] += 1
        for client in filter(None, clients):
            client.close()
        host, sock = self.host_pair(ABUSED)
        self.compare([(host, self.data(1000), sock), (sock, self.data(1000), host)])
        self.end(host, sock)


class Neighbour(Part):
    """Measures how long an exchange of small messages takes beside all this."""

    def start(self):
        self.vm(NEIGHBOUR)
        self.pair = self.host_pair(NEIGHBOUR)

    def step(self):
        host, sock = self.pair
        message = self.data(64)
        begin = time.monotonic()
        self.compare([(host, message, sock)])
        self.compare([(sock, message, host)])
        self.delays.append(time.monotonic() - begin)
        waiting.run_for(0.002)

    def close(self):
        self.end(*self.pair)
        super().close()


PARTS = (Bulk, Churn, Mortal, Siblings, Abuse, Neighbour)


def live(kind, daemon, seed, deadline, pipe):
    """The life of one process."""
    part = kind(daemon, seed)
    error = None
    try:
        part.start()
        while time.monotonic() < deadline:
            part.step()
            part.count["steps"] += 1
        part.close()
    except BaseException:  # pylint: disable=broad-exception-caught # it is told, whatever it is
        error = traceback.format_exc()
    pipe.send((dict(part.count), part.delays, error))


def rss_kib(pid):
    """Resident memory that is the daemon's own, not the guests'."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon"):
                return int(line.split()[1])
    return 0


def percentile(values, share):
    """The value that @share of all do not exceed."""
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


class Watch:
    """What the daemon uses at the start, in the middle and at the end."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.fds = [daemon.fd_count()]
        self.memory = [rss_kib(daemon.proc.pid)]

    def sample(self):
        """Take note."""
        self.fds.append(self.daemon.fd_count())
        self.memory.append(rss_kib(self.daemon.proc.pid))

    def settle(self):
        """Descriptors come back when the last time-outs have passed."""
        deadline = time.monotonic() + SETTLE_S
        while self.daemon.fd_count() > self.fds[0] and time.monotonic() < deadline:
            time.sleep(0.1)
        self.sample()

    def complaints(self):
        """What has grown."""
        warm = self.memory[len(self.memory) // 3]
        if self.fds[-1] > self.fds[0]:
            yield f"descriptors: {self.fds[0]} at the start, {self.fds[-1]} at the end"
        if self.memory[-1] > warm + ALLOWED_GROWTH_KIB:
            yield f"memory: {warm} KiB at a third of the time, {self.memory[-1]} KiB at the end"


def run(daemon, seconds, seed):
    """Run all parts. Return: (counts per part, delays, watch, errors)."""
    watch = Watch(daemon)
    deadline = time.monotonic() + seconds
    workers = []
    for i, kind in enumerate(PARTS):
        mine, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=live, daemon=True,
                                          args=(kind, daemon, seed + i, deadline, theirs))
        process.start()
        workers.append((kind.__name__, process, mine))
    while time.monotonic() < deadline and daemon.is_running():
        time.sleep(min(5, max(0.1, seconds / 20)))
        watch.sample()
    counts, delays, errors = {}, [], []
    for name, process, pipe in workers:
        if not pipe.poll(300):
            errors.append(f"{name}: stands still")
            process.kill()
            continue
        counts[name], measured, error = pipe.recv()
        delays += measured
        if error:
            errors.append(f"{name}: {error}")
        process.join()
    daemon.assert_healthy()
    watch.settle()
    return counts, delays, watch, errors + list(watch.complaints())


def report(seconds, counts, delays, watch, errors):
    """The table at the end."""
    total = sum((Counter(c) for c in counts.values()), Counter())
    rows = [
        ("time", f"{seconds:.0f} s"),
        ("bytes compared", f"{total['bytes']}"),
        ("connections", f"{total['connections']}"),
        ("faults survived", f"{total['faults']}"),
        ("requests answered too late by a process of the soak", f"{total['late']}"),
        ("descriptors, start / most / end",
         f"{watch.fds[0]} / {max(watch.fds)} / {watch.fds[-1]}"),
        ("own memory, start / most / end, KiB",
         f"{watch.memory[0]} / {max(watch.memory)} / {watch.memory[-1]}"),
        ("neighbour's round trip, median / p99 / worst, ms",
         " / ".join(f"{1000 * percentile(delays, p):.2f}" for p in (0.5, 0.99, 1))),
        ("steps", ", ".join(f"{name} {c.get('steps', 0)}" for name, c in counts.items())),
    ]
    print("| What | Figure |\n|---|---|")
    for name, figure in rows:
        print(f"| {name} | {figure} |")
    for error in errors:
        print(f"FAILED: {error}")
    idle = [name for name, c in counts.items() if not c.get("steps")]
    failed = len(errors) + len(idle)
    print(f"{len(PARTS) - min(len(PARTS), failed)} passed, {failed} failed")
    return 1 if failed else 0


def main():
    """Parse, run, judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("minutes", nargs="?", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    print(f"soak: {args.minutes:g} minutes, --threads {args.threads} --seed {args.seed}",
          flush=True)
    daemon = Daemon(cids=CIDS, args=["--threads", str(args.threads), "--log-level", "warning"])
    try:
        outcome = run(daemon, 60 * args.minutes, args.seed)
        status = report(60 * args.minutes, *outcome)
        if status:
            print(daemon.stderr()[-4000:])
        daemon.stop()
    finally:
        daemon.remove()
    return status


if __name__ == "__main__":
    sys.exit(main())
