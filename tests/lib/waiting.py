# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Waiting for conditions while every emulated guest of the test keeps running.

Tests are single-threaded: whoever waits for anything waits here, and meanwhile
the guests answer their interrupts. A guest is only given a turn when one of its
call descriptors was signalled, so that a notification the device owes and does
not send makes the wait fail instead of being papered over by polling.
"""

import os
import select
import time

# Deadlines are for hangs only; a slow machine or a sanitizer may stretch them.
SCALE = float(os.environ.get("VDV_TIME_SCALE", "1"))
DEFAULT_TIMEOUT = 10.0
ACCEPTS = 1 << 16  # __SO_ACCEPTCON among the flags of /proc/net/unix

_pumps = []
_living = []


class Timeout(AssertionError):
    """A condition did not come true before its deadline."""


def register(pump):
    """Add an object with fds() and pump() to everything that is kept running."""
    _pumps.append(pump)


def unregister(pump):
    if pump in _pumps:
        _pumps.remove(pump)


def unregister_all():
    _pumps.clear()
    _living.clear()


def watch(daemon):
    """Let whoever waits hear of it when this daemon crashes: then nothing will come true."""
    _living.append(daemon)


def see_who_crashed():
    for daemon in _living:
        if daemon.has_crashed():
            raise Timeout(f"the daemon died ({daemon.proc.returncode}):\n{daemon.stderr()}")


def pump_once(timeout_ms=0, readers=(), writers=()):
    """Sleep until something happens, then let the guests run."""
    poller = select.poll()
    for sock in readers:
        poller.register(sock, select.POLLIN)
    for sock in writers:
        poller.register(sock, select.POLLOUT)
    for pump in list(_pumps):
        for fd in pump.fds():
            poller.register(fd, select.POLLIN)
    ready = {fd for fd, _ in poller.poll(timeout_ms)}
    for pump in list(_pumps):
        if ready.intersection(pump.fds()):
            pump.pump()


def until(cond, what="condition", timeout=DEFAULT_TIMEOUT, readers=(), writers=()):
    """Run everything until cond() is true and return its value."""
    deadline = time.monotonic() + timeout * SCALE
    while True:
        value = cond()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Timeout(f"gave up waiting for {what() if callable(what) else what}")
        see_who_crashed()
        pump_once(5, readers, writers)


def run_for(seconds):
    """Keep the guests running for a while (for measuring, not for synchronising)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pump_once(5)


def listens(path):
    """Whether a Unix socket takes connections there: its path is seen before it does."""
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
        return any(int(line.split()[3], 16) & ACCEPTS and line.rstrip("\n").endswith(f" {path}")
                   for line in table.readlines()[1:])
