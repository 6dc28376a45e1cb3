# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module is private to the kiban.baremetal collection:
# other collections must not use it, it can change at any time.

"""The pools of a profile on the disks of a server. Nothing here touches a disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...module_utils import _block_paths, _clevis, _layout
from .disks import matching

__all__ = ["block_targets", "cached_volume", "intended", "select_pools", "size_in_bytes"]

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
        serials = {}
        selectors = {name: pool} | ({f"{name}, its cache": pool["cache"]} if pool.get("cache") else {})
        for what, wanted in selectors.items():
            found, count = matching(candidates, wanted["select"]), wanted.get("count", 1)
            shown = "; ".join(f"{disk.get('name')} serial {disk.get('serial_number')}" for disk in found) or "none"
            if len(found) != count:
                problems.append(
                    f'pool {what}: {len(found)} disks match "{wanted["select"]}" where {count} must: {shown}'
                    + _claimed(matching([record for record in records if record.get("kiban")], wanted["select"]))
                )
            for disk in found:
                serial = disk.get("serial_number")
                if not serial:
                    problems.append(f"pool {what}: disk {disk.get('name')} has no serial number")
                elif owners.setdefault(serial, what) != what:
                    problems.append(f"disk {serial} matches the selectors of the pools {owners[serial]} and {what}")
            serials[what] = sorted(str(disk.get("serial_number")) for disk in found)
        pools.append(_plain(name, pool, *serials.values()))
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


def cached_volume(raw: Mapping[str, Any]) -> str:
    """The volume that the cache of a pool is for: the one that it names, or the only one that can have it."""
    volumes = {name: values or {} for name, values in (raw.get("volumes") or {}).items()}
    usable = [name for name, values in volumes.items() if values.get("type") != "thin"]
    return str(raw["cache"].get("volume") or (usable[0] if len(usable) == 1 else ""))


def _cache(raw: Mapping[str, Any]) -> _layout.Cache | None:
    """The cache of a pool, of which no disks are known yet."""
    cache = raw.get("cache")
    return _layout.Cache((), cached_volume(raw), **_stated({"mode": cache.get("mode")})) if cache else None


def _plain(name: str, pool: Mapping[str, Any], disks: Sequence[str], cache_disks: Sequence[str] = ()) -> dict[str, Any]:
    """As the module takes it. What is not stated is left out: Ansible takes no null where an option has choices."""
    kept = {key: value for key, value in pool.items() if key not in ("select", "count", "volumes", "cache")}
    kept |= {"disks": list(disks), "luks": bool(pool.get("luks"))}
    if isinstance(pool.get("luks"), Mapping):
        kept["unlock"] = _stated(pool["luks"])
    if cache := _cache(pool):
        kept["cache"] = {"disks": list(cache_disks), "volume": cache.volume, "mode": cache.mode}
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
        cache=_cache(raw),
        unlock=_clevis.stated(raw["luks"]) if isinstance(raw.get("luks"), Mapping) else None,
    )
