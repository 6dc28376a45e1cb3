# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disk may hold: each entry puts it there, by its own tool where every Debian has one, else by its bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, run


def put(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset if offset >= 0 else path.stat().st_size + offset)
        file.write(data)


def _lvm(path: Path) -> None:
    body = struct.pack("<I8s", 32, b"LVM2 001") + b"aaaaaabbbbccccddddeeeeffffgggggg" + struct.pack("<Q", 64 * MIB)
    body = body.ljust(512 - 20, b"\0")
    crc = ~zlib.crc32(body, ~0xF597A6CF & 0xFFFFFFFF) & 0xFFFFFFFF
    put(path, 512, b"LABELONE" + struct.pack("<QI", 1, crc) + body)


def _md(minor: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        size = path.stat().st_size
        offset = 4096 if minor == 2 else 0 if minor == 1 else (size - 8192) // 4096 * 4096
        block = bytearray(256)
        struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
        block[16:32] = bytes(range(16))
        block[32:36] = b"host"
        struct.pack_into("<Q", block, 144, offset // 512)
        total = sum(struct.unpack("<64I", block))
        struct.pack_into("<I", block, 216, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
        put(path, offset, bytes(block))

    return write


def _md090(path: Path) -> None:
    block = bytearray(4096)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 0, 90)
    put(path, path.stat().st_size // 65536 * 65536 - 65536, bytes(block))


def _luks(version: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        header = b"LUKS\xba\xbe" + struct.pack(">H", version)
        if version == 1:
            header = header.ljust(168, b"\0") + b"0b9d7f2e-6a3f-4c1e-9b0a-111111111111\0"
        else:
            header = (header + struct.pack(">QQ", 16384, 1)).ljust(
                168, b"\0"
            ) + b"0b9d7f2e-6a3f-4c1e-9b0a-111111111111\0"
        put(path, 0, header.ljust(4096, b"\0"))

    return write


def _zfs(path: Path) -> None:
    uberblocks = b"".join(struct.pack("<QQQ", 0x00BAB10C, 5000, 4).ljust(1024, b"\0") for _ in range(8))
    for label in (0, 262144, path.stat().st_size - 524288, path.stat().st_size - 262144):
        put(path, label + 131072, uberblocks)


def _filesystem(*command: str) -> Callable[[Path], None]:
    return lambda path: run(*command, path) and None


def _table(kind: str, parts: str = "type=L\n") -> Callable[[Path], None]:
    return lambda path: run("sfdisk", "-q", path, stdin=f"label: {kind}\n{parts}") and None


def _gpt_backup_only(path: Path) -> None:
    _table("gpt")(path)
    put(path, 0, bytes(MIB))


def _gpt_with_filesystem(path: Path) -> None:
    _table("gpt")(path)
    run("mkfs.ext4", "-q", "-F", "-L", "precious", "-E", f"offset={MIB}", path, "32M")


# name: (how it gets there, the word that the refusal must say)
CONTENT: dict[str, tuple[Callable[[Path], None], str]] = {
    "ext4": (_filesystem("mkfs.ext4", "-q", "-L", "precious"), "precious"),
    "vfat": (_filesystem("mkfs.vfat"), "vfat"),
    "swap": (_filesystem("mkswap"), "swap"),
    "gpt": (_table("gpt"), "gpt"),
    "gpt-empty": (_table("gpt", ""), "gpt"),
    "gpt-backup-only": (_gpt_backup_only, "gpt"),
    "gpt-with-ext4": (_gpt_with_filesystem, "precious"),
    "mbr": (_table("dos"), "dos"),
    "lvm": (_lvm, "LVM2_member"),
    "md-1.2": (_md(2), "linux_raid_member"),
    "md-1.1": (_md(1), "linux_raid_member"),
    "md-1.0": (_md(0), "linux_raid_member"),
    "md-0.90": (_md090, "linux_raid_member"),
    "luks1": (_luks(1), "crypto_LUKS"),
    "luks2": (_luks(2), "crypto_LUKS"),
    # No tool here makes a whole pool, so some versions of wipefs take the labels for unknown content.
    "zfs": (_zfs, "holds"),
    "xfs": (lambda path: put(path, 0, b"XFSB\0\0\x10\0"), "holds"),
    "btrfs": (lambda path: put(path, 65536 + 64, b"_BHRfS_M"), "holds"),
    "bcache": (
        lambda path: put(path, 4096 + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
        "holds",
    ),
    "bluestore": (
        lambda path: put(path, 0, b"bluestore block device\n0b9d7f2e-6a3f-4c1e-9b0a-111111111111\n"),
        "ceph_bluestore",
    ),
    "vmfs": (lambda path: put(path, MIB, bytes.fromhex("0dd001c0")), "VMFS_volume_member"),
    "drbd": (lambda path: put(path, -4096 + 60, bytes.fromhex("8374026d")), "holds"),
    "unknown-start": (lambda path: put(path, 70_000, b"\1"), "unknown content (first at byte 70000)"),
    "unknown-end": (lambda path: put(path, -1, b"\1"), "unknown content"),
}
