# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What a host has of its pools: disks, arrays, containers, volume groups, file systems, mounts. Only reads."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import (
    _disks,
    _gpt,
    _layout,
    _layout_read_luks,
    _layout_read_lvm,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._layout_tools import (
    LayoutError,
    md_uuid,
    run,
    running_arrays,
)

__all__ = [
    "LABEL",
    "MARK",
    "MATES_MARK",
    "MATES_OFFSET",
    "MATES_SIZE",
    "read_facts",
    "suspended",
]

LABEL = "kiban-storage"
# In sector 0 while a disk is being partitioned: whatever else is on it is ours and not complete.
MARK = b"KIBAN-DISK-LAYOUT "
# Behind the record, in sectors of its own: serial numbers of all disks of the pool. One that is gone is named by it.
MATES_MARK = b"KIBAN-MATES "
MATES_OFFSET = _disks.RECORD_OFFSET + 4096
MATES_SIZE = 12288


def suspended(pools: Sequence[_layout.Pool]) -> list[str]:
    """Mappings and volumes of these pools that a killed tool left suspended: whoever reads from them waits for ever."""
    found = []
    for node in sorted(_disks.listed("/sys/block"), key=lambda name: (len(name), name)):
        if _disks.sysfs_value(f"/sys/block/{node}/dm/suspended") != "1":
            continue
        name = _disks.sysfs_value(f"/sys/block/{node}/dm/name") or ""
        if any(_layout.is_mapping(name, pool.name, [volume.name for volume in pool.volumes]) for pool in pools):
            found.append(name)
    return found


def read_facts(pools: Sequence[_layout.Pool], keys: Mapping[str, str], fstab: str = "/etc/fstab") -> _layout.Facts:
    """All that the decision asks for."""
    return _Reader(pools, keys).facts(fstab)


class _Reader:
    def __init__(self, pools: Sequence[_layout.Pool], keys: Mapping[str, str]) -> None:
        self.pools, self.keys = pools, keys
        self.disks: dict[str, _layout.Disk] = {}
        self.devices: dict[str, _layout.Device] = {}
        self.arrays: dict[str, _layout.Array] = {}
        # Device nodes to the names that they have in the plan.
        self.names: dict[str, str] = {}

    def facts(self, fstab: str) -> _layout.Facts:
        records = _disks.list_disks()
        for pool in self.pools:
            for serial in pool.all_disks:
                if any(record["serial_number"] == serial for record in records):
                    self._disk(_disks.select_disk(records, serial))
        if any(pool.level for pool in self.pools):
            self._arrays()
        for pool in self.pools:
            count = 0 if pool.level else len(pool.disks)
            for number in [None, *range(count)] if pool.luks else []:
                self._mapping(_layout.mapping_path(pool.name, number))
            for serial in pool.all_disks[len(pool.disks) :] if pool.luks else []:
                self._mapping(_layout.cache_mapping_path(pool.name, serial))
        groups = {}
        if any("group" in pool.layers for pool in self.pools):
            groups = _layout_read_lvm.groups([pool.name for pool in self.pools], self.names)
        for pool in self.pools:
            for volume in pool.volumes:
                if volume.type != "thin-pool" and pool.name in groups and volume.name in groups[pool.name].lvs:
                    self._device(f"/dev/{pool.name}/{volume.name}")
        lines = [line.split() for line in _disks.read_text(fstab).splitlines() if not line.lstrip().startswith("#")]
        return _layout.Facts(
            disks=self.disks,
            devices=self.devices,
            arrays=self.arrays,
            groups=groups,
            fstab={words[1]: words[0] for words in lines if len(words) > 2},
            taken=_mounted(),
            by_hand=frozenset(words[1] for words in lines if len(words) > 3 and "noauto" in words[3].split(",")),
            units=_layout_read_luks.units([pool.name for pool in self.pools if pool.luks]),
        )

    def _mapping(self, name: str) -> None:
        """A container counts only if it is on a device of ours: another one may have the name."""
        base = os.path.basename(os.path.realpath(name))
        if {f"/dev/{below}" for below in _disks.listed(f"/sys/block/{base}/slaves")} & set(self.names):
            self._device(name)

    def _disk(self, record: dict[str, Any]) -> None:
        path, serial = record["path"], record["serial_number"]
        with open(path, "rb") as file:
            head = file.read(_disks.MIB)
        part = _disks.part_node(path, 1)
        table = _gpt.parse(head, record["logical_block_bytes"])
        owner: dict[str, str | None] = {}
        made: frozenset[str] = frozenset()
        mates: frozenset[str] = frozenset()
        cache: frozenset[str] = frozenset()
        if head.startswith(MARK):
            data = _disks.json_after(head, MARK)
            owner = {"site": data.get("site"), "pool": data.get("storage")}
        elif table and len(table.partitions) == 1 and table.labelled(LABEL):
            raw = head[_disks.RECORD_OFFSET : _disks.RECORD_OFFSET + _disks.RECORD_SIZE]
            data = _disks.json_after(raw, _disks.RECORD_MARK)
            if data.get("disk") == table.disk_uuid:
                owner = {"site": data.get("site"), "pool": data.get("storage"), "id": data.get("id")}
                made = frozenset(data.get("made") or ())
                noted = _disks.json_after(head[MATES_OFFSET:], MATES_MARK, MATES_SIZE)
                mates, cache = frozenset(noted.get("mates") or ()), frozenset(noted.get("cache") or ())
        mine = owner.get("id") is not None
        self.disks[serial] = _layout.Disk(
            serial,
            path,
            part,
            record["partitions"][0]["size_bytes"] if mine else record["capacity_bytes"] - 2 * _disks.MIB,
            tuple(_disks.in_use(record)),
            tuple(_disks.not_blank(record)),
            **owner,
            made=made,
            mates=mates,
            cache=cache,
        )
        if mine:
            self._device(part)

    def _device(self, name: str, node: str | None = None) -> None:
        node = os.path.realpath(node or name)
        if not os.path.exists(node):
            return
        self.names[node] = name
        head: bytes | None = None
        with open(node, "rb") as file:
            size = _disks.device_size(file.fileno())
            # Nothing can be read behind a cache that is lost.
            with contextlib.suppress(OSError):
                head = file.read(_disks.MIB)
        status = os.stat(node)
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        mounts = tuple(_disks.mounts_of(_disks.SYSTEM, {number}, {node}))
        if head is None:
            self.devices[name] = _layout.Device(size, _layout.Content("what cannot be read"), None, mounts)
            return
        content = self._content(node, head, mounts)
        self.devices[name] = _layout.Device(size, content, _file_system_size(content, head, mounts), mounts)

    def _content(self, node: str, head: bytes, mounts: Sequence[str]) -> _layout.Content | None:
        found = _disks._blkid(node, 0, 0)
        # Of a blank partition blkid tells its entry in the table, and no type.
        if not found or found[0]["type"] == "unknown":
            return None
        kind, uuid = found[0]["type"], found[0]["uuid"]
        pool = self._owner(node) if kind == "crypto_LUKS" else None
        bindings = _layout_read_luks.bindings(head, pool.unlock) if pool else ()
        return _layout.Content(kind, uuid, self._ready(node, kind, head, bool(mounts)), bindings)

    def _ready(self, node: str, kind: str, head: bytes, mounted: bool) -> bool:
        """Whether the making of a content came to its end."""
        if kind == "ext4":
            last_mounted = struct.unpack_from("<I", head, 1024 + 0x2C)[0]
            return mounted or last_mounted != 0 or _disks.run_tool("e2fsck", "-fn", node)[0] == 0
        if kind == "xfs":
            return head[126] == 0
        if kind == "crypto_LUKS":
            return self._opens(node)
        return True

    def _opens(self, node: str) -> bool:
        base, pool = os.path.basename(node), self._owner(node)
        for holder in _disks.listed(f"/sys/class/block/{base}/holders"):
            name = _disks.sysfs_value(f"/sys/block/{holder}/dm/name") or ""
            if any(_layout.is_mapping(name, each.name, ()) for each in self.pools):
                return True
        if pool is None or not pool.luks or pool.name not in self.keys:
            return False
        try:
            run("cryptsetup", "open", "--test-passphrase", "--key-file=-", node, key=self.keys[pool.name])
        except LayoutError:
            return False
        return True

    def _owner(self, node: str) -> _layout.Pool | None:
        """The pool whose containers may be on this device."""
        for pool in self.pools:
            parts = [self.disks[serial].part for serial in pool.all_disks if serial in self.disks]
            if node in map(os.path.realpath, parts) or self.names[node] == _layout.array_path(pool.name):
                return pool
        return None

    def _arrays(self) -> None:
        running = running_arrays()
        for pool in self.pools:
            ids = {self.disks[serial].id for serial in pool.disks if serial in self.disks} - {None}
            if pool.level is None or len(ids) != 1:
                continue
            node = running.get(md_uuid(_layout.made_uuid(str(ids.pop()), "array")))
            base = f"/sys/block/{os.path.basename(node)}/md" if node else ""
            if node is None or _disks.sysfs_value(f"{base}/array_state") in (None, "inactive", "clear"):
                continue
            members, rooms = {}, []
            for entry in _disks.listed(base):
                if entry.startswith("dev-"):
                    part = "/dev/" + entry[4:].replace("!", "/")
                    state = (_disks.sysfs_value(f"{base}/{entry}/state") or "faulty").split(",")
                    gone = not os.path.exists(f"{base}/{entry}/block/size")
                    members[part] = (
                        "faulty" if gone or "faulty" in state else "active" if "in_sync" in state else "spare"
                    )
                    sectors = int(_disks.sysfs_value(f"{base}/{entry}/block/size") or 0) - int(
                        _disks.sysfs_value(f"{base}/{entry}/offset") or 0
                    )
                    rooms.append(sectors * 512)
            self.arrays[pool.name] = _layout.Array(
                level=_disks.sysfs_value(f"{base}/level") or "",
                slots=int(_disks.sysfs_value(f"{base}/raid_disks") or 0),
                members=members,
                size=int(_disks.sysfs_value(f"/sys/block/{os.path.basename(node)}/size") or 0) * 512,
                component=int(_disks.sysfs_value(f"{base}/component_size") or 0) * 1024,
                room=min(rooms, default=0),
            )
            self._device(_layout.array_path(pool.name), node)


def _file_system_size(content: _layout.Content | None, head: bytes, mounts: Sequence[str]) -> int | None:
    """Bytes of the file system by its superblock: ext4(5), sb_blocksize and sb_dblocks of the XFS on-disk format."""
    if content and content.type == "ext4":
        low, shift = struct.unpack_from("<I", head, 1024 + 0x4)[0], struct.unpack_from("<I", head, 1024 + 0x18)[0]
        wide = struct.unpack_from("<I", head, 1024 + 0x60)[0] & 0x80
        high = struct.unpack_from("<I", head, 1024 + 0x150)[0] if wide else 0
        return int((high << 32) + low) << (10 + shift)
    if content and content.type == "xfs":
        # While it is mounted the superblock on the disk may be an older one. One that was shut down tells nothing.
        shown = run("xfs_growfs", "-n", mounts[0], accept=(0, 1)) if mounts else ""
        live = re.search(r"^data .*bsize=(\d+) +blocks=(\d+)", shown, re.M)
        block, blocks = live.groups() if live else struct.unpack_from(">IQ", head, 4)
        return int(block) * int(blocks)
    return None


def _mounted() -> dict[str, str]:
    found = {}
    for line in _disks.read_text("/proc/self/mountinfo").splitlines():
        fields, _dash, tail = line.partition(" - ")
        found[_disks._unescape(fields.split(" ")[4])] = tail.split(" ")[1]
    return found
