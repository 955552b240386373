# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Where vsockctl and its library are: beside the daemon under test, else $VDV_BUILD or build/."""

import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build_dir():
    beside = os.path.dirname(os.environ.get("VDV_BIN", ""))
    if os.path.exists(os.path.join(beside, "vsockctl")):
        return os.path.abspath(beside)
    return os.path.join(ROOT, os.environ.get("VDV_BUILD") or "build")


def binary():
    return os.path.join(build_dir(), "vsockctl")
