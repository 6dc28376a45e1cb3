# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the pools of a server differ from its profile, in sentences for the plan. Pure."""

# This is a private plugin utility of the kiban.baremetal collection:
# its interface may change at any time, do not use it from outside.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...module_utils import _block_paths, _disk_paths, _layout
from ...module_utils._clevis import Unlock, bindings, fits
from .claims import claimed, claims_of, not_counted
from .disks import matching
from .model import BlockStorage, Pool, Target, Volume
from .state import HostState

__all__ = ["Difference", "differences_of_pools", "path_messages", "pool_disks"]

_FULL = 80
"""Percent of a thin pool from which on lvmthin(7)'s dmeventd warns."""
_EXTENT = 4 << 20
"""LVM rounds sizes up to it."""
_MENDS = "the playbook storage"


class Difference(NamedTuple):
    """Where a pool is not as its profile says."""

    text: str
    mended: bool
    """The role host_storage mends it as things are; otherwise a person has to, or time does."""


def pool_disks(pools: Sequence[Pool], site: str, host: HostState) -> set[str]:
    """Names of the disks that belong to a pool, or that a pool selects."""
    if not pools:
        return set()
    selected = [pool.select for pool in pools] + [pool.cache.select for pool in pools if pool.cache]
    found = {str(disk["name"]) for pool in pools for disk in claimed(pool, host)}
    found |= {str(disk["name"]) for select in selected for disk in _candidates(select, host)}
    names = {pool.name for pool in pools}
    ours = ((host.layouts or {}).get("disks") or {}).items()
    return found | {name for name, record in ours if record["pool"] in names and record["site"] == site}


def differences_of_pools(pools: Sequence[Pool], site: str, host: HostState) -> Iterator[Difference]:
    """All that is not as the profile states it; nothing where the host was not asked."""
    if host.layouts is None:
        return
    for pool in pools:
        for text, mended in _Differences(pool, site, host, host.layouts).all():
            yield Difference(f"pool {pool.name}: {text}", mended)


def path_messages(remote: BlockStorage, host: HostState) -> Iterator[str]:
    """Paths to storage servers that are not there, or carry nothing."""
    if host.layouts is None:
        return
    states: dict[tuple[Any, Any], list[str]] = {}
    for session in host.sessions:
        states.setdefault((session["target"], session["portal"]), []).append(str(session["state"]))
    for transport, targets in (("iscsi", remote.iscsi), ("tcp", remote.nvme_of)):
        for one in targets:
            portals = [_disk_paths.portal(*_block_paths.split_portal(each, transport)) for each in one.portals]
            yield from _lost_paths(one, {portal: states.get((one.target, portal), []) for portal in portals})


def _lost_paths(one: Target, found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    good = {portal for portal, states in found.items() if set(states) & set(_disk_paths.GOOD_STATES)}
    left = f"{len(good)} of {len(found)} paths work" if good else "no path works: what is behind it can't be read"
    for portal, states in found.items():
        if not states:
            yield f"storage {one.name}: there is no path at {portal}; {left}. {_MENDS.capitalize()} makes it"
        elif portal not in good:
            yield f"storage {one.name}: the path at {portal} is lost ({', '.join(sorted(states))}); {left}"


def _candidates(select: str, host: HostState) -> list[Mapping[str, Any]]:
    """Disks that a pool selects, without those of the system and of the storage driver."""
    claims = claims_of(host)
    free = [disk for disk in host.disks if disk["name"] not in claims and "/" not in (disk.get("uses") or ())]
    return matching(free, select)


def _mended(text: str, how: str) -> Difference:
    return Difference(f"{text}; {_MENDS} {how}", True)


def _told(text: str) -> Difference:
    return Difference(text, False)


class _Differences:
    """One pool of one server."""

    def __init__(self, pool: Pool, site: str, host: HostState, found: Mapping[str, Any]) -> None:
        self.pool, self.found = pool, found
        self.serials = {str(disk["name"]): disk.get("serial_number") or "unknown" for disk in host.disks}
        self.sizes = {str(disk["name"]): int(disk.get("capacity_bytes") or 0) for disk in host.disks}
        records = found.get("disks") or {}
        ours = {
            name: record
            for name, record in records.items()
            if (record["pool"], record["site"]) == (pool.name, site) and name in self.serials
        }
        noted = {serial for record in ours.values() for serial in record.get("cache") or ()}
        self.cache_disks = {name: record for name, record in ours.items() if self.serials[name] in noted}
        self.disks = {name: record for name, record in ours.items() if name not in self.cache_disks}
        self.new = self._new(pool.select, host, records)
        self.new_cache = self._new(pool.cache.select, host, records) if pool.cache else []
        self.gone_cache = sorted(noted - set(self.serials.values()))
        self.claimed = not_counted(pool, host)

    @staticmethod
    def _new(select: str, host: HostState, records: Mapping[str, Any]) -> list[str]:
        return [
            f"{disk['name']} (serial {disk.get('serial_number') or 'unknown'})"
            for disk in _candidates(select, host)
            if disk["name"] not in records
        ]

    def all(self) -> Iterator[Difference]:
        if not self.disks:
            there = f" of {', '.join(self.new)}" if self.new else ""
            short = ""
            if len(self.new) != self.pool.count:
                short = f"; {len(self.new)} of {self.pool.count} disks are there{self.claimed}"
            yield Difference(f"is not made; {_MENDS} makes it{there}{short}", not short)
            return
        last = "filesystem" if self.pool.filesystem else "group"
        ours = {**self.disks, **self.cache_disks}
        if unfinished := [name for name, record in ours.items() if last not in (record["made"] or ())]:
            yield _mended(f"was not finished on {', '.join(unfinished)}", "goes on")
        yield from self._members()
        for name in sorted(self.found.get("suspended") or ()):
            if _layout.is_mapping(name, self.pool.name, [volume.name for volume in self.pool.volumes]):
                yield _mended(f"{name} is suspended, as a killed run leaves it", "resumes it")
        if closed := [name for name in self._containers() if name not in self.found["volumes"]]:
            by = f"; not opened by {self.pool.luks}" if isinstance(self.pool.luks, Unlock) else ""
            yield _mended(f"its LUKS container is closed: {', '.join(closed)}{by}", "opens it")
            return
        for volume in self.pool.volumes:
            yield from self._volume(volume)
        if self.pool.mount:
            yield from self._mount(self.pool.mount, self._single())
        yield from self._cache()
        yield from self._bindings()

    def _members(self) -> Iterator[Difference]:
        mates = {serial for record in self.disks.values() for serial in record.get("mates") or ()}
        gone = sorted(mates - set(self.serials.values()))
        array = self._array()
        if self.pool.raid and array is None:
            yield _mended("its array does not run", "assembles it" + (f". Gone: {', '.join(gone)}" if gone else ""))
        elif array is not None and self._incomplete(array):
            yield Difference(self._degraded(array, gone), bool(self.new) and not _filling(array))
        elif gone and not self.pool.raid:
            yield _told(f"the disk {', '.join(gone)} is gone: pulled, or dead. What was on it is lost with it")
        elif array is None and self.new and len(self.disks) < self.pool.count:
            yield _mended(f"{', '.join(self.new)} is new", "takes it in")
        if array is not None and array.get("sync"):
            yield _told(f"its array is at work: {array['sync']}")

    def _array(self) -> Mapping[str, Any] | None:
        stopped = ("", "clear", "inactive")
        arrays = self.found.get("arrays") or ()
        return next((a for a in arrays if a["pool"] == self.pool.name and a["state"] not in stopped), None)

    @staticmethod
    def _incomplete(array: Mapping[str, Any]) -> bool:
        bad = [state for state in array["members"].values() if "faulty" in state or state == "gone"]
        return bool(array["degraded"] or bad or len(array["members"]) < array["slots"])

    def _degraded(self, array: Mapping[str, Any], gone: Sequence[str]) -> str:
        members = array["members"]
        failed = [part for part, state in members.items() if "faulty" in state and self._disk(part)]
        active = sum("in_sync" in state.split(",") for state in members.values())
        said = [f"its array {array['node']} has {active} of {array['slots']} members"]
        if failed:
            said.append("failed: " + ", ".join(f"{part} (serial {self.serials[self._disk(part)]})" for part in failed))
        if gone:
            said.append(f"gone, pulled or dead: serial {', '.join(gone)}")
        if filling := _filling(array):
            said.append(f"being filled: {', '.join(filling)}")
        elif self.new:
            said.append(f"{_MENDS} takes in {', '.join(self.new)}")
        else:
            said.append(f"put another disk in its place, then {_MENDS} takes it in{self.claimed}")
        return "; ".join(said)

    def _disk(self, part: str) -> str:
        return next((name for name in self.serials if part in (f"{name}1", f"{name}p1")), "")

    def _mapped(self, volume: str) -> str:
        """The name that device-mapper has for a volume: LVM writes a - as --."""
        return f"{self.pool.name.replace('-', '--')}-{volume.replace('-', '--')}"

    def _containers(self) -> list[str]:
        numbers = [None] if self.pool.raid else range(self.pool.count)
        if not self.pool.luks:
            return []
        paths = [_layout.mapping_path(self.pool.name, number) for number in numbers]
        paths += [_layout.cache_mapping_path(self.pool.name, self.serials[name]) for name in self.cache_disks]
        return [path.rpartition("/")[2] for path in paths]

    def _cache(self) -> Iterator[Difference]:
        wanted = self.pool.cache
        fronts = {volume.name: self._mapped(volume.name) for volume in self.pool.volumes if volume.type != "thin"}
        fronts |= {each.name: f"{fronts[each.name]}_tdata" for each in self.pool.volumes if each.type == "thin-pool"}
        caches = self.found.get("caches") or {}
        states = {name: caches[front] for name, front in fronts.items() if front in caches}
        if wanted is None:
            if states or self.cache_disks or self.gone_cache:
                yield _mended("has a cache that is not stated", "takes it away")
            return
        if self.gone_cache:
            gone, takes = ", ".join(self.gone_cache), f"takes {', '.join(self.new_cache)} in its place"
            text = f"the disk {gone} of its cache is gone: pulled, or dead. Volume {wanted.volume} fails with it"
            if wanted.mode == "writeback":
                yield _told(f"{text}, and what was not written to it yet is lost")
            elif self.new_cache:
                yield _mended(text, takes)
            else:
                yield _told(f"{text}: put another one in, or take the cache out of the profile, then run {_MENDS}")
        elif len(self.cache_disks) < wanted.count:
            there = ", ".join(self.new_cache)
            short = "" if len(self.new_cache) >= wanted.count - len(self.cache_disks) else "; its disks are not there"
            yield Difference(f"its cache lacks a disk; {_MENDS} takes {there or 'one'}{short}", not short)
        elif (state := states.get(wanted.volume)) is None:
            yield _mended(f"volume {wanted.volume} has no cache in front of it", "puts it there")
        elif state == "Fail":
            yield _mended(f"the cache of volume {wanted.volume} failed, and the volume with it", "makes it again")
        elif state != wanted.mode:
            yield _mended(f"the cache of volume {wanted.volume} is {state}, not {wanted.mode}", "changes it")
        elif self._unused() >= 2 * _layout.SLACK * wanted.count:
            yield _mended(f"its cache leaves {_size(self._unused())} of its disks unused", "makes it again")

    def _unused(self) -> int:
        size = self.found["volumes"].get(f"{self._mapped(_layout.CACHE_VOLUME)}_cvol", 0)
        return sum(self.sizes[name] for name in self.cache_disks) - int(size)

    def _bindings(self) -> Iterator[Difference]:
        """What opens the containers at boot. Whether it still does is not told: nothing is tried here."""
        wanted = self.pool.luks if isinstance(self.pool.luks, Unlock) else None
        array = self._array()
        names = [str(array["node"])] if array else [f"{name}{part}" for name in self.disks for part in ("1", "p1")]
        names += [f"{name}{part}" for name in self.cache_disks for part in ("1", "p1")]
        headers = self.found.get("luks") or {}
        for name in names if self.pool.luks else ():
            if name not in headers:
                continue
            found = bindings(headers[name])
            good = [one for one in found if wanted and one.found and fits(wanted, one.found)]
            if wanted and not good:
                yield _mended(f"its container on {name} is not opened by {wanted}", "binds it")
            elif len(found) > len(good[:1]):
                yield _mended(f"its container on {name} has a binding that is not stated", "removes it")

    def _volume(self, volume: Volume) -> Iterator[Difference]:
        from .storage import size_in_bytes

        name = self._mapped(volume.name)
        # A thin pool in use shows itself by its inner device only.
        names = (f"{name}-tpool", name) if volume.type == "thin-pool" else (name,)
        shown = next((each for each in names if each in self.found["volumes"]), None)
        if shown is None:
            yield _mended(f"volume {volume.name} is not there", "makes or activates it, or says why not")
            return
        have, want = self.found["volumes"][shown], size_in_bytes(volume.size)
        if want is not None and have < want:
            yield _mended(f"volume {volume.name} has {_size(have)}, the model says {volume.size}", "grows it")
        elif want is not None and have > -(-want // _EXTENT) * _EXTENT:
            yield _told(
                f"volume {volume.name} has {_size(have)}, the model says {volume.size}; volumes are not made smaller"
            )
        if volume.type == "thin-pool":
            yield from self._fill(volume.name, (self.found.get("thin") or {}).get(f"{name}-tpool"))
        if volume.mount:
            yield from self._mount(volume.mount, {name})

    @staticmethod
    def _fill(name: str, fill: Sequence[Any] | None) -> Iterator[Difference]:
        if not fill:
            return
        data, metadata, mode = fill
        if mode != "rw":
            yield _told(f"thin pool {name} takes no more writes ({mode}): its volumes fail")
        if data >= _FULL:
            yield _told(f"thin pool {name} is {data} % full: give it a larger size before its volumes fail")
        if metadata >= _FULL:
            yield _told(
                f"the metadata of thin pool {name} is {metadata} % full: lvextend --poolmetadatasize makes room"
            )

    def _single(self) -> set[str]:
        """Devices on which the only file system may be."""
        if self.pool.luks:
            return set(self._containers())
        if self.pool.raid:
            array = self._array()
            return {str(array["node"])} if array else set()
        return {f"{name}{part}" for name in self.disks for part in ("1", "p1")}

    def _mount(self, mount: str, devices: set[str]) -> Iterator[Difference]:
        device, size, used = (self.found.get("mounts") or {}).get(mount) or (None, 0, None)
        if device is None:
            yield _mended(f"nothing of it is mounted at {mount}", "mounts it")
        elif device not in devices:
            yield _told(f"at {mount} another device is mounted: {device}")
        elif used is not None and size - used >= _layout.SLACK:
            yield _mended(f"the file system at {mount} leaves {_size(size - used)} of its volume unused", "grows it")


def _filling(array: Mapping[str, Any]) -> list[str]:
    return [part for part, state in array["members"].items() if "spare" in state.split(",")]


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
