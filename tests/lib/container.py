# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A container with this machine's files and a systemd of its own as PID 1.

Nothing that happens in it stays: changes go to a tmpfs that lies over the root.
The network is its own. systemd-nspawn starts it, nsenter runs commands in it.
"""

import os
import shutil
import subprocess
import tempfile

from waiting import until

TARGET = """[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
"""
# of this machine, and no business of the container's
MASKED = ("systemd-resolved.service", "systemd-networkd.service", "systemd-timesyncd.service",
          "apparmor.service", "dev-hugepages.mount", "systemd-modules-load.service",
          "systemd-sysctl.service", "systemd-logind.service")
# what this version of nspawn does not know yet
LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
TOOLS = ("systemd-nspawn", "nsenter", "mount", "systemctl")


def missing():
    """Why there can be no container, or None."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [name for name in TOOLS if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: scripts/install-deps package"
    return None


class Container:
    """Context manager; run() runs a command in it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="vdv-container-", dir="/var/tmp")
        self.root = os.path.join(self.dir, "root")
        self.log = os.path.join(self.dir, "log")
        self.proc = None
        self.init = None

    def __enter__(self):
        try:
            self.make_root()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make_root(self):
        changes = os.path.join(self.dir, "changes")
        os.mkdir(changes)
        os.mkdir(self.root)
        subprocess.run(["mount", "-t", "tmpfs", "none", changes], check=True)
        for name in ("upper", "work"):
            os.mkdir(os.path.join(changes, name))
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir=/,upperdir={changes}/upper,workdir={changes}/work", self.root],
                       check=True)
        self.put("/etc/systemd/system/vdv-test.target", TARGET)
        self.drop("/usr/sbin/policy-rc.d")  # where packages start nothing
        for name in MASKED:
            self.drop(f"/etc/systemd/system/{name}")
            os.symlink("/dev/null", self.path(f"/etc/systemd/system/{name}"))

    def __exit__(self, *exc):
        if self.proc is not None:
            self.proc.terminate()
            try:
                self.proc.wait(20)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        for name in ("root", "changes"):
            subprocess.run(["umount", "-l", os.path.join(self.dir, name)], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def boot(self):
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen(
                ["systemd-nspawn", "-q", "-D", self.root, "--boot", "--register=no", "--keep-unit",
                 "--private-network", "-M", f"vdv-{os.getpid()}", "--console=pipe",
                 "--link-journal=no", f"--system-call-filter={LANDLOCK}",
                 "systemd.unit=vdv-test.target", "systemd.show_status=no"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self.find_init, "the container's PID 1", timeout=30)
        until(lambda: "active" in self.run("systemctl", "is-active", "vdv-test.target",
                                           check=False).split(), self.console, timeout=60)

    def find_init(self):
        """PID 1 is the only child of systemd-nspawn that has one of its own."""
        assert self.proc.poll() is None, self.console()
        for pid in self.children(self.proc.pid):
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                if "\nNSpid:\t%d\t1\n" % pid in file.read():
                    self.init = pid
        return self.init

    @staticmethod
    def children(pid):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]

    def console(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def path(self, name):
        return self.root + name

    def drop(self, name):
        if os.path.lexists(self.path(name)):
            os.unlink(self.path(name))

    def put(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def put_inside(self, name, text):
        """As put(), while it runs: also where it has mounted something."""
        full = f"/proc/{self.init}/root{name}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)

    def run(self, *command, check=True, timeout=120):
        """Its output; check: it must succeed."""
        done = subprocess.run(["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "-C",
                               "--root", "--wd", *command], stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                              check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout
