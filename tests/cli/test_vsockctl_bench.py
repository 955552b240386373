# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl bench: the client against its own server, which runs under vsockctl run."""

import json
import os
import re
import socket
import subprocess
import threading

import pytest

import ctl
from preloaded import LIMIT, Guests

PORT = 5210
FIGURES = {"to_guest_gbps", "from_guest_gbps", "round_trip_p50_us", "round_trip_p99_us",
           "connections_per_s"}


@pytest.fixture
def guests(tmp_path, monkeypatch):
    """The server is instrumented where vsockctl is, and vsockctl run loads a library before it."""
    options = os.environ.get("ASAN_OPTIONS", "")
    monkeypatch.setenv("ASAN_OPTIONS", f"{options}:verify_asan_link_order=0")
    made = Guests(tmp_path)
    yield made
    made.close()


def copy(source, sink):
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()
        source.close()


def join(one, other):
    """Carry bytes both ways up to the ends."""
    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(LIMIT)
    other.close()


def bench(guests, *options):
    argv = [ctl.binary(), "bench", "--uds", guests.three.path, "--seconds", "1", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)


def serve(guests, *port):
    """The server listens for guests: what the client asks guest 3 for is led there."""
    number = int(port[0]) if port else PORT
    guests.start(ctl.binary(), "bench", "--serve", *port)
    guests.wait_port(number)
    guests.three.ports[number] = lambda sock: join(sock, guests.three.guest_connect(number))


def test_figures(guests):
    serve(guests)
    done = bench(guests, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) == FIGURES
    assert all(value > 0 for value in figures.values()), figures
    assert figures["round_trip_p50_us"] <= figures["round_trip_p99_us"]


def test_text_and_another_port(guests):
    serve(guests, "77")
    done = bench(guests, "77")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"to guest +[\d.]+ Gb/s\nfrom guest +[\d.]+ Gb/s\n"
                        r"round trip +[\d.]+ us p50, [\d.]+ us p99\nconnections +\d+ /s\n",
                        done.stdout)


def test_nobody_or_another_program(guests):
    done = bench(guests)
    assert done.returncode == 1 and "refuses port 5210" in done.stderr
    guests.three.ports[PORT] = lambda sock: sock.recv(1)  # and closes
    done = bench(guests)
    assert done.returncode == 1 and "does not answer as" in done.stderr and not done.stdout


@pytest.mark.parametrize("argv", [["3", "x"], ["--serve", "80", "81"], []])
def test_bad_command_line(argv):
    done = subprocess.run([ctl.binary(), "bench", *argv], capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
