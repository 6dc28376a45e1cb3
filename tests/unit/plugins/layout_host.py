# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that does the steps of a layout in memory, as far as the next decision can see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._layout import (
    MIB,
    Array,
    Content,
    Device,
    Disk,
    Facts,
    Group,
    Lv,
    Step,
    array_path,
)

EXTENT = 4 * MIB


@dataclass
class Host:
    """All that is on the disks, and what of it can be seen."""

    disks: dict[str, Disk] = field(default_factory=dict)
    contents: dict[str, Content | None] = field(default_factory=dict)
    fs_sizes: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    below: dict[str, str] = field(default_factory=dict)
    """Mapping to the device below it."""
    opened: set[str] = field(default_factory=set)
    capacity: dict[str, int] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    fstab: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)
    """Mount point to device."""
    unheard: set[str] = field(default_factory=set)
    """Thin volumes that LVM has and the thin pool has not."""

    def add(self, serial: str, size: int = 1024 * MIB, **more: Any) -> Disk:
        disk = Disk(serial, f"/dev/{serial}", f"/dev/{serial}1", size, **more)
        self.disks[serial] = disk
        return disk

    def size(self, device: str) -> int:
        for disk in self.disks.values():
            if disk.part == device:
                return disk.size
        for pool, array in self.arrays.items():
            if array_path(pool) == device:
                return array.size
        if device in self.capacity:
            return self.capacity[device]
        _, _, group, name = device.split("/")
        return self.groups[group].lvs[name].size

    def devices(self) -> list[str]:
        found = [disk.part for disk in self.disks.values() if disk.id]
        found += [array_path(pool) for pool in self.running]
        found += sorted(self.opened)
        for name, group in self.groups.items():
            if set(group.pvs) <= set(found):
                found += [f"/dev/{name}/{lv}" for lv, each in group.lvs.items() if each.type != "thin-pool"]
        return found

    def facts(self) -> Facts:
        seen = self.devices()
        devices = {
            name: Device(
                self.size(name),
                self.contents.get(name),
                self.fs_sizes.get(name) if self.contents.get(name) else None,
                tuple(mount for mount, device in self.mounts.items() if device == name),
            )
            for name in seen
        }
        return Facts(
            disks=dict(self.disks),
            devices=devices,
            arrays={pool: self.arrays[pool] for pool in self.running},
            groups={name: group for name, group in self.groups.items() if set(group.pvs) & set(seen)},
            fstab=dict(self.fstab),
            taken=dict(self.mounts),
        )

    def restart(self) -> None:
        """Arrays and volume groups come back by themselves, containers do not, mounts by fstab only."""
        self.opened.clear()
        self.mounts.clear()
        seen = self.devices()
        for name, group in self.groups.items():
            there = set(group.pvs) <= set(seen)
            lvs = {
                lv: replace(each, active=there and f"/dev/{name}/{lv}" not in self.unheard)
                for lv, each in group.lvs.items()
            }
            self.groups[name] = replace(group, lvs=lvs)

    def do(self, step: Step, half: bool = False) -> None:
        """A step, or only the first half of it, as far as one can tell."""
        getattr(self, f"_{step.kind}")(step, step.args, half)

    def _partition(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        disk = self.disks[step.target]
        # The mark in sector 0 is ours; the id comes with the table.
        pool_id = None if half else args["id"]
        content = ("being partitioned",) if half else ()
        self.disks[step.target] = replace(
            disk, site=args["site"], pool=step.pool, id=pool_id, made=frozenset(), content=content
        )
        self.contents[disk.part] = None

    def _record(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if not half:
            made, mates = frozenset(args["made"]), frozenset(args["mates"])
            self.disks[step.target] = replace(self.disks[step.target], made=made, mates=mates)

    def _array_create(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        members = args["members"][:1] if half else args["members"]
        for member in members:
            self.contents[member] = Content("linux_raid_member", args["array"])
        size = min(self.size(member) for member in args["members"]) - MIB
        # udev may have put together what there is of it.
        states = dict.fromkeys(members, "active")
        self.arrays[step.pool] = Array(args["level"], len(args["members"]), states, size, size, size)
        self.running.add(step.pool)
        # What an older array held shows through.
        self.contents[step.target] = Content("ext4", "stale") if half else None

    def _array_assemble(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if not half:
            self.running.add(step.pool)

    def _array_remove(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        array = self.arrays[step.pool]
        members = {part: state for part, state in array.members.items() if state != "faulty"}
        self.arrays[step.pool] = replace(array, members=members)

    def _array_add(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        array = self.arrays[step.pool]
        members = {**array.members, args["member"]: "spare" if half else "active"}
        self.contents[args["member"]] = Content("linux_raid_member", "same")
        room = min(self.size(part) for part in members) - MIB
        self.arrays[step.pool] = replace(array, members=members, room=room)

    def _array_grow(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        array = self.arrays[step.pool]
        self.arrays[step.pool] = replace(array, size=array.room, component=array.room)

    def _luks_format(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self.contents[step.target] = Content("crypto_LUKS", args["uuid"], ready=not half)

    def _luks_open(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if half:
            return
        self.opened.add(step.target)
        if step.target not in self.below:
            self.contents.setdefault(step.target, None)
        self.below[step.target] = args["device"]
        self.capacity[step.target] = self.size(args["device"]) - 16 * MIB

    def _luks_resize(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self.capacity[step.target] = self.size(self.below[step.target]) - 16 * MIB

    def _pv(self, device: str) -> int:
        self.contents[device] = Content("LVM2_member", "pv")
        return self.size(device) // EXTENT * EXTENT - EXTENT

    def _group_create(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        pvs = {device: self._pv(device) for device in args["pvs"]}
        if not half:
            self.groups[step.target] = Group(EXTENT, sum(pvs.values()), pvs)

    def _group_extend(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, size = self.groups[step.target], self._pv(args["device"])
        if not half:
            pvs = {**group.pvs, args["device"]: size}
            self.groups[step.target] = replace(group, pvs=pvs, free=group.free + size)

    def _group_activate(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.groups[step.target]
        assert not any(f"/dev/{step.target}/{name}" in self.unheard for name in group.lvs), "No data available"
        lvs = {name: replace(lv, active=True) for name, lv in group.lvs.items()}
        self.groups[step.target] = replace(group, lvs=lvs)

    def _pv_resize(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.groups[step.pool]
        before, after = group.pvs[step.target], self._pv(step.target)
        pvs = {**group.pvs, step.target: after}
        self.groups[step.pool] = replace(group, pvs=pvs, free=group.free + after - before)

    def _lv_create(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, name = self.groups[step.pool], step.target.rpartition("/")[2]
        size = group.free if args["size"] is None else args["size"]
        used = 0 if args["type"] == "thin" else size
        unheard = half and args["type"] == "thin"
        lv = Lv(size, args["type"], args["thin_pool"], new=True, active=not unheard)
        if unheard:
            self.unheard.add(step.target)
        self.groups[step.pool] = replace(group, free=group.free - used, lvs={**group.lvs, name: lv})
        # Cut off before it was wiped: what was in these extents before shows through.
        self.contents[step.target] = Content("xfs", "stale") if half else None

    def _lv_remove(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, name = self.groups[step.pool], step.target.rpartition("/")[2]
        lv = group.lvs[name]
        assert lv.new and step.target not in self.mounts.values()
        if half:
            return
        lvs = {other: each for other, each in group.lvs.items() if name not in (other, each.thin_pool)}
        self.unheard.discard(step.target)
        self.groups[step.pool] = replace(group, free=group.free + (0 if lv.thin_pool else lv.size), lvs=lvs)

    def _lv_ready(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self._change_lv(step, new=half)

    def _lv_extend(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, lv = self.groups[step.pool], self.groups[step.pool].lvs[step.target.rpartition("/")[2]]
        size = lv.size + group.free if args["size"] is None else args["size"]
        used = 0 if lv.type == "thin" else size - lv.size
        self.groups[step.pool] = replace(group, free=group.free - used)
        self._change_lv(step, size=size)

    def _change_lv(self, step: Step, **changes: Any) -> None:
        group, name = self.groups[step.pool], step.target.rpartition("/")[2]
        lv = replace(group.lvs[name], **changes)
        self.groups[step.pool] = replace(group, lvs={**group.lvs, name: lv})

    def _mkfs(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self.contents[step.target] = Content(args["type"], args["uuid"], ready=not half)
        self.fs_sizes[step.target] = self.size(step.target)

    def _fs_grow(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if not half:
            self.fs_sizes[step.target] = self.size(step.target)

    def _fstab(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self.fstab[step.target] = args["source"]

    def _mount(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if not half:
            self.mounts[args["mount"]] = step.target
