# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the Kubernetes API with the bundle's kubectl: one list a kind."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .._site.service import pods_and_budgets
from .._site.state import ClusterState, NodeState

__all__ = ["read_cluster", "read_objects", "with_pods"]


def read_cluster(kubectl: str, kubeconfig: str, timeout: int = 8) -> ClusterState:
    """All nodes of the cluster. Never raises: what failed is in C(error)."""
    if not os.path.exists(kubeconfig):
        return ClusterState(error=f"no kubeconfig at {kubeconfig}")
    try:
        items = _list(kubectl, kubeconfig, timeout, "nodes")
    except _Unreadable as exc:
        return ClusterState(known=True, error=str(exc))
    nodes = {item["metadata"]["name"]: NodeState.from_object(item) for item in items}
    return ClusterState(reachable=True, known=True, nodes=nodes)


def read_objects(
    kubectl: str, kubeconfig: str, wanted: Iterable[Mapping[str, Any]], timeout: int = 8
) -> tuple[dict[str, Any], ...] | None:
    """Those of the wanted objects that are there; none where that can't be read. Never raises."""
    if not os.path.exists(kubeconfig):
        return None
    objects = (*wanted, _KUBE_PROXY)
    definitions = {f"{obj['spec']['group']} {obj['spec']['names']['kind']}" for obj in objects if _defines(obj)}
    # Of a kind that is not served yet there is no object, but asking for one is an error.
    custom = [obj for obj in objects if f"{obj['apiVersion'].partition('/')[0]} {obj['kind']}" in definitions]
    try:
        found = _those(kubectl, kubeconfig, timeout, [obj for obj in objects if obj not in custom])
        if custom and sum(_defines(obj) for obj in found) == len(definitions):
            found += _those(kubectl, kubeconfig, timeout, custom)
    except _Unreadable:
        return None
    return tuple(found)


def _defines(obj: Mapping[str, Any]) -> bool:
    return bool(obj["kind"] == "CustomResourceDefinition")


def _those(kubectl: str, kubeconfig: str, timeout: int, wanted: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    stubs = [
        {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {key: obj["metadata"][key] for key in ("name", "namespace") if obj["metadata"].get(key)},
        }
        for obj in wanted
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": stubs})
    return _list(kubectl, kubeconfig, timeout, "--ignore-not-found", "--filename=-", text=text)


def with_pods(
    cluster: ClusterState, kubectl: str, kubeconfig: str, servers: Iterable[str], timeout: int = 30
) -> ClusterState:
    """The same, with the pods of these servers and all PodDisruptionBudgets."""
    servers = list(servers)
    # One list of all pods costs less than many of some.
    on = [[f"--field-selector=spec.nodeName={server}"] for server in servers] if len(servers) <= _FEW else [[]]
    try:
        budgets = _list(kubectl, kubeconfig, timeout, "poddisruptionbudgets", "--all-namespaces")
        pods = [pod for some in on for pod in _list(kubectl, kubeconfig, timeout, "pods", "--all-namespaces", *some)]
    except _Unreadable as exc:
        return replace(cluster, reachable=False, error=str(exc))
    by_server, found = pods_and_budgets(pods, budgets)
    return replace(cluster, pods=by_server, budgets=found)


_FEW = 10
_KUBE_PROXY = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
}


class _Unreadable(Exception):
    pass


def _list(kubectl: str, kubeconfig: str, timeout: int, *args: str, text: str = "") -> list[dict[str, Any]]:
    command = [kubectl, "--kubeconfig", kubeconfig, "get", *args, "-o", "json", f"--request-timeout={timeout}s"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout * 2, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise _Unreadable(str(exc)) from exc
    if done.returncode != 0:
        raise _Unreadable((done.stderr.strip().splitlines() or [f"kubectl ended with {done.returncode}"])[-1])
    # One object alone comes without a list around it, and none without anything.
    found = json.loads(done.stdout or '{"items": []}')
    items: list[dict[str, Any]] = found.get("items", [found])
    return items
