# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""vsockctl run: programs with AF_VSOCK sockets, unmodified, against a stand-in for two guests.

With the real daemon: tests/vu/test_vu_vsockctl.py.
"""

import os
import socket
import subprocess
import threading

import pytest

import ctl
from fakectl import FakeControl
from hybrid import digest, recv_all
from preloaded import LIMIT, Guests
from waiting import until

ANY = 0xffffffff


@pytest.fixture
def guests(tmp_path):
    made = Guests(tmp_path)
    yield made
    made.close()


def reverse(sock):
    sock.sendall(recv_all(sock)[::-1])


# connecting

@pytest.mark.parametrize("argv", [["ncat", "--vsock", "3", "80"],
                                  ["socat", "-", "VSOCK-CONNECT:3:80"]],
                         ids=["ncat", "socat"])
@pytest.mark.parametrize("split", [False, True], ids=["", "split"])
def test_client_program(guests, argv, split):
    guests.three.ports[80] = reverse
    guests.three.split = split
    data = os.urandom(300_000)
    done = guests.run(*argv, stdin=data)
    assert (done.returncode, done.stdout) == (0, data[::-1]), done.stderr
    assert guests.three.lines == [b"CONNECT 80\n"] and guests.four.lines == []


def test_client_across_fork_and_exec(guests):
    guests.three.ports[80] = reverse
    lines = guests.python("""
sock = new()
sock.connect((3, 80))
pid = os.fork()
if pid == 0:
    print(sock.getpeername(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
os.set_inheritable(sock.fileno(), True)
os.execv(sys.executable, [sys.executable, "-c",
         f"import socket; s = socket.socket(fileno={sock.fileno()}); print(s.family.name, "
         f"s.getpeername()); s.sendall(b'abc'); s.shutdown(1); print(s.recv(9))"])
""")
    assert lines == ["(3, 80)", "AF_VSOCK (3, 80)", "b'cba'"]


def test_addresses_before_and_after(guests):
    guests.three.ports[80] = reverse
    lines = guests.python("""
sock = new()
print(sock.family.name, sock.getsockname(), sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN))
print(error(sock.getpeername))
sock.connect((3, 80))
print(sock.getsockname(), sock.getpeername(), error(sock.connect, (3, 80)))
print(sock.dup().getpeername(), socket.socket(fileno=os.dup(sock.fileno())).family.name)
""")
    assert lines == [f"AF_VSOCK ({ANY}, {ANY}) {int(socket.AF_VSOCK)}", "ENOTCONN",
                     "(2, 1073741824) (3, 80) EISCONN", "(3, 80) AF_VSOCK"]


def test_errors_of_connect(guests):
    guests.three.ports[80] = reverse
    lines = guests.python("""
sock = new()
print(error(sock.connect, (3, 81)), error(sock.connect, (9, 80)), error(sock.connect, (3, 80)))
sock.sendall(b"abc")
sock.shutdown(socket.SHUT_WR)
print(sock.recv(9))
print(error(socket.socket, socket.AF_VSOCK, socket.SOCK_DGRAM))
seq = socket.socket(socket.AF_VSOCK, socket.SOCK_SEQPACKET)
print(seq.type.name, error(seq.connect, (3, 80)))
print(error(connected(3, 80).bind, (ANY, 5)))
""")
    assert lines == ["ECONNRESET ENODEV None", "b'cba'", "ESOCKTNOSUPPORT",
                     "SOCK_SEQPACKET ENODEV", "EINVAL"]


def test_daemon_away(guests):
    guests.three.sock.shutdown(socket.SHUT_RDWR)
    assert guests.python("print(error(connected, 3, 80))") == ["ENODEV"]


@pytest.mark.parametrize("how", ["sock.setblocking(False)", "sock.settimeout(20)"])
def test_non_blocking_connect(guests, how):
    """It is done when it returns, and the answer's line is not seen."""
    guests.three.ports[80] = reverse
    guests.three.split = True
    lines = guests.python(f"""
sock = new()
{how}
print(sock.connect_ex((3, 80)), sock.getblocking())
print(select.select([], [sock], [], 10)[1] == [sock], select.select([sock], [], [], 0)[0])
print(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
sock.sendall(b"abc")
sock.shutdown(socket.SHUT_WR)
select.select([sock], [], [], 10)
print(sock.recv(10))
""")
    assert lines == [f"0 {'settimeout' in how}", "True []", "0", "b'cba'"]


def test_bound_client(guests):
    guests.three.ports[80] = reverse
    lines = guests.python("""
sock = new()
sock.bind((ANY, 700))
print(sock.getsockname(), error(new().bind, (ANY, 700)))
sock.connect((3, 80))
print(sock.getsockname(), sock.getpeername())
sock.sendall(b"abc"); sock.shutdown(1)
print(sock.recv(10))
""")
    assert lines == [f"({ANY}, 700) EADDRINUSE", "(2, 700) (3, 80)", "b'cba'"]


def test_options(guests):
    lines = guests.python("""
import fcntl
VS = socket.AF_VSOCK
sock = new()
sock.setsockopt(VS, socket.SO_VM_SOCKETS_BUFFER_SIZE, 65536)
print(sock.getsockopt(VS, socket.SO_VM_SOCKETS_BUFFER_SIZE), error(sock.getsockopt, VS, 99))
with open("/dev/vsock") as dev:
    print(struct.unpack("I", fcntl.ioctl(dev, 0x7B9, b"1234")))
for sock in (new(), listening(4000)):
    print(*(sock.getsockopt(socket.SOL_SOCKET, option) for option in
            (socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_ACCEPTCONN, socket.SO_ERROR)))
""")
    assert lines == ["262144 ENOPROTOOPT", "(2,)", "1 40 0 0", "1 40 1 0"]


def test_other_sockets_are_left_alone(guests):
    lines = guests.python("""
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
conn, addr = server.accept()
print(client.family.name, addr == client.getsockname(), error(new().connect, (3, 99)))
a, b = socket.socketpair()
a.sendall(b"x")
print(b.recv(1), b.family.name, b.getsockname() == "")
unix = socket.socket(socket.AF_UNIX)
unix.bind("here"); unix.listen()
print(unix.getsockname(), error(unix.connect, "nowhere"))
os.unlink("here")
""")
    assert lines == ["AF_INET True ECONNRESET", "b'x' AF_UNIX True", "here ENOENT"]


# listening

@pytest.mark.parametrize("argv,answer", [
    (["ncat", "--vsock", "-l", "-k", "7000", "--exec", "/bin/cat"], b"hello\n"),
    (["socat", "VSOCK-LISTEN:7000,fork", "EXEC:cat"], b"hello\n"),
    (["socat", "VSOCK-LISTEN:7000,fork", "SYSTEM:read a; echo got $a"], b"got hello\n"),
], ids=["ncat", "socat", "socat-system"])
def test_server_program(guests, argv, answer):
    """Both guests reach it, several times."""
    guests.start(*argv)
    guests.wait_port(7000)
    for guest in (guests.three, guests.four, guests.three):
        with guest.guest_connect(7000) as sock:
            sock.sendall(b"hello\n")
            assert sock.recv(100) == answer


def test_ncat_joins_the_first(guests):
    child = guests.start("ncat", "--vsock", "-l", "7000")
    guests.wait_port(7000)
    sock = guests.four.guest_connect(7000)
    sock.sendall(b"from the guest")
    assert child.stdout.read(14) == b"from the guest"
    child.stdin.write(b"to the guest")
    child.stdin.close()
    assert recv_all(sock) == b"to the guest"
    sock.close()  # ncat ends at once when the other end does
    assert child.wait(LIMIT) == 0
    assert not guests.has_port(7000)


def test_accept_tells_the_cid(guests):
    child = guests.start_python("""
door = listening(5000)
print(door.getsockname(), error(door.getpeername), error(listening, 5000))
for _ in range(4):
    conn, addr = door.accept()
    print(conn.family.name, addr[0], addr[1] > 0, conn.getpeername() == addr, conn.getsockname())
    conn.sendall(b"%d" % addr[0])
    conn.close()
""")
    guests.wait_port(5000)
    for guest, cid in ((guests.three, b"3"), (guests.four, b"4")) * 2:
        assert recv_all(guest.guest_connect(5000)) == cid
    out, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 0, err
    assert out.decode().splitlines() == [
        f"({ANY}, 5000) ENOTCONN EADDRINUSE",
        *[f"AF_VSOCK {cid} True True (2, 5000)" for cid in (3, 4, 3, 4)]]
    assert not guests.has_port(5000)


def test_any_port(guests):
    child = guests.start_python("""
door = new()
door.bind((socket.VMADDR_CID_HOST, socket.VMADDR_PORT_ANY))
print(door.getsockname()[1]); door.listen()
door.accept()[0].sendall(b"yes")
""")
    port = int(child.stdout.readline())
    assert 1024 <= port < 1 << 31
    guests.wait_port(port)
    assert recv_all(guests.three.guest_connect(port)) == b"yes"
    lines = guests.python("print(error(new().listen), error(new().bind, (7, 80)))")
    assert lines == ["EINVAL EADDRNOTAVAIL"]


def test_foreign_listener(guests):
    """A port that a program without the library has is in use; a stale path is not."""
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as stale:
        sock.bind(f"{guests.four.path}_5000")
        sock.listen()
        stale.bind(f"{guests.four.path}_5001")
        stale.close()
        lines = guests.python("print(error(listening, 5000), error(listening, 5001))")
    assert lines == ["EADDRINUSE None"]
    assert os.path.exists(f"{guests.four.path}_5000") and not guests.has_port(5001)


@pytest.mark.parametrize("poller", ["select", "poll", "epoll", "edge"])
def test_listener_in_pollers(guests, poller):
    ready = {"select": "select.select([door], [], [], 30)[0]",
             "poll": "(p := select.poll()).register(door, select.POLLIN) or p.poll(30000)",
             "epoll": "(p := select.epoll()).register(door, select.EPOLLIN) or p.poll(30)",
             "edge": "p.poll(30)"}[poller]
    child = guests.start_python(f"""
door = listening(5000)
door.setblocking(False)
if {poller == 'edge'}:
    p = select.epoll()
    p.register(door, select.EPOLLIN | select.EPOLLET)
print(error(door.accept))
accepted = 0
while accepted < 20:
    assert {ready}
    while not error(lambda: door.accept()[0].sendall(b"x")):
        accepted += 1
""")
    assert child.stdout.readline() == b"EAGAIN\n"
    for i in range(20):
        guest = guests.three if i % 2 else guests.four
        assert recv_all(guest.guest_connect(5000)) == b"x"
    assert child.wait(LIMIT) == 0, child.stderr.read()


def test_asyncio(guests):
    """A server and its clients in one event loop, many at a time."""
    guests.three.ports[80] = reverse
    child = guests.start_python("""
import asyncio
async def serve(reader, writer):
    writer.write((await reader.read())[::-1])
    writer.close()
async def ask(i):
    sock = new()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (3, 80))
    await loop.sock_sendall(sock, b"%d" % i)
    sock.shutdown(socket.SHUT_WR)
    return await loop.sock_recv(sock, 100)
async def main():
    server = await asyncio.start_server(serve, sock=listening(5000))
    answers = await asyncio.gather(*(ask(i) for i in range(50)))
    print(answers == [str(i)[::-1].encode() for i in range(50)])
    await asyncio.to_thread(sys.stdin.read)
    server.close()
asyncio.run(main())
""")
    guests.wait_port(5000)
    for guest in (guests.three, guests.four):
        with guest.guest_connect(5000) as sock:
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            assert recv_all(sock) == b"olleh"
    assert child.stdout.readline() == b"True\n"
    child.stdin.close()
    assert child.wait(LIMIT) == 0, child.stderr.read()
    assert not guests.has_port(5000)


def test_prefork_and_children(guests):
    """Workers that inherited the socket accept; no child removes it by ending."""
    child = guests.start_python("""
import subprocess
door = listening(5000)
subprocess.run(["true"], check=True)
subprocess.run([sys.executable, "-c", "pass"], check=True, close_fds=False)
if os.fork() == 0:
    door.close()
    sys.exit(0)
os.wait()
pids = []
for i in range(3):
    pid = os.fork()
    if pid == 0:
        for _ in range(5):
            conn, addr = door.accept()
            conn.sendall(b"%d" % addr[0])
            conn.close()
        sys.exit(0)
for i in range(3):
    assert os.wait()[1] == 0
path = os.environ["VSOCKCTL_GUESTS"].split()[0][2:]
print(door.getsockname()[1], os.path.exists(path + "_5000"))
copy = door.dup()
door.close()
print(copy.getsockname()[1])
conn, _ = copy.accept()
conn.sendall(b"copy")
""")
    guests.wait_port(5000)
    for i in range(15):
        guest, cid = ((guests.three, b"3"), (guests.four, b"4"))[i % 2]
        assert recv_all(guest.guest_connect(5000)) == cid
    assert child.stdout.readline() == b"5000 True\n"
    assert child.stdout.readline() == b"5000\n"
    assert recv_all(guests.four.guest_connect(5000)) == b"copy"
    assert child.wait(LIMIT) == 0, child.stderr.read()
    assert not guests.has_port(5000)


def test_port_is_free_again(guests):
    """After a close, and after a kill while a child that closed its copy lives on."""
    assert guests.python("""
for _ in range(100):
    listening(5000).close()
print(len(os.listdir("/proc/self/fd")) < 10)
""") == ["True"]
    child = guests.start_python("""
door = listening(5000)
if os.fork() == 0:
    door.close()
    print("closed")
    sys.stdin.read()
sys.stdin.read()
""")
    assert child.stdout.readline() == b"closed\n"
    child.kill()
    child.wait()
    assert guests.python("print(error(listening, 5000))") == ["None"]


def test_too_many_listeners(guests):
    """One more fails and stays what it was."""
    assert guests.python("""
doors = [listening(5000 + i) for i in range(64)]
sock = new()
sock.bind((ANY, 6000))
print(error(sock.listen), sock.getsockname()[1])
doors.pop().close()
print(error(sock.listen), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
""") == ["ENOBUFS 6000", "None 1"]


def test_threads_accept_and_connect(guests):
    guests.three.ports[80] = reverse
    child = guests.start_python("""
import threading
door = listening(5000)
def accept():
    for _ in range(25):
        conn, addr = door.accept()
        conn.sendall(b"%d" % addr[0])
        conn.close()
def ask():
    for i in range(25):
        sock = connected(3, 80)
        sock.sendall(b"%d" % i)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(10) == str(i)[::-1].encode()
        sock.close()
threads = [threading.Thread(target=f) for f in (accept, ask) * 4]
for t in threads: t.start()
for t in threads: t.join()
print(len(os.listdir("/proc/self/fd")) < 20)
""")
    guests.wait_port(5000)
    answers = []

    def visit(guest):
        for _ in range(50):
            answers.append(recv_all(guest.guest_connect(5000)))
    visitors = [threading.Thread(target=visit, args=(g,)) for g in (guests.three, guests.four)]
    for thread in visitors:
        thread.start()
    for thread in visitors:
        thread.join(LIMIT)
    out, err = child.communicate(timeout=LIMIT)
    assert (child.returncode, out) == (0, b"True\n"), err
    assert sorted(answers) == [b"3"] * 50 + [b"4"] * 50


def test_bulk_both_ways(guests):
    data = os.urandom(16 << 20)
    got = []

    def both(sock):
        reader = threading.Thread(target=lambda: got.append(digest(recv_all(sock))))
        reader.start()
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        reader.join()
    guests.three.ports[80] = both
    done = guests.run("socat", "-", "VSOCK-CONNECT:3:80", stdin=data)
    assert done.returncode == 0 and digest(done.stdout) == digest(data)
    until(lambda: got, "the guest's end")
    assert got == [digest(data)]


# the command

def test_guests_from_the_daemon(guests, tmp_path):
    guests.three.ports[80] = reverse
    vms = [{"cid": 3, "uds_path": guests.three.path}, {"cid": 8, "uds_path": None}]
    control = FakeControl(tmp_path / "control", {"list": lambda p: {"vms": vms}})
    argv = [ctl.binary(), "--control", control.path, "run", "ncat", "--vsock"]
    done = subprocess.run([*argv, "3", "80"], input=b"abc", capture_output=True, timeout=LIMIT,
                          check=False)
    assert (done.returncode, done.stdout) == (0, b"cba"), done.stderr
    vms.pop(0)
    done = subprocess.run([*argv, "3", "80"], capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 1 and b"no VM" in done.stderr
    control.close()


def test_relative_path_and_exit_status(guests):
    def run(*argv):
        return subprocess.run([ctl.binary(), "run", *argv], cwd=guests.dir, capture_output=True,
                              timeout=LIMIT, check=False)
    done = run("--uds", "3=vm3.vsock", "--", "sh", "-c", "cd /; echo $VSOCKCTL_GUESTS; exit 7")
    assert (done.returncode, done.stdout.decode()) == (7, f"3={guests.three.path}\n")
    assert run("--uds", "3=vm3.vsock", "/nonexistent").returncode == 127
    assert run("--uds", "3=vm3.vsock", "/etc/passwd").returncode == 126
    for bad in ("vm3.vsock", "x=vm3.vsock", "3=", "3=" + "p" * 97):
        done = run("--uds", bad, "--", "true")
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1


def test_preload_of_the_user_is_kept(guests):
    with open(ctl.binary(), "rb") as file:
        if b"__asan_init" in file.read():
            pytest.skip("AddressSanitizer wants to be the first library")
    env = dict(os.environ, LD_PRELOAD="libc.so.6")
    done = subprocess.run(guests.command(["sh", "-c", "echo $LD_PRELOAD"]), env=env,
                          capture_output=True, timeout=LIMIT, check=True)
    library, _, other = done.stdout.decode().strip().partition(":")
    assert os.path.basename(library) == "libvsockctl-preload.so" and other == "libc.so.6"
