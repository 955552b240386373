# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A Linux guest in which vsock-bench runs, for what this machine's kernel does not have.

The guest's kernel has vhost-vsock, so that there the kernel's device and our daemon are measured
by the same program. The guest needs no vsock device itself.
"""
import contextlib
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "lib"))

import guest as guests  # noqa: E402
import initramfs  # noqa: E402
import qemu  # noqa: E402

SUITE = "bookworm-backports"
# One CPU where instructions are the clock: two would share it, each running in turns.
CPUS = {"emulated": 2, "counted": 1}
MEMORY_MIB = {"emulated": 3072, "counted": 1024}
# On a busy machine emulation is slow, and slower with instructions as the clock.
BOOT_SECONDS = 300
SLOWER = 4
# A nanosecond for each instruction, and none for waiting when all sleep.
COUNTED = ["-icount", "shift=0,sleep=off"]
# Descriptors a process in the guest may have; the guest has no other limit.
DESCRIPTORS = 1048576
MODULES = ("vhost_vsock",)


class Ended:
    """How a program in the guest ended; has what subprocess.CompletedProcess has."""

    def __init__(self, result):
        self.returncode = result.code
        self.stdout = result.out.decode(errors="replace")
        self.stderr = result.err.decode(errors="replace")


def put_program(guest, name, program):
    """Copy a program with those of its libraries that the guest lacks; return its path there."""
    target = f"/opt/{name}"
    for library in initramfs.shared_objects(program):
        if guest.run(["test", "-e", library], check=False).code:
            guest.agent.put_file(library, library)
    guest.agent.put_file(program, target)
    return target


def machine(clock):
    """A guest that has not been started, with time of its kind."""
    pair = qemu.pair(SUITE)
    if clock == "counted":
        return guests.Guest(pair, name="bench", memory=MEMORY_MIB[clock], smp=CPUS[clock],
                            accel="tcg,thread=single", extra=COUNTED)
    return guests.Guest(pair, name="bench", memory=MEMORY_MIB[clock], smp=CPUS[clock])


@contextlib.contextmanager
def booted(programs, clock):
    """Boot a guest with vhost-vsock and the programs, {name: path}; yield (run, {name: path})."""
    guest = machine(clock)
    try:
        guest.boot(BOOT_SECONDS)
        guest.load(*MODULES)
        guest.run(f"echo {DESCRIPTORS} >/proc/sys/fs/nr_open")
        paths = {name: put_program(guest, name, path) for name, path in programs.items()}

        def run(command, limit):
            return Ended(guest.run(command, limit * SLOWER, check=False))

        yield run, paths
    finally:
        guest.kill()
        shutil.rmtree(guest.workdir.parent, ignore_errors=True)
