# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""docs/recipes.md with real guests: its blocks as they are written, but for what a machine lacks.

Replaced are the sockets' directory, KVM, and the disk image, for which the tests' kernel comes.
"""

import socket
import subprocess
import sys
import xml.etree.ElementTree

import ctl
import hostside
import pytest
import qemu
import recipes
from guest import Guest, accelerator
from hostside import wait_for
from world import World

CID = 4
PORT = 1234
QEMU_NAMESPACE = "{http://libvirt.org/schemas/domain/qemu/1.0}"
LIMIT = 120


def own(text, vm):
    """The text of a recipe with the sockets of this test."""
    return text.replace("/tmp/vhost4.socket", vm.socket).replace("/tmp/vm4.vsock", vm.uds)


class RecipeGuest(Guest):
    """A guest whose QEMU is called as a recipe says."""

    arguments = ()

    def command(self):
        boots = ["-kernel", str(self.pair.kernel), "-initrd", str(self.pair.initrd),
                 "-append", qemu.COMMAND_LINE, "-cpu", qemu.TCG_CPU]
        rest = ["-no-user-config", "-nodefaults", "-display", "none"]
        # The agent looks for the first port of the first device with a driver.
        return [self.pair.qemu, *rest, *qemu.console_args(self.workdir), *self.arguments, *boots]


def boot(world, arguments):
    """Boot a guest by these arguments of QEMU in a world that then owns it."""
    guest = RecipeGuest(world.pair, world.dir, f"guest{CID}", cid=CID)
    guest.arguments = [word.replace("accel=kvm", f"accel={accelerator(world.pair)}")
                       for word in arguments]
    world.guests[CID] = guest
    return guest.boot()


def new_world(request, pair):
    world = World(pair, groups={CID: "default"})
    world.ensure_daemon()
    yield world
    world.close(keep=bool(getattr(request.session, "e2e_failed", False)))


@pytest.fixture(scope="module")
def by_hand(request, pair):
    """The guest of the recipe "QEMU by hand"."""
    for world in new_world(request, pair):
        (words,) = recipes.commands(own(recipes.block("sh qemu"), world.vm(CID)))
        assert words[0] == "qemu-system-x86_64"
        drive = words.index("-drive")
        yield world, boot(world, words[1:drive] + words[drive + 2:])


def check_traffic(world, guest):
    """A connection each way."""
    inside, outside = world.to_host(guest, ("source", {"total": 100_000}), ("sink", {}))
    assert outside == {"bytes": 100_000, "sha256": inside["sent"]}
    inside, outside = world.to_guest(guest, ("sink", {}), ("source", {"total": 100_000}))
    assert inside["sha256"] == outside["sent"]


def serve_echo(guest):
    """Have the guest send back what comes, at the port of the recipes; return the process."""
    serving = guest.call("serve", port=PORT, mode="echo")
    serving.wait_out("listening")
    return serving


def test_qemu_by_hand(by_hand):
    world, guest = by_hand
    assert guest.call("local_cid").result() == CID
    check_traffic(world, guest)


@pytest.mark.parametrize("command", recipes.blocks("sh vsockctl"))
def test_host_programs(by_hand, command):
    """What a host program of the kernel's vhost-vsock becomes."""
    world, guest = by_hand
    (words,) = recipes.commands(own(command, world.vm(CID)))
    assert words[0] == "vsockctl"
    serving = serve_echo(guest)
    done = subprocess.run([ctl.binary(), *words[1:]], input=b"hello\n", capture_output=True,
                          timeout=LIMIT, check=False)
    assert done.stdout == b"hello\n", done.stderr
    assert serving.result()["bytes"] == 6


def test_firecracker_client(by_hand):
    world, guest = by_hand
    serving = serve_echo(guest)
    code = own(recipes.block("python firecracker"), world.vm(CID))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=LIMIT,
                          check=False)
    assert done.stdout == b"from the host\n", done.stderr
    assert serving.result()["bytes"] == 14


def test_hybrid_vsock(by_hand):
    """As a runtime waits for its agent: again and again, until there is a line with OK."""
    world, guest = by_hand
    uds, port = own(recipes.block("text"), world.vm(CID)).strip().split("//")[1].split(":")

    def dial():
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT)
        sock.connect(uds)
        sock.sendall(f"connect {port}\n".encode())
        stream = sock.makefile("rwb", buffering=0)
        line = stream.readline()
        sock.close()
        if b"OK" in line:
            return stream
        assert line == b""
        stream.close()
        return None

    assert dial() is None
    serving = guest.call("serve", port=int(port), mode="echo")
    with wait_for(dial, "the agent") as stream:
        stream.write(b"hello\n")
        assert stream.readline() == b"hello\n"
    assert serving.result()["bytes"] == 6
    with hostside.listen(world.vm(CID).port(port)) as listener:
        calling = guest.call("connect", cid=2, port=int(port), mode="source",
                             options={"total": 1000})
        with hostside.accept(listener) as sock:
            assert len(sock.makefile("rb").read()) == 1000
        assert calling.result()["rest"] == 0


def libvirt_arguments(text):
    """What QEMU gets of a domain: machine, memory, and the arguments handed on."""
    domain = xml.etree.ElementTree.fromstring(text)
    memory = domain.find("memory")
    assert memory.get("unit") == "MiB"
    backing = domain.find("memoryBacking")
    assert backing.find("source").get("type") == "memfd"
    assert backing.find("access").get("mode") == "shared"
    machine = domain.find("os/type").get("machine")
    handed = [arg.get("value") for arg in domain.iter(f"{QEMU_NAMESPACE}arg")]
    return ["-machine", f"{machine},accel={domain.get('type')},memory-backend=pc.ram",
            "-m", memory.text, "-object",
            f"memory-backend-memfd,id=pc.ram,share=on,size={memory.text}M", *handed]


def test_libvirt_arguments(request, pair):
    for world in new_world(request, pair):
        guest = boot(world, libvirt_arguments(own(recipes.block("xml libvirt"), world.vm(CID))))
        check_traffic(world, guest)
