# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who cordons and uncordons a node, and what is said where pods stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.module_utils._kubectl import Kubectl
from ansible_collections.kiban.baremetal.plugins.plugin_utils._runs.drain import (
    NotDrained,
    cordon_patch,
    drain,
    uncordon,
    uncordon_patch,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import DRAINED, NodeState
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_kubectl import Call, FakeKubectl

BUSY = 'error: Operation cannot be fulfilled on nodes "n1": the object has been modified'
BUDGET = (
    'error when evicting pods/"web" -n "shop" (will retry after 5s): Cannot evict pod as it would violate the pod\'s '
    "disruption budget.\n"
)
OVER = 'error: unable to drain node "n1" due to error: error when evicting pods/"web": global timeout reached: 3s\n'


def node(cordoned: bool = False, marked: bool = False) -> dict[str, Any]:
    annotations = {"other": "x", **({DRAINED: "true"} if marked else {})}
    return {
        "kind": "Node",
        "metadata": {"name": "n1", "resourceVersion": "7", "annotations": annotations},
        "spec": {"unschedulable": True} if cordoned else {},
    }


def pods(*names: str, **spec: Any) -> str:
    items = [{"metadata": {"namespace": "shop", "name": name}, "spec": spec, "status": {}} for name in names]
    static = {"namespace": "kube-system", "name": "etcd", "annotations": {"kubernetes.io/config.mirror": "x"}}
    return json.dumps({"kind": "List", "items": [*items, {"metadata": static, "spec": {}}]})


def merged(of: dict[str, Any], patch: dict[str, Any] | None) -> dict[str, Any]:
    """RFC 7386."""
    for key, value in (patch or {}).items():
        if value is None:
            of.pop(key, None)
        else:
            of[key] = merged(dict(of.get(key, {})), value) if isinstance(value, dict) else value
    return of


@given(st.booleans(), st.booleans(), st.lists(st.sampled_from([cordon_patch, uncordon_patch]), max_size=6))
def test_what_a_person_has_cordoned_stays_so(cordoned: bool, marked: bool, steps: list[Any]) -> None:
    now = node(cordoned, marked)
    persons = cordoned and not marked
    for step in steps:
        now = merged(now, step(now))
        state = NodeState.from_object(now)
        assert now["metadata"]["annotations"]["other"] == "x"
        if persons:
            assert state.cordoned and not state.drained
        elif step is cordon_patch:
            assert state.cordoned and state.drained, "what a run cordons says so"
        else:
            assert not state.drained, "a node that takes pods has no mark left"
        assert step(now) is None, "done once is done"


def fake(tmp_path: Path, *calls: Call) -> tuple[FakeKubectl, Kubectl]:
    one = FakeKubectl(tmp_path / "fake", *calls)
    return one, Kubectl(str(one.path), str(one.kubeconfig), timeout=5, interval=0.01)


GET = ("get", "node", "n1")
PATCH = ("patch", "node", "n1", "--type=merge")
PODS = ("get", "pods", "--all-namespaces", "--field-selector=spec.nodeName=n1")
DRAIN = ("drain", "n1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=3s")


def test_a_node_is_cordoned_with_a_mark_and_its_pods_are_evicted(tmp_path: Path) -> None:
    one, kube = fake(
        tmp_path,
        Call(GET, out=json.dumps(node())),
        Call(PODS, out=pods("web", volumes=[{"name": "x", "emptyDir": {}}])),
        Call(GET, out=json.dumps(node())),
        Call(PATCH, err=BUSY, rc=1),
        Call(GET, out=json.dumps(node())),
        Call(PATCH),
        Call(DRAIN),
    )
    found = drain(kube, "n1", 3)
    assert (found.changed, found.pods, found.emptydir, found.left) == (True, ("shop/web",), ("shop/web",), "")
    one.assert_all_made()


def test_a_name_that_is_no_node_has_nothing_to_drain(tmp_path: Path) -> None:
    one, kube = fake(tmp_path, Call(GET), Call(GET))
    assert drain(kube, "n1", 3).changed is False and uncordon(kube, "n1") is False
    one.assert_all_made()


@pytest.mark.parametrize(
    ("before", "given_back", "text"),
    [
        (node(), [Call(GET, out=json.dumps(node(True, True))), Call(PATCH)], "The node takes pods again"),
        (node(True), [Call(GET, out=json.dumps(node(True)))], "stays cordoned, as it was before"),
        (node(True, True), [Call(GET, err="error: forbidden", rc=1)], "stays cordoned, since that could not be undone"),
    ],
)
def test_who_is_not_drained_is_given_back(
    tmp_path: Path, before: dict[str, Any], given_back: list[Call], text: str
) -> None:
    calls = [Call(GET, out=json.dumps(before)), Call(PODS, out=pods("web", "db")), Call(GET, out=json.dumps(before))]
    calls += [Call(PATCH)] if cordon_patch(before) else []
    calls += [Call(DRAIN, err=BUDGET * 3 + OVER, rc=1), Call(PODS, out=pods("web")), *given_back]
    one, kube = fake(tmp_path, *calls)
    with pytest.raises(NotDrained) as caught:
        drain(kube, "n1", 3)
    said = str(caught.value)
    assert said.startswith("still on it: shop/web. kubectl says: error when evicting") and text in said
    assert said.count("disruption budget") == 1 and "global timeout reached" in said
    one.assert_all_made()


def test_the_end_of_waiting_is_no_silence_of_the_api_server(tmp_path: Path) -> None:
    """As kubectl 1.36 said it of a pod that takes an hour to end: by its words it would be asked again."""
    waited = 'error when waiting for pod "web" in namespace "shop" to terminate: context deadline exceeded'
    said = f"""Warning: ignoring DaemonSet-managed Pods: kube-system/kube-proxy-7mp24
There are pending pods in node "n1" when an error occurred: {waited}
pod/web
error: unable to drain node "n1" due to error: {waited}, continuing command...
There are pending nodes to be drained:
 n1
{waited}
"""
    one, kube = fake(
        tmp_path,
        Call(GET, out=json.dumps(node())),
        Call(PODS, out=pods("web")),
        Call(GET, out=json.dumps(node())),
        Call(PATCH),
        Call(DRAIN, err=said, rc=1),
        Call(PODS, out=pods("web")),
        Call(GET, out=json.dumps(node(True, True))),
        Call(PATCH),
    )
    with pytest.raises(NotDrained, match=r"still on it: shop/web\. kubectl says: error: unable to drain"):
        drain(kube, "n1", 3)
    one.assert_all_made()


def test_by_force_pods_are_deleted_and_those_that_stay_are_told(tmp_path: Path) -> None:
    one, kube = fake(
        tmp_path,
        Call(GET, out=json.dumps(node(True))),
        Call(PODS, out=pods("web")),
        Call(GET, out=json.dumps(node(True))),
        Call((*DRAIN, "--force", "--disable-eviction"), err=OVER, rc=1),
        Call(PODS, out=pods("web")),
    )
    assert "still on it: shop/web" in drain(kube, "n1", 3, force=True).left
    one.assert_all_made()


def test_check_mode_touches_nothing(tmp_path: Path) -> None:
    one, kube = fake(
        tmp_path,
        Call(GET, out=json.dumps(node())),
        Call(PODS, out=pods("web")),
        Call(GET, out=json.dumps(node(True, True))),
    )
    assert drain(kube, "n1", 3, check=True).changed and uncordon(kube, "n1", check=True)
    one.assert_all_made()
