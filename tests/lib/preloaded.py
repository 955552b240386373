# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Programs under vsockctl run, with a stand-in for two guests."""

import os
import subprocess
import sys

import ctl
from daemon import listening_paths
from hybrid import Hybrid
from waiting import SCALE, until

LIMIT = 60 * SCALE

class Guests:
    """Guests 3 and 4 by their paths."""

    def __init__(self, directory):
        self.dir = directory
        self.three = Hybrid(directory / "vm3.vsock")
        self.four = Hybrid(directory / "vm4.vsock")
        self.running = []

    def command(self, argv):
        return [ctl.binary(), "run", "--uds", f"3={self.three.path}",
                f"--uds=4={self.four.path}", "--", *argv]

    def run(self, *argv, stdin=b""):
        return subprocess.run(self.command(argv), input=stdin, capture_output=True, timeout=LIMIT,
                              check=False)

    def python(self, code):
        done = self.run(sys.executable, "-c", PRELUDE + code)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().splitlines()

    def start(self, *argv):
        child = subprocess.Popen(self.command(argv), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.running.append(child)
        return child

    def start_python(self, code):
        return self.start(sys.executable, "-uc", PRELUDE + code)

    def wait_port(self, port):
        paths = {f"{guest.path}_{port}" for guest in (self.three, self.four)}
        until(lambda: paths <= listening_paths(), f"the listeners of port {port}", 30)

    def has_port(self, port):
        return any(os.path.exists(f"{guest.path}_{port}") for guest in (self.three, self.four))

    def close(self):
        for child in self.running:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                pipe.close()
        self.three.close()
        self.four.close()


PRELUDE = """
import errno, os, select, socket, struct, sys
ANY = socket.VMADDR_CID_ANY
def new(): return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
def connected(cid, port):
    sock = new()
    sock.connect((cid, port))
    return sock
def listening(port):
    sock = new()
    sock.bind((ANY, port))
    sock.listen()
    return sock
def error(call, *args):
    try:
        call(*args)
    except OSError as err:
        return errno.errorcode[err.errno]
"""
