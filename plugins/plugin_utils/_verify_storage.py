# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checks the role verify makes, and with which volumes: one of each storage driver, at the same time. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from ._drivers.sds import Capabilities
from ._drivers.sds_drivers import DRIVERS, HOLDERS
from ._site.model import Site

__all__ = ["Cut", "checks", "cuts", "space_command", "volume_of"]

Row = Mapping[str, Any]
_EACH = "sds"
"""Checks whose names begin so are made of each storage driver."""


@dataclass(frozen=True)
class Cut:
    """A worker whose power is cut once, and the storage drivers for whose volumes that is done."""

    worker: str
    drivers: tuple[str, ...]


def cuts(site: Site, drivers: Sequence[str], workers: Sequence[str]) -> list[Cut]:
    """As few as serve all drivers: the power of a pod's node is cut, never that of the only server with its volume.

    At least one, also without drivers. A driver whose volumes no worker can have is in the first one: it fails before.
    """
    if not workers:
        return [Cut("", tuple(drivers))]
    alone = {name for sds in site.cluster.sds for name in _only_holder(site, DRIVERS[sds.driver])}
    found: list[Cut] = []
    left = list(drivers)
    while left or not found:
        serves = {worker: [name for name in left if _may_lose(site, DRIVERS[name], worker)] for worker in workers}
        best = min(sorted(serves), key=lambda worker: (-len(serves[worker]), worker in alone))
        if left and not serves[best]:
            first = found[0] if found else Cut(best, ())
            return [Cut(first.worker, (*first.drivers, *left)), *found[1:]]
        found.append(Cut(best, tuple(serves[best])))
        left = [name for name in left if name not in serves[best]]
    return found


def _only_holder(site: Site, can: Capabilities) -> list[str]:
    """The server that has all volumes of a driver whose pods may be elsewhere."""
    held = HOLDERS[can.driver](site)
    return held if can.moves and len(held) == 1 else []


def _may_lose(site: Site, can: Capabilities, worker: str) -> bool:
    """A pod of the driver can run on the worker, and its volume outlives the worker's power."""
    return worker not in _only_holder(site, can) if can.moves else worker in HOLDERS[can.driver](site)


def volume_of(site: Site, driver: str, worker: str, workers: Sequence[str]) -> dict[str, Any]:
    """What is tried of a driver: what it can do, C(offered), the words by which checks are chosen, and where pods run.

    C(first) and C(then) have the node of each pod by its name: that of the one that counts moves to C(worker), where
    the driver's volumes move at all. With volumes for many writers a second one is on another node.
    """
    can = DRIVERS[driver]
    name = f"sds-{driver}"
    other = next((one for one in sorted(workers) if one != worker), worker)
    many = "ReadWriteMany" in can.access_modes
    start = other if can.moves else worker
    held = HOLDERS[driver](site)
    offers = {
        "many": many,
        "moves": can.moves,
        "size_enforced": can.size_enforced,
        "capacity_told": can.capacity_told,
        "expansion": can.expansion,
        # On somebody's filer nobody measures.
        "measured": can.room_told_by == "node" or (can.room_told_by == "server" and bool(held)),
    }
    return {
        **asdict(can),
        "name": name,
        "access_mode": "ReadWriteMany" if many else "ReadWriteOnce",
        "holders": held,
        "default_class": site.cluster.sds[0].driver == driver,
        "running": {"deployment": "deployment_available", "daemonset": "daemonset_ready"}[can.workload[0]],
        "offered": [word for word, offer in offers.items() if offer],
        "not_offered": can.not_offered,
        "first": {name: start, **({f"{name}-other": worker} if many else {})},
        "then": {name: worker, **({f"{name}-other": other} if many else {})},
    }


def checks(
    rows: Sequence[Row], site: Site, has: Sequence[str], drivers: Sequence[str], workers: Sequence[str]
) -> list[dict[str, Any]]:
    """The steps of a verification in their order, from the table of checks.

    A row is left out where something of its C(wants) is neither in `has` nor offered by the driver. One whose name
    begins with C(sds) becomes a check of each driver, C(name:driver), with its C(volume). What C(ahead) names is done
    for all drivers before the first of them is looked at, as a step of the same check: they are waited for together.
    Rows with C(cut) come once for each worker whose power is cut, those with C(cut: first) for the first one only.
    ValueError for a driver that the site does not use.
    """
    used = [sds.driver for sds in site.cluster.sds]
    unknown = sorted(set(drivers) - set(used))
    if unknown:
        raise ValueError(f"the site does not use the storage driver {', '.join(unknown)}, only {', '.join(used)}")
    planned = cuts(site, list(dict.fromkeys(drivers)), workers)
    every = Cut(planned[0].worker, tuple(name for cut in planned for name in cut.drivers))
    at = {name: cut.worker for cut in planned for name in cut.drivers}
    volumes = {name: volume_of(site, name, at[name], workers) for name in drivers}
    found: list[dict[str, Any]] = []
    for repeated, group in groupby(rows, key=lambda row: "cut" in row):
        part = list(group)
        for number, cut in enumerate(planned if repeated else [every]):
            wanted = [row for row in part if not number or row["cut"] != "first"]
            found += _steps(wanted, cut, f":{cut.worker}" if number else "", has, volumes)
    return found


def _steps(
    rows: Sequence[Row], cut: Cut, suffix: str, has: Sequence[str], volumes: Mapping[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Those of a part of the table, for the drivers of one cut. What is made once for all of them gets the `suffix`."""
    once = {row["name"] for row in rows if not row["name"].startswith(_EACH)}

    def named(name: str, driver: str) -> str:
        return f"{name}:{driver}" if name.startswith(_EACH) else name + (suffix if name in once else "")

    for row in rows:
        drivers = [name for name in cut.drivers if set(row["wants"]) <= {*has, *volumes[name]["offered"]}]
        if not row["name"].startswith(_EACH):
            drivers = [""] if set(row["wants"]) <= set(has) else []
        for tasks in filter(None, (row.get("ahead"), row["tasks"])):
            for driver in drivers:
                step = {**row, "tasks": tasks, "name": named(row["name"], driver), "worker": cut.worker}
                step["needs"] = [named(need, driver) for need in row["needs"]]
                yield {**step, "volume": volumes[driver]} if driver else step


def space_command(volume: Mapping[str, Any], holders: Sequence[str]) -> dict[str, Any]:
    """The host that holds a PersistentVolume, C(argv) that says there how many bytes are free, and its raw C(device).

    C(device) is a shell's word: the block device under the volume, or under the file system that it is a directory of.
    `holders` are the servers that may have it; a volume that is on one node says so itself.
    """
    spec = volume["spec"]
    if "nfs" in spec:
        host, path = holders[0], str(spec["nfs"]["path"])
    else:
        terms = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
        expressions = [each for term in terms for each in term["matchExpressions"]]
        host, path = expressions[0]["values"][0], str(spec["local"]["path"])
    if path.startswith("/dev/"):
        group = path.split("/")[2]
        free = ["vgs", "--noheadings", "--units=b", "--nosuffix", "--options=vg_free", group]
        return {"host": host, "argv": free, "device": path}
    target = f"--target={posixpath.dirname(path)}"
    return {
        "host": host,
        "argv": ["findmnt", "--noheadings", "--bytes", "--output=AVAIL", target],
        "device": f"$(findmnt --noheadings --nofsroot --output=SOURCE {target})",
    }
