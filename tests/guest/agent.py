# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Agent of a test guest: runs commands for the host over a virtio-serial port.

The port is independent of the vsock device under test. Every message is a frame: two little-endian
32-bit lengths, a JSON object and raw bytes. The agent announces itself with MAGIC, so that the host
can find the first frame after a reboot.

Requests carry "op" and "id"; what happens to a process is told in frames with the same id:
  spawn {argv}        run a program            -> out/err frames, then exit {code}
  call {func, args}   run a function of the helper module /run/peer.py in a forked process
                                               -> out/err frames, then exit {code, result|error}
  stdin {of} + bytes  write to its standard input; no bytes close it
  kill {of, sig}      send it a signal
  put {path, mode, append} + bytes             -> done
  get {path}                                   -> done + bytes
  sync {}                                      -> done
It is process 1 too: it reaps whatever dies, and must not die itself.
"""

import importlib.util
import json
import os
import selectors
import signal
import struct
import sys
import traceback

PORT = "/dev/vport0p1"
MAGIC = b"\0vdv-agent-ready\0"
CHUNK = 65536


class Process:
    """One running program or function, with its pipes."""

    def __init__(self, ident, pid, stdin):
        self.ident = ident
        self.pid = pid
        self.stdin = stdin
        self.pending = bytearray()
        self.close_stdin = False
        self.outputs = set()
        self.result = b""
        self.code = None


class Agent:
    """The message loop: one thread, one selector."""

    def __init__(self, port):
        self.port = port
        self.sel = selectors.DefaultSelector()
        self.procs = {}
        self.inbox = bytearray()
        self.helper = None
        self.sel.register(port, selectors.EVENT_READ, self.on_port)
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        os.set_blocking(wake_r, False)
        signal.set_wakeup_fd(wake_w)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake = wake_r
        self.sel.register(wake_r, selectors.EVENT_READ, self.on_child)

    def send(self, head, data=b""):
        """Send one frame to the host."""
        text = json.dumps(head).encode()
        view = memoryview(struct.pack("<II", len(text), len(data)) + text + data)
        while view:
            view = view[os.write(self.port, view[:32768]):]

    def on_port(self, _key):
        """Take in bytes from the host and carry out every complete frame."""
        data = os.read(self.port, CHUNK)
        self.inbox += data
        while len(self.inbox) >= 8:
            text_len, data_len = struct.unpack_from("<II", self.inbox)
            end = 8 + text_len + data_len
            if len(self.inbox) < end:
                return
            head = json.loads(bytes(self.inbox[8:8 + text_len]))
            payload = bytes(self.inbox[8 + text_len:end])
            del self.inbox[:end]
            self.dispatch(head, payload)

    def dispatch(self, head, payload):
        """Carry out one request; a failure is answered, not fatal."""
        try:
            getattr(self, "op_" + head["op"])(head, payload)
        except Exception as err:  # pylint: disable=broad-except
            self.send({"id": head.get("id"), "ev": "failed", "error": repr(err)})

    def op_sync(self, head, _payload):
        """Answer, so that the host knows the agent lives."""
        self.send({"id": head["id"], "ev": "done"})

    def op_put(self, head, payload):
        """Write a file."""
        os.makedirs(os.path.dirname(head["path"]) or "/", exist_ok=True)
        with open(head["path"], "ab" if head.get("append") else "wb") as out:
            out.write(payload)
        os.chmod(head["path"], head.get("mode", 0o644))
        self.send({"id": head["id"], "ev": "done"})

    def op_get(self, head, _payload):
        """Read a file."""
        with open(head["path"], "rb") as src:
            self.send({"id": head["id"], "ev": "done"}, src.read())

    def op_kill(self, head, _payload):
        """Signal a process."""
        proc = self.procs.get(head["of"])
        if proc and proc.code is None:
            os.kill(proc.pid, head["sig"])

    def op_stdin(self, head, payload):
        """Queue bytes for a process's standard input, or close it."""
        proc = self.procs.get(head["of"])
        if proc is None or proc.stdin is None:
            return
        proc.pending += payload
        proc.close_stdin = proc.close_stdin or not payload
        self.flush_stdin(proc)

    def flush_stdin(self, proc):
        """Write what the pipe takes; wait for room when it takes no more."""
        try:
            while proc.pending:
                del proc.pending[:os.write(proc.stdin, proc.pending)]
        except BlockingIOError:
            if proc.stdin not in self.sel.get_map():
                self.sel.register(proc.stdin, selectors.EVENT_WRITE,
                                  lambda _key: self.flush_stdin(proc))
            return
        except BrokenPipeError:
            proc.pending.clear()
        if proc.stdin in self.sel.get_map():
            self.sel.unregister(proc.stdin)
        if proc.close_stdin:
            os.close(proc.stdin)
            proc.stdin = None

    def start(self, ident, run):
        """Fork; run() in the child with pipes as its standard streams and a result pipe."""
        in_r, in_w = os.pipe()
        pipes = {"out": os.pipe(), "err": os.pipe(), "result": os.pipe()}
        pid = os.fork()
        if pid == 0:
            self.child(in_r, pipes, run)
        os.close(in_r)
        os.set_blocking(in_w, False)
        proc = Process(ident, pid, in_w)
        self.procs[ident] = proc
        for name, (read_end, write_end) in pipes.items():
            os.close(write_end)
            proc.outputs.add(read_end)
            self.sel.register(read_end, selectors.EVENT_READ,
                              lambda key, name=name: self.on_output(proc, name, key.fd))

    @staticmethod
    def child(in_r, pipes, run):
        """The forked side of start(): never returns."""
        code = 125
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            result = os.dup2(pipes["result"][1], 100, inheritable=False)
            for target, source in ((0, in_r), (1, pipes["out"][1]), (2, pipes["err"][1])):
                os.dup2(source, target)
            os.closerange(3, 100)
            os.closerange(101, 1024)
            code = run(result)
        except BaseException:  # pylint: disable=broad-except
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def op_spawn(self, head, _payload):
        """Run a program."""
        env = dict(os.environ, **head.get("env", {}))
        self.start(head["id"], lambda _result: os.execvpe(head["argv"][0], head["argv"], env))

    def op_call(self, head, _payload):
        """Run a function of the helper module."""
        helper = self.load_helper()

        def run(result):
            try:
                answer = {"result": getattr(helper, head["func"])(**head["args"])}
                code = 0
            except OSError as err:
                answer, code = {"errno": err.errno, "error": repr(err)}, 1
            os.write(result, json.dumps(answer).encode())
            return code

        self.start(head["id"], run)

    def load_helper(self):
        """Import the helper module once the host has put it in place."""
        if self.helper is None:
            spec = importlib.util.spec_from_file_location("peer", "/run/peer.py")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            self.helper = module
        return self.helper

    def on_output(self, proc, name, fd):
        """Pass on what a process wrote."""
        data = os.read(fd, CHUNK)
        if data and name == "result":
            proc.result += data
        elif data:
            self.send({"id": proc.ident, "ev": name}, data)
        else:
            self.sel.unregister(fd)
            os.close(fd)
            proc.outputs.discard(fd)
            self.finish(proc)

    def on_child(self, _key):
        """Reap the dead."""
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for proc in list(self.procs.values()):
                if proc.pid == pid and proc.code is None:
                    proc.code = os.waitstatus_to_exitcode(status)
                    self.finish(proc)

    def finish(self, proc):
        """Report the end once the process is reaped and its output is read."""
        if proc.code is None or proc.outputs:
            return
        if proc.stdin is not None:
            if proc.stdin in self.sel.get_map():
                self.sel.unregister(proc.stdin)
            os.close(proc.stdin)
        self.procs.pop(proc.ident, None)
        self.send({"id": proc.ident, "ev": "exit", "code": proc.code,
                   "answer": json.loads(proc.result) if proc.result else None})

    def run(self):
        """Serve for ever."""
        while True:
            for key, _events in self.sel.select():
                if key.fd in self.sel.get_map():
                    key.data(key)


def main():
    """Open the port, announce, serve."""
    port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
    os.write(port, MAGIC)
    agent = Agent(port)
    while True:
        try:
            agent.run()
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()


main()
