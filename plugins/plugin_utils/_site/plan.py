# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what a site should be, against what was read. Pure: no I/O, no clock."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from .ceph import notices_of_ceph
from .changes import CLUSTER, DISRUPTIONS, Change, Finding, Intent, Notice, Problem, View
from .disruption import admit, waves
from .hardware import bios, hardware_notices, volumes
from .model import Server, Site
from .notices import another_servers_bmc, kube_proxy, notices, switches, unknown_bmcs, unknown_nodes
from .objects import differences
from .service import depended_on, service_of
from .show import lines, summary
from .stages import DRAIN, INSTALL, SERVICES, STAGES, later_stages
from .state import BmcState, HostState, SiteState, Wiring

__all__ = ["Plan", "asks", "installs", "make_plan", "unfinished"]


@dataclass(frozen=True)
class Plan:
    site: str
    servers: tuple[str, ...]
    """Names of the servers that were compared."""
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    notices: tuple[Notice, ...] = ()
    waves: tuple[tuple[str, ...], ...] = ()
    """The servers that are disrupted, in groups that go one after another; empty where one group holds them all."""

    @property
    def later(self) -> tuple[str, ...]:
        """Servers of the second wave and of those after it."""
        return tuple(name for wave in self.waves[1:] for name in wave)

    def of_wave(self, names: Collection[str], missing: Collection[str]) -> Plan:
        """The part of these servers, once it is their turn: who has to wait now is left alone, and so are all of them
        where something is C(missing) of the wave before.
        """
        told = {one.server: one for one in self.problems if one.server in names}
        if missing:
            why = f"is left alone, since the wave before it is not in order: {'; '.join([*missing][:5])}"
            told = {name: told.get(name) or Problem(name, why) for name in names}
        for name in self.later:
            if name in names:
                told.setdefault(name, Problem(name, "is left alone: others of its wave have to go first. Run again"))
        return replace(
            self,
            servers=tuple(name for name in self.servers if name in names),
            changes=tuple(one for one in self.changes if one.server in names and one.server not in told),
            problems=tuple(told.values()),
            notices=tuple(one for one in self.notices if one.server in names),
            waves=(),
        )

    def to_dict(self) -> dict[str, Any]:
        """As C(plan.schema.json) describes it."""
        return {
            "version": 1,
            "site": self.site,
            "servers": list(self.servers),
            "changes": [asdict(change) for change in self.changes],
            "problems": [asdict(problem) for problem in self.problems],
            "notices": [asdict(notice) for notice in self.notices],
            "waves": [list(wave) for wave in self.waves],
            "todo": {
                stage: [c.server for c in self.changes if c.stage == stage and c.server not in self.later]
                for stage in STAGES
            },
            "summary": self.summary,
        }

    @property
    def summary(self) -> str:
        return summary(self.servers, self.changes, self.problems, self.waves)

    @property
    def lines(self) -> list[str]:
        """For a person."""
        return lines(self.changes, self.problems, self.notices, self.summary, self.waves)


def asks(site: Site, intent: Intent, state: SiteState) -> list[tuple[str, str]]:
    """Servers that a run would disrupt, and how, in the order of the model: whom C(disruption.admit) is asked about."""
    found = []
    for server in site.servers:
        if server.name not in state.hosts:
            continue
        levels = [
            finding.disruption
            for finding in _server(site, server, intent, state)
            if isinstance(finding, Change) and (finding.stage == INSTALL or finding.disruption != "none")
        ]
        if levels:
            level = max(levels, key=DISRUPTIONS.index)
            found.append((server.name, level if depended_on(server, state) else "none"))
    return found


def installs(site: Site, intent: Intent, state: SiteState) -> list[str]:
    """Servers with cables that a run would install, in the order of the model."""
    return [
        server.name
        for server in site.servers
        if {*server.cables} - {"bmc"}
        and (host := state.hosts.get(server.name)) is not None
        and (host.where != "node" or server.reinstall)
        and any(
            isinstance(one, Change) and one.stage == INSTALL and one.disruption == "data"
            for one in _server(site, server, intent, state)
        )
    ]


def make_plan(site: Site, intent: Intent, state: SiteState, force: Collection[str] = ()) -> Plan:
    """Compare the servers that C(state) was read for.

    A server that can't be read is reported and left alone; it never stops the others. So is one that must not be
    disrupted now, unless C(force) names it. One that only has to wait for others goes in a later wave.
    """
    service, wanted = service_of(site, state), asks(site, intent, state)
    taken, refused = admit(site, service, wanted)
    later = waves(site, service, [ask for ask in wanted if ask[0] not in force], refused)
    for name in {name for wave in later for name in wave}:
        del refused[name]
    found: list[Finding] = []
    for server in site.servers:
        if server.name not in state.hosts:
            continue
        reasons = refused.get(server.name)
        if reasons and server.name in force:
            found.append(Notice(server.name, f"is disrupted by force, although {'; '.join(reasons)}"))
        elif reasons:
            found.append(Problem(server.name, _refusal(server.name, reasons)))
            found += (f for f in _server(site, server, intent, state) if isinstance(f, Notice))
            continue
        found += _server(site, server, intent, state)
    found += [*_services(intent, state), *unknown_bmcs(state), *unknown_nodes(site, state), *kube_proxy(site, state)]
    found += [*switches(state), *notices_of_ceph(site, {**state.others, **state.hosts})]
    changes = sorted((c for c in found if isinstance(c, Change)), key=lambda change: STAGES.index(change.stage))
    return Plan(
        site=site.name,
        servers=tuple(server.name for server in site.servers if server.name in state.hosts),
        changes=tuple(changes),
        problems=tuple(p for p in found if isinstance(p, Problem)),
        notices=tuple(n for n in found if isinstance(n, Notice)),
        waves=(taken, *later) if later else (),
    )


def unfinished(plan: Plan, state: SiteState, names: Collection[str]) -> list[str]:
    """What is still to be done on these servers, each in words: the next wave has to wait for it."""
    found = [
        f"{change.server} has to be worked on ({change.what})"
        for change in plan.changes
        if change.server in names and change.stage != DRAIN  # which is never there for itself
    ]
    found += [f"{one.server} {one.message}" for one in plan.problems if one.server in names]
    nodes = state.cluster.nodes
    return found + [f"the node {name} is not Ready" for name in names if name in nodes and not nodes[name].ready]


def _services(intent: Intent, state: SiteState) -> Iterator[Change]:
    """What the site brings into the cluster. A cluster that can't be read has nothing that is known to differ."""
    if not state.cluster.reachable or state.cluster.objects is None:
        return
    for name, fields in differences(intent.objects, state.cluster.objects):
        before, after = (
            ", ".join(f"{field}: {values[side]}" if field else values[side] for field, *values in fields[:5])
            for side in (0, 1)
        )
        more = f" and {len(fields) - 5} fields more" if len(fields) > 5 else ""
        yield Change(CLUSTER, SERVICES, "apply", name, before + more, after + more)


def _refusal(name: str, reasons: tuple[str, ...]) -> str:
    return (
        f"must not be disrupted now, left alone: {'; '.join(reasons)}. Run again when that is over, or accept the loss "
        f"with -e kiban_force={name}"
    )


def _server(site: Site, server: Server, intent: Intent, state: SiteState) -> Iterator[Finding]:
    host = state.hosts[server.name]
    bmc = state.bmcs.get(server.name, BmcState(error="not read"))
    view = View(site, server, intent, state, host)
    if host.where == "node":
        yield from _running(view, bmc)
        return
    if host.where == "ramdisk":
        # The SSH answer is proof enough, but installing needs the BMC afterwards.
        if bmc.error:
            yield Problem(server.name, f"is in the deploy ramdisk, but its BMC can't be used: {bmc.error}")
        else:
            yield from _install(view, bmc, "inspect", "in the deploy ramdisk")
        return
    if bmc.error:
        yield Problem(server.name, f"state unknown, left alone: {bmc.error}")
        return
    member = state.cluster.reachable and server.name in state.cluster.nodes
    if bmc.power == "off":
        if member and not _reinstall(server, host):
            yield from bios(view, bmc, restart=False)
            yield view.change(INSTALL, "disk", "power", "off", "on")
            yield from later_stages(view, silent=True)
        else:
            yield from _install(view, bmc, "ramdisk", "powered off, system disk not yet seen")
    elif any(intent.media_prefix and url.startswith(intent.media_prefix) for url in bmc.media):
        yield from _install(view, bmc, "ramdisk", "powered on with deploy media, no answer yet")
    elif bmc.power == "on":
        # Never re-imaged from here: it may be a running member that lost its network, or still be booting.
        yield view.change(INSTALL, "wait", "answer over SSH", host.error or "none", "system up")
        yield from later_stages(view, silent=True) if member else later_stages(replace(view, unseen="unknown"))
    else:
        yield Problem(server.name, f"state unknown, left alone: its BMC says power state '{bmc.power}'")


def _install(view: View, bmc: BmcState, action: str, before: str) -> Iterator[Finding]:
    cables = [*_cables(view, installs=True)]
    yield from cables
    if any(isinstance(one, Problem) for one in cables):
        return
    if view.host.where == "node":
        yield from _drain(view)
    else:  # A running one tells all its notices.
        yield from (Notice(view.server.name, message) for message in hardware_notices(view, bmc, installs=True))
    first = [*bios(view, bmc, restart=False), *volumes(view, bmc)]
    yield from first
    # What was written comes into force, and volumes that wait are made, with the reset that boots the ramdisk.
    action = "ramdisk" if first else action
    yield view.change(INSTALL, action, "operating system", before, "node image, booted", "data")
    yield from later_stages(replace(view, unseen="not yet seen"))


def _running(view: View, bmc: BmcState) -> Iterator[Finding]:
    server, host = view.server, view.host
    again = _reinstall(server, host)
    unusable = f"its BMC can't be used: {bmc.error}" if bmc.error else another_servers_bmc(host, bmc)
    if again and unusable:
        yield Problem(server.name, f"is not installed again: {unusable}")
        return
    yield from notices(view, bmc, again)
    if again:
        word = (host.installed or {}).get("reinstall")
        yield from _install(view, bmc, "ramdisk", f"installed with reinstall word '{word or ''}'")
    else:
        yield from _cables(view, installs=False)
        if not unusable:
            first = [*bios(view, bmc, restart=True)]
            if any(change.disruption != "none" for change in first):
                yield from _drain(view)
            yield from first
        yield from later_stages(view)


def _cables(view: View, installs: bool) -> Iterator[Finding]:
    """What is heard of the server's cables. One that is wrong stops it before it is installed, and only then."""
    wiring = view.state.wiring.get(view.server.name, Wiring())
    if wiring.wrong and installs:
        yield Problem(
            view.server.name,
            f"is not installed: {'; '.join(wiring.wrong)}. Mend that and run again, or accept it with "
            f"-e kiban_force={view.server.name}",
        )
    for message in (*(() if installs else wiring.wrong), *wiring.told):
        yield Notice(view.server.name, message)


def _drain(view: View) -> Iterator[Change]:
    """Before a node is disrupted. Of one that is not Ready, or of a cluster that does not answer, no pod would go."""
    cluster = view.state.cluster
    node = cluster.nodes.get(view.server.name) if cluster.reachable else None
    if node is not None and node.ready:
        yield view.change(DRAIN, "evict", "pods", "on this node", "evicted, the node cordoned meanwhile", "drain")


def _reinstall(server: Server, host: HostState) -> bool:
    """True when the model asks for a new installation that the host has not had yet."""
    if not server.reinstall:
        return False
    return host.where != "node" or (host.installed or {}).get("reinstall") != server.reinstall
