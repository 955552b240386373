# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A Linux guest under QEMU that runs commands for a test.

Commands go over a virtio-serial port, so nothing here depends on the vsock device under test.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import qemu
from agent import Agent
from hostside import wait_for
from qmp import Qmp, QmpError

BOOT_SECONDS = 90
KVM_PROBE_SECONDS = 10
PR_SET_PDEATHSIG = 1
PEER = Path(__file__).resolve().parent / "peer.py"
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """Have the kernel end this process with the test run; for preexec_fn."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_dir(prefix="vdv-"):
    """Return a new directory with a name short enough for Unix sockets."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))


class Guest:
    """One virtual machine; start() and wait_ready(), or boot() for both."""

    def __init__(self, pair, workdir=None, name="guest", vhost_socket=None, cid=None, device=None,
                 memory=256, smp=1, accel=None, extra=()):
        self.pair = pair
        self.name = name
        self.cid = cid
        self.vhost_socket = vhost_socket
        self.device = device
        self.memory = memory
        self.smp = smp
        self.accel = accel
        self.extra = list(extra)
        self.workdir = Path(workdir or run_dir()) / name
        self.process = None
        self.agent = None
        self.monitor = None

    def start(self):
        """Start QEMU; the guest boots meanwhile. Must be called by the main thread."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        for stale in self.workdir.glob("*.sock"):
            stale.unlink()
        command = self.command()
        (self.workdir / "command").write_text(" ".join(command) + "\n")
        with open(self.workdir / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent)
        self._wait_socket("agent.sock")
        self.agent = Agent(self.workdir / "agent.sock")
        return self

    def command(self):
        """Return the command line of QEMU."""
        accel = self.accel or accelerator(self.pair)
        command = qemu.machine_args(self.pair, accel, self.memory, self.smp)
        command += qemu.console_args(self.workdir)
        if self.vhost_socket:
            command += qemu.vsock_args(self.pair, self.vhost_socket, self.device)
        return command + self.extra

    def _wait_socket(self, name, timeout=20):
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"QEMU ended with {self.process.returncode}: {self.log()}")
            return (self.workdir / name).exists()

        wait_for(ready, name, timeout)

    def wait_ready(self, timeout=BOOT_SECONDS, boots=1):
        """Wait until the agent answers, and give it the helper module."""
        try:
            self.agent.wait_boot(boots, timeout)
            self.agent.put_file(PEER, "/run/peer.py")
        except Exception as err:
            raise RuntimeError(f"guest {self.name}: {err}\n{self.log()}") from err
        return self

    def boot(self, timeout=BOOT_SECONDS):
        """Start and wait until commands can be run."""
        return self.start().wait_ready(timeout)

    def log(self, lines=25):
        """Return the ends of QEMU's own output and of the console."""
        text = ""
        for name in ("qemu.log", "console.log"):
            path = self.workdir / name
            if path.exists():
                tail = path.read_text(errors="replace").splitlines()[-lines:]
                text += f"--- {path}\n" + "\n".join(tail) + "\n"
        return text

    def popen(self, argv, **env):
        """Start a program (a list) or a shell command (a string) in the guest."""
        if isinstance(argv, str):
            argv = ["sh", "-c", argv]
        return self.agent.request("spawn", {"argv": argv, "env": env})

    def run(self, argv, timeout=60, check=True, stdin=b""):
        """Run a program or a shell command to its end; return a Result."""
        proc = self.popen(argv)
        if stdin:
            proc.write(stdin)
        proc.close_stdin()
        res = proc.wait(timeout)
        if check and res.code:
            raise RuntimeError(f"{argv} in guest {self.name}: {res}")
        return res

    def call(self, func, **args):
        """Start a function of lib/peer.py in the guest; Process.result() gives its value."""
        return self.agent.request("call", {"func": func, "args": args})

    def vsock_features(self):
        """Return the feature bits that the vsock driver and its device have agreed on."""
        text = self.run("cat /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*/features")
        return {bit for bit, value in enumerate(text.out.decode().strip()) if value == "1"}

    def load(self, *modules):
        """Insert kernel modules."""
        self.run(["load", *modules])

    def alive(self):
        """Return whether QEMU runs."""
        return self.process is not None and self.process.poll() is None

    def qmp(self, command, **arguments):
        """Run a QMP command."""
        if self.monitor is None:
            self.monitor = Qmp(self.workdir / "qmp.sock")
        return self.monitor.execute(command, **arguments)

    def stop(self):
        """Pause the virtual machine."""
        self.qmp("stop")

    def cont(self):
        """Let the virtual machine go on."""
        self.qmp("cont")

    def plug(self, vhost_socket):
        """Add a vsock device at run time whose connection QEMU makes again when it breaks.

        On the command line QEMU cannot: there it needs the backend before it connects.
        """
        address = {"type": "unix", "data": {"path": str(vhost_socket)}}
        again = {"reconnect-ms": 200} if self.pair.qemu_version >= (10, 0) else {"reconnect": 1}
        self.qmp("chardev-add", id="plugged", backend={
            "type": "socket", "data": {"addr": address, "server": False, **again}})
        wait_for(self.is_plugged, "connection of the chardev")
        self.qmp("device_add", driver="vhost-user-vsock-pci", id="vsock0", chardev="plugged",
                 bus="root0")

    def is_plugged(self):
        """Return whether the device of plug() has a connection."""
        chardevs = {item["label"]: item["filename"] for item in self.qmp("query-chardev")}
        return not chardevs["plugged"].startswith("disconnected")

    def reboot(self, hard=False, timeout=BOOT_SECONDS):
        """Reboot, by the guest's own kernel or by QEMU, and wait until it is up again."""
        boots = self.agent.boots + 1
        if hard:
            self.qmp("system_reset")
        else:
            self.popen(["reboot", "-f"])
        self.wait_ready(timeout, boots)

    def kill(self):
        """End QEMU without a chance to tidy up."""
        self._end(lambda: self.process.kill())

    def quit(self):
        """End QEMU in an orderly way, by force if it does not come to it."""
        self._end(lambda: self.qmp("quit"))

    def _end(self, how):
        if self.alive():
            try:
                how()
                self.process.wait(10)
            except (OSError, QmpError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
        if self.monitor:
            self.monitor.close()
        if self.agent:
            self.agent.close()
        self.monitor = self.agent = None

    def __enter__(self):
        return self.boot()

    def __exit__(self, *_exc):
        self.kill()


def _probe_kvm(pair):
    """Return whether a guest comes up with KVM in a few seconds."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    guest = Guest(pair, name="probe", accel="kvm")
    try:
        guest.boot(KVM_PROBE_SECONDS)
        return True
    except (RuntimeError, TimeoutError, OSError):
        return False
    finally:
        guest.kill()
        shutil.rmtree(guest.workdir.parent, ignore_errors=True)


def accelerator(pair):
    """Return "kvm" where it really works, else "tcg"; $VDV_ACCEL decides without a look.

    The answer is kept until the host is booted anew, for a KVM that is there but runs no Linux
    costs the whole time limit.
    """
    if os.environ.get("VDV_ACCEL"):
        return os.environ["VDV_ACCEL"]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path = qemu.cache_dir() / f"accel-{pair.suite}.json"
    if path.exists():
        known = json.loads(path.read_text())
        if known["boot"] == boot:
            return known["accel"]
    accel = "kvm" if _probe_kvm(pair) else "tcg"
    path.write_text(json.dumps({"boot": boot, "accel": accel}))
    return accel
