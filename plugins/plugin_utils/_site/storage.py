# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The pools of a profile on the disks of a server. Nothing here touches a disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...module_utils import _block_paths, _layout
from .disks import matching

__all__ = ["block_targets", "intended", "select_pools", "size_in_bytes"]

_UNITS = {"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def size_in_bytes(text: str | None) -> int | None:
    """`20GiB` in bytes."""
    return None if text is None else int(text[:-3]) * _UNITS[text[-3:]]


def select_pools(records: Sequence[Mapping[str, Any]], storage: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`pools` as the module disk_layout takes them, and `problems`: sentences that name the disks.

    Disks that hold the system, or that are claimed for the storage driver, are not looked at.
    """
    candidates = [record for record in records if record.get("kiban") is None]
    pools: list[dict[str, Any]] = []
    problems: list[str] = []
    owners: dict[Any, str] = {}
    for name, pool in storage.items():
        found = matching(candidates, pool["select"])
        shown = "; ".join(f"{disk.get('name')} serial {disk.get('serial_number')}" for disk in found) or "none"
        if len(found) != pool["count"]:
            problems.append(
                f'pool {name}: {len(found)} disks match "{pool["select"]}" where {pool["count"]} must: {shown}'
                + _claimed(matching([record for record in records if record.get("kiban")], pool["select"]))
            )
        for disk in found:
            serial = disk.get("serial_number")
            if not serial:
                problems.append(f"pool {name}: disk {disk.get('name')} has no serial number")
            elif owners.setdefault(serial, name) != name:
                problems.append(f"disk {serial} matches the selectors of the pools {owners[serial]} and {name}")
        pools.append({**_plain(name, pool), "disks": sorted(str(disk.get("serial_number")) for disk in found)})
    return {"pools": [] if problems else pools, "problems": problems}


def _claimed(found: Sequence[Mapping[str, Any]]) -> str:
    """Disks that would match, were they not taken already."""
    taken = [
        f"{disk.get('name')} serial {disk.get('serial_number')} ({disk['kiban'].get('purpose')})" for disk in found
    ]
    return f". Not counted, since they are claimed: {', '.join(taken)}" if taken else ""


def block_targets(
    remote: Mapping[str, Any] | None, secrets: Mapping[str, Mapping[str, str]]
) -> dict[str, list[dict[str, Any]]]:
    """`iscsi` and `nvme_of` as the module block_paths takes them, and `nvme_paths`. secrets: CHAP by storage server."""
    found: dict[str, list[dict[str, Any]]] = {"iscsi": [], "nvme_of": [], "nvme_paths": []}
    for name, one in ((remote or {}).get("iscsi") or {}).items():
        chap = dict(secrets.get(name) or {}) if one.get("chap") else {}
        if one.get("chap") and not (chap.get("username") and chap.get("password")):
            raise ValueError(f"storage {name} wants CHAP, and host_storage_chap has no username and password for it")
        found["iscsi"].append({"name": name, "target": one["target"], "portals": one["portals"], "chap": chap})
    for name, one in ((remote or {}).get("nvme_of") or {}).items():
        found["nvme_of"].append({"name": name, "subsystem": one["subsystem"], "portals": one["portals"]})
        for portal in one["portals"]:
            address, port = _block_paths.split_portal(portal, "tcp")
            found["nvme_paths"].append({"subsystem": one["subsystem"], "address": address, "port": port})
    return found


def _plain(name: str, pool: Mapping[str, Any]) -> dict[str, Any]:
    """As the module takes it. What is not stated is left out: Ansible takes no null where an option has choices."""
    kept = {key: value for key, value in pool.items() if key not in ("select", "count", "volumes")}
    volumes = [
        _stated({**values, "name": volume, "size": size_in_bytes(values.get("size"))})
        for volume, values in (pool.get("volumes") or {}).items()
    ]
    return {**_stated(kept), "name": name, "volumes": volumes}


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def intended(name: str, raw: Mapping[str, Any]) -> _layout.Pool:
    """A pool of a site file, whose shape is right, without its disks."""
    volumes = tuple(
        _layout.Volume(
            volume,
            size_in_bytes(values.get("size")),
            values.get("type") or "linear",
            values.get("thin_pool"),
            values.get("filesystem"),
            values.get("mount"),
        )
        for volume, values in ((key, value or {}) for key, value in (raw.get("volumes") or {}).items())
    )
    return _layout.Pool(
        name,
        (),
        raw.get("raid"),
        luks=bool(raw.get("luks")),
        volumes=volumes,
        filesystem=raw.get("filesystem"),
        mount=raw.get("mount"),
    )
