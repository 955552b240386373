# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The demonstration of scripts/run-demo: the daemon, a real guest, bytes in both directions.

Exits non-zero when anything is not as it should be.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "lib"))

import hostside  # noqa: E402
import peer  # noqa: E402
import qemu  # noqa: E402
from daemon import Daemon  # noqa: E402
from guest import Guest, accelerator, run_dir  # noqa: E402

SUITE = "bookworm"
CID = 4
BULK = 16 << 20


def say(text=""):
    """Print a line at once."""
    print(text, flush=True)


def step(text):
    """Print a heading."""
    say(f"\n== {text}")


def shorten(command, directory):
    """Return a command line as a person would read it."""
    return " ".join(command).replace(str(directory), "$DIR")


def prepare():
    """Return QEMU, kernel and the way to run them, fetching what is missing."""
    step("Guest system")
    pair = qemu.pair(SUITE)
    accel = accelerator(pair)
    how = "KVM" if accel == "kvm" else "software emulation (no working KVM here)"
    say(f"QEMU {pair.qemu_version[0]}.{pair.qemu_version[1]}, Linux {pair.release}, {how}")
    return pair


def start(pair, directory):
    """Start daemon and guest."""
    step("Daemon and guest")
    daemon = Daemon([CID], directory=str(directory))
    say(f"DIR={directory}")
    say(f"host$  {shorten(daemon.argv, directory)}")
    vm = daemon.vm()
    guest = Guest(pair, directory, "guest", vm.socket, CID)
    began = time.monotonic()
    guest.boot()
    say("host$  qemu-system-x86_64 ... "
        f"{shorten(qemu.vsock_args(pair, vm.socket, None), directory)}")
    say(f"the guest is up after {time.monotonic() - began:.1f} s "
        f"and has CID {guest.call('local_cid').result()}")
    return daemon, guest


def host_to_guest(daemon, guest):
    """A line each way on a connection that the host makes."""
    step("Host to guest")
    say("guest$ nc --vsock -l 1234")
    server = guest.popen(["nc", "--vsock", "-l", "1234"])
    hostside.wait_for(lambda: guest.call("is_listening", port=1234).result(), "listener")
    say("host$  nc -U $DIR/vm4.vsock")
    client = subprocess.Popen(["nc", "-U", daemon.vm().uds], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    sent = b"CONNECT 1234\nhello guest, this is the host\n"
    client.stdin.write(sent)
    client.stdin.flush()
    say("".join(f"       > {line}\n" for line in sent.decode().splitlines())
        + f"       < {client.stdout.readline().decode().strip()}")
    heard = server.wait_out("host\n").decode()
    say(f"guest: heard {len(heard)} bytes: {heard.strip()}")
    server.write(b"hello host, this is the guest\n")
    answer = client.stdout.readline()
    say(f"host:  heard {len(answer)} bytes: {answer.decode().strip()}")
    client.stdin.close()
    server.kill()
    client.wait(10)
    client.stdout.close()


def guest_to_host(daemon, guest):
    """A line each way on a connection that the guest makes."""
    step("Guest to host")
    say("host$  nc -l -U $DIR/vm4.vsock_1234       (here: a listening socket of this program)")
    with hostside.listen(daemon.vm().port(1234)) as listener:
        say("guest$ nc --vsock 2 1234")
        client = guest.popen(["nc", "--vsock", "2", "1234"])
        client.write(b"hello host, this is the guest\n")
        sock = hostside.accept(listener)
    with sock:
        heard = sock.recv(100)
        say(f"host:  heard {len(heard)} bytes: {heard.decode().strip()}")
        sock.sendall(b"hello guest, this is the host\n")
        heard = client.wait_out("host\n")
        say(f"guest: heard {len(heard)} bytes: {heard.decode().strip()}")
    client.kill()


def bulk(daemon, guest):
    """Many bytes each way at once, compared by their hashes; return whether they are equal."""
    step("Bulk data, both ways at once")
    serving = guest.call("serve", port=5000, mode="exchange",
                         options={"seed": 1, "total": BULK, "expect": BULK})
    serving.wait_out("listening")
    began = time.monotonic()
    host = peer.act(hostside.dial(daemon.vm().uds, 5000), "exchange",
                    {"seed": 2, "total": BULK, "expect": BULK})
    inside = serving.result()
    seconds = time.monotonic() - began
    equal = True
    for way, sent, got in (("host to guest", host["sent"], inside["received"]),
                           ("guest to host", inside["sent"], host["received"])):
        same = sent == got["sha256"] and got["bytes"] == BULK
        equal = equal and same
        say(f"{way}: {got['bytes']} bytes, SHA-256 {sent[:16]}... {'equal' if same else 'DIFFERS'}")
    say(f"in {seconds:.1f} s, hashing on both ends included")
    return equal


def main():
    """Run the demonstration."""
    began = time.monotonic()
    pair = prepare()
    directory = run_dir("vsock-demo-")
    daemon, guest = start(pair, directory)
    try:
        host_to_guest(daemon, guest)
        guest_to_host(daemon, guest)
        equal = bulk(daemon, guest)
        step("End")
        guest.quit()
        say("the guest is off")
        daemon.stop(signal.SIGTERM)
        say("the daemon ended by itself and left no socket behind")
    finally:
        guest.kill()
        daemon.kill()
        shutil.rmtree(directory, ignore_errors=True)
    say(f"\n{'All' if equal else 'NOT all'} as it should be, {time.monotonic() - began:.0f} s.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
