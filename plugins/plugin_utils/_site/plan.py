# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what a site should be, against what was read. Pure: no I/O, no clock."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .disks import matching
from .model import Server, Site
from .state import BmcState, HostState, SiteState

__all__ = ["STAGES", "Change", "Intent", "Notice", "Plan", "Problem", "make_plan", "node_labels"]

STAGES = ("os", "host", "disks", "control_plane", "join", "labels")
"""The order in which a run acts; each is a group C(todo_<stage>) of the inventory."""

_DISRUPTIONS = ("none", "reboot", "data")


@dataclass(frozen=True)
class Intent:
    """What the plan compares with, besides the site model."""

    image_id: str
    """Identity of the node image that servers should run."""
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Server name to {path: sha256 of the content} of the files that make a host this very server."""
    media_prefix: str = ""
    """URL prefix of the deploy media that this site hands to BMCs."""


@dataclass(frozen=True)
class Change:
    """One difference that a run would mend."""

    server: str
    stage: str
    action: str
    """For stage C(os): C(ramdisk), C(inspect), C(disk) or C(wait). Else the stage's only action."""
    what: str
    before: str
    after: str
    disruption: str = "none"


@dataclass(frozen=True)
class Problem:
    """Something that a run leaves alone and reports."""

    server: str
    message: str


@dataclass(frozen=True)
class Notice(Problem):
    """A difference that is never mended unasked, e.g. another image version on a running server."""


@dataclass(frozen=True)
class Plan:
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    notices: tuple[Notice, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "changes": [asdict(change) for change in self.changes],
            "problems": [asdict(problem) for problem in self.problems],
            "notices": [asdict(notice) for notice in self.notices],
            "todo": {stage: [c.server for c in self.changes if c.stage == stage] for stage in STAGES},
            "summary": self.summary,
        }

    @property
    def summary(self) -> str:
        if not self.changes and not self.problems:
            return "everything is in order: nothing to do"
        servers = {change.server for change in self.changes}
        parts = [
            f"{sum(1 for c in self.changes if c.disruption == level)} with disruption '{level}'"
            for level in _DISRUPTIONS
            if any(c.disruption == level for c in self.changes)
        ]
        text = f"{len(self.changes)} changes on {len(servers)} servers"
        if parts:
            text += f" ({', '.join(parts)})"
        if self.problems:
            text += f"; {len(self.problems)} problems, left alone"
        return text


def make_plan(site: Site, intent: Intent, state: SiteState) -> Plan:
    """Compare the servers that C(state) was read for.

    A server that can't be read is reported and left alone; it never stops the others.
    """
    found = [
        item for server in site.servers if server.name in state.hosts for item in _server(site, server, intent, state)
    ]
    changes = sorted((c for c in found if isinstance(c, Change)), key=lambda change: STAGES.index(change.stage))
    return Plan(
        changes=tuple(changes),
        problems=tuple(p for p in found if type(p) is Problem),
        notices=tuple(n for n in found if isinstance(n, Notice)),
    )


def _server(site: Site, server: Server, intent: Intent, state: SiteState) -> Iterator[Change | Problem]:
    host = state.hosts[server.name]
    bmc = state.bmcs.get(server.name, BmcState(error="not read"))
    if host.where == "node":
        if bmc.error:
            yield Notice(server.name, f"runs, but its BMC can't be used: {bmc.error}")
        yield from _running(site, server, intent, state, host)
        return
    if host.where == "ramdisk":
        # The SSH answer is proof enough, but installing needs the BMC afterwards.
        if bmc.error:
            yield Problem(server.name, f"is in the deploy ramdisk, but its BMC can't be used: {bmc.error}")
        else:
            yield from _install(site, server, "inspect", "in the deploy ramdisk", "data")
        return
    if bmc.error:
        yield Problem(server.name, f"state unknown, left alone: {bmc.error}")
        return
    member = state.cluster.reachable and server.name in state.cluster.nodes
    if bmc.power == "off":
        if member and not _reinstall(server, host):
            yield Change(server.name, "os", "disk", "power", "off", "on", "none")
        else:
            yield from _install(site, server, "ramdisk", "powered off, system disk not yet seen", "data")
    elif any(intent.media_prefix and url.startswith(intent.media_prefix) for url in bmc.media):
        yield from _install(site, server, "ramdisk", "powered on with deploy media, no answer yet", "data")
    elif bmc.power == "on":
        # Never re-imaged from here: it may be a running member that lost its network, or still be booting.
        yield Change(server.name, "os", "wait", "answer over SSH", host.error or "none", "system up", "none")
        if not member:
            yield from _after_os(site, server, "unknown")
    else:
        yield Problem(server.name, f"state unknown, left alone: its BMC says power state '{bmc.power}'")


def _install(site: Site, server: Server, action: str, before: str, disruption: str) -> Iterator[Change]:
    yield Change(server.name, "os", action, "operating system", before, "node image, booted", disruption)
    yield from _after_os(site, server, "not yet seen")


def _after_os(site: Site, server: Server, before: str) -> Iterator[Change]:
    """A server whose disk has not been seen gets every later stage: each is a no-op where it is done already."""
    if _data_selector(site, server):
        yield Change(server.name, "disks", "claim", "data disks", before, "claimed and mounted", "none")
    yield _membership(server, before)
    if node_labels(server):
        yield _labels(server, before)


def node_labels(server: Server) -> dict[str, str]:
    """Labels that a server's Node object must have. More labels than these are left alone."""
    role = {} if "control_plane" in server.roles else {"node-role.kubernetes.io/worker": ""}
    return {**role, **server.labels}


def _labels(server: Server, before: str) -> Change:
    after = ", ".join(f"{key}={value}" for key, value in sorted(node_labels(server).items()))
    return Change(server.name, "labels", "label", "node labels", before, after)


def _membership(server: Server, before: str) -> Change:
    if "control_plane" in server.roles:
        return Change(server.name, "control_plane", "init", "control plane", before, "initialised", "none")
    return Change(server.name, "join", "join", "cluster membership", before, "joined", "none")


def _running(
    site: Site, server: Server, intent: Intent, state: SiteState, host: HostState
) -> Iterator[Change | Problem]:
    if _reinstall(server, host):
        word = (host.installed or {}).get("reinstall")
        yield from _install(site, server, "ramdisk", f"installed with reinstall word '{word or ''}'", "data")
        return
    if host.image_id != intent.image_id:
        yield Notice(
            server.name,
            f"runs image {_short(host.image_id)}, the site's image is {_short(intent.image_id)}. Kept: set a new "
            "word in the server's 'reinstall' to install it again",
        )
    differing = [path for path, digest in intent.files.get(server.name, {}).items() if host.files.get(path) != digest]
    if differing:
        yield Change(
            server.name, "host", "files", "host files", "differ: " + ", ".join(sorted(differing)), "as the model says"
        )
    selector = _data_selector(site, server)
    if selector:
        wanted = {record["serial_number"] for record in matching(host.disks, selector) if record.get("serial_number")}
        missing = sorted(wanted - set(host.local_mounts))
        if missing:
            yield Change(
                server.name, "disks", "claim", "data disks", "not mounted: " + ", ".join(missing), "claimed and mounted"
            )
    node = state.cluster.nodes.get(server.name) if state.cluster.reachable else None
    joining = False
    if "control_plane" in server.roles:
        if not host.initialised or not state.cluster.reachable:
            joining = not host.initialised
            # An API that does not answer may only be one whose kubeconfig is not here, or is of an earlier cluster.
            yield _membership(server, f"API: {state.cluster.error}" if host.initialised else "not initialised")
    elif not host.kubelet_configured or (state.cluster.reachable and node is None):
        joining = True
        yield _membership(server, "not joined")
    if node_labels(server) and (joining or (node and not node_labels(server).items() <= node.labels.items())):
        yield _labels(server, "not joined" if joining else "differ")


def _reinstall(server: Server, host: HostState) -> bool:
    """True when the model asks for a new installation that the host has not had yet."""
    if not server.reinstall:
        return False
    return host.where != "node" or (host.installed or {}).get("reinstall") != server.reinstall


def _data_selector(site: Site, server: Server) -> str | None:
    selector = site.profiles[server.profile].disks.get("data")
    return selector.select if selector else None


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
