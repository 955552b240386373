# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The project's files as a release would hold them: what git knows or would take."""

import os
import re
import shutil
import subprocess

from daemon import ROOT


def copy_sources(folder):
    """Copy them into a folder, which is made; return it."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.splitlines()
    os.makedirs(folder)
    for name in listed:
        source, copy = os.path.join(ROOT, name), os.path.join(folder, name)
        if os.path.isfile(source):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(source, copy)
    return folder


def version():
    """The project's version, as meson.build has it."""
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as file:
        return re.search(r"version: '([\d.]+)'", file.read()).group(1)
