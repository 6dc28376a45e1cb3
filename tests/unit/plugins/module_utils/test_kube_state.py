# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._kube_state import (
    PREDICATES,
    Verdict,
    Want,
    describe,
    relevant_events,
)

Object = dict[str, Any]


def judge(predicate: str, *objects: Object, **want: Any) -> Verdict:
    return PREDICATES[predicate](list(objects), Want(**want))


def node(name: str, ready: str | None, message: str = "") -> Object:
    conditions = [{"type": "MemoryPressure", "status": "False"}]
    if ready is not None:
        conditions.append({"type": "Ready", "status": ready, "message": message})
    return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": conditions}}


def pod(name: str, ready: bool = True, node: str | None = "node1", phase: str = "Running", **more: Any) -> Object:
    metadata = {"name": name, "namespace": "shop", **more.pop("metadata", {})}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}, *more.pop("conditions", [])]
    spec = {"nodeName": node} if node else {}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": phase, "conditions": conditions, **more},
    }


def deployment(generation: int = 2, **status: int) -> Object:
    counts = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, **status}
    return {"metadata": {"name": "web", "generation": generation}, "spec": {"replicas": 2}, "status": counts}


def daemonset(**status: int) -> Object:
    counts = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 3,
        "updatedNumberScheduled": 3,
        "numberReady": 3,
        **status,
    }
    return {"metadata": {"name": "proxy", "generation": 1}, "status": counts}


def test_a_service_has_an_address() -> None:
    service = {"metadata": {"name": "web"}, "status": {"loadBalancer": {}}}
    assert judge("has_address", service) == Verdict(False, "web has no address")
    assert judge("has_address", {**service, "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}).done
    assert not judge("has_address", names=("web",)).done


def test_nodes_ready() -> None:
    assert judge("node_ready", node("a", "True"), node("b", "True"), names=("a", "b")).done


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("a", "True")], "b does not exist"),
        (
            [node("a", "True"), node("b", "False", "container runtime is down")],
            "b is not Ready (container runtime is down)",
        ),
        ([node("a", "True"), node("b", None)], "b is not Ready (its kubelet has not reported yet)"),
        (
            [node("a", "Unknown", "Kubelet stopped posting node status."), node("b", "True")],
            "a is not Ready (Kubelet stopped posting node status.)",
        ),
    ],
)
def test_nodes_not_all_ready(nodes: list[Object], reason: str) -> None:
    assert judge("node_ready", *nodes, names=("a", "b")) == Verdict(False, reason)


def test_no_node_at_all_is_not_ready() -> None:
    assert judge("node_ready") == Verdict(False, "there is none")


@pytest.mark.parametrize(("ready", "done"), [("Unknown", True), ("False", True), (None, True), ("True", False)])
def test_node_not_ready(ready: str | None, done: bool) -> None:
    assert judge("node_not_ready", node("a", ready), names=("a",)).done is done


def test_a_node_that_is_not_there_is_no_node_that_is_not_ready() -> None:
    assert not judge("node_not_ready", names=("a",)).done


def test_deployment_available() -> None:
    assert judge("deployment_available", deployment()).done


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"observedGeneration": 1}, "web is not looked at by its controller yet"),
        ({"updatedReplicas": 1}, "web has 1 of 2 replicas up to date"),
        ({"availableReplicas": 0}, "web has 0 of 2 replicas available"),
        ({"replicas": 3}, "web has old replicas (3 of 2)"),
    ],
)
def test_deployment_not_available(status: dict[str, int], reason: str) -> None:
    assert judge("deployment_available", deployment(**status)) == Verdict(False, reason)


def test_deployment_without_status_is_not_available() -> None:
    assert not judge("deployment_available", {"metadata": {"name": "web", "generation": 1}, "spec": {}}).done


def test_daemonset_ready() -> None:
    assert judge("daemonset_ready", daemonset()).done


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"observedGeneration": 0}, "proxy is not looked at by its controller yet"),
        ({"desiredNumberScheduled": 0, "numberReady": 0}, "proxy has no node to run on"),
        ({"updatedNumberScheduled": 1}, "proxy is up to date on 1 of 3 nodes"),
        ({"numberReady": 2}, "proxy is ready on 2 of 3 nodes"),
    ],
)
def test_daemonset_not_ready(status: dict[str, int], reason: str) -> None:
    assert judge("daemonset_ready", daemonset(**status)) == Verdict(False, reason)


def test_pods_ready_by_count_and_one_per_node() -> None:
    pods = [pod("a", node="node1"), pod("b", node="node2")]
    assert judge("pods_ready", *pods, count=2, one_per_node=True).done
    assert judge("pods_ready", *pods).done


def test_pods_that_share_a_node() -> None:
    pods = [pod("a", node="node1"), pod("b", node="node1")]
    assert judge("pods_ready", *pods, count=2, one_per_node=True).reason == "the pods share nodes: node1, node1"
    assert judge("pods_ready", *pods, count=2).done


def test_a_pod_that_is_being_deleted_neither_counts_nor_harms() -> None:
    going = pod("old", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert not judge("pods_ready", going, pod("a"), count=2).done
    assert judge("pods_ready", going, pod("a"), pod("b"), count=2).done
    assert not judge("pods_ready", going).done


def test_pods_on_a_dead_node_do_not_count_whatever_they_last_said() -> None:
    pods = [pod("a", node="node1"), pod("b", node="node2")]
    assert not judge("pods_ready", *pods, count=2, not_on=("node2",)).done
    assert judge("pods_ready", *pods, pod("c", node="node1"), count=2, not_on=("node2",)).done


def test_too_many_pods_are_not_the_count() -> None:
    assert judge("pods_ready", pod("a"), pod("b"), pod("c"), count=2).reason == "3 of 2 pods are Ready"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (pod("b", ready=False, phase="Pending"), "b is Pending, not Ready"),
        (
            pod(
                "b",
                ready=False,
                phase="Pending",
                node=None,
                conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}],
            ),
            "b has no node: 0/3 nodes are available",
        ),
        (
            pod(
                "b",
                ready=False,
                containerStatuses=[{"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "no such image"}}}],
            ),
            "b waits: ErrImageNeverPull no such image",
        ),
        (
            pod(
                "b",
                ready=False,
                containerStatuses=[
                    {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
                ],
            ),
            "b has ended with 137 (OOMKilled)",
        ),
    ],
)
def test_why_a_pod_is_not_ready(bad: Object, reason: str) -> None:
    assert judge("pods_ready", pod("a"), bad, count=2) == Verdict(False, f"1 of 2 pods are Ready; {reason}")


def test_a_named_pod_that_is_missing() -> None:
    assert judge("pods_ready", names=("data-0",)).reason == "data-0 does not exist; 0 of 1 pods are Ready"


@pytest.mark.parametrize(("phase", "done"), [("Bound", True), ("Pending", False), ("Lost", False)])
def test_claims(phase: str, done: bool) -> None:
    assert judge("pvc_bound", {"metadata": {"name": "data"}, "status": {"phase": phase}}).done is done


def test_phase_of_a_pod() -> None:
    assert judge("pod_phase", pod("a", phase="Succeeded", ready=False), phase="Succeeded").done
    assert judge("pod_phase", pod("a"), phase="Succeeded").reason == "a is Running, not Succeeded (it serves)"


def test_deleted() -> None:
    assert judge("deleted", names=("a",)).done
    assert judge("deleted", pod("a")).reason == "a is still there"


def test_exists() -> None:
    assert judge("exists", pod("a"), names=("a",)).done
    assert not judge("exists", names=("a",)).done


def test_describe() -> None:
    assert describe(node("a", "Unknown")) == {"kind": "Node", "name": "a", "state": "Unknown"}
    assert describe(pod("p")) == {"kind": "Pod", "name": "p", "state": "Ready", "namespace": "shop", "node": "node1"}
    busy = {**deployment(), "kind": "Deployment"}
    busy["status"]["readyReplicas"] = 1
    assert describe(busy)["state"] == "1 of 2 ready"


def event(kind: str, name: str, text: str, at: str, **more: Any) -> Object:
    subject = {"kind": kind, "name": name}
    return {
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "involvedObject": subject,
        "message": text,
        "reason": "Because",
        "type": "Warning",
        "lastTimestamp": at,
        **more,
    }


def test_events_of_the_objects_and_of_what_belongs_to_them() -> None:
    events = [
        event("Pod", "web-7d-x", "late", "2026-01-01T00:00:09Z"),
        event("Pod", "webshop-1", "other", "2026-01-01T00:00:10Z"),
        event("Deployment", "web", "early\n  words", "2026-01-01T00:00:01Z"),
        event("Deployment", "web", "early words", "2026-01-01T00:00:02Z"),
        event("Pod", "web-7d-x", "no time", "", series={"lastObservedTime": "2026-01-01T00:00:05Z"}),
    ]
    assert relevant_events(events, ["web"]) == [
        "Warning Deployment/web Because: early words",
        "Warning Pod/web-7d-x Because: no time",
        "Warning Pod/web-7d-x Because: late",
    ]
    assert relevant_events(events, ["web"], limit=1) == ["Warning Pod/web-7d-x Because: late"]
