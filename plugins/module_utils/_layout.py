# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What is wanted of the disks of a host, what there is, and the steps between the two, as data."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.kiban.baremetal.plugins.module_utils._clevis import Binding, Unlock, unlock_problems

__all__ = [
    "BARRIERS",
    "CACHE_VOLUME",
    "DESTRUCTIVE",
    "MIB",
    "SLACK",
    "Array",
    "Cache",
    "Cached",
    "Content",
    "Device",
    "Disk",
    "Facts",
    "Group",
    "Lv",
    "Pool",
    "Refused",
    "Step",
    "Volume",
    "array_path",
    "cache_mapping_path",
    "is_mapping",
    "made_uuid",
    "mapping_path",
    "pool_problems",
    "problems",
]

MIB = 1 << 20
# The logical volume that is the cache of a pool's volume. LVM appends _cvol while it is in use.
CACHE_VOLUME = "kiban_cache"
# Less than this at the end of a device is what tools leave over, not room to grow into.
SLACK = 16 * MIB
# mkfs.xfs refuses less.
XFS_LEAST = 300 * MIB
_LEAST = {"raid0": 2, "raid1": 2, "raid5": 3, "raid6": 4, "raid10": 3}
# Steps that write over what a device holds, or take it for good.
DESTRUCTIVE = frozenset(
    {"partition", "array_create", "array_add", "luks_format", "group_create", "group_extend", "lv_remove", "mkfs"}
    | {"cache_create"}
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
        "group_reduce",
        "pv_resize",
        "lv_refresh",
        "cache_detach",
        "cache_forget",
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
class Cache:
    """Faster disks of a pool in front of one of its volumes."""

    disks: tuple[str, ...]
    volume: str
    mode: str = "writethrough"
    """writethrough: lost disks lose nothing. writeback: they lose what was not written to the volume yet."""


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
    cache: Cache | None = None
    unlock: Unlock | None = None
    """What opens its containers besides the key."""

    @property
    def all_disks(self) -> tuple[str, ...]:
        """Serial numbers of the disks of its volumes, and then of its cache."""
        return self.disks + (self.cache.disks if self.cache else ())

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
    bindings: tuple[Binding, ...] = ()
    """Of a LUKS container, those in the key slots that are ours."""


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
    cache: frozenset[str] = frozenset()
    """Those of them that are its cache."""


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
class Cached:
    """The cache that LVM has in front of a volume."""

    mode: str
    lost: bool = False
    """A disk of it is gone, or the kernel gave it up: the volume fails."""


@dataclass(frozen=True)
class Lv:
    size: int
    type: str = "linear"
    thin_pool: str | None = None
    new: bool = False
    """Tagged by us when it was made: its file system is not complete yet, and was never mounted."""
    active: bool = True
    cached: Cached | None = None
    stale: bool = False
    """What the kernel has of it is older than what LVM has: a killed tool did not get to tell it."""


@dataclass(frozen=True)
class Group:
    """A volume group. pvs: device to bytes in use by LVM; sizes are bytes."""

    extent: int
    free: Mapping[str, int]
    """By physical volume."""
    pvs: Mapping[str, int]
    lvs: Mapping[str, Lv] = field(default_factory=dict)
    missing: int = 0
    """Physical volumes that are gone, without those of a cache."""
    cache: frozenset[str] = frozenset()
    """Physical volumes that are there for a cache, by their tag."""
    lost: int = 0
    """Those that are gone."""
    torn: tuple[str, ...] = ()
    """What a killed tool left of a cache that it detached: logical volumes that claim a volume for their own."""


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
    by_hand: frozenset[str] = frozenset()
    """Mount points whose line says noauto."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Name of a container to the text of the enabled unit that opens it at boot."""


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


class Refused(Exception):
    """A pool cannot be brought to what is wanted; the message is complete."""


def made_uuid(pool_id: str, what: str) -> str:
    """The UUID that a part of a pool is made with, so that it is recognised after a kill."""
    return str(uuid.uuid5(uuid.UUID(pool_id), what))


def array_path(pool: str) -> str:
    return f"/dev/md/{pool}"


def mapping_path(pool: str, number: int | None) -> str:
    return f"/dev/mapper/{pool}-luks" + ("" if number is None else str(number))


def cache_mapping_path(pool: str, serial: str) -> str:
    """By its disk: another one takes the place of a lost one while the rest is open."""
    return f"/dev/mapper/{pool}-luks-{hashlib.sha256(serial.encode()).hexdigest()[:8]}"


def is_mapping(name: str, pool: str, volumes: Iterable[str]) -> bool:
    """Whether a device of device-mapper is a container of this pool, or one of these volumes or a part of it.

    LVM writes a - in names as --. Other volumes of the group are those of a storage driver.
    """
    if re.match(re.escape(os.path.basename(mapping_path(pool, None))) + r"([0-9]*|-[0-9a-f]{8})$", name):
        return True
    ours = [f"{pool.replace('-', '--')}-{volume.replace('-', '--')}" for volume in volumes]
    cache = f"{pool.replace('-', '--')}-{CACHE_VOLUME}"
    parts = (f"{own}_{part}" for own in ours for part in ("t", "corig"))
    return name.startswith((cache, *parts)) or any(name in (own, f"{own}-tpool") for own in ours)


def problems(pools: Sequence[Pool], keys: Mapping[str, str]) -> list[str]:
    """What is wrong with what is wanted, whatever the host has."""
    found: list[str] = []
    names = [pool.name for pool in pools]
    found += [f"pool {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    serials = [serial for pool in pools for serial in pool.all_disks]
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
    if pool.unlock and not pool.luks:
        yield None, "has no LUKS container that could be opened"
    if pool.unlock:
        yield from ((None, text) for text in unlock_problems(pool.unlock))
    if pool.cache:
        usable = [volume.name for volume in pool.volumes if volume.type != "thin"]
        if pool.cache.volume not in usable:
            yield None, f"its cache needs a volume that is not thin, among: {', '.join(usable) or 'none'}"
    names = [volume.name for volume in pool.volumes]
    yield from ((CACHE_VOLUME, "is the name of a cache") for name in names if name == CACHE_VOLUME)
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
