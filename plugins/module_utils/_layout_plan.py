# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What has to be done so that a host has the pools of its model. Nothing here reads or writes anything.

A pool is a stack of layers: disks, md array, LUKS2 container, then a volume group with volumes or one file system. Each
disk of it records which layers are complete. What a layer holds before that is noted was made by us and never held
data, so it may be made again; once it is noted, a missing layer is a loss and not a beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.kiban.baremetal.plugins.module_utils._layout import (
    BARRIERS,
    MIB,
    SLACK,
    Array,
    Disk,
    Facts,
    Group,
    Pool,
    Refused,
    Step,
    array_path,
    made_uuid,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_cache import CacheDraft
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_luks import LuksDraft

__all__ = ["decide"]


def decide(
    pools: Sequence[Pool], site: str, wipe: Sequence[str], facts: Facts, new_id: str
) -> tuple[list[Step], list[str]]:
    """The steps in their order, and why they may not be done. A pool without disks of its own gets the id new_id.

    If anything is refused there is no step at all.
    """
    steps: list[Step] = []
    refused: list[str] = []
    for pool in pools:
        try:
            steps += _Plan(pool, site, frozenset(wipe), facts, made_uuid(new_id, pool.name)).steps()
        except Refused as exc:
            refused.append(f"{pool.name}: {exc}")
    return ([], refused) if refused else (steps, [])


class _Plan(CacheDraft, LuksDraft):
    """The decision for one pool."""

    def __init__(self, pool: Pool, site: str, wipe: frozenset[str], facts: Facts, new_id: str) -> None:
        super().__init__(pool, site, facts, new_id)
        self.wipe = wipe

    def steps(self) -> list[Step]:
        found: list[Step] = []
        for disk in self.fresh:
            found.append(self._partition(disk))
            self.new.add(disk.part)
        bases = [disk.part for disk in self.disks]
        for layer in self.pool.layers:
            work = {"array": self._array, "luks": self._luks, "group": self._group, "filesystem": self._single}[layer]
            more, bases = work(bases)
            found += more
            # What only comes to light now has not got the new disks yet.
            if not any(step.kind in ("array_assemble", "group_activate") for step in more):
                found += self._records(layer)
            if any(step.kind in BARRIERS for step in more):
                return found
        found += self._caching()
        if any(step.kind in BARRIERS for step in found):
            return found
        return found + self._unlocking()

    def _records(self, layer: str) -> list[Step]:
        done = self.pool.layers[: self.pool.layers.index(layer) + 1]
        mates, cache = frozenset(self.pool.disks), frozenset(disk.serial for disk in self.cache_disks)
        steps = []
        for disk in (*self.disks, *self.cache_disks):
            words = f"note on {disk.path} that the {layer} is complete"
            if disk not in self.fresh and layer in disk.made:
                if layer != self.pool.layers[-1] or (disk.mates, disk.cache) == (mates, cache):
                    continue
                words = f"note on {disk.path} which disks the pool has"
            names = {"mates": tuple(sorted(mates)), "cache": tuple(sorted(cache))}
            steps.append(self._step("record", disk.serial, words, made=done, **names))
        return steps

    # Disks

    def _partition(self, disk: Disk) -> Step:
        other = disk.id is not None or disk.pool is not None
        mine = disk.site == self.site and disk.pool == self.pool.name
        if disk.busy:
            raise Refused("; ".join(disk.busy))
        if other and not mine and disk.serial not in self.wipe:
            raise Refused(
                f"disk {disk.path} {disk.serial} belongs to pool {disk.pool} of site {disk.site}. "
                "If its data may be lost, name the serial number under wipe"
            )
        if disk.content and not mine and disk.serial not in self.wipe:
            raise Refused(
                f"disk {disk.serial}: {'; '.join(disk.content)}. If that may be lost, name the serial number under wipe"
            )
        if self.ours and "array" not in self.pool.layers and self.pool.layers[-1] == "filesystem":
            raise Refused(f"disk {disk.serial} is one too many: a file system without RAID has one disk")
        return self._step(
            "partition",
            disk.serial,
            f"partition {disk.path} ({disk.serial})",
            id=self.id,
            site=self.site,
            wipes=bool(not mine and (other or disk.content)),
        )

    # md

    def _array(self, parts: list[str]) -> tuple[list[Step], list[str]]:
        path = array_path(self.pool.name)
        array = self.facts.arrays.get(self.pool.name) if self.ours else None
        for disk in self.ours:
            held = self._content(disk.part)
            if held is not None and held.type != "linux_raid_member":
                raise Refused(f"{disk.part} holds {held.type} where a member of the array should be")
        if "array" not in self.made:
            whole = array is not None and len(array.members) == array.slots == len(parts)
            if array is not None and whole and set(array.members) == set(parts) and self._level(array):
                return [], [path]
            self.new.add(path)
            words = f"create {path}: {self.pool.level} of {', '.join(parts)}"
            return [
                self._step(
                    "array_create",
                    path,
                    words,
                    level=self.pool.level,
                    metadata=self.pool.metadata,
                    members=tuple(parts),
                )
            ], [path]
        if array is None:
            known = [disk.part for disk in self.ours if self._content(disk.part) is not None]
            if not known:
                raise Refused(f"the array is gone: {', '.join(disk.part for disk in self.ours)} hold no member of it")
            words = f"assemble {path} of {', '.join(known)}"
            return [self._step("array_assemble", path, words, members=tuple(known))], [path]
        return self._members(array, path, parts), [path]

    def _level(self, array: Array) -> bool:
        return array.level == self.pool.level

    def _members(self, array: Array, path: str, parts: list[str]) -> list[Step]:
        """A running array: faulty members out, new disks in, and all of a larger member's room."""
        if not self._level(array):
            raise Refused(f"{path} is {array.level}, not {self.pool.level}: levels are not changed")
        if len(parts) > array.slots:
            raise Refused(f"{path} has {array.slots} members and {len(parts)} disks are named: it is not reshaped")
        faulty = sorted(part for part, state in array.members.items() if state == "faulty")
        for part in faulty:
            if part in parts:
                raise Refused(f"{part} failed in {path}: put another disk in its place")
        joining = [part for part in parts if part not in array.members]
        steps = [self._step("array_remove", path, f"remove failed {part} from {path}", member=part) for part in faulty]
        for part in joining:
            steps.append(self._step("array_add", path, f"add {part} to {path}", member=part))
        if not joining and not faulty and array.room - array.component >= SLACK:
            steps.append(self._step("array_grow", path, f"grow {path} to the size of its members"))
        return steps

    # Volume group

    def _group(self, devices: list[str]) -> tuple[list[Step], list[str]]:
        name, group = self.pool.name, self.facts.groups.get(self.pool.name)
        if "group" not in self.made:
            if group is not None and set(group.pvs) == set(devices) and not self.new & set(devices):
                return self._activated(group) or self._volumes(group, devices), devices
            if group is not None:
                raise Refused(
                    f"there is a volume group {name} already, on {', '.join(sorted(group.pvs)) or 'other disks'}"
                )
            for device in devices:
                held = self._content(device)
                # An orphan PV is what a killed vgcreate leaves; other content shows through on a new array.
                if held and device in [disk.part for disk in self.ours] and held.type != "LVM2_member":
                    raise Refused(f"{device} holds {held.type} where nothing should be yet")
            create = self._step(
                "group_create", name, f"create volume group {name} on {', '.join(devices)}", pvs=tuple(devices)
            )
            return [create, *self._volumes(None, devices)], devices
        if group is None:
            raise Refused(f"the volume group {name} is gone from {', '.join(devices)}")
        if group.missing:
            raise Refused(f"{group.missing} physical volumes of {name} are missing: put the disks back")
        if mended := self._cache_mended(group):
            return mended, devices
        if others := sorted(set(group.pvs) - set(devices) - set(self.cache_devices)):
            raise Refused(f"the volume group {name} is also on {', '.join(others)}, which is not of this pool")
        if inactive := self._activated(group):
            return inactive, devices
        steps = []
        for device in devices:
            if device not in group.pvs:
                steps.append(self._step("group_extend", name, f"add {device} to volume group {name}", device=device))
            elif self.facts.devices[device].size - group.pvs[device] >= SLACK:
                steps.append(self._step("pv_resize", device, f"grow the physical volume on {device}"))
        return steps or self._volumes(group, devices), devices

    def _activated(self, group: Group) -> list[Step]:
        inactive = [name for name, lv in group.lvs.items() if not lv.active]
        # A killed lvcreate can leave a thin volume that the thin pool never heard of: LVM cannot activate it. A new
        # volume was never mounted, so it is made again. Those in a thin pool go before the pool.
        # Others are those of a storage driver, which has the same tag and looks after them itself.
        ours = {volume.name for volume in self.pool.volumes}
        new = [name for name in inactive if name in ours and group.lvs[name].new]
        new.sort(key=lambda name: not group.lvs[name].thin_pool)
        steps = []
        for path in (f"/dev/{self.pool.name}/{name}" for name in new):
            steps.append(self._step("lv_remove", path, f"remove {path}, which a killed run began to make"))
        if inactive:
            steps.append(self._step("group_activate", self.pool.name, f"activate volume group {self.pool.name}"))
        return steps

    def _volumes(self, group: Group | None, devices: list[str]) -> list[Step]:
        steps: list[Step] = []
        # The disks of a cache are for it alone.
        apart = tuple(devices) if self.pool.cache else ()
        # A volume that takes what is left comes after those with a size, and a pool before what is in it.
        order = sorted(self.pool.volumes, key=lambda volume: (volume.type == "thin", volume.size is None))
        free = sum(group.free.get(device, 0) for device in devices) if group else None
        for volume in order:
            lv = group.lvs.get(volume.name) if group else None
            size = self._rounded(volume.size, group)
            path = f"/dev/{self.pool.name}/{volume.name}"
            pvs = () if volume.type == "thin" else apart
            if lv is None:
                if volume.type != "thin" and free is not None and size is not None:
                    if size > free:
                        raise Refused(f"{path} needs {size} bytes and {free} are free")
                    free -= size
                words = f"create {volume.type} volume {path}"
                args = {"size": size, "type": volume.type, "thin_pool": volume.thin_pool, "pvs": pvs}
                steps.append(self._step("lv_create", path, words, **args))
                self.new.add(path)
            else:
                if lv.type != volume.type:
                    raise Refused(f"{path} is {lv.type}, not {volume.type}")
                if size is not None and lv.size > size:
                    raise Refused(f"{path} has {lv.size} bytes and {size} are wanted: volumes are not made smaller")
                more = (size - lv.size) if size is not None else (free or 0)
                if more and volume.type != "thin" and size is not None and free is not None:
                    if more > free:
                        raise Refused(f"{path} needs {more} bytes more and {free} are free")
                    free -= more
                if more:
                    steps.append(self._step("lv_extend", path, f"extend {path}", size=size, pvs=pvs))
                    if volume.filesystem and not lv.new:
                        steps += self._checked(path, volume.filesystem)
                        steps += self._mounted(path, volume.filesystem, volume.mount)
                        steps += self._grown(path, volume.filesystem, volume.mount)
                        continue
            new = lv is None or lv.new
            if volume.filesystem:
                steps += self._made(path, volume.filesystem, new)
            if new:
                steps.append(self._step("lv_ready", path, f"note that {path} is complete"))
            if volume.filesystem:
                steps += self._used(path, volume.filesystem, volume.mount)
        return steps

    @staticmethod
    def _rounded(size: int | None, group: Group | None) -> int | None:
        extent = group.extent if group else 4 * MIB
        return None if size is None else -(-size // extent) * extent

    # File systems

    def _single(self, devices: list[str]) -> tuple[list[Step], list[str]]:
        if len(devices) != 1:
            raise Refused(f"a file system without RAID and volumes has one disk, not {len(devices)}")
        new = "filesystem" not in self.made or devices[0] in self.new
        kind = self.pool.filesystem or "ext4"
        return [*self._made(devices[0], kind, new), *self._used(devices[0], kind, self.pool.mount)], devices

    def _made(self, path: str, kind: str, new: bool) -> list[Step]:
        held, want = self._content(path), made_uuid(self.id, f"filesystem {path}")
        if not new:
            return self._checked(path, kind)
        if not (held and held.type == kind and held.uuid == want and held.ready):
            if path in self.facts.devices and path not in self.new and self.facts.devices[path].mounts:
                raise Refused(
                    f"{path} is mounted at {', '.join(self.facts.devices[path].mounts)} and was not made by us"
                )
            self.new.add(path)
            return [self._step("mkfs", path, f"make {kind} on {path}", type=kind, uuid=want)]
        return []

    def _used(self, path: str, kind: str, mount: str | None) -> list[Step]:
        steps = self._mounted(path, kind, mount)
        device = self.facts.devices.get(path) if path not in self.new else None
        if device and device.fs_size is not None and device.size - device.fs_size >= SLACK:
            steps += self._grown(path, kind, mount)
        return steps

    def _grown(self, path: str, kind: str, mount: str | None) -> list[Step]:
        # XFS grows by its mount point only.
        if kind == "xfs" and mount is None:
            return []
        return [self._step("fs_grow", path, f"grow {kind} on {path}", type=kind, mount=mount)]

    def _checked(self, path: str, kind: str) -> list[Step]:
        held = self._content(path)
        if held is None or held.type != kind:
            raise Refused(
                f"{path} holds {held.type if held else 'nothing'} where {kind} was made. Repair it: it may hold data"
            )
        return []

    def _mounted(self, path: str, kind: str, mount: str | None) -> list[Step]:
        if mount is None:
            return []
        steps = []
        device = self.facts.devices.get(path) if path not in self.new else None
        there = mount in device.mounts if device else False
        if not there and mount in self.facts.taken:
            raise Refused(f"{mount} is taken: {self.facts.taken[mount]} is mounted there")
        held = self._content(path)
        source = f"UUID={held.uuid if held else made_uuid(self.id, f'filesystem {path}')}"
        boot = not self.pool.luks or self.pool.unlock is not None
        if self.facts.fstab.get(mount) != source or boot == (mount in self.facts.by_hand):
            words = f"add {mount} to fstab"
            steps.append(self._step("fstab", mount, words, source=source, type=kind, boot=boot))
        if not there:
            steps.append(self._step("mount", path, f"mount {path} at {mount}", mount=mount, type=kind))
        return steps
