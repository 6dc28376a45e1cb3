# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role verify asks of objects as the API gives them. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["node_problems", "pod_dials", "probe_figures"]

_FIGURES = ("requests", "ok", "lost", "retried", "longest_gap_ms", "slowest_ms", "seconds")


def node_problems(nodes: Sequence[Mapping[str, Any]], servers: Sequence[str], kubernetes: str) -> list[str]:
    """What keeps the cluster's nodes from being the servers of the model, Ready and of the declared version."""
    found = {node["metadata"]["name"]: node for node in nodes}
    problems = [f"server {name} is no node of the cluster" for name in sorted(set(servers) - set(found))]
    problems += [f"node {name} is no server of the model" for name in sorted(set(found) - set(servers))]
    for name in sorted(set(servers) & set(found)):
        status = found[name].get("status") or {}
        version = (status.get("nodeInfo") or {}).get("kubeletVersion")
        if version != kubernetes:
            problems.append(f"node {name} runs kubelet {version}, the model says {kubernetes}")
        conditions = status.get("conditions") or []
        if not any(item["type"] == "Ready" and item["status"] == "True" for item in conditions):
            problems.append(f"node {name} is not Ready")
    return problems


def pod_dials(pods: Sequence[Mapping[str, Any]], service: str, namespace: str, domain: str) -> list[dict[str, str]]:
    """Who shall ask whom: each of two pods on different nodes the other one, by its address and by its name in DNS."""
    by_node = {pod["spec"]["nodeName"]: pod for pod in pods}
    if len(by_node) < 2:
        raise ValueError(f"there are no pods on two nodes, only on {', '.join(sorted(by_node)) or 'none'}")
    first, second = (by_node[node] for node in sorted(by_node)[:2])
    dials = []
    for here, there in ((first, second), (second, first)):
        address = there["status"]["podIP"]
        # A headless Service gives each of its pods a name made of its address.
        name = f"{address.replace('.', '-').replace(':', '-')}.{service}.{namespace}.svc.{domain}"
        dials += [
            {
                "from": here["status"]["podIP"],
                "to": target,
                "answer": there["metadata"]["name"],
                "label": f"{here['spec']['nodeName']} to {there['spec']['nodeName']} by {how}",
            }
            for target, how in ((address, f"address {address}"), (name, f"name {name}"))
        ]
    return dials


def probe_figures(probe: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a measurement by http_probe."""
    return {key: probe[key] for key in _FIGURES if key in probe}
