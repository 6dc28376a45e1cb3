# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What is wanted of the disks of a host, what there is, and the steps between the two, as data."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "BARRIERS",
    "DESTRUCTIVE",
    "MIB",
    "SLACK",
    "Array",
    "Content",
    "Device",
    "Disk",
    "Facts",
    "Group",
    "Lv",
    "Pool",
    "Step",
    "Volume",
    "array_path",
    "is_mapping",
    "made_uuid",
    "mapping_path",
    "pool_problems",
    "problems",
]

MIB = 1 << 20
# Less than this at the end of a device is what tools leave over, not room to grow into.
SLACK = 16 * MIB
# mkfs.xfs refuses less.
XFS_LEAST = 300 * MIB
_LEAST = {"raid0": 2, "raid1": 2, "raid5": 3, "raid6": 4, "raid10": 3}
# Steps that write over what a device holds, or take it for good.
DESTRUCTIVE = frozenset(
    {"partition", "array_create", "array_add", "luks_format", "group_create", "group_extend", "lv_remove", "mkfs"}
)
# After these there is more to be seen, or more room, so what comes next is decided again.
BARRIERS = frozenset(
    {
        "array_assemble",
        "array_add",
        "array_grow",
        "luks_open",
        "luks_resize",
        "group_activate",
        "group_extend",
        "pv_resize",
    }
)


@dataclass(frozen=True)
class Volume:
    """A logical volume that is wanted. Sizes are bytes; None: all that is left."""

    name: str
    size: int | None
    type: str = "linear"
    """linear, thin-pool or thin."""
    thin_pool: str | None = None
    filesystem: str | None = None
    mount: str | None = None


@dataclass(frozen=True)
class Pool:
    """Disks, and what is wanted on them: one file system, or a volume group with volumes, or with none of ours."""

    name: str
    disks: tuple[str, ...]
    level: str | None = None
    metadata: str = "1.2"
    luks: bool = False
    volumes: tuple[Volume, ...] = ()
    filesystem: str | None = None
    mount: str | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        found = ("array",) * (self.level is not None) + ("luks",) * self.luks
        return (*found, *(("filesystem",) if self.filesystem else ("group",)))


@dataclass(frozen=True)
class Content:
    """What a device holds. ready: complete, and not only what a killed run left of it."""

    type: str
    uuid: str | None = None
    ready: bool = True


@dataclass(frozen=True)
class Disk:
    """A whole disk. busy and content say, as sentences, why it may not be written over."""

    serial: str
    path: str
    part: str
    size: int
    busy: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    site: str | None = None
    pool: str | None = None
    id: str | None = None
    """Of the pool: a random UUID; None while our own partitioning was cut off."""
    made: frozenset[str] = frozenset()
    mates: frozenset[str] = frozenset()
    """Serial numbers of all disks of the pool, as noted on this one."""


@dataclass(frozen=True)
class Device:
    """A partition, array, container or volume that can be read now."""

    size: int
    content: Content | None = None
    fs_size: int | None = None
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Array:
    """A running md array. members: partition to 'active', 'spare' or 'faulty'; room: what it could grow to."""

    level: str
    slots: int
    members: Mapping[str, str]
    size: int = 0
    component: int = 0
    room: int = 0


@dataclass(frozen=True)
class Lv:
    size: int
    type: str = "linear"
    thin_pool: str | None = None
    new: bool = False
    """Tagged by us when it was made: its file system is not complete yet, and was never mounted."""
    active: bool = True


@dataclass(frozen=True)
class Group:
    """A volume group. pvs: device to bytes in use by LVM; sizes are bytes."""

    extent: int
    free: int
    pvs: Mapping[str, int]
    lvs: Mapping[str, Lv] = field(default_factory=dict)
    missing: int = 0


@dataclass(frozen=True)
class Facts:
    """What there is. Devices by the names that they have in the plan."""

    disks: Mapping[str, Disk]
    devices: Mapping[str, Device] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    """By pool."""
    groups: Mapping[str, Group] = field(default_factory=dict)
    fstab: Mapping[str, str] = field(default_factory=dict)
    """Mount point to the first field of its line."""
    taken: Mapping[str, str] = field(default_factory=dict)
    """Mount point to what is mounted there."""


@dataclass(frozen=True)
class Step:
    """One thing to do. target is a device or, for partition and record, a serial number."""

    kind: str
    pool: str
    target: str
    words: str
    args: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.pool}: {self.words}"


def made_uuid(pool_id: str, what: str) -> str:
    """The UUID that a part of a pool is made with, so that it is recognised after a kill."""
    return str(uuid.uuid5(uuid.UUID(pool_id), what))


def array_path(pool: str) -> str:
    return f"/dev/md/{pool}"


def mapping_path(pool: str, number: int | None) -> str:
    return f"/dev/mapper/{pool}-luks" + ("" if number is None else str(number))


def is_mapping(name: str, pool: str, volumes: Iterable[str]) -> bool:
    """Whether a device of device-mapper is a container of this pool, or one of these volumes or a part of it.

    LVM writes a - in names as --. Other volumes of the group are those of a storage driver.
    """
    if name.rstrip("0123456789") == os.path.basename(mapping_path(pool, None)):
        return True
    ours = [f"{pool.replace('-', '--')}-{volume.replace('-', '--')}" for volume in volumes]
    return any(name in (own, f"{own}-tpool") or name.startswith(f"{own}_t") for own in ours)


def problems(pools: Sequence[Pool], keys: Mapping[str, str]) -> list[str]:
    """What is wrong with what is wanted, whatever the host has."""
    found: list[str] = []
    names = [pool.name for pool in pools]
    found += [f"pool {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    serials = [serial for pool in pools for serial in pool.disks]
    found += [f"disk {serial} is named twice" for serial in sorted(set(serials)) if serials.count(serial) > 1]
    mounts = [mount for pool in pools for mount in (pool.mount, *(each.mount for each in pool.volumes)) if mount]
    found += [f"{mount} is the mount point of two" for mount in sorted(set(mounts)) if mounts.count(mount) > 1]
    for pool in pools:
        if pool.luks and not keys.get(pool.name):
            found.append(f"{pool.name}: there is no key for its LUKS container")
        for volume, text in pool_problems(pool, len(pool.disks)):
            found.append(f"{pool.name}: {f'volume {volume} ' if volume else ''}{text}")
    return found


def pool_problems(pool: Pool, disks: int) -> Iterator[tuple[str | None, str]]:
    """What contradicts itself in a pool of so many disks: name of the volume, if it is one, and what is wrong."""
    least = _LEAST.get(pool.level or "", 1)
    if disks < least:
        yield None, f"{pool.level or 'a pool'} needs {least} disks or more, not {disks}"
    if pool.volumes and pool.filesystem:
        yield None, "has either volumes or a filesystem"
    if pool.filesystem and not pool.level and disks > 1:
        yield None, f"one file system needs one disk or a RAID level, not {disks} disks"
    if pool.mount and not pool.filesystem:
        yield None, "volumes are mounted, and not the pool"
    names = [volume.name for volume in pool.volumes]
    yield from ((name, "is there twice") for name in sorted(set(names)) if names.count(name) > 1)
    rest = [volume.name for volume in pool.volumes if volume.size is None and volume.type != "thin"]
    yield from ((name, f"takes all that is left, as {rest[0]} does: give it a size") for name in rest[1:])
    thin_pools = [volume.name for volume in pool.volumes if volume.type == "thin-pool"]
    for volume in pool.volumes:
        if volume.type == "thin" and (volume.thin_pool not in thin_pools or volume.size is None):
            yield volume.name, f"is thin: it needs a size, and a thin_pool among: {', '.join(thin_pools) or 'none'}"
        if volume.type != "thin" and volume.thin_pool:
            yield volume.name, f"is {volume.type} and can be in no thin pool"
        if volume.type == "thin-pool" and volume.filesystem:
            yield volume.name, "is a thin pool: it holds volumes and no file system"
        if volume.filesystem == "xfs" and volume.size is not None and volume.size < XFS_LEAST:
            yield volume.name, f"has {volume.size} bytes and XFS needs {XFS_LEAST}"
        if volume.mount and not volume.filesystem:
            yield volume.name, "is mounted and has no filesystem"
