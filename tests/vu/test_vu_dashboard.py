# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The Grafana dashboard asks for metrics and labels that the daemon has."""

import json
import os
import re
import shutil
import subprocess

import pytest

from daemon import ROOT
from test_vu_metrics import UnixHttp, fetch, parse

METRIC = re.compile(r"\b((?:vhost_device_vsock|process)_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)=~?\"([^\"]*)\"")
# What Prometheus adds to what it scrapes.
ADDED = {"instance"}


def board():
    with open(os.path.join(ROOT, "contrib", "grafana", "vhost-device-vsock.json"),
              encoding="utf-8") as file:
        return json.load(file)


def targets():
    return [target for panel in board()["panels"] for target in panel.get("targets", [])]


def variables():
    return [variable["query"]["query"] for variable in board()["templating"]["list"]
            if variable["type"] == "query"]


@pytest.fixture(scope="module")
def known():
    """{metric: {label: values}}, as a daemon with two VMs has them."""
    return {}


@pytest.fixture
def metrics(known, start_controlled, tmp_path):
    if not known:
        path = str(tmp_path / "metrics.sock")
        start_controlled(cids=(3, 4), args=["--metrics", f"unix:{path}"])
        connection = UnixHttp(path)
        for name, labels in parse(fetch(connection)[1], False):
            found = known.setdefault(name, {})
            for label, value in labels:
                found.setdefault(label, set()).add(value)
        connection.close()
    return known


def test_metrics_and_labels_exist(metrics):
    queries = [target["expr"] for target in targets()] + variables()
    assert len(queries) > 20
    for query in queries:
        uses = METRIC.findall(query)
        assert uses, query
        labels = set(ADDED)
        for name, matchers in uses:
            assert name in metrics, f"{name} in {query}"
            labels |= set(metrics[name])
            for label, value in MATCHER.findall(matchers):
                assert label in set(metrics[name]) | ADDED, f"{label} of {name}"
                if not value.startswith("$"):
                    assert value in metrics[name][label], f"{label}={value} of {name}"
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            assert set(re.split(r", *", group)) <= labels, query
        assert "[" not in query or "rate(" in query
        for name in re.findall(r"rate\((\w+)", query):
            assert name.endswith("_total"), query
        for name, _ in uses:
            assert not name.endswith("_total") or f"rate({name}" in query, query


def test_legends_name_labels_that_are_left():
    for target in targets():
        used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        groups = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        if groups:
            assert used <= set(re.split(r", *", groups[0])), target


def test_nothing_of_a_vm_is_left_out(metrics):
    """Every metric is on the dashboard, but those that only repeat others."""
    shown = {name for target in targets() for name, _ in METRIC.findall(target["expr"])}
    rest = set(metrics) - shown
    assert rest <= {"vhost_device_vsock_uptime_seconds",
                    "vhost_device_vsock_captured_packets_total"}


def test_panels_do_not_overlap():
    places = set()
    ids = [panel["id"] for panel in board()["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places and at["x"] + at["w"] <= 24
        places |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_queries_are_promql(tmp_path):
    names = {"$cid": ".*", "$instance": ".*", "$__rate_interval": "5m"}
    rules = []
    for number, target in enumerate(targets()):
        expr = target["expr"]
        for name, value in names.items():
            expr = expr.replace(name, value)
        assert "$" not in expr
        rules.append({"record": f"query:{number}", "expr": expr})
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
