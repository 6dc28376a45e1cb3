# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences that a plan names and no run mends unasked, and what is there that the model does not know. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .changes import CLUSTER, Notice, View
from .disks import matching
from .fit import firmware_differences
from .hardware import hardware_notices
from .ipam import address6
from .model import Site
from .objects import image_of, key_of
from .stages import node_taints, serves
from .state import BmcState, HostState, SiteState, SwitchState, Wiring

__all__ = ["another_servers_bmc", "kube_proxy", "notices", "switches", "unknown_bmcs", "unknown_nodes"]

_CLOCK_SECONDS = 5.0
"""Certificates and etcd bear a few seconds; more is a clock that nobody sets."""
_GROWN_BYTES = 64 * 2**20
_LINES = 3
"""A partition table leaves a MiB or two at the end of a disk."""
_SYSTEM_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Kubernetes puts these on and takes them off by itself."""


def notices(view: View, bmc: BmcState, again: bool) -> Iterator[Notice]:
    """About a server whose installed system answers. C(again): it is installed again all the same."""
    if not bmc.error and not another_servers_bmc(view.host, bmc):
        for message in hardware_notices(view, bmc, installs=again):
            yield Notice(view.server.name, message)
    for about in _TABLE:
        for message in about(view, bmc):
            yield Notice(view.server.name, message)


def unknown_nodes(site: Site, state: SiteState) -> list[Notice]:
    """Nodes of the cluster that are no server of the model."""
    names = {server.name for server in site.servers}
    if not names <= state.hosts.keys():
        return []  # Only some servers were asked for.
    message = "is a node of the cluster, but no server of the model"
    return [Notice(name, message) for name in sorted(state.cluster.nodes) if name not in names]


def unknown_bmcs(state: SiteState) -> list[Notice]:
    message = "is a BMC ({}), but of no server of the model. The playbook kiban.baremetal.discover describes it"
    return [Notice(address, message.format(said)) for address, said in state.strangers.items()]


def switches(state: SiteState) -> list[Notice]:
    """Only told: the playbook fabric changes switches, one at a time and with a way back."""
    return [
        Notice(name, message)
        for name, switch in state.switches.items()
        for message in (*_switch(switch), *state.wiring.get(name, Wiring()).told)
    ]


def _switch(switch: SwitchState) -> Iterator[str]:
    if switch.error:
        yield f"the switch can't be read, so its ports and sessions are not compared: {switch.error}"
    if switch.add or switch.remove:
        differing = "; ".join(
            f"{title}: {_some(lines)}" for title, lines in (("lacks", switch.add), ("has", switch.remove)) if lines
        )
        yield f"the switch is not as the model says. The playbook kiban.baremetal.fabric changes it. It {differing}"
    if switch.foreign:
        yield f"the switch has what the model does not know: {_some(switch.foreign)}. Kept"


def _some(lines: Sequence[str]) -> str:
    more = len(lines) - _LINES
    return ", ".join(lines[:_LINES]) + (f" and {more} more" if more > 0 else "")


def kube_proxy(site: Site, state: SiteState) -> list[Notice]:
    """kubeadm made it; another version comes with an upgrade of the cluster."""
    version = site.cluster.kubernetes
    running = [image_of(obj) for obj in state.cluster.objects or () if key_of(obj)[2] == "kube-proxy"]
    return [
        Notice(CLUSTER, f"kube-proxy runs as {image}, the model says {version}")
        for image in running
        if image.partition("@")[0].rsplit(":", 1)[-1] != version
    ]


def another_servers_bmc(host: HostState, bmc: BmcState) -> str:
    """Why the BMC seems to be that of another server; empty where nothing says so."""
    if bmc.error:
        return ""
    if bmc.power == "off":
        return "it answers over SSH while its BMC says that it is off; the BMC may be that of another server"
    if host.uuid and bmc.uuid and bmc.uuid.lower() not in _orders(host.uuid):
        return f"its firmware says UUID {host.uuid} and its BMC {bmc.uuid}; the BMC may be that of another server"
    return ""


def _orders(text: str) -> set[str]:
    """A UUID, and with its first three fields in the other byte order: firmware of both kinds is about."""
    try:
        value = uuid.UUID(text)
    except ValueError:
        return {text.lower()}
    return {str(value), str(uuid.UUID(bytes=value.bytes_le))}


def _bmc(view: View, bmc: BmcState) -> Iterator[str]:
    if bmc.error:
        yield f"runs, but its BMC can't be used: {bmc.error}"
        return
    if stranger := another_servers_bmc(view.host, bmc):
        yield stranger
        return
    profile = view.site.profiles[view.server.profile]
    if profile.firmware and not bmc.firmware:
        yield "its BMC lists no firmware, so the profile's versions are not compared"
        return
    for one in firmware_differences(profile, bmc.firmware or ()):
        yield f"{one.message}; the profile says {one.expected}"


def _system(view: View, bmc: BmcState) -> Iterator[str]:
    host = view.host
    if host.image_id != view.intent.image_id:
        yield (
            f"runs image {_short(host.image_id)}, the site's image is {_short(view.intent.image_id)}. Kept: set a new "
            "word in the server's 'reinstall' to install it again"
        )
    if host.name and host.name != view.server.name:
        yield f"calls itself {host.name}"
    if host.clock_off > _CLOCK_SECONDS:
        yield f"its clock is off by {host.clock_off:.0f} s"
    if host.failed:
        yield f"failed units: {', '.join(host.failed)}"


def _disks(view: View, bmc: BmcState) -> Iterator[str]:
    selector = view.site.profiles[view.server.profile].disks.get("data")
    wanted = matching(view.host.disks, selector.select) if selector else []
    serials = {disk.get("serial_number") for disk in wanted}
    if selector and selector.count is not None and len(wanted) < selector.count:
        yield f"{len(wanted)} of {selector.count} data disks are there"
    yield from _lost_disks(view, wanted)
    profile = view.site.profiles[view.server.profile]
    pools = profile.storage
    pooled: set[str] = set()
    if pools:
        # Most sites have none: they need not pay for this.
        from .layouts import differences_of_pools, pool_disks

        pooled = pool_disks(pools, view.site.name, view.host)
        for one in differences_of_pools(pools, view.site.name, view.host):
            # What a storage driver needs the run itself mends.
            if not (one.mended and serves(view)):
                yield one.text
    if profile.block_storage:
        from .layouts import path_messages

        yield from path_messages(profile.block_storage, view.host)
    for disk in view.host.disks:
        told = f"disk {disk.get('name')} (serial {disk.get('serial_number') or 'unknown'})"
        uses = list(disk.get("uses") or ())
        if said := disk.get("problems"):
            yield f"{told} may be failing: {', '.join(said)}"
        if disk.get("claimed") and (more := disk.get("unused_bytes") or 0) > _GROWN_BYTES:
            yield f"{told} has grown: its volume leaves {more / 1e9:.1f} GB unused"
        if disk.get("readonly"):
            yield f"{told} is mounted read-only: look at what the kernel says of it"
        if disk.get("claimed"):
            if disk.get("serial_number") not in serials:
                yield f"{told} is claimed for volumes, but the profile does not select it"
        elif disk.get("name") in pooled:
            continue
        elif uses and "/" not in uses:
            yield f"{told} is used by something that the model does not know: {', '.join(uses)}"
        elif "uses" in disk and not uses and not disk.get("removable") and disk.get("serial_number") not in serials:
            yield f"{told} is used by nothing, and the profile does not select it"


def _lost_disks(view: View, wanted: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Disks that were claimed on this server and are not there, and what may have come in their place."""
    mounted = {None, *view.host.local_mounts}
    new = [str(disk["serial_number"]) for disk in wanted if disk.get("serial_number") not in mounted]
    instead = f" New is {', '.join(new)}." if new else ""
    for serial in view.host.lost_disks:
        yield (
            f"the data disk {serial} is gone: pulled, or dead.{instead} If it does not come back, disk_claim with "
            "state: absent makes the server forget it"
        )


def _node(view: View, bmc: BmcState) -> Iterator[str]:
    node = view.state.cluster.nodes.get(view.server.name)
    if node is None:
        return
    if not node.ready:
        yield f"its node is not Ready: {node.message}"
    if node.cordoned and not node.drained:
        yield "its node is cordoned"
    if node.version and node.version != view.site.cluster.kubernetes:
        yield f"runs kubelet {node.version}, the model says {view.site.cluster.kubernetes}"
    own = view.server.addresses["node"]
    six = address6(view.site.networks["node"], own) if view.site.cluster.sdn.ipv6 else None
    if six and node.addresses and six not in node.addresses:
        yield (
            f"its node has no address {six}: it joined before the model had IPv6. Kept: set a new word in the server's "
            "'reinstall' to have it join again"
        )
    runtime = re.search(r"\d+\.\d+\.\d+", node.runtime)
    wanted = re.search(r"\d+\.\d+\.\d+", view.intent.runtime)
    if runtime and wanted and runtime[0] != wanted[0]:
        yield f"runs containerd {runtime[0]}, the bundle has {wanted[0]}"
    keys = {taint["key"] for taint in node_taints(view.server)}
    unknown = [taint for taint in node.taints if taint["key"] not in keys]
    unknown = [taint for taint in unknown if not taint["key"].startswith(_SYSTEM_TAINTS)]
    if unknown:
        shown = ", ".join(f"{taint['key']}={taint['value']}:{taint['effect']}" for taint in unknown)
        yield f"its node has taints that the model does not know: {shown}"


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


_TABLE: tuple[Callable[[View, BmcState], Iterator[str]], ...] = (_bmc, _system, _disks, _node)
