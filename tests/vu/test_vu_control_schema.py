# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What goes over the control socket is what docs/control.schema.json and docs/control.md say."""

import json
import os
import re

import pytest

import gsocket
from control import Control, path_of
from daemon import ROOT, VmPaths
from schema import Schema

SHAPES = {"list": "list", "show": "details", "connections": "connections", "stats": "stats",
          "add": "added", "capture": "capture"}


def load():
    with open(os.path.join(ROOT, "docs", "control.schema.json"), encoding="utf-8") as file:
        return Schema(json.load(file))


def page():
    with open(os.path.join(ROOT, "docs", "control.md"), encoding="utf-8") as file:
        return file.read()


def methods(schema):
    return schema.resolve("#/$defs/request/properties/method")["enum"]


def ask(ctl, schema, method, params):
    request = {"id": 7, "method": method, "params": params}
    schema.check(request)
    ctl.send(json.dumps(request).encode() + b"\n")
    answer = ctl.line()
    while "event" in answer:
        schema.check(answer)
        answer = ctl.line()
    schema.check(answer)
    return answer


def test_every_answer_fits(start_controlled, start_vm):
    daemon, ctl = start_controlled(cids=(3, 4))
    schema = load()
    schema.check({"hello": ctl.hello})
    vm = start_vm(daemon, 3)
    gsocket.Listener(vm.guest, 50)
    host = daemon.connect(50, 3)
    free = VmPaths(daemon.dir, 9)
    text = f"guest-cid=9,socket={free.socket},uds-path={free.uds}"
    requests = {"subscribe": {}, "list": {}, "show": {"cid": 3}, "connections": {"limit": 5},
                "stats": {}, "add": {"vm": text}, "set": {"cid": 9, "groups": ["a"]},
                "drain": {"cid": 9, "off": True}, "log-level": {"level": "notice"},
                "remove": {"cid": 9}, "reload": {},
                "capture": {"cid": 3, "ports": [1], "snaplen": 76}}
    assert set(requests) == set(methods(schema))
    for method, params in requests.items():
        answer = ask(ctl, schema, method, params)
        assert ("error" in answer) == (method == "reload"), answer
        if method in SHAPES:
            schema.check(answer["result"], schema.resolve(f"#/$defs/{SHAPES[method]}"))
    other = Control(path_of(daemon))
    other.call("subscribe")
    host.close()
    schema.check(other.event("connection-closed"))
    vm.kill()
    schema.check(other.event("vm-down"))
    other.close()


@pytest.mark.parametrize("text", [
    {"hello": {}}, {"id": 1}, {"id": 1, "result": {}, "error": {"code": "limit", "message": ""}},
    {"id": 1, "result": {"cid": -1}}, {"event": "other"}, {"method": "list", "params": {"x": 1}},
    {"method": "show", "params": {}}, {"method": "drain", "params": {"off": 1}}], ids=str)
def test_schema_refuses(text):
    with pytest.raises(ValueError):
        load().check(text)


def test_page_and_schema_name_the_same(start_controlled):
    schema, text = load(), page()
    assert re.findall(r"^### ([\w-]+)$", text, re.M) == methods(schema)
    for kind in ("reason", "event/properties/event"):
        for name in schema.resolve(f"#/$defs/{kind}")["enum"]:
            assert f"`{name}`" in text or f"\"{name}\"" in text, name
    for name in schema.resolve("#/$defs/answer/properties/error/properties/code")["enum"]:
        assert f"| `{name}` |" in text
    for name in schema.resolve("#/$defs/counters")["required"]:
        assert f"`{name}`" in text, name
    daemon, ctl = start_controlled()
    reasons = schema.resolve("#/$defs/reason")["enum"]
    assert sorted(ctl.counters(3)["closed"]) == sorted(reasons)
    other = Control(path_of(daemon))
    other.close()


def test_examples_of_the_page_fit():
    schema = load()
    lines = [line for block in re.findall(r"^```json\n(.*?)^```", page(), re.M | re.S)
             for line in block.splitlines()
             if line.startswith(("{\"hello", "{\"id", "{\"event"))]
    assert len(lines) > 8
    for line in lines:
        schema.check(json.loads(line.replace("\"result\":{\"cid\":3}", "\"result\":{}")))
