# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was read to what the decision about a disruption looks at. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .ceph import volumes_of_ceph
from .disruption import Etcd, Pod, PodBudget, Service
from .model import Server, Site
from .state import HostState, SiteState

__all__ = ["depended_on", "evictable", "pods_and_budgets", "service_of"]


def depended_on(server: Server, state: SiteState) -> bool:
    """Whether somebody may depend on this server: what runs on it, or what its disks hold."""
    host, member = state.hosts[server.name], server.name in state.cluster.nodes
    if host.where == "node":
        return member or host.kubelet_configured or host.initialised
    # It serves nobody now. A new installation would also take what it held, and then it matters whose that is.
    return bool(server.reinstall) and (member or (state.cluster.known and not state.cluster.reachable))


def service_of(site: Site, state: SiteState) -> Service:
    cluster = state.cluster
    hosts = {**state.others, **state.hosts}
    members = frozenset(server.name for server in site.servers if server.name in cluster.nodes)
    down = {}
    for server in site.servers:
        host, node = hosts.get(server.name), cluster.nodes.get(server.name)
        if host is not None and host.where != "node":
            down[server.name] = "is in the deploy ramdisk" if host.where else "does not answer over SSH"
        elif node is not None and not node.ready:
            down[server.name] = "its node is not Ready"
    return Service(
        members=members,
        down=down,
        cordoned=frozenset(name for name in members if cluster.nodes[name].cordoned),
        etcd=_etcd(site, hosts, members),
        budgets=cluster.budgets,
        pods=cluster.pods,
        volumes=volumes_of_ceph(site, hosts),
        leases=state.leases,
        unread="" if cluster.reachable else cluster.error or "it was not asked",
    )


def _etcd(site: Site, hosts: Mapping[str, HostState], members: frozenset[str]) -> Etcd | None:
    voters: dict[str, bool] = {}
    learners: dict[str, bool] = {}
    seen: set[str] = set()
    known: set[str] = set()
    for server in site.with_role("control_plane"):
        host = hosts.get(server.name)
        if host is not None and host.etcd:
            seen.add(host.etcd.id)
            known |= {host.etcd.id, *host.etcd.members}
            (learners if host.etcd.learner else voters)[server.name] = host.etcd.has_leader
        elif server.name in members or (host is not None and host.initialised):
            # It should have a member, and that one says nothing: it counts, and as one that is lost.
            voters[server.name] = False
    if not seen:
        return None
    # Members that no server of the model answers for, such as one that was never taken out.
    strangers = len(known) - len(seen) - sum(1 for name in voters if not (hosts.get(name) and hosts[name].etcd))
    return Etcd({**voters, **{f"unknown member {number + 1}": False for number in range(strangers)}}, learners)


def pods_and_budgets(
    pods: Iterable[Mapping[str, Any]], budgets: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, tuple[Pod, ...]], tuple[PodBudget, ...]]:
    """Objects of the API as what the decision looks at: pods by node, each with the budgets that select it."""
    budgets = list(budgets)
    found: dict[str, list[Pod]] = {}
    for pod in pods:
        node, meta = pod.get("spec", {}).get("nodeName"), pod["metadata"]
        if not node or not evictable(pod):
            continue
        names = tuple(
            _name(budget)
            for budget in budgets
            if budget["metadata"]["namespace"] == meta["namespace"]
            and selects(budget.get("spec", {}).get("selector"), meta.get("labels") or {})
        )
        conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions") or []}
        found.setdefault(node, []).append(Pod(_name(pod), conditions.get("Ready") == "True", names))
    return {node: tuple(items) for node, items in found.items()}, tuple(_budget(item) for item in budgets)


def evictable(pod: Mapping[str, Any]) -> bool:
    """Whether it goes when a server is drained: no static pod, none of a DaemonSet, and none that has ended."""
    meta = pod["metadata"]
    if "kubernetes.io/config.mirror" in (meta.get("annotations") or {}):
        return False
    if any(owner.get("kind") == "DaemonSet" for owner in meta.get("ownerReferences") or []):
        return False
    return pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")


def _name(obj: Mapping[str, Any]) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _budget(obj: Mapping[str, Any]) -> PodBudget:
    status = obj.get("status") or {}
    return PodBudget(
        name=_name(obj),
        # Not counted since it was changed last: then it allows nothing yet, as the eviction API has it.
        disruptions_allowed=(
            int(status.get("disruptionsAllowed", 0))
            if status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 0)
            else 0
        ),
        healthy=int(status.get("currentHealthy", 0)),
        desired_healthy=int(status.get("desiredHealthy", 0)),
        always_allow_unhealthy=(obj.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow",
    )


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches. In policy/v1 an empty one matches all pods of its namespace, none no pod."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(rule, labels) for rule in selector.get("matchExpressions") or [])


def _matches(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = rule["key"], rule.get("values") or []
    return {
        "In": labels.get(key) in values and key in labels,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }[rule["operator"]]
