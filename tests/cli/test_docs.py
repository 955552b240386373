# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The documents say what is true: options, files, links, constants, command lines.

A block of the README with the info string "sh host" is what a person types on the
host; where it starts the daemon it is run here as written, but for the directory
of its sockets. What is typed in guests is run by tests/e2e/test_examples.py.
"""

import glob
import os
import re
import shlex
import socket
import subprocess
import sys

import pytest

from daemon import ROOT, binary, is_socket
from waiting import until

SOURCES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.M | re.S)
PATH = re.compile(r"(?<![\w/-])(?:src|tools|docs|scripts|tests|fuzz|LICENSES|\.ci)/[\w./-]*\w"
                  r"(?=[`\s,;:)|]|$)")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def documents():
    found = list(SOURCES)
    for folder, _, names in os.walk(os.path.join(ROOT, "docs")):
        found += [os.path.relpath(os.path.join(folder, name), ROOT)
                  for name in names if name.endswith(".md")]
    return sorted(found)


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return file.read()


def prose(name):
    """A document without its fenced blocks."""
    return FENCE.sub("", read(name))


def blocks(name, info):
    return [body for head, body in FENCE.findall(read(name)) if head.strip() == info]


def options():
    text = subprocess.run([binary(), "--help"], capture_output=True, text=True, timeout=60,
                          check=True).stdout
    found = re.findall(r"^ +(?:-\w, )?--([a-z-]+)", text, re.M)
    assert found
    return found, text


def anchors(name):
    """The anchors a renderer makes of the headings."""
    titles = re.findall(r"^#+ +(.+)$", prose(name), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_option_is_described():
    found, text = options()
    readme, man = read("README.md"), read("docs/vhost-device-vsock.1")
    for option in found:
        assert re.search(rf"^\| .*`--{option}\b", readme, re.M), f"README: --{option}"
        assert rf"Fl \-{option}" in man, f"man page: --{option}"
    for option, default in re.findall(r"--([a-z-]+) \w+\n(?: {10}.*\n)*? {10}\[default: (\d+)\]",
                                      text):
        assert re.search(rf"^\| `--{option} \w+` \| {default} \|", readme, re.M), option


def test_no_option_is_invented():
    """What the README calls an option of ours is one."""
    table = re.findall(r"^\| (?:`-\w`, )?`--([a-z-]+)", read("README.md"), re.M)
    assert sorted(table) == sorted(options()[0])


@pytest.mark.parametrize("name", documents())
def test_files_exist(name):
    for path in PATH.findall(prose(name)):
        assert os.path.exists(os.path.join(ROOT, path)), f"{name} names {path}"


@pytest.mark.parametrize("name", documents())
def test_links_resolve(name):
    for target in LINK.findall(prose(name)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        linked = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
        assert os.path.exists(os.path.join(ROOT, linked)), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name} links to {target}"


@pytest.mark.parametrize("name", documents())
def test_markdown_is_well_formed(name):
    """Fences are closed, the rows of a table have as many cells as its head."""
    assert len(re.findall(r"^```", read(name), re.M)) % 2 == 0
    width = 0
    for line in prose(name).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.sub(r"`[^`]*`", "", line).strip().strip("|").split("|"))
        assert width in (0, cells), f"{name}: {line}"
        width = cells


def test_architecture_names_every_source():
    text = read("docs/architecture.md")
    sources = [os.path.relpath(os.path.join(folder, name), ROOT)
               for top in ("src", "tools") for folder, _, names in os.walk(os.path.join(ROOT, top))
               for name in names if name.endswith((".c", ".h"))]
    assert sources
    assert [path for path in sorted(sources) if f"`{path}`" not in text] == []


def test_constants_of_the_readme_exist():
    text = "".join(read(os.path.relpath(os.path.join(folder, name), ROOT))
                   for folder, _, names in os.walk(os.path.join(ROOT, "src"))
                   for name in names if name.endswith((".c", ".h")))
    constants = re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)` \|$", read("README.md"), re.M)
    assert len(constants) > 10
    for constant in constants:
        assert re.search(rf"^#define {constant}\b", text, re.M), constant


def literals():
    """The text of the sources, adjacent string literals joined."""
    text = ""
    for path in glob.glob(os.path.join(ROOT, "src", "**", "*.c"), recursive=True):
        with open(path, encoding="utf-8") as file:
            text += re.sub(r'"\s*"', "", file.read())
    return text


def test_quoted_lines_are_logged():
    """What the page on troubles says that the daemon says, it can say; QEMU's lines apart."""
    page = " ".join(prose("docs/troubleshooting.md").split())
    sources = literals()
    quoted = [line for before, line in re.findall(r'(\S+) "([^"]+)"|$', page.replace('**"', '** "'))
              if line and before != "says"]
    assert len(quoted) > 8
    for line in quoted:
        for piece in line.split("..."):
            assert piece in sources or line == "Bad system call", line


def test_metrics_of_troubles_exist():
    metrics = set(re.findall(r"`(vhost_device_vsock_\w+)`", read("docs/troubleshooting.md")))
    assert len(metrics) > 5
    assert metrics <= set(re.findall(r"`(vhost_device_vsock_\w+)`", read("docs/metrics.md")))


def test_conformance():
    done = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "check-conformance")],
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


# command lines

def daemon_commands():
    """Command lines of the README that start the daemon."""
    for body in blocks("README.md", "sh host"):
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith("vhost-device-vsock "):
                yield " ".join(line.split())


def has_vsock(ports):
    """Whether this host lets us listen on AF_VSOCK."""
    try:
        for port in ports:
            with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
                sock.bind((socket.VMADDR_CID_ANY, port))
    except OSError:
        return False
    return True


def serve(args, sockets):
    """Run the daemon until it has all its sockets; it must then end well."""
    with subprocess.Popen([binary(), *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as child:
        try:
            until(lambda: child.poll() is not None or all(map(is_socket, sockets)), "the sockets")
            assert child.poll() is None, child.stderr.read()
            child.terminate()
            assert child.wait(10) == 0, child.stderr.read()
        finally:
            child.kill()
    assert not any(map(os.path.lexists, sockets))


def test_readme_starts_the_daemon_in_all_ways():
    lines = " ".join(daemon_commands())
    for option in ("--socket", "--vm", "--config", "forward-cid"):
        assert option in lines


@pytest.mark.parametrize("command", list(daemon_commands()))
def test_readme_command(command, tmp_path):
    """Each way to start the daemon that the README shows."""
    files = {"/tmp/vms.yaml": blocks("README.md", "yaml")[0]}
    for name, text in files.items():
        with open(name.replace("/tmp", str(tmp_path)), "w", encoding="utf-8") as file:
            file.write(text.replace("/tmp/", f"{tmp_path}/"))
    what = command + "".join(text for name, text in files.items() if name in command)
    ports = re.findall(r"forward-listen[=:] ?([\d+]+)", what)
    if not has_vsock([int(port) for group in ports for port in group.split("+")]):
        pytest.skip("no AF_VSOCK on this host")
    sockets = [path.replace("/tmp", str(tmp_path))
               for path in re.findall(r"/tmp/[\w.]+\.(?:socket|vsock)\b", what)]
    assert sockets
    serve(shlex.split(command.replace("/tmp/", f"{tmp_path}/"))[1:], sockets)
