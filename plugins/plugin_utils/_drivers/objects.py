# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of Kubernetes objects that several drivers are made of."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Rule", "api_server", "from_field", "named", "on_every_node", "rights"]

Rule = tuple[str, Sequence[str], Sequence[str]]
"""API group, resources, verbs."""

_RBAC = "rbac.authorization.k8s.io"


def named(api: str, kind: str, name: str, namespace: str = "", **rest: Any) -> dict[str, Any]:
    """An object; one without a namespace is the whole cluster's."""
    metadata: dict[str, Any] = {"name": name, **rest.pop("metadata", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}


def rights(name: str, account: str, home: str, rules: Sequence[Rule], namespace: str = "") -> list[dict[str, Any]]:
    """A role and its binding to a service account of C(home); in the whole cluster where C(namespace) is empty."""
    kind = "Role" if namespace else "ClusterRole"
    plain = [{"apiGroups": [group], "resources": [*what], "verbs": [*verbs]} for group, what, verbs in rules]
    return [
        named(f"{_RBAC}/v1", kind, name, namespace, rules=plain),
        named(
            f"{_RBAC}/v1",
            f"{kind}Binding",
            name,
            namespace,
            roleRef={"apiGroup": _RBAC, "kind": kind, "name": name},
            subjects=[{"kind": "ServiceAccount", "name": account, "namespace": home}],
        ),
    ]


def from_field(name: str, path: str) -> dict[str, Any]:
    """An environment variable with a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def api_server(host: str, port: int = 6443) -> list[dict[str, Any]]:
    """Environment that leads to the API server's real address: its Service address works only once kube-proxy does."""
    return [
        {"name": "KUBERNETES_SERVICE_HOST", "value": host},
        {"name": "KUBERNETES_SERVICE_PORT", "value": str(port)},
    ]


def on_every_node(name: str, namespace: str, labels: dict[str, str], pod: dict[str, Any]) -> dict[str, Any]:
    """A DaemonSet of the node's own network, on whatever node."""
    pod = {
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        **pod,
    }
    return named(
        "apps/v1",
        "DaemonSet",
        name,
        namespace,
        metadata={"labels": labels},
        spec={"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    )
