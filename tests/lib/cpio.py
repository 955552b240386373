# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Write "newc" cpio archives, the form of a Linux initramfs; knows nothing of what goes in."""

import os
import stat


class Writer:
    """An archive under construction; parent directories are added by themselves."""

    def __init__(self, out):
        self.out = out
        self.inode = 0
        self.seen = set()

    def _entry(self, name, mode, data=b""):
        self.inode += 1
        name_bytes = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name_bytes), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + name_bytes
        self.out.write(head + bytes(-len(head) % 4))
        self.out.write(data + bytes(-len(data) % 4))

    def _parents(self, name):
        parent = os.path.dirname(name)
        if parent:
            self.add_dir(parent)

    def add_dir(self, name):
        """Add a directory and its parents unless they are there."""
        name = name.strip("/")
        if name in self.seen:
            return
        self._parents(name)
        self.seen.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def add_data(self, name, data, mode=0o644):
        """Add a file with the given content unless the name is taken."""
        name = name.strip("/")
        if name in self.seen:
            return
        self._parents(name)
        self.seen.add(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def add_file(self, name, source):
        """Add a copy of a file with its permission bits."""
        with open(source, "rb") as src:
            self.add_data(name, src.read(), stat.S_IMODE(os.stat(source).st_mode))

    def add_link(self, name, target):
        """Add a symbolic link."""
        name = name.strip("/")
        if name in self.seen:
            return
        self._parents(name)
        self.seen.add(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def close(self):
        """Write the trailer; the file itself stays open."""
        self._entry("TRAILER!!!", 0)
