# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""GUID partition tables as bytes: read one, grow it to a larger disk, make a new one.

Nothing here opens a device. The callers decide in which order the parts reach the disk, and that order is what makes
a killed run recognisable.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass, replace

__all__ = ["LINUX_DATA", "Layout", "Partition", "Table", "new_table", "parse"]

LINUX_DATA = "0fc63daf-8483-4772-8e79-3d69d8477de4"

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_SIGNATURE = b"EFI PART"
_ENTRIES = 128
_ENTRY_SIZE = 128


@dataclass(frozen=True)
class Partition:
    """One used entry. first and last are logical blocks, last is inclusive."""

    number: int
    type_uuid: str
    uuid: str
    first: int
    last: int
    attributes: int
    label: str


@dataclass(frozen=True)
class Layout:
    """The bytes of a table and where they go: each is (offset in bytes, content)."""

    protective_mbr: tuple[int, bytes]
    primary: tuple[int, bytes]
    backup: tuple[int, bytes]


@dataclass(frozen=True)
class Table:
    """A partition table with logical blocks of block bytes; alternate is the block of the backup header."""

    block: int
    disk_uuid: str
    first_usable: int
    last_usable: int
    alternate: int
    entry_count: int
    partitions: tuple[Partition, ...]

    @property
    def disk_bytes(self) -> int:
        """The size of the disk that the table was made for: the backup header is its last block."""
        return (self.alternate + 1) * self.block

    def labelled(self, label: str) -> list[Partition]:
        """The partitions with this label."""
        return [part for part in self.partitions if part.label == label]

    def grown(self, disk_bytes: int, number: int) -> Table:
        """The same table on a disk of disk_bytes, partition number reaching to the end of the disk."""
        blocks = disk_bytes // self.block
        last_usable = blocks - 2 - self._entry_blocks
        if any(part.last > last_usable for part in self.partitions):
            raise ValueError("the partitions do not fit on this disk")
        target = next((part for part in self.partitions if part.number == number), None)
        if target is None or any(part.first > target.first for part in self.partitions):
            raise ValueError(f"partition {number} is not the last one, so it cannot grow")
        end = (last_usable + 1) // 2048 * 2048 - 1
        grown = replace(target, last=max(target.last, end))
        return replace(
            self,
            alternate=blocks - 1,
            last_usable=last_usable,
            partitions=tuple(grown if part is target else part for part in self.partitions),
        )

    def layout(self) -> Layout:
        """The table as bytes."""
        entries = bytearray(self._entry_blocks * self.block)
        for part in self.partitions:
            _ENTRY.pack_into(
                entries,
                (part.number - 1) * _ENTRY_SIZE,
                uuid.UUID(part.type_uuid).bytes_le,
                uuid.UUID(part.uuid).bytes_le,
                part.first,
                part.last,
                part.attributes,
                part.label.encode("utf-16-le"),
            )
        crc = zlib.crc32(entries[: self.entry_count * _ENTRY_SIZE])
        backup_entries = self.alternate - self._entry_blocks
        primary = self._header(1, self.alternate, 2, crc) + bytes(entries)
        backup = bytes(entries) + self._header(self.alternate, 1, backup_entries, crc)
        return Layout(
            protective_mbr=(0, self._protective_mbr()),
            primary=(self.block, primary),
            backup=(backup_entries * self.block, backup),
        )

    @property
    def _entry_blocks(self) -> int:
        return -(-self.entry_count * _ENTRY_SIZE // self.block)

    def _header(self, own: int, other: int, entries: int, entries_crc: int) -> bytes:
        def pack(crc: int) -> bytes:
            return _HEADER.pack(
                _SIGNATURE,
                0x10000,
                _HEADER.size,
                crc,
                0,
                own,
                other,
                self.first_usable,
                self.last_usable,
                uuid.UUID(self.disk_uuid).bytes_le,
                entries,
                self.entry_count,
                _ENTRY_SIZE,
                entries_crc,
            )

        return pack(zlib.crc32(pack(0))).ljust(self.block, b"\0")

    def _protective_mbr(self) -> bytes:
        sector = bytearray(self.block)
        sectors = min(self.alternate, 0xFFFFFFFF)
        struct.pack_into("<B3sB3sII", sector, 446, 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, sectors)
        sector[510:512] = b"\x55\xaa"
        return bytes(sector)


def parse(head: bytes, block: int) -> Table | None:
    """The table in the first bytes of a disk (1 MiB is always enough); None if there is none or a checksum is wrong."""
    if len(head) < 2 * block or head[block : block + 8] != _SIGNATURE:
        return None
    fields = _HEADER.unpack_from(head, block)
    (
        _signature,
        _revision,
        size,
        crc,
        _reserved,
        own,
        alternate,
        first,
        last,
        disk,
        entries,
        count,
        entry_size,
        entries_crc,
    ) = fields
    header = bytearray(head[block : block + size])
    header[16:20] = bytes(4)
    if own != 1 or size < _HEADER.size or zlib.crc32(header) != crc or entry_size != _ENTRY_SIZE or count > 4096:
        return None
    raw = head[entries * block : entries * block + count * entry_size]
    if len(raw) != count * entry_size or zlib.crc32(raw) != entries_crc:
        return None
    parts = []
    for index in range(count):
        kind, unique, start, end, attributes, name = _ENTRY.unpack_from(raw, index * entry_size)
        if kind == bytes(16):
            continue
        label = name.decode("utf-16-le", "replace").split("\0", 1)[0]
        parts.append(
            Partition(
                index + 1,
                str(uuid.UUID(bytes_le=kind)),
                str(uuid.UUID(bytes_le=unique)),
                start,
                end,
                attributes,
                label,
            )
        )
    return Table(block, str(uuid.UUID(bytes_le=disk)), first, last, alternate, count, tuple(parts))


def new_table(disk_bytes: int, block: int, label: str, disk_uuid: str, part_uuid: str) -> Table:
    """A table with one Linux partition from 1 MiB to the last whole MiB."""
    blocks = disk_bytes // block
    entry_blocks = -(-_ENTRIES * _ENTRY_SIZE // block)
    align = (1 << 20) // block
    last_usable = blocks - 2 - entry_blocks
    last = (last_usable + 1) // align * align - 1
    if last < 2 * align:
        raise ValueError("the disk is too small for a partition")
    part = Partition(1, LINUX_DATA, part_uuid, align, last, 0, label)
    return Table(block, disk_uuid, 2 + entry_blocks, last_usable, blocks - 1, _ENTRIES, (part,))
