# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Which QEMU and kernel the tests run with, and how QEMU is called; starts no guest itself."""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import initramfs
import kernel

ROOT = Path(__file__).resolve().parent.parent.parent
FETCH = ROOT / "scripts" / "fetch-guest"

# Kernel command line: quiet and fast under software emulation, reboot at once after a panic.
COMMAND_LINE = ("console=ttyS0 panic=-1 loglevel=5 mitigations=off random.trust_cpu=on audit=0 "
                "nokaslr rodata=off cryptomgr.notests tsc=reliable no_timer_check "
                "8250.nr_uarts=1 reboot=t")

# Emulating the newest features costs a fifth of the boot time; random numbers must not block.
TCG_CPU = "qemu64,+rdrand"

# What turns QEMU's generic vhost-user device into a vsock device.
GENERIC_OPTIONS = "virtio-id=19,num_vqs=3,config_size=8,vq_size=256"


def cache_dir():
    """Return the cache directory, as scripts/fetch-guest finds it."""
    if os.environ.get("VDV_CACHE"):
        return Path(os.environ["VDV_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "vhost-device-vsock"


class Pair:
    """A QEMU with the kernel its guests run."""

    def __init__(self, info):
        self.suite = info["suite"]
        self.qemu = info["qemu"]
        self.qemu_version = tuple(int(n) for n in re.findall(r"\d+", info["qemu_version"])[:2])
        self.release = info["release"]
        self.kernel_version = tuple(int(n) for n in re.findall(r"\d+", self.release)[:2])
        self.kernel = kernel.ensure(info["kernel"], cache_dir())
        self.initrd = initramfs.ensure(info["modules"], cache_dir())

    def __str__(self):
        return "qemu %d.%d, linux %s" % (*self.qemu_version, self.release)

    @functools.cached_property
    def generic_device(self):
        """Name of the generic vhost-user device for PCI, None where a user cannot create one.

        QEMU 9 and 10 have it, but refuse it to users.
        """
        for name in ("vhost-user-test-device-pci", "vhost-user-device-pci"):
            res = subprocess.run([self.qemu, "-M", "q35", "-display", "none", "-device", name],
                                 stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                 timeout=30, check=False)
            if "missing chardev" in res.stderr:
                return name
        return None


@functools.lru_cache(maxsize=None)
def pair(suite):
    """Return the Pair of a Debian suite, fetched if the cache lacks it."""
    out = subprocess.run([sys.executable, str(FETCH), suite], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return Pair(json.loads(out))


def machine_args(which, accel, memory, smp):
    """Return the arguments that make the bare machine."""
    return [
        which.qemu, "-no-user-config", "-nodefaults", "-display", "none",
        "-machine", "q35,memory-backend=mem", "-accel", accel,
        "-cpu", "host" if accel == "kvm" else TCG_CPU, "-smp", str(smp), "-m", f"{memory}M",
        "-object", f"memory-backend-memfd,id=mem,size={memory}M,share=on",
        "-kernel", str(which.kernel), "-initrd", str(which.initrd), "-append", COMMAND_LINE,
    ]


def console_args(workdir):
    """Return the arguments for console log, agent port and QMP, all below workdir."""
    return [
        "-chardev", f"file,id=con,path={workdir}/console.log", "-serial", "chardev:con",
        "-device", "virtio-serial-pci",
        "-chardev", f"socket,id=agent,path={workdir}/agent.sock,server=on,wait=off",
        "-device", "virtserialport,chardev=agent,nr=1,name=vdv.agent",
        "-chardev", f"socket,id=qmp,path={workdir}/qmp.sock,server=on,wait=off",
        "-mon", "chardev=qmp,mode=control",
    ]


def vsock_args(which, socket, device):
    """Return the arguments for the vsock device; device is None for the usual one."""
    chardev = ["-chardev", f"socket,id=vsock,path={socket}"]
    if device is None:
        return chardev + ["-device", "vhost-user-vsock-pci,chardev=vsock"]
    if device == "generic":
        return chardev + ["-device", f"{which.generic_device},chardev=vsock,{GENERIC_OPTIONS}"]
    return chardev + ["-device", f"{device},chardev=vsock"]
