# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was read from a site's devices, as typed objects. Nothing here does I/O."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .disruption import Pod, PodBudget

__all__ = ["BmcState", "ClusterState", "EtcdMember", "HostState", "NodeState", "SiteState"]


@dataclass(frozen=True)
class BmcState:
    """One BMC. C(error) is set when it could not be read; then nothing else is known."""

    power: str | None = None
    media: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class EtcdMember:
    """What the member of etcd on a server says of itself and of the others."""

    id: str
    has_leader: bool
    learner: bool
    members: tuple[str, ...] = ()
    """Identities of all members that it knows, with its own."""


@dataclass(frozen=True)
class HostState:
    """What answered over SSH at a server's node address.

    C(where) is C(node) (the installed system), C(ramdisk), or None when nothing answered.
    """

    where: str | None = None
    error: str | None = None
    image_id: str | None = None
    installed: Mapping[str, Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    kubelet_configured: bool = False
    initialised: bool = False
    disks: tuple[Mapping[str, Any], ...] = ()
    local_mounts: tuple[str, ...] = ()
    etcd: EtcdMember | None = None

    @classmethod
    def from_probe(cls, probe: Mapping[str, Any]) -> HostState:
        kubelet, etcd = probe.get("kubelet") or {}, probe.get("etcd")
        return cls(
            where=probe.get("where"),
            image_id=probe.get("image_id"),
            installed=probe.get("installed"),
            files=dict(probe.get("files") or {}),
            kubelet_configured=bool(kubelet.get("configured")),
            initialised=bool(kubelet.get("initialised")),
            disks=tuple(probe.get("disks") or ()),
            local_mounts=tuple(probe.get("mounts") or ()),
            etcd=EtcdMember(etcd["id"], etcd["has_leader"], etcd["learner"], tuple(etcd["members"])) if etcd else None,
        )


@dataclass(frozen=True)
class NodeState:
    """One Node object of the cluster."""

    ready: bool
    version: str
    labels: Mapping[str, str] = field(default_factory=dict)
    cordoned: bool = False

    @classmethod
    def from_object(cls, obj: Mapping[str, Any]) -> NodeState:
        conditions = {c["type"]: c["status"] for c in obj.get("status", {}).get("conditions", [])}
        return cls(
            ready=conditions.get("Ready") == "True",
            version=obj.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", ""),
            labels=dict(obj.get("metadata", {}).get("labels") or {}),
            cordoned=bool(obj.get("spec", {}).get("unschedulable")),
        )


@dataclass(frozen=True)
class ClusterState:
    """The Kubernetes API. C(nodes) is meaningful only when C(reachable) is true."""

    reachable: bool = False
    known: bool = False
    """This control host holds a kubeconfig of the cluster."""
    error: str | None = None
    nodes: Mapping[str, NodeState] = field(default_factory=dict)
    budgets: tuple[PodBudget, ...] = ()
    pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    """By server; read only for servers that a run would disrupt."""


@dataclass(frozen=True)
class SiteState:
    """C(bmcs) and C(hosts) hold the servers that are planned."""

    bmcs: Mapping[str, BmcState] = field(default_factory=dict)
    hosts: Mapping[str, HostState] = field(default_factory=dict)
    cluster: ClusterState = field(default_factory=ClusterState)
    others: Mapping[str, HostState] = field(default_factory=dict)
    """Control-plane servers that are not planned, but were asked because a planned one would be disrupted."""
    leases: Mapping[str, str] = field(default_factory=dict)
    """Server to who works on it now: another run."""
