# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the build has put into the program against exploits, read by readelf.

A build with sanitizers, without optimisation or for another processor lacks some
of it on purpose; those tests are skipped there.
"""

import platform
import re
import subprocess

import pytest

from daemon import binary


def readelf(*options):
    return subprocess.run(["readelf", "-W", *options, binary()], capture_output=True, text=True,
                          check=True, timeout=60).stdout


@pytest.fixture(name="symbols", scope="module")
def fixture_symbols():
    return set(re.findall(r"(\w+)@GLIBC", readelf("--dyn-syms")))


def is_instrumented():
    return re.search(r"__(asan|tsan|ubsan|msan|gcov)_", readelf("--syms")) is not None


plain_only = pytest.mark.skipif(is_instrumented(), reason="instrumented build")


def test_position_independent():
    assert re.search(r"Type:\s+DYN", readelf("--file-header"))
    assert re.search(r"FLAGS_1.*\bPIE\b", readelf("--dynamic"))


def test_relocations_are_read_only():
    assert "GNU_RELRO" in readelf("--program-headers")
    assert re.search(r"\bBIND_NOW\b|FLAGS_1.*\bNOW\b", readelf("--dynamic"))


def test_nothing_is_writable_and_executable():
    segments = re.findall(r"^\s+(LOAD|GNU_STACK)\s.*?\s([R ][W ][E ])\s", readelf("-l"), re.M)
    assert {kind for kind, _ in segments} == {"LOAD", "GNU_STACK"}
    assert [flags for _, flags in segments if "W" in flags and "E" in flags] == []


def test_no_search_path():
    assert not re.search(r"\((RPATH|RUNPATH)\)", readelf("--dynamic"))


@plain_only
def test_fortified(symbols):
    """At least what is certainly called with a size the compiler knows."""
    assert "__snprintf_chk" in symbols or "__vsnprintf_chk" in symbols, sorted(symbols)


@plain_only
def test_stack_protector(symbols):
    assert "__stack_chk_fail" in symbols


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 has CET")
def test_control_flow_protection():
    """A shadow stack may be used, and calls by pointer find their mark."""
    assert re.search(r"x86 feature:.*\bSHSTK\b", readelf("--notes"))
    symbol = re.search(r" (\w+) +\d+ FUNC +GLOBAL +DEFAULT +\d+ main$", readelf("--syms"), re.M)
    if symbol is None:
        pytest.skip("a stripped program")
    address, data = symbol.group(1), readelf("-x", ".text")
    start = int(re.search(r"^ +0x(\w+) ", data, re.M).group(1), 16)
    code = "".join("".join(line[13:48].split()) for line in data.splitlines()
                   if line.startswith("  0x"))
    at = 2 * (int(address, 16) - start)
    assert code[at:at + 8] == "f30f1efa"  # endbr64


def test_libraries():
    """Each library is code that may be attacked: none comes in unnoticed."""
    names = {name.split(".so")[0] for name in re.findall(r"\(NEEDED\).*\[(.*)\]",
                                                         readelf("--dynamic"))}
    if is_instrumented():  # what cannot be reached is left out there
        names.add("libseccomp")
    sanitizers = {"libasan", "libubsan", "libtsan", "libstdc++", "libm", "libgcc_s", "libdl",
                  "librt", "libpthread", "ld-linux-x86-64", "libresolv"}
    assert names - (sanitizers if is_instrumented() else set()) == {
        "libc", "libyaml-0", "libseccomp", "libjansson", "libmicrohttpd"}
