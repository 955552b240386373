# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The Debian package: built, judged by lintian, and installed under a systemd of its own.

VDV_DEB is a folder with a package that was built before. The container has this
machine's files, so Debian's tools and the libraries have to be here.
"""

import glob
import json
import os
import re
import shutil
import subprocess

import pytest

import container
import gsocket
from daemon import ROOT, VmPaths
from hostsock import HostListener, dial
from vm import Vm
from tree import copy_sources
from waiting import until

UNIT = "vhost-device-vsock"
RUN = "/run/vhost-device-vsock"
CONFIG = "/etc/vhost-device-vsock"
BUILD_COMMAND = ["dpkg-buildpackage", "-us", "-uc", "-b"]
NEEDED = ("dpkg-buildpackage", "dh", "dh_apparmor", "lintian")


def need(*programs):
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        pytest.skip(f"no {', '.join(absent)}: scripts/install-deps package")


@pytest.fixture(name="built", scope="module")
def fixture_built(tmp_path_factory):
    """The folder with the package and what describes it."""
    if os.environ.get("VDV_DEB"):
        return os.environ["VDV_DEB"]
    need(*NEEDED)
    folder = tmp_path_factory.mktemp("deb")
    source = copy_sources(folder / "source")
    log = folder / "log"
    with open(log, "wb") as out:
        done = subprocess.run([*BUILD_COMMAND, "-j2"], cwd=source,
                              stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=1200,
                              check=False)
    assert done.returncode == 0, log.read_text(errors="replace")[-4000:]
    return str(folder)


def only(folder, pattern):
    found = glob.glob(os.path.join(folder, pattern))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(name="deb", scope="module")
def fixture_deb(built):
    return only(built, "vhost-device-vsock_*.deb")


@pytest.fixture(name="host", scope="module")
def fixture_host(deb):
    """A container where the package was just installed."""
    reason = container.missing()
    if reason:
        pytest.skip(reason)
    with container.Container() as machine:
        shutil.copy(deb, machine.path("/package.deb"))
        machine.installed = machine.run("dpkg", "-i", "/package.deb")
        yield machine


def show(host, key, unit=UNIT):
    return host.run("systemctl", "show", "--value", "-p", key, unit).strip()


def has_status(host, text):
    until(lambda: show(host, "StatusText") == text, lambda: show(host, "StatusText"))


def journal(host, unit=UNIT):
    return host.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)


def vm_keys(cid, folder=RUN):
    return {"guest-cid": cid, "socket": f"{folder}/vhost{cid}.sock",
            "uds-path": f"{folder}/vm{cid}.vsock"}


def configure(host, *cids, name="config", folder=RUN):
    """YAML is a superset of JSON."""
    host.put_inside(f"{CONFIG}/{name}.yaml",
                    json.dumps({"vms": [vm_keys(cid, folder) for cid in cids]}))


def paths_of(host, cid):
    """The VM's sockets, seen from outside."""
    return VmPaths(f"/proc/{host.init}/root{RUN}", cid)


# the package

def test_lintian_finds_nothing(built):
    need("lintian")
    done = subprocess.run(["lintian", "--fail-on", "warning", "--allow-root",
                           only(built, "*.changes")], capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


def test_what_is_inside(deb):
    names = subprocess.run(["dpkg", "-c", deb], capture_output=True, text=True, timeout=60,
                           check=True).stdout
    for name in ("/usr/bin/vhost-device-vsock", "/usr/bin/vsockctl",
                 "/lib/systemd/system/vhost-device-vsock@.service",
                 "/usr/lib/sysusers.d/vhost-device-vsock.conf",
                 "/usr/lib/tmpfiles.d/vhost-device-vsock.conf",
                 "/etc/apparmor.d/vhost-device-vsock", "/etc/vhost-device-vsock/config.yaml",
                 "libvsockctl-preload.so", "/usr/share/man/man1/vsockctl.1.gz"):
        assert re.search(rf"{re.escape(name)}$", names, re.M), name


# installed

def test_installation_starts_it(host):
    """Without a VM; systemd heard that it is ready."""
    assert show(host, "ActiveState") == "active", host.installed + journal(host)
    assert show(host, "NotifyAccess") == "main"
    has_status(host, f"Serving 0 VMs with {os.cpu_count()} workers")
    assert json.loads(host.run("vsockctl", "list", "--json")) == {"vms": []}


def test_own_user(host):
    uid = host.run("id", "-u", "vhost-vsock").strip()
    status = host.run("cat", f"/proc/{show(host, 'MainPID')}/status")
    assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.M)
    assert re.search(r"^CapBnd:\t0*40000$", status, re.M)  # CAP_SYS_CHROOT, which nobody has:
    assert re.search(r"^CapEff:\t0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)


def test_own_sandbox_holds(host):
    """The unit's restrictions take no part of the daemon's own away."""
    line = next(line for line in journal(host).splitlines() if "sandbox:" in line)
    for part in ("unprivileged user", "no capabilities", "empty root", "no core dumps",
                 "system calls"):
        assert part in line.split("missing")[0], line
    assert re.search(r"missing: (?!Landlock)", line) is None, line


def test_exposure_of_what_runs(host):
    text = host.run("systemd-analyze", "security", "--no-pager", UNIT)
    score = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", text).group(1))
    assert 0 < score <= 1.5


def test_a_guest_is_served(host):
    """All that a VM needs works behind the unit's restrictions, both ways."""
    host.run("vsockctl", "add", ",".join(f"{key}={value}" for key, value in vm_keys(3).items()))
    has_status(host, f"Serving 1 VMs with {os.cpu_count()} workers")
    paths = paths_of(host, 3)
    listing = host.run("stat", "-c", "%U %G %a", f"{RUN}/vhost3.sock", f"{RUN}/vm3.vsock")
    assert set(listing.split("\n")[:2]) == {"vhost-vsock kvm 660"}
    machine = Vm(paths)
    guest = machine.guest
    listener = gsocket.Listener(guest, 1111)
    client = dial(paths.uds)
    client.send_all(b"CONNECT 1111\nhello")
    inside = listener.accept()
    assert inside.recv_exact(5) == b"hello"
    door = HostListener(paths.port(80))
    os.chmod(paths.port(80), 0o666)
    outgoing = gsocket.connect(guest, 4000, 80)
    program = door.accept()
    outgoing.send_all(b"back")
    assert program.recv_exact(4) == b"back"
    assert "1" in host.run("vsockctl", "connections")
    door.close()
    machine.close()
    host.run("vsockctl", "remove", "3")


def test_readme_says_it_so(host):
    """What a person types after the installation; how the package is built."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        text = file.read()
    assert " ".join(BUILD_COMMAND) in text
    block = re.search(r"^```sh package\n(.*?)^```$", text, re.M | re.S).group(1)
    for line in block.splitlines():
        host.run("sh", "-c", line)
    assert "vm3.vsock" in host.run("vsockctl", "list")
    host.run("vsockctl", "remove", "3")


def test_reload(host):
    """systemctl reload waits, and fails if the file is wrong; VMs live on."""
    configure(host, 3, 4)
    host.run("systemctl", "reload", UNIT)
    has_status(host, f"Serving 2 VMs with {os.cpu_count()} workers")
    host.put_inside(f"{CONFIG}/config.yaml", "vms: 3\n")
    assert "failed" in host.run("systemctl", "reload", UNIT, check=False)
    assert show(host, "ActiveState") == "active"
    has_status(host, f"Serving 2 VMs with {os.cpu_count()} workers")
    configure(host)
    host.run("systemctl", "reload", UNIT)
    has_status(host, f"Serving 0 VMs with {os.cpu_count()} workers")


def test_instance(host):
    """A daemon of a tenant's own, beside the other one."""
    unit = f"{UNIT}@blue"
    configure(host, 3, name="blue", folder=f"{RUN}-blue")
    host.run("systemctl", "start", unit)
    assert show(host, "ActiveState", unit) == "active"
    listing = host.run("vsockctl", "--control", f"{RUN}-blue/control.sock", "list", "--json")
    assert [vm["cid"] for vm in json.loads(listing)["vms"]] == [3]
    assert json.loads(host.run("vsockctl", "list", "--json")) == {"vms": []}
    host.run("systemctl", "stop", unit)
    host.run("rm", f"{CONFIG}/blue.yaml")


def test_socket_unit(host):
    """The sockets of a VM are there before the daemon, which the first client starts."""
    host.run("systemctl", "stop", UNIT)
    host.put_inside(f"{CONFIG}/config.yaml", json.dumps({"vms": [{
        "guest-cid": 5, "socket": f"{RUN}/vm5.vmm", "uds-path": f"{RUN}/vm5.vsock"}]}))
    host.run("systemctl", "start", f"{UNIT}-vm@5.socket")
    assert show(host, "ActiveState") == "inactive"
    client = dial(f"/proc/{host.init}/root{RUN}/vm5.vsock")
    assert client.recv_eof() == b"", "there is no guest"
    assert show(host, "ActiveState") == "active", journal(host)
    host.run("systemctl", "stop", UNIT)
    assert host.run("stat", "-c", "%U %G %a", f"{RUN}/vm5.vsock").strip() == "vhost-vsock kvm 660"
    host.run("systemctl", "stop", f"{UNIT}-vm@5.socket")
    configure(host)


def test_wrong_socket_unit_is_told(host):
    """A VM that the file lacks: the service does not start, and the journal says why."""
    host.run("systemctl", "stop", UNIT)
    host.run("systemctl", "start", f"{UNIT}-vm@6.socket")
    host.run("systemctl", "start", UNIT, check=False)
    assert "'vm-6' at /run/vhost-device-vsock/vm6.vmm: no VM has this CID: add it" in journal(host)
    host.run("systemctl", "stop", f"{UNIT}-vm@6.socket", UNIT)
    host.run("systemctl", "reset-failed")
    host.run("systemctl", "start", UNIT)


def test_watchdog(host):
    """A daemon that stands still is ended and started anew."""
    host.put_inside(f"/etc/systemd/system/{UNIT}.service.d/quick.conf",
                    "[Service]\nWatchdogSec=1\nRestartSec=0\n")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", UNIT)
    before = show(host, "MainPID")
    signs = set()
    until(lambda: signs.add(show(host, "WatchdogTimestampMonotonic")) or len(signs) > 4,
          lambda: f"{signs}, {journal(host)}")
    assert (show(host, "MainPID"), show(host, "NRestarts")) == (before, "0"), journal(host)
    host.run("kill", "-STOP", before)
    until(lambda: show(host, "NRestarts") == "1" and show(host, "ActiveState") == "active",
          lambda: journal(host), timeout=30)
    assert "Watchdog timeout" in journal(host)
    host.run("rm", "-r", f"/etc/systemd/system/{UNIT}.service.d")
    host.run("systemctl", "daemon-reload")


def test_end_and_purge(host):
    """The last test: nothing of it runs or lies about."""
    host.run("dpkg", "--purge", UNIT)
    assert host.run("systemctl", "is-active", UNIT, check=False).strip() != "active"
    left = host.run("sh", "-c", f"ls -d {CONFIG} /usr/bin/vsockctl /etc/apparmor.d/{UNIT} "
                    f"{RUN}/*.sock 2>/dev/null", check=False).strip()
    assert left == ""
