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

__all__ = [
    "DRAINED",
    "Bios",
    "BmcState",
    "ClusterState",
    "EtcdMember",
    "HostState",
    "NodeState",
    "Raid",
    "SiteState",
    "SwitchState",
    "Wiring",
]


DRAINED = "kiban.baremetal/drained"
"""Annotation of nodes that a run has cordoned, so that it is a run that lets them take pods again."""


@dataclass(frozen=True)
class Bios:
    """BIOS attributes of a server. C(error) is set when they can't be read; then nothing else is known."""

    current: Mapping[str, Any] = field(default_factory=dict)
    pending: Mapping[str, Any] = field(default_factory=dict)
    """Attributes that get another value at the next reset."""
    error: str | None = None


@dataclass(frozen=True)
class Raid:
    """The volumes of the profile, and others, as the BMC's controllers have them."""

    missing: tuple[str, ...] = ()
    wrong: Mapping[str, str] = field(default_factory=dict)
    """Volume to why it can be neither kept nor made: another has its drives, or the controller can't be read."""
    foreign: tuple[str, ...] = ()
    """Volumes that are none of the profile's."""


@dataclass(frozen=True)
class BmcState:
    """One BMC. C(error) is set when it could not be read; then nothing else is known."""

    power: str | None = None
    uuid: str | None = None
    media: tuple[str, ...] = ()
    firmware: tuple[Mapping[str, Any], ...] | None = None
    """Its firmware inventory; None where it was not asked for, or can't be read."""
    bios: Bios | None = None
    """None where it was not asked for."""
    raid: Raid | None = None
    """None where it was not asked for."""
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
    name: str | None = None
    """What the running kernel calls itself."""
    uuid: str | None = None
    """Identity that the firmware gives; the BMC should say the same."""
    clock_off: float = 0.0
    """Seconds by which its clock differs from the control host's, at least."""
    image_id: str | None = None
    installed: Mapping[str, Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Path to sha256 and mode of what is there."""
    kubelet_configured: bool = False
    kubelet_config: str = ""
    """The kubelet's configuration file."""
    initialised: bool = False
    disks: tuple[Mapping[str, Any], ...] = ()
    local_mounts: tuple[str, ...] = ()
    lost_disks: tuple[str, ...] = ()
    """Serial numbers of disks that were claimed on this server and are not there."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Service to C(active), or what it is instead. Empty where it could not be read."""
    failed: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    """Where the kernel's network differs from the files that describe it, in words."""
    routing: tuple[str, ...] = ()
    """Where FRR differs from its file, in words."""
    neighbors: tuple[Mapping[str, Any], ...] = ()
    """What it hears by LLDP, where it has cables."""
    etcd: EtcdMember | None = None
    layouts: Mapping[str, Any] | None = None
    """Arrays, volumes and mounts on the disks of pools, as the probe tells them; none: not asked for."""
    sessions: tuple[Mapping[str, Any], ...] = ()
    """Paths to storage servers, each with target, portal and state; read together with C(layouts)."""
    ceph: Mapping[str, Any] | None = None
    """What there is of Ceph, as the probe tells it; none: not asked for."""

    @classmethod
    def from_probe(cls, probe: Mapping[str, Any], clock_off: float = 0.0) -> HostState:
        kubelet, etcd = probe.get("kubelet") or {}, probe.get("etcd")
        return cls(
            where=probe.get("where"),
            name=probe.get("name"),
            uuid=probe.get("uuid"),
            clock_off=clock_off,
            image_id=probe.get("image_id"),
            installed=probe.get("installed"),
            files=dict(probe.get("files") or {}),
            kubelet_configured=bool(kubelet.get("configured")),
            kubelet_config=kubelet.get("config") or "",
            initialised=bool(kubelet.get("initialised")),
            disks=tuple(probe.get("disks") or ()),
            local_mounts=tuple(probe.get("mounts") or ()),
            lost_disks=tuple(probe.get("lost") or ()),
            units=dict(probe.get("units") or {}),
            failed=tuple(probe.get("failed") or ()),
            network=tuple(probe.get("network") or ()),
            routing=tuple(probe.get("routing") or ()),
            neighbors=tuple(probe.get("neighbors") or ()),
            etcd=EtcdMember(etcd["id"], etcd["has_leader"], etcd["learner"], tuple(etcd["members"])) if etcd else None,
            layouts=probe.get("layouts"),
            sessions=tuple(probe.get("sessions") or ()),
            ceph=probe.get("ceph"),
        )


@dataclass(frozen=True)
class NodeState:
    """One Node object of the cluster."""

    ready: bool
    version: str
    """Of the kubelet."""
    labels: Mapping[str, str] = field(default_factory=dict)
    cordoned: bool = False
    drained: bool = False
    """A run has cordoned it, and not undone that yet."""
    taints: tuple[Mapping[str, str], ...] = ()
    """Each with C(key), C(value) and C(effect)."""
    runtime: str = ""
    """Name and version of the container runtime: C(containerd://2.4.2)."""
    pod_cidr: str = ""
    """The range of its pods, where somebody has said it here."""
    message: str = ""
    """Why it is not ready."""
    addresses: tuple[str, ...] = ()

    @classmethod
    def from_object(cls, obj: Mapping[str, Any]) -> NodeState:
        status, spec = obj.get("status", {}), obj.get("spec", {})
        ready: Mapping[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        info = status.get("nodeInfo", {})
        return cls(
            ready=ready.get("status") == "True",
            version=info.get("kubeletVersion", ""),
            labels=dict(obj.get("metadata", {}).get("labels") or {}),
            cordoned=bool(spec.get("unschedulable")),
            drained=DRAINED in (obj.get("metadata", {}).get("annotations") or {}),
            taints=tuple({key: t.get(key, "") for key in ("key", "value", "effect")} for t in spec.get("taints") or ()),
            runtime=info.get("containerRuntimeVersion", ""),
            pod_cidr=str(spec.get("podCIDR") or ""),
            message=str(ready.get("message") or "its kubelet has not reported yet"),
            addresses=tuple(one["address"] for one in status.get("addresses") or () if one["type"] == "InternalIP"),
        )


@dataclass(frozen=True)
class ClusterState:
    """The Kubernetes API. C(nodes) is meaningful only when C(reachable) is true."""

    reachable: bool = False
    known: bool = False
    """This control host holds a kubeconfig of the cluster."""
    error: str | None = None
    nodes: Mapping[str, NodeState] = field(default_factory=dict)
    objects: tuple[Mapping[str, Any], ...] | None = None
    """What is there of C(Intent.objects), and the DaemonSet of kube-proxy; none: not read."""
    budgets: tuple[PodBudget, ...] = ()
    pods: Mapping[str, tuple[Pod, ...]] = field(default_factory=dict)
    """By server; read only for servers that a run would disrupt."""


@dataclass(frozen=True)
class SwitchState:
    """How a switch differs from its intent, line by line. C(error) is set when it could not be read."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    """What the model does not know."""
    error: str | None = None
    neighbors: tuple[Mapping[str, Any], ...] = ()
    """What it hears by LLDP; empty also where it was not asked."""

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> SwitchState:
        """Of a result of the module switch_config in check mode."""
        if result.get("failed") or result.get("unreachable") or "add" not in result:
            return cls(error=str(result.get("msg") or "it was not read").strip().splitlines()[0])
        add, remove, foreign = (tuple(result[name]) for name in ("add", "remove", "foreign"))
        return cls(add, remove, foreign, neighbors=tuple(result.get("neighbors") or ()))


@dataclass(frozen=True)
class Wiring:
    """What BMCs and switches hear of the cables of a server or switch, in words."""

    wrong: tuple[str, ...] = ()
    """Cables that are not where the model has them. A server is not installed before they are mended."""
    told: tuple[str, ...] = ()
    """What could not be compared."""


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
    strangers: Mapping[str, str] = field(default_factory=dict)
    """Addresses of BMCs that are of no server of the model, each with what the BMC says it is."""
    switches: Mapping[str, SwitchState] = field(default_factory=dict)
    """Those that were compared with their intent."""
    wiring: Mapping[str, Wiring] = field(default_factory=dict)
    """By server or switch, of whose cables there is something to say."""
