# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that does the steps of a layout in memory, as far as the next decision can see them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import Binding, Found
from ansible_collections.kiban.baremetal.plugins.module_utils._layout import (
    CACHE_VOLUME,
    MIB,
    Array,
    Cached,
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


def taken(free: Mapping[str, int], size: int, pvs: Sequence[str]) -> dict[str, int]:
    """What is left free after so much was allocated."""
    left = dict(free)
    for device in pvs or free:
        used = min(size, left[device])
        left[device], size = left[device] - used, size - used
    assert not size, "no room"
    return left


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
    by_hand: set[str] = field(default_factory=set)
    units: dict[str, str] = field(default_factory=dict)
    """Container to the text of its unit."""
    others: set[str] = field(default_factory=set)
    """Devices of nobody here."""
    unlocks: bool = True
    """Servers and TPM are there."""
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
            if set(group.pvs) - group.cache <= set(found):
                found += [f"/dev/{name}/{lv}" for lv, each in group.lvs.items() if each.type != "thin-pool"]
        return found

    def seen(self, name: str, seen: set[str]) -> Group:
        """A volume group as LVM shows it while only these devices are there."""
        group, seen = self.groups[name], seen | self.others
        gone = set(group.pvs) - seen
        lvs = {
            lv: replace(each, cached=replace(each.cached, lost=each.cached.lost or bool(gone & group.cache)))
            if each.cached
            else each
            for lv, each in group.lvs.items()
        }
        return replace(
            group,
            pvs={device: size for device, size in group.pvs.items() if device in seen},
            free={device: size for device, size in group.free.items() if device in seen},
            lvs=lvs,
            missing=len(gone - group.cache),
            cache=group.cache & seen,
            lost=len(gone & group.cache),
        )

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
            groups={
                name: self.seen(name, set(seen)) for name, group in self.groups.items() if set(group.pvs) & set(seen)
            },
            fstab=dict(self.fstab),
            taken=dict(self.mounts),
            by_hand=frozenset(self.by_hand),
            units=dict(self.units),
        )

    def restart(self) -> None:
        """Arrays and volume groups come back by themselves, containers do not, mounts by fstab only."""
        self.opened = {path for path in self.opened if self._opens_itself(path)}
        self.mounts.clear()
        seen = self.devices()
        for name, group in self.groups.items():
            there = set(group.pvs) <= set(seen)
            lvs = {
                lv: replace(each, active=there and f"/dev/{name}/{lv}" not in self.unheard, stale=False)
                for lv, each in group.lvs.items()
            }
            self.groups[name] = replace(group, lvs=lvs)

    def _opens_itself(self, path: str) -> bool:
        held = self.contents.get(self.below[path])
        good = [one for one in held.bindings if one.token is not None and one.works is not False] if held else []
        return self.unlocks and bool(good) and path.rpartition("/")[2] in self.units

    def pull(self, serial: str) -> None:
        """A disk is gone while the host runs; what is mounted stays mounted."""
        part = self.disks.pop(serial).part
        self.opened = {path for path in self.opened if self.below[path] != part}

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
            noted = {name: frozenset(args[name]) for name in ("made", "mates", "cache")}
            self.disks[step.target] = replace(self.disks[step.target], **noted)

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

    def _luks_unit(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if args["text"] is None:
            del self.units[step.target]
        else:
            self.units[step.target] = "is not enabled" if half else args["text"]

    def _luks_bind(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        held = self.contents[step.target]
        assert held and self.unlocks and args["slot"] not in [one.slot for one in held.bindings]
        raw = json.loads(args["config"])
        tang = tuple((each["url"], frozenset({each["thp"], "other"})) for each in raw["pins"].get("tang", ()))
        tpm2 = raw["pins"].get("tpm2")
        found = Found(tang, (tpm2["pcr_bank"], tpm2["pcr_ids"]) if tpm2 else None, raw["t"])
        # The key slot is there before its token.
        made = Binding(args["slot"]) if half else Binding(args["slot"], args["slot"] - 30, found, True)
        self.contents[step.target] = replace(held, bindings=(*held.bindings, made))

    def _luks_unbind(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        held = self.contents[step.target]
        assert held
        rest = tuple(one for one in held.bindings if one.slot != args["slot"])
        left = (Binding(args["slot"]),) if half else ()
        self.contents[step.target] = replace(held, bindings=rest + left)

    def _pv(self, device: str) -> int:
        self.contents[device] = Content("LVM2_member", "pv")
        return self.size(device) // EXTENT * EXTENT - EXTENT

    def _group_create(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        pvs = {device: self._pv(device) for device in args["pvs"]}
        if not half:
            self.groups[step.target] = Group(EXTENT, dict(pvs), pvs)

    def _group_extend(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, size = self.groups[step.target], self._pv(args["device"])
        if not half:
            pvs = {**group.pvs, args["device"]: size}
            free = {**group.free, args["device"]: size}
            self.groups[step.target] = replace(group, pvs=pvs, free=free)

    def _group_reduce(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, there = self.groups[step.target], set(self.devices())
        lost = {device for device in group.cache if device not in there} if args["lost"] else set()
        gone = set(args["pvs"]) | lost
        assert gone <= group.cache and CACHE_VOLUME not in group.lvs
        assert all(lv.cached is None for lv in group.lvs.values())
        if not half:
            pvs = {device: size for device, size in group.pvs.items() if device not in gone}
            free = {device: size for device, size in group.free.items() if device not in gone}
            self.groups[step.target] = replace(group, pvs=pvs, free=free, cache=group.cache - gone)

    def _pv_tag(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.groups[step.pool]
        if not half:
            self.groups[step.pool] = replace(group, cache=group.cache | {step.target})

    def _cache_create(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, pvs = self.groups[step.pool], args["pvs"]
        assert set(pvs) <= group.cache
        lv = Lv(sum(group.free[device] for device in pvs))
        free = {**group.free, **dict.fromkeys(pvs, 0)}
        self.groups[step.pool] = replace(group, free=free, lvs={**group.lvs, CACHE_VOLUME: lv})

    def _cache_attach(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, name = self.groups[step.pool], step.target.rpartition("/")[2]
        assert group.cache <= set(self.devices())
        lvs = {lv: each for lv, each in group.lvs.items() if lv != CACHE_VOLUME}
        # The kernel is told after LVM.
        lvs[name] = replace(lvs[name], cached=Cached(args["mode"]), stale=half)
        self.groups[step.pool] = replace(group, lvs=lvs)

    def _lv_refresh(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self._change_lv(step, stale=half)

    def _cache_mode(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        cached = self.groups[step.pool].lvs[step.target.rpartition("/")[2]].cached
        assert cached
        self._change_lv(step, cached=cached if half else replace(cached, mode=args["mode"]))

    def _cache_detach(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.seen(step.pool, set(self.devices()))
        cached = group.lvs[step.target.rpartition("/")[2]].cached
        # One that fails cannot be detached in use.
        assert cached and bool(args.get("volumes")) == cached.lost
        for mount in args.get("mounts", ()):
            self.mounts.pop(mount)
        assert not set(args.get("volumes", ())) & set(self.mounts.values()), "is in use"
        group = self.groups[step.pool]
        names = [volume.rpartition("/")[2] for volume in args.get("volumes", ())]
        lvs = {lv: replace(each, active=each.active and lv not in names) for lv, each in group.lvs.items()}
        torn = (f"{step.target.rpartition('/')[2]}_corig",) if half else ()
        self.groups[step.pool] = replace(group, lvs=lvs, torn=torn)
        self._change_lv(step, cached=None)
        if not half:
            self._emptied(step.pool)

    def _cache_forget(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if not half:
            self.groups[step.pool] = replace(self.groups[step.pool], torn=())
            self._emptied(step.pool)

    def _cache_remove(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.groups[step.pool]
        if not half:
            lvs = {lv: each for lv, each in group.lvs.items() if lv != CACHE_VOLUME}
            self.groups[step.pool] = replace(group, lvs=lvs)
            self._emptied(step.pool)

    def _emptied(self, pool: str) -> None:
        group = self.groups[pool]
        free = {**group.free, **{device: group.pvs[device] for device in group.cache}}
        self.groups[pool] = replace(group, free=free)

    def _group_activate(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.groups[step.target]
        assert not any(f"/dev/{step.target}/{name}" in self.unheard for name in group.lvs), "No data available"
        assert set(group.pvs) <= set(self.devices()), "a volume group with a lost cache"
        lvs = {name: replace(lv, active=True, stale=False) for name, lv in group.lvs.items()}
        self.groups[step.target] = replace(group, lvs=lvs)

    def _pv_resize(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group = self.groups[step.pool]
        before, after = group.pvs[step.target], self._pv(step.target)
        pvs = {**group.pvs, step.target: after}
        free = {**group.free, step.target: group.free[step.target] + after - before}
        self.groups[step.pool] = replace(group, pvs=pvs, free=free)

    def _lv_create(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, name = self.groups[step.pool], step.target.rpartition("/")[2]
        rest = sum(group.free[device] for device in args["pvs"] or group.free)
        size = rest if args["size"] is None else args["size"]
        used = 0 if args["type"] == "thin" else size
        unheard = half and args["type"] == "thin"
        lv = Lv(size, args["type"], args["thin_pool"], new=True, active=not unheard)
        if unheard:
            self.unheard.add(step.target)
        free = taken(group.free, used, args["pvs"])
        self.groups[step.pool] = replace(group, free=free, lvs={**group.lvs, name: lv})
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
        used = 0 if lv.thin_pool else lv.size
        main = [device for device in group.pvs if device not in group.cache]
        for device in main:
            back = min(used, group.pvs[device] - group.free[device])
            group = replace(group, free={**group.free, device: group.free[device] + back})
            used -= back
        self.groups[step.pool] = replace(group, lvs=lvs)

    def _lv_ready(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        self._change_lv(step, new=half)

    def _lv_extend(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        group, lv = self.groups[step.pool], self.groups[step.pool].lvs[step.target.rpartition("/")[2]]
        rest = sum(group.free[device] for device in args["pvs"] or group.free)
        size = lv.size + rest if args["size"] is None else args["size"]
        used = 0 if lv.type == "thin" else size - lv.size
        self.groups[step.pool] = replace(group, free=taken(group.free, used, args["pvs"]))
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
        self.by_hand.discard(step.target)
        if not args["boot"]:
            self.by_hand.add(step.target)

    def _mount(self, step: Step, args: Mapping[str, Any], half: bool) -> None:
        if not half:
            self.mounts[args["mount"]] = step.target
