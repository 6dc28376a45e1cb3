# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.


"""The volume groups of pools, as LVM and device-mapper tell of them. Only reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from ansible_collections.kiban.baremetal.plugins.module_utils import _layout
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_tools import CACHE_TAG, NEW_TAG, run

__all__ = ["groups"]

_LVS = "lv_name,vg_name,lv_size,segtype,pool_lv,lv_tags,lv_active,cache_mode,lv_health_status,lv_dm_path"


def groups(names: Sequence[str], devices: Mapping[str, str]) -> dict[str, _layout.Group]:
    """Volume groups of these names. devices: what the plan calls a device node."""
    pvs, lvs = _report("pvs", "pv_name,vg_name,pv_size,pv_free,pv_tags,pv_missing"), _report("lvs", _LVS, "-a")
    kernel = _targets()
    found = {}
    for row in _report("vgs", "vg_name,vg_extent_size"):
        if (name := row["vg_name"]) not in names:
            continue
        mine = [pv for pv in pvs if pv["vg_name"] == name]
        there = {devices.get(os.path.realpath(pv["pv_name"]), pv["pv_name"]): pv for pv in mine if not pv["pv_missing"]}
        tagged = [pv for pv in mine if CACHE_TAG in pv["pv_tags"].split(",")]
        gone = [pv for pv in mine if pv["pv_missing"]]
        rows = {lv["lv_name"]: lv for lv in lvs if lv["vg_name"] == name}
        # While it detaches a cache LVM swaps the volume and the cache, commits, and then removes what is left over.
        torn = tuple(lv for lv, each in rows.items() if lv.endswith("_corig") and each["segtype"] == "cache")
        found[name] = _layout.Group(
            extent=int(row["vg_extent_size"]),
            free={device: int(pv["pv_free"]) for device, pv in there.items()},
            pvs={device: int(pv["pv_size"]) for device, pv in there.items()},
            # Those in brackets are parts of others.
            lvs={lv: _volume(each, rows, kernel) for lv, each in rows.items() if lv[0] != "[" and lv not in torn},
            missing=len([pv for pv in gone if pv not in tagged]),
            cache=frozenset(device for device, pv in there.items() if pv in tagged),
            lost=len([pv for pv in gone if pv in tagged]),
            torn=torn,
        )
    return found


def _volume(row: Mapping[str, str], rows: Mapping[str, Mapping[str, str]], kernel: Mapping[str, str]) -> _layout.Lv:
    # Of a thin pool its data are what is cached.
    inner = rows.get(f"[{row['lv_name']}_tdata]", row) if row["segtype"] == "thin-pool" else row
    status = kernel.get(os.path.basename(inner["lv_dm_path"]), "")
    cached = None
    if inner["segtype"] == "cache":
        cache = rows.get(inner["pool_lv"], {})
        lost = cache.get("lv_health_status") == "partial" or status.split(" ")[-1] == "Fail"
        cached = _layout.Cached(inner["cache_mode"], lost)
    kind = "linear" if row["segtype"] == "cache" else row["segtype"]
    return _layout.Lv(
        size=int(row["lv_size"]),
        type=kind,
        thin_pool=row["pool_lv"] if kind == "thin" else None,
        new=NEW_TAG in row["lv_tags"].split(","),
        active=row["lv_active"] == "active",
        cached=cached,
        stale=bool(status) and (status.split(" ")[0] == "cache") != (cached is not None),
    )


def _targets() -> dict[str, str]:
    """Devices of device-mapper: name to its first target and the status of it."""
    found: dict[str, str] = {}
    for line in run("dmsetup", "status").splitlines():
        name, _colon, rest = line.partition(": ")
        if len(words := rest.split(" ", 2)) == 3:
            found.setdefault(name, words[2].strip())
    return found


def _report(command: str, columns: str, *more: str) -> list[dict[str, str]]:
    words = ["--reportformat", "json", "--units", "b", "--nosuffix", *more, "-o", columns]
    report = json.loads(run(command, *words, accept=(0, 5)) or "{}")
    return [row for part in report.get("report", []) for row in part[command[:2]]]
