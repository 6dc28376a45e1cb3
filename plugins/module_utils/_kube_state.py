# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What state objects of a cluster are in: pure predicates over objects as the API gives them."""

# This is a private module utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

__all__ = ["PREDICATES", "Verdict", "Want", "describe", "relevant_events"]

Object = dict[str, Any]


@dataclass(frozen=True)
class Want:
    """What is waited for, beside the predicate's name."""

    names: tuple[str, ...] = ()
    count: int | None = None
    one_per_node: bool = False
    not_on: tuple[str, ...] = ()
    phase: str = "Running"


@dataclass(frozen=True)
class Verdict:
    done: bool
    reason: str


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def _condition(obj: Object, kind: str) -> Object:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((dict(item) for item in conditions if item.get("type") == kind), {})


def _all(objects: list[Object], want: Want, fails: Callable[[Object], str]) -> Verdict:
    """Done when every named object (or, without names, at least one and all) has nothing that fails."""
    missing = [name for name in want.names if name not in {_name(obj) for obj in objects}]
    reasons = [f"{name} does not exist" for name in missing]
    reasons += [f"{_name(obj)} {reason}" for obj in objects for reason in [fails(obj)] if reason]
    if not objects and not missing:
        reasons.append("there is none")
    return Verdict(not reasons, "; ".join(reasons))


def node_ready(objects: list[Object], want: Want) -> Verdict:
    def fails(node: Object) -> str:
        ready = _condition(node, "Ready")
        if ready.get("status") == "True":
            return ""
        return f"is not Ready ({ready.get('message') or 'its kubelet has not reported yet'})"

    return _all(objects, want, fails)


def node_not_ready(objects: list[Object], want: Want) -> Verdict:
    def fails(node: Object) -> str:
        return "is still Ready" if _condition(node, "Ready").get("status") == "True" else ""

    return _all(objects, want, fails)


def _is_seen(obj: Object) -> bool:
    seen = (obj.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= obj["metadata"].get("generation", 0))


def deployment_available(objects: list[Object], want: Want) -> Verdict:
    def fails(deployment: Object) -> str:
        status = deployment.get("status") or {}
        replicas = (deployment.get("spec") or {}).get("replicas", 1)
        if not _is_seen(deployment):
            return "is not looked at by its controller yet"
        for field, word in (("updatedReplicas", "up to date"), ("availableReplicas", "available")):
            if status.get(field, 0) < replicas:
                return f"has {status.get(field, 0)} of {replicas} replicas {word}"
        return f"has old replicas ({status['replicas']} of {replicas})" if status.get("replicas", 0) > replicas else ""

    return _all(objects, want, fails)


def daemonset_ready(objects: list[Object], want: Want) -> Verdict:
    def fails(daemonset: Object) -> str:
        status = daemonset.get("status") or {}
        desired = status.get("desiredNumberScheduled", 0)
        if not _is_seen(daemonset):
            return "is not looked at by its controller yet"
        if not desired:
            return "has no node to run on"
        for field, word in (("updatedNumberScheduled", "up to date"), ("numberReady", "ready")):
            if status.get(field, 0) < desired:
                return f"is {word} on {status.get(field, 0)} of {desired} nodes"
        return ""

    return _all(objects, want, fails)


def pod_problem(pod: Object) -> str:
    """Why a pod does not serve; empty where it does."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp"):
        return "is being deleted"
    if _condition(pod, "Ready").get("status") == "True":
        return ""
    for entry in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = entry.get("state") or {}
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or (entry.get("lastState") or {}).get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
            return f"waits: {waiting['reason']} {waiting.get('message') or ''}".rstrip()
        if ended.get("exitCode"):
            return f"has ended with {ended['exitCode']} ({ended.get('reason') or 'no reason given'})"
    unscheduled = _condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        return f"has no node: {unscheduled.get('message') or unscheduled.get('reason')}"
    return f"is {status.get('phase', 'Unknown')}, not Ready"


def pods_ready(objects: list[Object], want: Want) -> Verdict:
    """`count` pods serve (without it: all that there are, at least one); `one_per_node`: on different nodes.

    Pods on the nodes `not_on` are as good as not there: what such a node last said of them is worth nothing.
    """
    # A pod that is being deleted may be there beside its successor: it does not count, and it does not harm.
    alive = [pod for pod in objects if not pod["metadata"].get("deletionTimestamp")]
    alive = [pod for pod in alive if pod["spec"].get("nodeName") not in want.not_on]
    ready = [pod for pod in alive if not pod_problem(pod)]
    wanted = want.count if want.count is not None else max(len(alive), 1)
    reasons = [f"{name} does not exist" for name in want.names if name not in {_name(pod) for pod in objects}]
    if len(ready) != wanted:
        reasons.append(f"{len(ready)} of {wanted} pods are Ready")
        reasons += [f"{_name(pod)} {pod_problem(pod)}" for pod in alive if pod_problem(pod)]
    nodes = [pod["spec"].get("nodeName") for pod in ready]
    if want.one_per_node and len(set(nodes)) < len(nodes):
        reasons.append(f"the pods share nodes: {', '.join(sorted(map(str, nodes)))}")
    return Verdict(not reasons, "; ".join(reasons))


def pvc_bound(objects: list[Object], want: Want) -> Verdict:
    def fails(claim: Object) -> str:
        phase = (claim.get("status") or {}).get("phase", "Unknown")
        return "" if phase == "Bound" else f"is {phase}"

    return _all(objects, want, fails)


def pod_phase(objects: list[Object], want: Want) -> Verdict:
    def fails(pod: Object) -> str:
        phase = (pod.get("status") or {}).get("phase", "Unknown")
        return "" if phase == want.phase else f"is {phase}, not {want.phase} ({pod_problem(pod) or 'it serves'})"

    return _all(objects, want, fails)


def exists(objects: list[Object], want: Want) -> Verdict:
    return _all(objects, want, lambda obj: "")


def has_address(objects: list[Object], want: Want) -> Verdict:
    """A Service of type LoadBalancer was given an address."""

    def fails(service: Object) -> str:
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        return "" if (balancer.get("ingress") or [{}])[0].get("ip") else "has no address"

    return _all(objects, want, fails)


def deleted(objects: list[Object], want: Want) -> Verdict:
    return Verdict(not objects, "; ".join(f"{_name(obj)} is still there" for obj in objects))


PREDICATES: dict[str, Callable[[list[Object], Want], Verdict]] = {
    "daemonset_ready": daemonset_ready,
    "deleted": deleted,
    "deployment_available": deployment_available,
    "exists": exists,
    "has_address": has_address,
    "node_not_ready": node_not_ready,
    "node_ready": node_ready,
    "pod_phase": pod_phase,
    "pods_ready": pods_ready,
    "pvc_bound": pvc_bound,
}


def describe(obj: Object) -> dict[str, str]:
    """One object in a line, as it was last seen."""
    status, kind = obj.get("status") or {}, str(obj.get("kind", ""))
    state = str(status.get("phase") or "")
    if kind == "Node":
        state = {"True": "Ready", "False": "NotReady"}.get(_condition(obj, "Ready").get("status", ""), "Unknown")
    elif kind == "Pod":
        state = pod_problem(obj) or "Ready"
    elif "readyReplicas" in status or "replicas" in status:
        state = f"{status.get('readyReplicas', 0)} of {(obj.get('spec') or {}).get('replicas', 0)} ready"
    seen = {"kind": kind, "name": _name(obj), "state": state}
    if obj["metadata"].get("namespace"):
        seen["namespace"] = obj["metadata"]["namespace"]
    if (obj.get("spec") or {}).get("nodeName"):
        seen["node"] = obj["spec"]["nodeName"]
    return seen


def relevant_events(events: list[Object], names: list[str], limit: int = 8) -> list[str]:
    """The newest events of the named objects and of what belongs to them (C(web-7d4b9-x) to C(web)), newest last."""

    def about(event: Object) -> bool:
        subject = str((event.get("involvedObject") or {}).get("name", ""))
        return any(subject == name or subject.startswith(f"{name}-") for name in names)

    def when(event: Object) -> str:
        series = event.get("series") or {}
        meta = event["metadata"]
        for moment in (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")):
            if moment:
                return str(moment)
        return str(meta.get("creationTimestamp") or "")

    lines = []
    for event in sorted(filter(about, events), key=when):
        subject = event["involvedObject"]
        text = " ".join(str(event.get("message", "")).split())
        what = f"{subject.get('kind')}/{subject['name']}"
        lines.append(f"{event.get('type', 'Normal')} {what} {event.get('reason')}: {text}")
    return list(dict.fromkeys(lines))[-limit:]
