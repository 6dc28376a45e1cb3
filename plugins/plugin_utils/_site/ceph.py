# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan makes of a Ceph cluster: what a run mends, what it tells, and which servers its data needs now. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .._drivers import sds_ceph
from .changes import CLUSTER, Notice, View
from .disruption import Volume
from .model import Site
from .state import HostState

__all__ = ["differences_of_ceph", "notices_of_ceph", "volumes_of_ceph"]


def differences_of_ceph(view: View) -> Iterator[str]:
    """What the role sds_ceph has to do on a server; nothing where the server was not asked."""
    found, server = view.host.ceph, view.server
    if found is None or not sds_ceph.CAPABILITIES.used_by(view.site):
        return
    if server.name in sds_ceph.monitors(view.site) and not found["monitor"]:
        yield "there is no monitor of Ceph"
    # Of a pool whose disk is not there its own differences tell.
    pools = _pools_there(view)
    wanted = {
        device: found["osds"].get(device)
        for device in sds_ceph.devices(view.site, server)
        if pools is None or device.split("/")[2] in pools
    }
    yield from (f"there is no OSD on {device}" for device, number in wanted.items() if number is None)
    units = [*sds_ceph.services(view.site, server)]
    units += [f"ceph-osd@{number}.service" for number in wanted.values() if number is not None]
    for unit in units:
        if (state := found["units"].get(unit, "not there")) != "active":
            yield f"{unit} is {state}"
    yield from _to_forget(view)


def _to_forget(view: View) -> Iterator[str]:
    """OSDs that were on this server, whose copies Ceph has made anew: it would let them go."""
    answer, _why = _answer(view.site, {**view.state.others, **view.state.hosts})
    if answer is None or any(code.startswith(("PG_", "OBJECT_")) for code, *_rest in answer["health"]):
        return
    for osd in _without_disk(answer, view.server.name, view.host):
        if not osd["in"]:
            yield f"OSD {osd['id']} has no disk here any more"


def _without_disk(answer: Mapping[str, Any], name: str, host: HostState) -> list[Mapping[str, Any]]:
    """OSDs that the cluster has on a server, that do not run and of which the server knows nothing."""
    here = {*(host.ceph or {})["osds"].values()}
    return [osd for osd in answer["cluster_osds"] if osd["host"] == name and not osd["up"] and osd["id"] not in here]


def _pools_there(view: View) -> set[str] | None:
    """Pools that have a disk on the server; none: it was not asked."""
    if view.host.layouts is None:
        return None
    disks = (view.host.layouts.get("disks") or {}).values()
    return {disk["pool"] for disk in disks if disk["site"] == view.site.name}


def _answer(site: Site, hosts: Mapping[str, HostState], part: str = "health") -> tuple[Mapping[str, Any] | None, str]:
    """What a monitor's server said of this part of the cluster, or why nobody did; neither where there is none yet."""
    said = {name: host.ceph for name in sds_ceph.monitors(site) if (host := hosts.get(name)) and host.ceph is not None}
    told = [one for one in said.values() if part in one]
    if told:
        return max(told, key=lambda one: len(one["quorum"])), ""
    if said and not any(one["monitor"] for one in said.values()):
        return None, ""
    errors = [f"{name}: {one['error']}" for name, one in said.items() if one.get("error")]
    return None, "; ".join(errors) or "no server with a monitor answers"


def volumes_of_ceph(site: Site, hosts: Mapping[str, HostState]) -> tuple[Volume, ...]:
    """What Ceph keeps on several servers: placement groups, alike ones taken together, and the map of its monitors."""
    if not sds_ceph.CAPABILITIES.used_by(site):
        return ()
    monitors = sds_ceph.monitors(site)
    answer, why = _answer(site, hosts, "groups")
    if why:
        parts = [*monitors, *(server.name for server in site.servers if sds_ceph.devices(site, server))]
        return (Volume(f"all data in Ceph, which could not be read ({why}),", dict.fromkeys(parts, False)),)
    if answer is None:
        return ()
    in_quorum = {name: name in answer["quorum"] for name in monitors}
    groups = [
        Volume(f"each of {count} placement groups of Ceph", dict.fromkeys(on, True), needed)
        for count, needed, on in answer["groups"]
    ]
    return (Volume("the map of Ceph's monitors", in_quorum, len(monitors) // 2 + 1), *groups)


def notices_of_ceph(site: Site, hosts: Mapping[str, HostState]) -> list[Notice]:
    """What Ceph says against itself, and OSDs that are not what the model wants."""
    if not sds_ceph.CAPABILITIES.used_by(site) or not any(name in hosts for name in sds_ceph.monitors(site)):
        return []
    answer, why = _answer(site, hosts)
    if answer is None:
        return [Notice(CLUSTER, f"Ceph could not be read: {why}")] if why else []
    told = []
    for code, message, detail in answer["health"]:
        more = f": {'; '.join(detail)}" if detail else ""
        told.append(f"Ceph says {code}, {message}{more}")
    for name, host in hosts.items():
        if host.ceph is not None:
            told += [
                f"OSD {osd['id']} of {name} has no disk there any more. The role sds_ceph forgets it as soon as Ceph "
                "has made its copies anew"
                for osd in _without_disk(answer, name, host)
            ]
    return [Notice(CLUSTER, text) for text in told]
