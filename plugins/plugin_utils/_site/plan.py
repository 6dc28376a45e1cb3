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

from .changes import CLUSTER, DISRUPTIONS, Change, Finding, Intent, Notice, Problem, View
from .disruption import admit, waits
from .model import Server, Site
from .notices import another_servers_bmc, kube_proxy, notices, unknown_bmcs, unknown_nodes
from .objects import differences
from .service import depended_on, service_of
from .show import lines, summary
from .stages import INSTALL, SERVICES, STAGES, later_stages
from .state import BmcState, HostState, SiteState

__all__ = ["Plan", "asks", "make_plan"]


@dataclass(frozen=True)
class Plan:
    site: str
    servers: tuple[str, ...]
    """Names of the servers that were compared."""
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    notices: tuple[Notice, ...] = ()
    waits: tuple[str, ...] = ()
    """Servers left alone only because others are disrupted by this run: the next one may take them."""

    def to_dict(self) -> dict[str, Any]:
        """As C(plan.schema.json) describes it."""
        return {
            "version": 1,
            "site": self.site,
            "servers": list(self.servers),
            "changes": [asdict(change) for change in self.changes],
            "problems": [asdict(problem) for problem in self.problems],
            "notices": [asdict(notice) for notice in self.notices],
            "waits": list(self.waits),
            "todo": {stage: [c.server for c in self.changes if c.stage == stage] for stage in STAGES},
            "summary": self.summary,
        }

    @property
    def summary(self) -> str:
        return summary(self.servers, self.changes, self.problems, self.waits)

    @property
    def lines(self) -> list[str]:
        """For a person."""
        return lines(self.changes, self.problems, self.notices, self.summary)


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


def make_plan(site: Site, intent: Intent, state: SiteState, force: Collection[str] = ()) -> Plan:
    """Compare the servers that C(state) was read for.

    A server that can't be read is reported and left alone; it never stops the others. So is one that must not be
    disrupted now, unless C(force) names it.
    """
    service, wanted = service_of(site, state), asks(site, intent, state)
    _taken, refused = admit(site, service, wanted)
    later = tuple(name for name in waits(site, service, wanted, refused) if name not in force)
    found: list[Finding] = []
    for server in site.servers:
        if server.name not in state.hosts:
            continue
        reasons = refused.get(server.name)
        if reasons and server.name in force:
            found.append(Notice(server.name, f"is disrupted by force, although {'; '.join(reasons)}"))
        elif reasons:
            found.append(Problem(server.name, _refusal(server.name, reasons, server.name in later)))
            found += (f for f in _server(site, server, intent, state) if isinstance(f, Notice))
            continue
        found += _server(site, server, intent, state)
    found += [*_services(intent, state), *unknown_bmcs(state), *unknown_nodes(site, state), *kube_proxy(site, state)]
    changes = sorted((c for c in found if isinstance(c, Change)), key=lambda change: STAGES.index(change.stage))
    return Plan(
        site=site.name,
        servers=tuple(server.name for server in site.servers if server.name in state.hosts),
        changes=tuple(changes),
        problems=tuple(p for p in found if isinstance(p, Problem)),
        notices=tuple(n for n in found if isinstance(n, Notice)),
        waits=later,
    )


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


def _refusal(name: str, reasons: tuple[str, ...], waits_only: bool) -> str:
    why, over = (
        ("waits for servers that go first", "these are back")
        if waits_only
        else ("must not be disrupted now", "that is over")
    )
    return (
        f"{why}, left alone: {'; '.join(reasons)}. Run again when {over}, or accept the loss with -e kiban_force={name}"
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
            yield from _install(view, "inspect", "in the deploy ramdisk")
        return
    if bmc.error:
        yield Problem(server.name, f"state unknown, left alone: {bmc.error}")
        return
    member = state.cluster.reachable and server.name in state.cluster.nodes
    if bmc.power == "off":
        if member and not _reinstall(server, host):
            yield view.change(INSTALL, "disk", "power", "off", "on")
            yield from later_stages(view, silent=True)
        else:
            yield from _install(view, "ramdisk", "powered off, system disk not yet seen")
    elif any(intent.media_prefix and url.startswith(intent.media_prefix) for url in bmc.media):
        yield from _install(view, "ramdisk", "powered on with deploy media, no answer yet")
    elif bmc.power == "on":
        # Never re-imaged from here: it may be a running member that lost its network, or still be booting.
        yield view.change(INSTALL, "wait", "answer over SSH", host.error or "none", "system up")
        yield from later_stages(view, silent=True) if member else later_stages(replace(view, unseen="unknown"))
    else:
        yield Problem(server.name, f"state unknown, left alone: its BMC says power state '{bmc.power}'")


def _install(view: View, action: str, before: str) -> Iterator[Finding]:
    yield view.change(INSTALL, action, "operating system", before, "node image, booted", "data")
    yield from later_stages(replace(view, unseen="not yet seen"))


def _running(view: View, bmc: BmcState) -> Iterator[Finding]:
    server, host = view.server, view.host
    again = _reinstall(server, host)
    unusable = f"its BMC can't be used: {bmc.error}" if bmc.error else another_servers_bmc(host, bmc)
    if again and unusable:
        yield Problem(server.name, f"is not installed again: {unusable}")
        return
    yield from notices(view, bmc)
    if again:
        word = (host.installed or {}).get("reinstall")
        yield from _install(view, "ramdisk", f"installed with reinstall word '{word or ''}'")
    else:
        yield from later_stages(view)


def _reinstall(server: Server, host: HostState) -> bool:
    """True when the model asks for a new installation that the host has not had yet."""
    if not server.reinstall:
        return False
    return host.where != "node" or (host.installed or {}).get("reinstall") != server.reinstall
