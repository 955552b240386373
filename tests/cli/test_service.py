# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the service manager is told: ready, reloading, stopping, watchdog."""

import ctypes
import os
import signal
import time

import pytest

from control import Control
from daemon import listening_paths
from manager import NotifySocket, Service
from waiting import SCALE, until

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000


@pytest.fixture(name="notify")
def fixture_notify(tmp_path):
    sock = NotifySocket(str(tmp_path / "notify"))
    yield sock
    sock.close()


def vm(tmp_path, cid):
    return f"guest-cid={cid},socket={tmp_path}/{cid}.vmm,uds-path={tmp_path}/{cid}.vm"


def service(tmp_path, notify, *args, **env):
    environment = {"NOTIFY_SOCKET": notify.address, **env}
    return Service(args or ("--vm", vm(tmp_path, 3)), tmp_path / "log", env=environment)


def is_ready(message):
    return message.get("READY") == "1"


def has_status(text):
    return lambda message: text in message.get("STATUS", "")


def test_ready_when_all_listens(tmp_path, notify):
    """Whoever waits for it may connect at once, to any socket."""
    with service(tmp_path, notify, "--vm", vm(tmp_path, 3), "--vm", vm(tmp_path, 4), "--control",
                 f"{tmp_path}/control", "--metrics", f"unix:{tmp_path}/metrics") as daemon:
        notify.until(is_ready)
        assert {f"{tmp_path}/{name}" for name in
                ("3.vmm", "3.vm", "3.vm_seqpacket", "4.vmm", "4.vm", "4.vm_seqpacket", "control",
                 "metrics")} <= listening_paths()
        assert not any("READY" in message for message in notify.heard[:-1])
        notify.until(has_status("Serving 2 VMs"))
        daemon.stop()
        assert notify.until(lambda message: "STOPPING" in message)["STOPPING"] == "1"


def test_abstract_address(tmp_path):
    notify = NotifySocket(f"@vdv-test-{os.getpid()}")
    with service(tmp_path, notify):
        notify.until(is_ready)
    notify.close()


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_works_in_any_sandbox(tmp_path, notify, sandbox):
    with service(tmp_path, notify, "--sandbox", sandbox, "--vm", vm(tmp_path, 3)) as daemon:
        notify.until(has_status("Serving 1 VMs"))
        daemon.stop()
        notify.until(lambda message: "STOPPING" in message)


@pytest.mark.parametrize("where", ["/no/such/dir/notify", "vsock:2:1234", "relative"])
def test_bad_address_is_told(tmp_path, where):
    """Whoever waits gives up some time; the log says why."""
    with Service(("--vm", vm(tmp_path, 3)), tmp_path / "log",
                 env={"NOTIFY_SOCKET": where}) as daemon:
        until(lambda: "serving" in daemon.text(), daemon.text)
        assert "cannot notify the service manager" in daemon.text()
        daemon.stop()


def test_reload(tmp_path, notify):
    """RELOADING with the time, then READY; also when the file is wrong."""
    file = tmp_path / "vms.yaml"

    def write(*cids):
        file.write_text("vms:\n" + "".join(
            f"- {{guest-cid: {cid}, socket: {tmp_path}/{cid}.vmm, uds-path: {tmp_path}/{cid}.vm}}\n"
            for cid in cids))

    write(3)
    with service(tmp_path, notify, "--config", str(file)) as daemon:
        notify.until(is_ready)
        write(3, 4, 5)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.proc.send_signal(signal.SIGHUP)
        began = notify.until(lambda message: message.get("RELOADING") == "1")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert before <= int(began["MONOTONIC_USEC"]) <= after
        notify.until(is_ready)
        notify.until(has_status("Serving 3 VMs"))
        file.write_text("vms: 3\n")
        daemon.proc.send_signal(signal.SIGHUP)
        notify.until(lambda message: message.get("RELOADING") == "1")
        notify.until(is_ready)
        notify.until(has_status("Serving 3 VMs"))
        daemon.stop()


def test_status_follows_the_vms(tmp_path, notify):
    path = f"{tmp_path}/control"
    with service(tmp_path, notify, "--control", path) as daemon:
        notify.until(has_status("Serving 0 VMs"))
        control = Control(path)
        control.call("add", vm=vm(tmp_path, 3))
        notify.until(has_status("Serving 1 VMs"))
        control.call("remove", cid=3)
        notify.until(has_status("Serving 0 VMs"))
        daemon.stop()


# the watchdog

def test_watchdog_gets_signs(tmp_path, notify):
    with service(tmp_path, notify, "--threads", "2", "--vm", vm(tmp_path, 3), "--vm",
                 vm(tmp_path, 4), WATCHDOG_USEC="200000") as daemon:
        notify.until(is_ready)
        for _ in range(4):
            notify.until(lambda message: message.get("WATCHDOG") == "1")
        daemon.stop()


def threads_but_main(pid):
    return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task") if int(tid) != pid)


class Held:
    """One thread of a process is stopped, the others run."""

    def __init__(self, tid):
        self.tid = tid
        self.libc = ctypes.CDLL(None, use_errno=True)
        if self.libc.ptrace(PTRACE_SEIZE, tid, None, None) != 0:
            pytest.skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")

    def __enter__(self):
        assert self.libc.ptrace(PTRACE_INTERRUPT, self.tid, None, None) == 0
        os.waitpid(self.tid, WALL)

    def __exit__(self, *exc):
        assert self.libc.ptrace(PTRACE_DETACH, self.tid, None, None) == 0


@pytest.mark.parametrize("which", [0, 1])
def test_watchdog_sees_a_worker_that_hangs(tmp_path, notify, which):
    """No sign while one of the workers stands still; again when it goes on."""
    with service(tmp_path, notify, "--threads", "2", "--vm", vm(tmp_path, 3), "--vm",
                 vm(tmp_path, 4), WATCHDOG_USEC="400000") as daemon:
        notify.until(is_ready)
        workers = threads_but_main(daemon.proc.pid)
        assert len(workers) == 2
        with Held(workers[which]):
            until(lambda: f"worker {which} hangs" in daemon.text(), daemon.text)
            while notify.hear(0.01) is not None:
                pass
            heard = notify.hear(0.4 * SCALE)
            assert heard is None, heard
        notify.until(lambda message: message.get("WATCHDOG") == "1")
        assert daemon.text().count("hangs") == 1
        daemon.stop()


def test_watchdog_of_another_process(tmp_path, notify):
    """$WATCHDOG_PID names who is watched."""
    with service(tmp_path, notify, WATCHDOG_USEC="20000", WATCHDOG_PID="1") as daemon:
        notify.until(is_ready)
        notify.until(has_status("Serving 1 VMs"))
        daemon.stop()
    while notify.hear(0.01) is not None:
        pass
    assert not any("WATCHDOG" in message for message in notify.heard)


def test_nobody_to_tell(tmp_path):
    """Without a service manager the variables of the watchdog mean nothing."""
    with Service(("--vm", vm(tmp_path, 3)), tmp_path / "log",
                 env={"WATCHDOG_USEC": "1000"}) as daemon:
        until(lambda: "serving" in daemon.text(), daemon.text)
        daemon.stop()
        assert "manager" not in daemon.text()
