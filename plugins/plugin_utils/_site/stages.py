# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a run after a server's system is there, each with what it compares. Pure.

A stage is added here and nowhere else: its place in the table is its place in a run, its name that of the group
C(todo_<name>) that a play targets. It is asked about servers whose system answers, and about those that are installed
or booted first (C(view.unseen)): these get every change that may be needed, each a no-op where it is done already.
"""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from .._drivers import sds_ceph, sds_nfs
from .._probe.routing import FRR_CONF
from .changes import Change, Finding, View
from .disks import matching
from .kubelet import differing_fields
from .model import Sds, Server, Site

__all__ = [
    "DRAIN",
    "HARDWARE",
    "INSTALL",
    "SERVICES",
    "STAGES",
    "later_stages",
    "node_labels",
    "node_range",
    "node_taints",
    "serves",
]

DRAIN = "drain"
"""The first stage: pods leave a server that will be disrupted, see C(plan.py)."""

HARDWARE = "hardware"
"""What a server's BMC sets before a system starts, see C(hardware.py)."""

INSTALL = "os"
"""A server's way to its booted system, see C(plan.py)."""

_NFS = "nfs-server.service"

SERVICES = "services"
"""What the site brings into the cluster itself, see C(plan.py). It is of no server, so its group stays empty."""


def host(view: View) -> Iterator[Finding]:
    if view.unseen:
        return  # Written when the system is installed.
    wanted, found = view.intent.files.get(view.server.name, {}), view.host
    differing = sorted(path for path, digest in wanted.items() if found.files.get(path) != digest)
    if differing:
        yield view.change("host", "files", "host files", "differ: " + ", ".join(differing), "as the model says")
    if found.network:
        yield view.change("host", "network", "network", "; ".join(found.network), "as its files say")
    if found.routing:
        yield view.change("host", "routing", "routing daemon", "; ".join(found.routing), "as its file says")
    stopped = [f"{unit} is {state}" for unit, state in _services(view) if state != "active"]
    if stopped:
        yield view.change("host", "services", "services", "; ".join(stopped), "active and enabled")
    if found.kubelet_configured and found.kubelet_config:
        fields = differing_fields(found.kubelet_config, view.intent.kubelet_config)
        if fields:
            before = ", ".join(f"{path}: {have}" for path, have, _want in fields)
            after = ", ".join(f"{path}: {want}" for path, _have, want in fields)
            yield view.change("host", "kubelet", "kubelet configuration", before, after)


def _services(view: View) -> list[tuple[str, str]]:
    """Services that must run, each with what it is; those that could not be read are left out."""
    needed = ["containerd.service", "systemd-networkd.service"]
    needed += ["kubelet.service"] if view.host.kubelet_configured else []
    needed += ["systemd-timesyncd.service"] if view.site.ntp else []
    needed += ["frr.service"] if FRR_CONF in view.intent.files.get(view.server.name, {}) else []
    return [(unit, view.host.units[unit]) for unit in needed if unit in view.host.units]


def disks(view: View) -> Iterator[Finding]:
    selector = view.site.profiles[view.server.profile].disks.get("data")
    if not selector:
        return
    found = {disk["serial_number"] for disk in matching(view.host.disks, selector.select) if disk.get("serial_number")}
    missing = sorted(found - set(view.host.local_mounts))
    if missing or view.unseen:
        yield view.change("disks", "claim", "data disks", "not mounted: " + ", ".join(missing), "claimed and mounted")


def control_plane(view: View) -> Iterator[Finding]:
    if not view.controls:
        return
    cluster = view.state.cluster
    if view.unseen or not view.host.initialised or not cluster.reachable:
        # An API that does not answer may only be one whose kubeconfig is not here, or is of an earlier cluster.
        before = f"API: {cluster.error}" if view.host.initialised else "not initialised"
        yield view.change("control_plane", "init", "control plane", before, "initialised")


def pools(view: View) -> Iterator[Finding]:
    """Of servers on whose pools a storage driver makes volumes. The playbook storage looks after others."""
    if not serves(view):
        return
    # Most sites have none: they need not pay for this.
    from .layouts import differences_of_pools

    found = differences_of_pools(view.site.profiles[view.server.profile].storage, view.site.name, view.host)
    differing = [one.text for one in found if one.mended]
    if sds_nfs.exports(view.site, view.server) and view.host.units.get(_NFS, "active") != "active":
        differing.append(f"{_NFS} is {view.host.units[_NFS]}")
    wanted = view.intent.files.get(view.server.name, {}).get(sds_nfs.EXPORTS)
    if wanted != view.host.files.get(sds_nfs.EXPORTS):
        differing.append(f"{sds_nfs.EXPORTS} differs")
    if sds_ceph.CAPABILITIES.used_by(view.site):
        # Most sites have none: they need not pay for this.
        from .ceph import differences_of_ceph

        differing += differences_of_ceph(view)
    if differing or view.unseen:
        yield view.change("pools", "make", "pools", "; ".join(differing), "as the profile says")


def serves(view: View) -> bool:
    """A storage driver makes volumes on this server's pools."""
    names = {pool.name for pool in view.site.profiles[view.server.profile].storage}
    if sds_nfs.exports(view.site, view.server) or sds_ceph.CAPABILITIES.used_by(view.site):
        return True
    groups = [sds.volume_group for sds in view.site.cluster.sds if _has(sds, view.server.name)]
    return not names.isdisjoint(groups)


def _has(sds: Sds, server: str) -> bool:
    """Volumes are on every server with the group, or on the one that the driver names."""
    return sds.server in (None, server)


def join(view: View) -> Iterator[Finding]:
    if not view.controls and (view.unseen or _joins(view)):
        yield view.change("join", "join", "cluster membership", "not joined", "joined")


def labels(view: View) -> Iterator[Finding]:
    wanted, node = node_labels(view.server), view.state.cluster.nodes.get(view.server.name)
    pods = node_range(view.site, view.server)
    if node is None:
        if view.unseen or _joins(view):
            if wanted:
                yield view.change("labels", "label", "node labels", "not joined", _pairs(wanted))
            if pods:
                yield view.change("labels", "label", "range of pods", "not joined", pods)
        return  # Its taints come with its joining.
    comes = bool(view.unseen) or view.host.where != "node" or _joins(view)
    # Whatever becomes of the server itself: the object stays.
    view = replace(view, unseen="")
    differing = {key: node.labels.get(key, "missing") for key in wanted if node.labels.get(key) != wanted[key]}
    if differing:
        after = _pairs({key: wanted[key] for key in differing})
        yield view.change("labels", "label", "node labels", _pairs(differing), after)
    if pods and node.pod_cidr != pods:
        yield view.change("labels", "label", "range of pods", node.pod_cidr or "missing", pods)
    missing = [taint for taint in node_taints(view.server) if taint not in node.taints]
    if missing:
        same = {(taint["key"], taint["effect"]): taint for taint in node.taints}
        before = [_taint(same.get((taint["key"], taint["effect"]))) for taint in missing]
        after = ", ".join(_taint(taint) for taint in missing)
        yield view.change("labels", "taint", "node taints", ", ".join(before), after)
    # Of a run that goes on elsewhere the node stays as it is.
    if node.drained and (node.ready or comes) and view.server.name not in view.state.leases:
        yield view.change("labels", "uncordon", "scheduling", "cordoned by a run that did not end", "takes pods")


def _joins(view: View) -> bool:
    """The server becomes a node in this run."""
    if view.controls:
        return not view.host.initialised
    cluster = view.state.cluster
    return not view.host.kubelet_configured or (cluster.reachable and view.server.name not in cluster.nodes)


def node_labels(server: Server) -> dict[str, str]:
    """Labels that a server's Node object must have. More labels than these are left alone."""
    role = {} if "control_plane" in server.roles else {"node-role.kubernetes.io/worker": ""}
    return {**role, **server.labels}


def node_range(site: Site, server: Server) -> str:
    """What the Node object must have as range of its pods, for a network driver that reads it there; else empty."""
    return server.pod_cidr if site.cluster.sdn.node_pod_cidr else ""


def node_taints(server: Server) -> list[dict[str, str]]:
    """Taints that a server's Node object must have. More taints than these are left alone."""
    # Without any of the model's, kubeadm gives a control-plane node its usual one.
    usual = [{"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}]
    own = [{key: taint.get(key, "") for key in ("key", "value", "effect")} for taint in server.taints]
    return own or (usual if "control_plane" in server.roles else [])


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(values.items()))


def _taint(taint: Mapping[str, str] | None) -> str:
    return f"{taint['key']}={taint['value']}:{taint['effect']}" if taint else "missing"


_TABLE: tuple[Callable[[View], Iterator[Finding]], ...] = (host, disks, control_plane, pools, join, labels)

_OF_THE_API = (labels,)
"""Stages that need no answer of the server itself."""

STAGES = (
    DRAIN,
    HARDWARE,
    INSTALL,
    *(stage.__name__ for stage in _TABLE[:4]),
    SERVICES,
    *(stage.__name__ for stage in _TABLE[4:]),
)
"""The order in which a run acts; each is a group C(todo_<stage>) of the inventory."""


def later_stages(view: View, silent: bool = False) -> Iterator[Finding]:
    """What the stages after the installation have to do; only what the API tells of a server that is C(silent)."""
    for stage in _OF_THE_API if silent else _TABLE:
        for finding in stage(view):
            if isinstance(finding, Change) and finding.stage != stage.__name__:
                raise AssertionError(f"stage {stage.__name__} has yielded a change of stage {finding.stage}")
            yield finding
