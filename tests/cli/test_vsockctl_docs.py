# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl's help, man page and completions name the same commands and options."""

import os
import re
import shutil
import subprocess

import pytest

import ctl
from daemon import ROOT

COMPLETIONS = ("vsockctl.bash", "_vsockctl", "vsockctl.fish")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def help_text():
    done = subprocess.run([ctl.binary(), "--help"], capture_output=True, text=True, timeout=60,
                          check=True)
    return done.stdout


def commands():
    found = re.findall(r"^  ([a-z][a-z-]*) ", help_text(), re.M)
    assert len(found) >= 16
    return found


def options():
    return sorted(set(re.findall(r"^  (?:-\w, )?--([a-z-]+)", help_text(), re.M)))


def test_help():
    text = help_text()
    assert all(len(line) <= 88 for line in text.splitlines())
    assert {"connect", "run", "list", "drain"} <= set(commands())
    version = subprocess.run([ctl.binary(), "--version"], capture_output=True, text=True,
                             timeout=60, check=True).stdout
    assert re.fullmatch(r"vsockctl \d+\.\d+\.\d+\n", version)


def test_man_page():
    text = read("docs", "vsockctl.1")
    assert sorted(set(re.findall(r"^\.It Cm ([a-z-]+)", text, re.M))) == sorted(commands())
    described = set(re.findall(r"^\.It (?:Fl \w , )?Fl \\-([a-z-]+)", text, re.M))
    assert sorted(described) == options()


@pytest.mark.parametrize("name", COMPLETIONS)
def test_completions(name):
    text = read("tools", "completions", name)
    for command in commands():
        assert re.search(rf"(?<![\w-]){command}(?![\w-])", text), command
    for option in options():
        assert re.search(rf"(?:--|-l ){option}\b", text), option


def test_bash_completion_works():
    def complete(*words):
        script = (f"source {ROOT}/tools/completions/vsockctl.bash; COMP_WORDS=(\"$@\"); "
                  "COMP_CWORD=$(($# - 1)); _vsockctl; echo ${COMPREPLY[*]}")
        done = subprocess.run(["bash", "-c", script, "bash", "vsockctl", *words], text=True,
                              capture_output=True, timeout=60, check=True)
        return done.stdout.split()
    assert sorted(complete("")) == sorted(commands())
    assert complete("con") == ["connect", "connections"]
    assert complete("top", "--so") == ["--sort"]
    assert complete("top", "--sort", "c") == ["cid", "conns"]
    assert complete("log-level", "de") == ["debug"]


@pytest.mark.parametrize("shell,name", [("zsh", "_vsockctl"), ("fish", "vsockctl.fish")])
def test_completion_is_well_formed(shell, name):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n", os.path.join(ROOT, "tools", "completions", name)], check=True,
                   timeout=60)


def test_install(tmp_path):
    """The library is found where it is installed, seen from the program."""
    done = subprocess.run(["meson", "install", "-C", ctl.build_dir(), "--no-rebuild",
                           "--destdir", str(tmp_path)], capture_output=True, timeout=120,
                          check=False)
    assert done.returncode == 0, done.stderr
    program = next(tmp_path.rglob("bin/vsockctl"))
    found = subprocess.run([program, "run", "--uds", "3=/x", "--", "sh", "-c", "echo $LD_PRELOAD"],
                           capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert os.path.realpath(found).startswith(str(tmp_path)) and "/lib/" in found
    for name in ("man1/vsockctl.1", "completions/vsockctl", "site-functions/_vsockctl",
                 "vendor_completions.d/vsockctl.fish"):
        assert list(tmp_path.rglob(name)), name
