# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The command line of the program itself: exit codes, messages, help, man page.

What single values mean and the text of every message are tested in
tests/unit/test_config*.c; this is about the process. VDV_BIN names the program.
"""

import os
import re
import subprocess

import pytest

from daemon import ROOT, binary, is_socket
from waiting import until

MAN_PAGE = os.path.join(ROOT, "docs", "vhost-device-vsock.1")
VM_KEYS = ("guest-cid", "socket", "uds-path", "forward-cid", "forward-listen",
           "tx-buffer-size", "queue-size", "groups", "max-connections",
           "max-half-open", "max-buffered", "mode", "fd", "mem-slots", "ack", "tx-rate",
           "rx-rate", "conn-rate", "iommu")
OTHER_OPTIONS = ("vm", "config", "threads", "poll-us", "total-connections", "total-buffered",
                 "log-level", "log-format", "log-rate", "control", "metrics", "sandbox", "user",
                 "group", "socket-mode", "socket-group", "allow-uid", "check-config",
                 "print-capabilities", "help", "version")

# As rust-vmm's README writes them, but with paths below the working directory.
OPTIONS = """--guest-cid=4 --socket=vhost4.socket --uds-path=vm4.vsock
    --tx-buffer-size=65536 --queue-size=1024 --groups=group1+group2"""
THREE_VMS = """
    --vm guest-cid=3,socket=vhost3.socket,uds-path=vm3.vsock,groups=group1+groupA
    --vm guest-cid=4,socket=vhost4.socket,uds-path=vm4.vsock,tx-buffer-size=32768,queue-size=256
    --vm guest-cid=5,socket=vhost5.socket,uds-path=vm5.vsock,tx-buffer-size=32768,queue-size=1024"""
EXAMPLES = {
    "options": (OPTIONS, ["vhost4.socket", "vm4.vsock"]),
    "underscore": ("--vm guest_cid=4,socket=vhost4.socket,uds-path=vm4.vsock",
                   ["vhost4.socket", "vm4.vsock"]),
    "working": ("--vm guest-cid=4,uds-path=vm4.vsock,socket=vhost4.socket",
                ["vhost4.socket", "vm4.vsock"]),
    "sizes": ("--vm guest-cid=4,uds-path=vm4.vsock,socket=vhost4.socket,tx-buffer-size=65536,"
              "queue-size=1024", ["vhost4.socket", "vm4.vsock"]),
    "three": (THREE_VMS, ["vhost3.socket", "vm3.vsock", "vhost4.socket", "vm4.vsock",
                          "vhost5.socket", "vm5.vsock"]),
    "siblings": ("--vm guest-cid=3,uds-path=vm3.vsock,socket=vhost3.socket,groups=group1+group2 "
                 "--vm guest-cid=4,uds-path=vm4.vsock,socket=vhost4.socket,groups=group1",
                 ["vhost3.socket", "vm3.vsock", "vhost4.socket", "vm4.vsock"]),
    "forward": ("--vm guest-cid=4,forward-cid=1,socket=vhost4.socket", ["vhost4.socket"]),
    "forward-options": ("--guest-cid=4 --socket=vhost4.socket --forward-cid=1",
                        ["vhost4.socket"]),
    "file": ("--config=config.yaml", ["vhost3.socket", "vm3.vsock", "vhost4.socket", "vm4.vsock"]),
}
README_FILE = """\
vms:
    - guest_cid: 3
      socket: vhost3.socket
      uds_path: vm3.vsock
      tx_buffer_size: 65536
      queue_size: 1024
      groups: group1+groupA
    - guest_cid: 4
      socket: vhost4.socket
      uds_path: vm4.vsock
      tx_buffer_size: 32768
      queue_size: 256
      groups: group2+groupB
"""

GOOD_VM = "guest-cid=9,socket=new.socket,uds-path=new.vsock"
# Arguments, and what the line must name.
MISTAKES = [
    ([], ["--socket", "missing"]),
    (["--socket", "new.socket"], ["--uds-path", "missing"]),
    (["--guest-cid=2", "--socket=new.socket", "--uds-path=new.vsock"], ["--guest-cid", "'2'"]),
    (["--guest-cid"], ["--guest-cid", "missing"]),
    (["--bogus"], ["'--bogus'"]),
    (["--sandbox", "some"], ["--sandbox", "'some'", "auto, strict, none"]),
    (["--user", "nobody-of-this-name"], ["--user", "'nobody-of-this-name'"]),
    (["--group", "-1x"], ["--group", "missing"]),
    (["--socket-mode", "680"], ["--socket-mode", "'680'", "octal"]),
    (["--socket-mode", "1777"], ["--socket-mode", "'1777'", "octal"]),
    (["--socket-group", "4294967295"], ["--socket-group", "'4294967295'"]),
    (["--allow-uid", "0,,1"], ["--allow-uid", "'0,,1'"]),
    (["--allow-uid", "root"], ["--allow-uid", "'root'"]),
    (["--allow-uid", ",".join(["1"] * 65)], ["--allow-uid", "64"]),
    (["stray"], ["'stray'"]),
    (["--vm", GOOD_VM, "--vm", GOOD_VM], ["--vm 2", "guest-cid", "'9'"]),
    (["--vm", GOOD_VM + ",size=1"], ["--vm 1", "'size'"]),
    (["--vm", GOOD_VM, "--vm", "guest-cid=8,socket=new.socket,uds-path=v"],
     ["--vm 2", "socket", "'new.socket'"]),
    (["--vm", GOOD_VM + ",queue-size=1000"], ["--vm 1", "queue-size", "'1000'"]),
    (["--vm", "socket=new.socket,uds-path=" + "p" * 97], ["--vm 1", "uds-path", "96"]),
    (["--vm", GOOD_VM, "--config", "bad.yaml"], ["--config", "'bad.yaml'", "--vm"]),
    (["--vm", GOOD_VM, "--socket", "s"], ["--socket", "'s'", "--vm"]),
    (["--config", "absent.yaml"], ["--config", "'absent.yaml'", "No such file"]),
    (["--config", "bad.yaml"], ["bad.yaml:4", "guest-cid", "'two'"]),
    (["--config", "empty.yaml"], ["empty.yaml:1", "vms"]),
    (["--vm", GOOD_VM, "--threads=x"], ["--threads", "'x'"]),
    (["--vm", GOOD_VM, "--log-level=loud"], ["--log-level", "'loud'"]),
]


def run(args, cwd=None):
    return subprocess.run([binary(), *args], cwd=cwd, stdin=subprocess.DEVNULL, timeout=60,
                          capture_output=True, text=True, errors="surrogateescape", check=False)


def listing(directory):
    """Everything below a directory that an errant program could change."""
    return {entry.name: (entry.stat().st_ino, entry.stat().st_mtime_ns, entry.stat().st_size)
            for entry in os.scandir(directory)}


@pytest.fixture
def workdir(tmp_path):
    """A directory where files stand at the very paths a configuration may name."""
    (tmp_path / "bad.yaml").write_text("vms:\n- socket: new.socket\n  uds-path: new.vsock\n"
                                       "  guest-cid: two\n")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "config.yaml").write_text(README_FILE)
    return tmp_path


@pytest.mark.parametrize("args,named", MISTAKES, ids=lambda v: " ".join(v)[:40])
@pytest.mark.parametrize("occupied", [False, True], ids=["", "occupied"])
def test_mistake(workdir, args, named, occupied):
    """Exit 2, one line that names the place, and no file made, changed or removed."""
    if occupied:
        (workdir / "new.socket").write_text("mine")
        (workdir / "new.vsock").write_text("mine")
    before = listing(workdir)
    result = run(args, cwd=workdir)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert re.fullmatch(r"vhost-device-vsock: [^\n]*expected [^\n]+\n", result.stderr)
    for text in named:
        assert text in result.stderr
    assert listing(workdir) == before


def test_message_is_one_printable_line(workdir):
    result = run(["--vm", "socket=a\nb\x1b]0;title\x07,uds-path=" + "\n" * 200], cwd=workdir)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and result.stderr.endswith("\n")
    assert result.stderr[:-1].isprintable()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(workdir, option):
    before = listing(workdir)
    result = run([option], cwd=workdir)
    assert (result.returncode, result.stderr) == (0, "")
    shown = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", result.stdout, re.M))
    assert shown == {*VM_KEYS, *OTHER_OPTIONS}
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert listing(workdir) == before


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option):
    result = run([option])
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"vhost-device-vsock \d+\.\d+\.\d+\n", result.stdout)


def test_man_page_describes_every_option():
    with open(MAN_PAGE, encoding="utf-8") as page:
        text = page.read()
    described = set(re.findall(r"^\.It .*?Fl \\-([a-z-]+)", text, re.M))
    help_text = run(["--help"]).stdout
    assert described == set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", help_text, re.M))
    # The defaults are the same in both.
    for number in re.findall(r"\[default: (\d{3,})\]", help_text):
        assert f"The default is {number}." in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_readme_example_serves(workdir, name):
    """The program makes exactly the sockets named, and removes exactly these again."""
    args, sockets = EXAMPLES[name]
    sockets = [*sockets, *(f"{path}_seqpacket" for path in sockets if path.endswith(".vsock"))]
    before = listing(workdir)
    with subprocess.Popen([binary(), *args.split()], cwd=workdir, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        try:
            until(lambda: child.poll() is not None
                  or all(is_socket(workdir / path) for path in sockets), "sockets")
            assert child.poll() is None, child.stderr.read()
            assert set(listing(workdir)) - set(before) == set(sockets)
            child.terminate()
            assert child.wait(10) == 0, child.stderr.read()
        finally:
            child.kill()
    assert listing(workdir) == before


def test_check_config(workdir):
    """Exit status 0 or 2, and nothing is made."""
    before = listing(workdir)
    result = run(["--check-config", "--config", "config.yaml"], cwd=workdir)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "vhost-device-vsock: the configuration is correct: VMs: 2\n"
    assert run(["--vm", GOOD_VM, "--check-config"], cwd=workdir).returncode == 0
    result = run(["--config", "bad.yaml", "--check-config"], cwd=workdir)
    assert (result.returncode, result.stdout) == (2, "")
    assert "bad.yaml:4" in result.stderr
    assert run(["--check-config=yes"], cwd=workdir).returncode == 2
    assert listing(workdir) == before


@pytest.mark.parametrize("args", [
    ["--vm", "guest-cid=5,socket=s,forward-cid=1,forward-listen=9001+9002,tx-buffer-size=32768,"
             "queue-size=1024"],
    ["--vm", "guest-cid=5,socket=s,forward-cid=1,forward-listen=9001+9002/seqpacket"],
    ["--guest-cid", "5", "--socket", "s", "--forward-cid", "1", "--forward-listen", "9001+9002"],
])
def test_forward_listen_is_understood(workdir, args):
    """--help is obeyed where it stands, so what is before it was accepted.

    To serve, this needs AF_VSOCK on the host, which not every machine has.
    """
    result = run([*args, "--help"], cwd=workdir)
    assert (result.returncode, result.stderr) == (0, "")
