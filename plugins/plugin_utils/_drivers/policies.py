# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NetworkPolicy, enforced by kube-network-policies: a program decides about new connections of pods in policies.

https://github.com/kubernetes-sigs/kube-network-policies
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from typing import Any

from .objects import api_server, from_field, named, on_every_node, rights

__all__ = ["IMAGE", "NAMESPACE", "TABLE", "manifests"]

IMAGE = "kube-network-policies"
NAMESPACE = "kube-system"
TABLE = "kube-network-policies"
"""Of nftables, family inet. It stays when the program ends: what a policy selects is cut off then, not let through."""

_NAME = "kube-network-policies"
_METRICS = 9080


def manifests(image: str, api_host: str) -> list[dict[str, Any]]:
    """Every object of it."""
    watched = [
        ("", ["pods", "namespaces"], ["list", "watch"]),
        ("networking.k8s.io", ["networkpolicies"], ["list", "watch"]),
    ]
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--hostname-override=$(NODE_NAME)",
            f"--metrics-bind-address=127.0.0.1:{_METRICS}",
            # For kernels before 6.12; the node image has that or a newer one.
            "--netfilter-bug-1766-fix=false",
        ],
        "env": [from_field("NODE_NAME", "spec.nodeName"), *api_server(api_host)],
        "readinessProbe": {
            "httpGet": {"host": "127.0.0.1", "path": "/metrics", "port": _METRICS},
            "periodSeconds": 20,
            "timeoutSeconds": 10,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "50Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    pod = {"serviceAccountName": _NAME, "containers": [container]}
    return [
        named("v1", "ServiceAccount", _NAME, NAMESPACE),
        *rights(f"kiban:{_NAME}", _NAME, NAMESPACE, watched),
        on_every_node(_NAME, NAMESPACE, {"app.kubernetes.io/name": _NAME}, pod),
    ]
