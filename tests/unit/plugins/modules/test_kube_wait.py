# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.modules import kube_wait
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_kubectl import Call, FakeKubectl

RunModule = Callable[..., dict[str, Any]]
Make = Callable[..., FakeKubectl]


@pytest.fixture
def kubectl(tmp_path: Path) -> Make:
    return lambda *calls: FakeKubectl(tmp_path / "fake", *calls)


def node(name: str, ready: str) -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": name, "managedFields": [{"manager": "kubelet"}]},
        "status": {"conditions": [{"type": "Ready", "status": ready, "message": "stopped posting"}]},
    }


def listed(*objects: dict[str, Any]) -> str:
    return json.dumps({"kind": "List", "items": list(objects)})


def test_waits_until_it_holds(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(
        Call(("get", "node", "a", "b", "--output=json", "--ignore-not-found"), out=json.dumps(node("a", "True"))),
        Call(("get",), out=listed(node("a", "True"), node("b", "Unknown"))),
        Call(("get",), out=listed(node("a", "True"), node("b", "True"))),
    )
    result = run_module(kube_wait, kind="node", names=["a", "b"], predicate="node_ready", interval=0.01, **fake.options)
    assert result["changed"] is False
    assert [obj["metadata"] for obj in result["objects"]] == [{"name": "a"}, {"name": "b"}]
    assert [entry["state"] for entry in result["seen"]] == ["Ready", "Ready"]
    fake.assert_all_made()


def test_selector_and_namespace_reach_kubectl(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get", "pod", "--selector=app=web", "--namespace", "shop"), out=listed()))
    options = {"kind": "pod", "selector": "app=web", "namespace": "shop", "predicate": "deleted"}
    assert not run_module(kube_wait, **options, **fake.options)["failed"]
    fake.assert_all_made()


EVENT = {
    "metadata": {},
    "involvedObject": {"kind": "Node", "name": "b"},
    "type": "Warning",
    "reason": "Rebooted",
    "message": "Node b has been rebooted",
    "lastTimestamp": "2026-01-01T00:00:00Z",
}


def test_when_the_time_is_over_it_tells_what_it_saw(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(
        Call(("get", "node"), out=listed(node("a", "True"), node("b", "Unknown"))),
        Call(("get", "events"), out=listed(EVENT)),
    )
    result = run_module(kube_wait, kind="node", predicate="node_ready", timeout=0, **fake.options)
    assert result["failed"] is True
    assert result["msg"] == (
        "node (all): node_ready did not hold within 0 s: b is not Ready (stopped posting)"
        " | newest events: Warning Node/b Rebooted: Node b has been rebooted"
    )
    assert result["seen"][1] == {"kind": "Node", "name": "b", "state": "Unknown"}
    assert result["events"] == ["Warning Node/b Rebooted: Node b has been rebooted"]
    assert result["objects"] == []
    fake.assert_all_made()


def test_goes_on_while_the_server_is_away(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(
        Call(("get",), err="error: the server doesn't have a resource type yet\n", rc=1),
        Call(("get",), out=listed(node("a", "True"))),
    )
    result = run_module(kube_wait, kind="node", names=["a"], predicate="node_ready", interval=0.01, **fake.options)
    assert not result["failed"]
    fake.assert_all_made()


def test_an_error_that_stays_is_told_with_what_was_seen_before(
    kubectl: Make, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_wait, "clock", lambda total, interval: iter([0.0, 1.0]))
    fake = kubectl(
        Call(("get",), out=listed(node("a", "False"))),
        Call(("get",), err="error: You must be logged in to the server (Unauthorized)\n", rc=1, again=True),
    )
    result = run_module(kube_wait, kind="node", predicate="node_ready", **fake.options)
    assert "a is not Ready (stopped posting). The last look failed: error: You must be logged in" in result["msg"]


def test_never_seen(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get",), err="error: nonsense\n", rc=1, again=True))
    result = run_module(kube_wait, kind="node", predicate="node_ready", timeout=0, **fake.options)
    assert "it was never seen. The last look failed: error: nonsense" in result["msg"]


def test_time_goes_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(kube_wait.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(kube_wait.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(kube_wait.time, "time", lambda: pytest.fail("the wall clock may jump"))
    assert list(kube_wait.clock(5, 2)) == [0.0, 2.0, 4.0, 5.0]
    assert list(kube_wait.clock(0, 2)) == [0.0]


def test_without_a_predicate_it_reads_once(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get", "configmap", "c"), out=""))
    assert run_module(kube_wait, kind="configmap", names=["c"], **fake.options)["objects"] == []
    fake.assert_all_made()


def test_a_read_that_fails(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get",), err="error: Forbidden\n", rc=1))
    result = run_module(kube_wait, kind="secret", names=["s"], namespace="shop", **fake.options)
    assert (
        result["msg"]
        == "secret s in shop cannot be read: error: Forbidden The user of the kubeconfig lacks this right."
    )


def test_secret_values_do_not_come_back(kubectl: Make, run_module: RunModule) -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "Y2FuYXJ5"}}
    fake = kubectl(Call(("get",), out=json.dumps(secret)))
    result = run_module(kube_wait, kind="secret", names=["s"], **fake.options)
    assert result["objects"][0]["data"] == {"password": "********"}


def test_check_mode_waits_for_nothing(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl()
    result = run_module(kube_wait, check_mode=True, kind="node", predicate="node_ready", **fake.options)
    assert (result["failed"], result["objects"]) == (False, [])
    assert fake.calls == []


def test_check_mode_reads(kubectl: Make, run_module: RunModule) -> None:
    fake = kubectl(Call(("get",), out=listed(node("a", "True"))))
    assert len(run_module(kube_wait, check_mode=True, kind="node", **fake.options)["objects"]) == 1


def test_every_predicate_is_documented() -> None:
    import yaml

    options = yaml.safe_load(kube_wait.DOCUMENTATION)["options"]
    assert options["predicate"]["choices"] == sorted(kube_wait.PREDICATES)
