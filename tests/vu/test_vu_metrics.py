# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Metrics over HTTP: both formats, what they count, and clients that misbehave."""

import http.client
import os
import re
import shutil
import socket
import subprocess

import pytest

from daemon import ROOT
from vhost_user import connect_unix
from waiting import until

PREFIX = "vhost_device_vsock_"
SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (-?[0-9.]+)$")
LABEL = re.compile(r"([a-z]+)=\"([a-z0-9-]+)\"")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class UnixHttp(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = connect_unix(self.path)
        self.sock.settimeout(60)


def fetch(connection, path="/metrics", method="GET", accept=None):
    connection.request(method, path, headers={"Accept": accept} if accept else {})
    response = connection.getresponse()
    return response, response.read().decode()


def parse(text, openmetrics):
    """{(name, labels): value} after checking the format."""
    values = {}
    families = {}
    current = None
    lines = text.split("\n")
    assert lines.pop() == ""
    if openmetrics:
        assert lines.pop() == "# EOF"
    for line in lines:
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in families, "a family in two places"
            families[current] = None
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == current and kind in ("counter", "gauge")
            families[name] = kind
        else:
            name, labels, value = SAMPLE.match(line).groups()
            suffix = "_total" if families[current] == "counter" and openmetrics else ""
            assert name == current + suffix, line
            assert name.endswith("_total") == (families[current] == "counter"), line
            key = (name, tuple(sorted(LABEL.findall(labels or ""))))
            assert key not in values, line
            values[key] = float(value)
    return values


@pytest.fixture
def metered(start_controlled, tmp_path):
    """(daemon, control, HTTP client)."""
    path = str(tmp_path / "metrics.sock")
    daemon, ctl = start_controlled(cids=(3, 4), args=["--metrics", f"unix:{path}"])
    connection = UnixHttp(path)
    yield daemon, ctl, connection
    connection.close()


def value(values, name, **labels):
    """The sample of a metric."""
    return values[PREFIX + name, tuple(sorted(labels.items()))]


def test_removed_vms_are_gone(metered):
    daemon, ctl, connection = metered
    ctl.call("remove", cid=4)
    daemon.vms.pop(4)
    values = parse(fetch(connection)[1], False)
    assert (PREFIX + "up", (("cid", "3"),)) in values
    assert (PREFIX + "up", (("cid", "4"),)) not in values


@pytest.mark.parametrize("accept", [None, OPENMETRICS, "text/plain", f"{OPENMETRICS},text/plain"])
def test_formats(metered, accept):
    _, _, connection = metered
    response, text = fetch(connection, accept=accept)
    openmetrics = accept is not None and "openmetrics" in accept
    assert response.status == 200
    kind = response.headers["Content-Type"]
    assert kind.startswith("application/openmetrics-text" if openmetrics else "text/plain")
    values = parse(text, openmetrics)
    assert value(values, "up", cid="3") == value(values, "up", cid="4") == 0
    assert values["process_open_fds", ()] > 5


def test_other_pages_and_methods(metered):
    _, _, connection = metered
    assert fetch(connection, "/")[0].status == 404
    assert fetch(connection, "/metrics/x")[0].status == 404
    assert fetch(connection, method="POST")[0].status == 405
    assert fetch(connection, method="HEAD")[1] == ""
    assert fetch(connection)[0].status == 200


def test_clients_that_misbehave(metered):
    """The bound is on clients at a time; the daemon serves others meanwhile."""
    daemon, ctl, connection = metered
    path = connection.path
    for junk in (b"\0" * 100, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
                 b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000):
        with connect_unix(path) as sock:
            try:
                sock.sendall(junk)
            except OSError:
                pass
    idle = [connect_unix(path) for _ in range(40)]
    assert len(ctl.call("list")["vms"]) == 2
    assert ctl.call("stats")["process"]["descriptors"] < 80
    for sock in idle:
        sock.close()
    until(lambda: works(path), "the daemon to serve again")
    daemon.assert_healthy()


def works(path):
    connection = UnixHttp(path)
    try:
        return fetch(connection)[0].status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("family,host,shown", [(socket.AF_INET, "127.0.0.1", "127.0.0.1"),
                                               (socket.AF_INET6, "::1", "[::1]")], ids=str)
def test_loopback(start_daemon, family, host, shown):
    try:
        with socket.socket(family) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip(f"no {host} here")
    daemon = start_daemon(args=["--metrics", f"{shown}:{port}"])
    connection = until(lambda: connect(host, port), "the port")
    response, text = fetch(connection)
    assert response.status == 200 and parse(text, False)
    connection.close()
    second = start_daemon(args=["--metrics", f"{shown}:{port}"], start=False)
    assert second.spawn().wait(10) == 1
    second.proc = None
    assert "another program listens there" in second.stderr()
    daemon.assert_healthy()


def connect(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.connect()
    except OSError:
        return None
    return connection


@pytest.mark.parametrize("where", ["", "unix:", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536",
                                   "0.0.0.0:9", "[::]:9", "192.0.2.1:9", "localhost:9", ":9",
                                   "[::1:9", "unix:" + "p" * 108, "127.0.0.1:9x", "x" * 300])
def test_where_not(start_daemon, where):
    daemon = start_daemon(args=[f"--metrics={where}"], start=False)
    assert daemon.spawn().wait(10) == 2
    daemon.proc = None
    assert "--metrics" in daemon.stderr() and "expected" in daemon.stderr()


def test_node_is_removed(metered):
    daemon, _, connection = metered
    connection.close()
    daemon.stop()
    assert not os.path.lexists(connection.path)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool(metered):
    text = fetch(metered[2])[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_page_names_every_metric(metered):
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as file:
        page = file.read()
    shown = {name for name, _ in parse(fetch(metered[2])[1], False)}
    assert shown == set(re.findall(r"^\| `([a-z_]+)`", page, re.M))
