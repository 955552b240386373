# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The blocks of docs/recipes.md, as they are written there."""

import os
import re
import shlex

from daemon import ROOT

PATH = os.path.join(ROOT, "docs", "recipes.md")
FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.M | re.S)


def text():
    with open(PATH, encoding="utf-8") as file:
        return file.read()


def blocks(info):
    """The bodies of all blocks with this info string."""
    found = [body for head, body in FENCE.findall(text()) if head.strip() == info]
    assert found, f"{PATH} has no block '{info}'"
    return found


def block(info):
    """The only one."""
    (found,) = blocks(info)
    return found


def commands(body):
    """The command lines of a block, each as a list of words."""
    return [shlex.split(line) for line in body.replace("\\\n", " ").splitlines() if line.strip()]


def sections():
    """{heading: text}"""
    parts = re.split(r"^## (.+)$", FENCE.sub("", text()), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))
