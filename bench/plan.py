# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What is measured (cases) and what is made of it (rows of the table)."""
from dataclasses import dataclass, field

OURS, REF, BASE, KERNEL = "ours", "reference", "base", "kernel"
# Where a case runs: on this machine, in a guest of inguest.py by that guest's clock,
# there with the instructions it executes for a clock, or through the guests of realguest.py.
HERE, EMULATED, COUNTED, REAL = "here", "emulated", "counted", "real"
# The reference understands packets of at most two descriptors.
TWO = ["--tx-pieces", "2"]
# Workers of ours that look for events before they sleep.
POLL = {OURS: "--poll-us 50"}


@dataclass
class Case:
    """One invocation of vsock-bench."""
    name: str
    args: list
    peers: tuple = (OURS, REF)
    quick: bool = False        # also in the quick set
    rounds: int = 0            # most rounds; 0: all of them
    seconds: float = 0         # 0: the set's
    syscalls: bool = False     # also in a pass that counts system calls
    daemon: dict = field(default_factory=dict)  # peer: options of the daemon
    where: str = HERE
    limit: int = 60            # seconds until it is a hang
    one_cpu: bool = False      # for all threads: no hand-off wakes another


@dataclass
class Row:
    """A line of the table: one number of ours against one of somebody else's.

    value and against are (case, key), against also (case, key, peer); a list of
    them is summed up. target is (relation, bound) on ours / theirs, or on ours
    alone when there is no against.
    """
    name: str
    value: tuple
    against: object = None
    target: tuple = None
    unit: str = ""


def flows(*names):
    args = ["flows"]
    for name in names:
        args += ["--flow", name]
    return args


def in_guests(name, args):
    """The kernel's device beside ours; counting is exact: it takes less time and fewer rounds."""
    return [Case(f"{name}_emulated", args, (OURS, KERNEL), where=EMULATED),
            Case(f"{name}_counted", args, (OURS, KERNEL, REF), where=COUNTED, rounds=2,
                 seconds=0.1)]


SIZES = [64, 1024, 4096, 16384, 65536]

CASES = [
    Case("base", ["base"], (BASE,), quick=True),
    Case("g2h", flows("g2h") + TWO, quick=True, syscalls=True),
    Case("h2g", flows("h2g"), quick=True, syscalls=True),
    Case("h2g_4140", flows("h2g") + ["--rx", "4140"], syscalls=True),
    Case("h2g_split", flows("h2g") + ["--rx", "44+4096"]),
    Case("both", flows("g2h", "h2g") + TWO, quick=True),
    Case("sib", flows("sib") + ["--packet", "3732"] + TWO, quick=True, syscalls=True),
    Case("sib_64k", flows("sib") + TWO, (OURS,), quick=True),
    Case("rr", flows("rr"), quick=True, syscalls=True),
    Case("rr_4k", flows("rr:4096") + TWO),
    Case("rr_host", flows("rrh")),
    Case("rr_sib", flows("rrs")),
    Case("rr_one_cpu", flows("rr"), one_cpu=True),
    Case("crr_one_cpu", ["crr", "--concurrency", "16"] + TWO, one_cpu=True),
    Case("rr_poll", flows("rr"), (OURS,), quick=True, daemon=POLL),
    Case("rr_host_poll", flows("rrh"), (OURS,), daemon=POLL),
    Case("g2h_poll", flows("g2h") + TWO, (OURS,), daemon=POLL),
    Case("h2g_poll", flows("h2g"), (OURS,), daemon=POLL),
    Case("crr_poll", ["crr", "--concurrency", "16"] + TWO, (OURS,), daemon=POLL),
    Case("crr_one", ["crr", "--concurrency", "1"] + TWO),
    Case("rr_beside_vm", flows("rr@1", "g2h@0") + TWO, quick=True),
    Case("rr_quiet_vm", flows("rr@1") + TWO, quick=True),
    Case("rr_beside_conn", flows("rr", "g2h") + TWO),
    Case("crr", ["crr", "--concurrency", "16"] + TWO, quick=True, syscalls=True),
    Case("crr_host", ["crr", "--from-host", "--concurrency", "4"], syscalls=True),
    Case("refused", ["refused"], quick=True, rounds=1),
    Case("streams_g2h", flows(*["g2h"] * 8) + TWO),
    Case("streams_h2g", flows(*["h2g"] * 8)),
    Case("idle_10k", ["idle", "--connections", "10000"], rounds=3, seconds=1),
    # as many as 20 000 descriptors allow
    Case("idle_20k", ["idle", "--connections", "19900"], (OURS,), rounds=3, seconds=1),
    Case("vms_1", ["vms", "--vms", "1", "--ring", "128"], rounds=3, seconds=1),
    Case("vms_16", ["vms", "--vms", "16", "--ring", "128"], rounds=3, seconds=1, quick=True),
    Case("vms_256", ["vms", "--vms", "256", "--ring", "128"], rounds=3, seconds=1),
    Case("vms_1024", ["vms", "--vms", "1024", "--ring", "128"], rounds=3, seconds=1),
    Case("workers_1", flows("g2h@0", "g2h@1") + TWO, (OURS,), daemon={OURS: "--threads 1"}),
    Case("workers_2", flows("g2h@0", "g2h@1") + TWO, (OURS,), daemon={OURS: "--threads 2"}),
    Case("g2h_new_kernel", flows("g2h") + ["--tx-pieces", "3"], (OURS,)),
    Case("g2h_ring_1024", flows("g2h") + ["--ring", "1024"] + TWO),
    Case("h2g_ring_1024", flows("h2g") + ["--ring", "1024"]),
] + [
    Case(f"g2h_{n}", flows("g2h") + ["--packet", str(n), "--tx-pieces", "2"], rounds=3)
    for n in SIZES[:-1]
] + [
    Case(f"h2g_{n}", flows("h2g") + ["--host-io", str(n)], rounds=3) for n in SIZES[:-1]
]

CASES += [
    case for name, args in (
        ("g2h", flows("g2h") + TWO), ("h2g", flows("h2g")),
        ("h2g_4140", flows("h2g") + ["--rx", "4140"]), ("rr", flows("rr")),
        ("rr_host", flows("rrh")), ("crr", ["crr", "--concurrency", "16"] + TWO),
        ("crr_host", ["crr", "--from-host", "--concurrency", "4"]))
    for case in in_guests(name, args)
] + [
    # only there a process may have 100 000 descriptors wherever this runs
    Case("idle_100k", ["idle", "--connections", "100000"], (OURS,), rounds=1, seconds=1,
         where=EMULATED, limit=300),
] + [
    Case(kind, [kind], where=REAL, rounds=3)
    for kind in ("perf_g2h", "perf_h2g", "stream_g2h", "stream_h2g")
]

GBPS, CPU, SYSCALLS = "gbit_per_s", "cpu_s_per_gib", "syscalls_per_mib"


def versus(name, case, key, target, unit="", peer=REF):
    return Row(name, (case, key), (case, key, peer), target, unit)


def polling(name, case, key, unit):
    """With --poll-us, of ours without it."""
    return Row(f"... {name}, of ours without", (f"{case}_poll", key), (case, key, OURS), None, unit)


def versus_kernel(name, case, key, target, unit):
    return [versus(f"{name}, {told}", f"{case}_{where}", key, target, unit, KERNEL)
            for where, told in ((COUNTED, "instructions"), (EMULATED, "emulated time"))]


# What the scheduler makes of an exchange's hand-offs when bulk wants the CPUs: p99s do not add up,
# so their sum is more than the exchange needs.
BESIDE = [("base/eventfd_beside", "p99_us", BASE), ("base/socket_beside", "p99_us", BASE)]

ROWS = [
    versus("bulk guest to host, 64 KiB", "g2h", GBPS, (">=", 3), "Gb/s"),
    Row("... of an AF_UNIX pair", ("g2h", GBPS), ("base/pair", GBPS, BASE), (">=", .8), "Gb/s"),
    versus("... CPU", "g2h", CPU, ("<=", 1 / 3), "s/GiB"),
    versus("... system calls", "g2h", SYSCALLS, None, "/MiB"),
    Row("... in 3 descriptors (Linux 6.17+)", ("g2h_new_kernel", GBPS), None, None, "Gb/s"),
    versus("bulk host to guest, 3776", "h2g", GBPS, (">=", 8), "Gb/s"),
    Row("... of an AF_UNIX pair read alike", ("h2g", GBPS), ("base/pair_pieces", GBPS, BASE),
        (">=", .8), "Gb/s"),
    versus("... CPU", "h2g", CPU, ("<=", 1 / 8), "s/GiB"),
    versus("... system calls", "h2g", SYSCALLS, None, "/MiB"),
    Row("... system calls, absolute", ("h2g", SYSCALLS), None, ("<=", 25), "/MiB"),
    versus("bulk host to guest, 4140", "h2g_4140", GBPS, (">=", 8), "Gb/s"),
    versus("... CPU", "h2g_4140", CPU, ("<=", 1 / 8), "s/GiB"),
    Row("... system calls, absolute", ("h2g_4140", SYSCALLS), None, ("<=", 25), "/MiB"),
    versus("bulk host to guest, 44+4096", "h2g_split", GBPS, None, "Gb/s"),
    versus("both at once", "both", GBPS, (">=", 4), "Gb/s"),
    versus("sibling bulk, 3732-byte packets", "sib", GBPS, (">=", 5), "Gb/s"),
    versus("... CPU", "sib", CPU, None, "s/GiB"),
    Row("sibling bulk, 64 KiB, of one memcpy", ("sib_64k", GBPS), ("base/copy", GBPS, BASE),
        (">=", .5), "Gb/s"),
    Row("... CPU, of that memcpy's", ("sib_64k", CPU), ("base/copy", CPU, BASE), None, "s/GiB"),
    versus("RR 1 B, p50", "rr", "p50_us", ("<=", .5), "us"),
    Row("... of its hand-offs", ("rr", "p50_us"),
        [("base/eventfd", "p50_us", BASE), ("base/socket", "p50_us", BASE)], ("<=", 1.5), "us"),
    versus("... p99", "rr", "p99_us", ("<=", 1), "us"),
    versus("... p99.9", "rr", "p999_us", None, "us"),
    versus("... system calls", "rr", "syscalls_per_exchange", None, "each"),
    versus("... all on one CPU, p50", "rr_one_cpu", "p50_us", None, "us"),
    versus("RR 4 KiB, p50", "rr_4k", "p50_us", None, "us"),
    versus("RR 1 B from the host, p50", "rr_host", "p50_us", None, "us"),
    versus("RR 1 B between siblings, p50", "rr_sib", "p50_us", None, "us"),
    Row("--poll-us 50: RR 1 B, p50", ("rr_poll", "p50_us"), ("rr", "p50_us", REF), ("<=", .5),
        "us"),
    polling("p50", "rr", "p50_us", "us"),
    polling("p99", "rr", "p99_us", "us"),
    polling("exchanges", "rr", "exchanges_per_s", "/s"),
    polling("share of a CPU", "rr", "cpu_share", ""),
    polling("RR 1 B from the host, p50", "rr_host", "p50_us", "us"),
    polling("bulk guest to host", "g2h", GBPS, "Gb/s"),
    polling("bulk host to guest, 3776", "h2g", GBPS, "Gb/s"),
    polling("connect/request/close, guest", "crr", "cycles_per_s", "/s"),
    versus("connect/request/close, guest", "crr", "cycles_per_s", (">=", 4), "/s"),
    Row("... of AF_UNIX without a daemon", ("crr", "cycles_per_s"),
        ("base/crr", "cycles_per_s", BASE), None, "/s"),
    versus("... CPU", "crr", "cpu_us_per_cycle", None, "us"),
    versus("... system calls", "crr", "syscalls_per_cycle", None, "each"),
    versus("... one after the other, p50", "crr_one", "p50_us", None, "us"),
    versus("... all on one CPU", "crr_one_cpu", "cycles_per_s", None, "/s"),
    versus("connect/request/close, host", "crr_host", "cycles_per_s", (">=", 4), "/s"),
    Row("... of AF_UNIX without a daemon", ("crr_host", "cycles_per_s"),
        ("base/crr_host", "cycles_per_s", BASE), None, "/s"),
    versus("... CPU", "crr_host", "cpu_us_per_cycle", None, "us"),
    Row("refused connect, p99", ("refused", "p99_us"), None, ("<", 1000), "us"),
    versus("... unanswered", "refused", "unanswered", None),
    versus("8 streams guest to host", "streams_g2h", GBPS, None, "Gb/s"),
    versus("... fairness (Jain)", "streams_g2h", "jain", None),
    versus("8 streams host to guest", "streams_h2g", GBPS, None, "Gb/s"),
    versus("... fairness (Jain)", "streams_h2g", "jain", None),
    versus("idle connection, 10k: memory", "idle_10k", "bytes_each", None, "B"),
    Row("... absolute", ("idle_10k", "bytes_each"), None, ("<=", 256), "B"),
    Row("... descriptors", ("idle_10k", "fds_each"), None, ("<=", 1), ""),
    versus("... set-up", "idle_10k", "setup_per_s", None, "/s"),
    versus("... RR p50 across them", "idle_10k", "p50_us", None, "us"),
    Row("idle connection, 19 900: memory", ("idle_20k", "bytes_each"), None, ("<=", 256), "B"),
    Row("... set-up", ("idle_20k", "setup_per_s"), None, None, "/s"),
    Row("... RR p50 across them", ("idle_20k", "p50_us"), None, None, "us"),
    Row("idle connection, 100k, in a guest: memory", ("idle_100k", "bytes_each"), None,
        ("<=", 256), "B"),
    Row("... open", ("idle_100k", "open"), None, (">=", 100000), ""),
    Row("... descriptors", ("idle_100k", "fds_each"), None, ("<=", 1), ""),
    Row("... wake-ups when idle", ("idle_100k", "idle_wakeups_per_s"), None, ("<=", 0), "/s"),
    Row("... RR p50 across them, of RR with one", ("idle_100k", "p50_us"),
        ("rr_emulated", "p50_us", OURS), None, "us"),
    Row("1024 VMs: memory per idle VM", ("vms_1024", "anon_kib_per_vm"), None, ("<=", 32),
        "KiB"),
    versus("... against the reference", "vms_1024", "anon_kib_per_vm", None, "KiB"),
    versus("... threads", "vms_1024", "threads", None),
    Row("... wake-ups when idle", ("vms_1024", "idle_wakeups_per_s"), None, ("<=", 0), "/s"),
    versus("... RR p50 across them", "vms_1024", "p50_us", None, "us"),
    Row("neighbour: RR p99 beside a bulk VM", ("rr_beside_vm", "p99_us"),
        ("rr_quiet_vm", "p99_us", OURS), ("<=", 2), "us"),
    Row("... of two hand-offs beside a bulk pair", ("rr_beside_vm", "p99_us"), BESIDE, None, "us"),
    versus("... against the reference", "rr_beside_vm", "p99_us", None, "us"),
    Row("neighbour: RR p99 beside bulk in the VM", ("rr_beside_conn", "p99_us"),
        ("rr", "p99_us", OURS), ("<=", 2), "us"),
    Row("... of two hand-offs beside a bulk pair", ("rr_beside_conn", "p99_us"), BESIDE, None,
        "us"),
    versus("... against the reference", "rr_beside_conn", "p99_us", None, "us"),
    Row("2 VMs on 2 workers, of 1 worker", ("workers_2", GBPS), ("workers_1", GBPS, OURS),
        (">=", 1.7), "Gb/s"),
    *versus_kernel("bulk guest to host, of the kernel", "g2h", GBPS, (">=", 1), "Gb/s"),
    *versus_kernel("bulk host to guest, 3776, of the kernel", "h2g", GBPS, (">=", 1), "Gb/s"),
    *versus_kernel("bulk host to guest, 4140, of the kernel", "h2g_4140", GBPS, (">=", 1), "Gb/s"),
    *versus_kernel("RR 1 B, p50, of the kernel", "rr", "p50_us", ("<=", 1.2), "us"),
    *versus_kernel("RR 1 B from the host, p50, of the kernel", "rr_host", "p50_us", ("<=", 1.2),
                   "us"),
    *versus_kernel("connect/request/close, guest, of the kernel", "crr", "cycles_per_s", None,
                   "/s"),
    *versus_kernel("connect/request/close, host, of the kernel", "crr_host", "cycles_per_s", None,
                   "/s"),
    versus("all instructions: bulk guest to host", "g2h_counted", GBPS, None, "Gb/s"),
    versus("... bulk host to guest, 3776", "h2g_counted", GBPS, None, "Gb/s"),
    versus("... RR 1 B, p50", "rr_counted", "p50_us", None, "us"),
    versus("... connect/request/close, guest", "crr_counted", "cycles_per_s", None, "/s"),
    versus("... connect/request/close, host", "crr_host_counted", "cycles_per_s", None, "/s"),
    versus("real guest: vsock_perf, guest to host", "perf_g2h", GBPS, None, "Gb/s"),
    versus("real guest: vsock_perf, host to guest", "perf_h2g", GBPS, None, "Gb/s"),
    versus("real guest: stream, guest to host", "stream_g2h", GBPS, None, "Gb/s"),
    versus("... CPU of the daemon", "stream_g2h", CPU, None, "s/GiB"),
    versus("real guest: stream, host to guest", "stream_h2g", GBPS, None, "Gb/s"),
    versus("... CPU of the daemon", "stream_h2g", CPU, None, "s/GiB"),
]
