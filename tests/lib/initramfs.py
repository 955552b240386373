# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Build the initramfs of the test guests: busybox, python3, socat, ncat, vsock modules, agent.

Everything comes from the installed Debian packages and from an unpacked kernel package; the result
is kept in the cache under a name made from all its inputs, so it is built again when one changes.
"""

import argparse
import hashlib
import importlib.util
import lzma
import marshal
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

if sys.flags.isolated:
    sys.path.insert(0, str(Path(__file__).parent))
import cpio  # noqa: E402

# The guest runs the distribution's interpreter, and its library is compiled by that one, whatever
# interpreter runs the tests.
PYTHON = "/usr/bin/python3"

GUEST_DIR = Path(__file__).resolve().parent.parent / "guest"

# Raised by hand when this file changes what it builds from the same inputs.
LAYOUT = 3

# How old an initramfs must be to be removed when another one is made.
KEEP_SECONDS = 86400

PROGRAMS = ("socat", "ncat")
# Loaded by the C library when a thread is cancelled, which no program's list of libraries tells.
UNWINDER = "/lib/x86_64-linux-gnu/libgcc_s.so.1"
BOOT_MODULES = ("virtio_pci", "virtio_console", "vmw_vsock_virtio_transport")
EXTRA_MODULES = ("vsock_loopback", "vsock_diag", "vhost_vsock", "virtio_net", "vsockmon")

# Parts of python's library that no test in a guest uses; they would cost boot time.
PYTHON_SKIP = re.compile(
    r"(test|idlelib|lib2to3|distutils|ensurepip|tkinter|turtledemo|pydoc_data|unittest|asyncio|"
    r"email|xml|xmlrpc|html|http|wsgiref|sqlite3|curses|dbm|venv|dist-packages|site-packages|"
    r"config-.*|__pycache__|multiprocessing|turtle\.py|_pydecimal\.py|"
    r".*(_test|_testcapi|_codecs_|_sqlite|_tkinter|_curses|readline|_decimal|audioop|nis|ossaudio|"
    r"_dbm|_gdbm|_asyncio|_uuid|_bz2)[^/]*\.so)")


def module_name(path):
    """Return the kernel's name of a module file."""
    return re.sub(r"\.ko(\.xz|\.zst)?$", "", path.name).replace("-", "_")


def read_module(path):
    """Return the uncompressed bytes of a module file."""
    data = path.read_bytes()
    if path.name.endswith(".xz"):
        return lzma.decompress(data)
    if path.name.endswith(".zst"):
        return subprocess.run(["zstd", "-dc", str(path)], check=True, capture_output=True).stdout
    return data


class Modules:
    """The module tree of a kernel package, with the order of dependencies."""

    def __init__(self, tree):
        self.paths = {module_name(p): p for p in Path(tree).rglob("*.ko*")}
        builtin = Path(tree) / "modules.builtin"
        lines = builtin.read_text().split() if builtin.exists() else []
        self.builtin = {module_name(Path(line)) for line in lines}
        self.data = {}

    def load(self, name):
        """Return the bytes of a module, None when it is built in."""
        if name in self.builtin or name not in self.paths:
            return None
        if name not in self.data:
            self.data[name] = read_module(self.paths[name])
        return self.data[name]

    def order(self, name):
        """Return the modules to insert for name, dependencies first; empty when built in."""
        data = self.load(name)
        if data is None:
            return []
        match = re.search(rb"\0depends=([^\0]*)\0", data)
        wanted = []
        for dep in match.group(1).decode().split(",") if match else []:
            if dep:
                wanted += [m for m in self.order(dep) if m not in wanted]
        return wanted + [name]


def merged_order(modules, names):
    """Return the insertion order for several modules."""
    order = []
    for name in names:
        order += [m for m in modules.order(name) if m not in order]
    return order


def shared_objects(path):
    """Return the libraries a program or library loads, the dynamic loader among them."""
    out = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+) \(0x", out)


def python_files(prefix):
    """Yield (name below the root, source path) of the standard library's parts that go in."""
    for top, dirs, files in os.walk(prefix):
        dirs[:] = sorted(d for d in dirs if not PYTHON_SKIP.fullmatch(d))
        for name in sorted(files):
            if name.endswith((".py", ".so")) and not PYTHON_SKIP.fullmatch(name):
                yield Path(top) / name


def compiled(path):
    """Return a python source file compiled for import without the source."""
    code = compile(path.read_bytes(), "/" + str(path.name), "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def add_program(archive, source, name=None):
    """Add a program with the libraries it needs, each under its own path."""
    source = str(source)
    archive.add_file(name or source, os.path.realpath(source))
    for library in shared_objects(source):
        archive.add_file(library, os.path.realpath(library))


def add_python(archive):
    """Add the interpreter and the parts of its library that tests use."""
    real = os.path.realpath(PYTHON)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    add_program(archive, real, PYTHON)
    prefix = f"/usr/lib/{version}"
    for path in python_files(prefix):
        if path.suffix == ".so":
            add_program(archive, path)
        else:
            archive.add_data(str(path) + "c", compiled(path))
    # Where the interpreter looks to find out its prefix.
    archive.add_data(prefix + "/os.py", Path(prefix, "os.py").read_bytes())
    archive.add_dir(prefix + "/lib-dynload")


def add_modules(archive, tree):
    """Add the kernel modules, the list inserted at boot and an order for each other one."""
    modules = Modules(tree)
    for name in EXTRA_MODULES:
        archive.add_data(f"modules/{name}.order", (" ".join(modules.order(name)) + "\n").encode())
    boot = "\n".join(merged_order(modules, BOOT_MODULES)) + "\n"
    archive.add_data("modules/boot", boot.encode())
    for name in merged_order(modules, BOOT_MODULES + EXTRA_MODULES):
        archive.add_data(f"modules/{name}.ko", modules.load(name))


def build(tree, target):
    """Write the initramfs for a module tree."""
    with open(target, "wb") as out:
        archive = cpio.Writer(out)
        for name in ("dev", "proc", "sys", "tmp", "run", "root", "etc", "sbin"):
            archive.add_dir(name)
        archive.add_file("bin/busybox", shutil.which("busybox"))
        applets = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True)
        for applet in applets.stdout.split():
            if applet not in ("busybox", "modprobe", "nc"):
                archive.add_link(f"bin/{applet}", "busybox")
        archive.add_data("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        archive.add_data("init", (GUEST_DIR / "init").read_bytes(), 0o755)
        archive.add_data("bin/load", (GUEST_DIR / "load").read_bytes(), 0o755)
        archive.add_data("agent.py", (GUEST_DIR / "agent.py").read_bytes())
        add_python(archive)
        for program in PROGRAMS:
            add_program(archive, f"/usr/bin/{program}")
        archive.add_link("usr/bin/nc", "ncat")
        archive.add_file(UNWINDER, os.path.realpath(UNWINDER))
        add_modules(archive, tree)
        archive.close()


def fingerprint(tree):
    """Return a name for the initramfs made of the inputs' sizes and times."""
    inputs = [Path(__file__), Path(cpio.__file__), Path(PYTHON).resolve(),
              Path(shutil.which("busybox") or "/"), *sorted(GUEST_DIR.glob("*")), Path(tree)]
    inputs += [Path(f"/usr/bin/{program}") for program in PROGRAMS]
    digest = hashlib.sha256(str(LAYOUT).encode())
    for path in inputs:
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def ensure(tree, cache):
    """Return the path of the initramfs for a module tree, building it if the cache has none."""
    target = Path(cache) / "initramfs" / f"{Path(tree).name}-{fingerprint(tree)}.cpio"
    if target.exists():
        os.utime(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for stale in target.parent.glob("*"):
        # Not at once: another run of the tests may still boot from it.
        if stale.stat().st_mtime < time.time() - KEEP_SECONDS:
            stale.unlink()
    temporary = target.with_suffix(f".{os.getpid()}")
    subprocess.run([PYTHON, "-I", __file__, str(tree), str(temporary)], check=True)
    temporary.rename(target)
    return target


def main():
    """Build one initramfs; run by PYTHON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("modules")
    parser.add_argument("target")
    args = parser.parse_args()
    build(args.modules, args.target)


if __name__ == "__main__":
    main()
