# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# A part of the probe that goes to servers whose profile has pools: Python 3.9, standard library. It starts no process,
# and reads nothing from a disk that may not answer, but for its partition table and the records of our own.

from __future__ import annotations

import fcntl
import glob
import json
import os
import struct
from collections.abc import Callable
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils._luks_header import luks_header

# linux/dm-ioctl.h: struct dm_ioctl, DM_TABLE_STATUS without a flush.
DM_HEADER = "=6Ii3IQ128s129s7x"
DM_TABLE_STATUS = 0xC138FD0C
DM_NOFLUSH = 1 << 11
# xfs_fs.h: XFS_IOC_FSGEOMETRY.
XFS_GEOMETRY = 0x8100587E


def layouts(disks: list[dict[str, Any]], read: Callable[[str], str]) -> dict[str, Any]:
    """What there is of arrays, volumes and mounts on the disks of pools."""
    found = {record["name"]: pool for record in disks if (pool := pool_record(record["path"]))}
    nodes = sorted(os.listdir("/sys/block"))
    mapped = {read(f"/sys/block/{node}/dm/name").strip(): node for node in nodes if node.startswith("dm-")}
    return {
        "disks": found,
        "claims": {record["name"]: claim for record in disks if (claim := claim_of(record))},
        "arrays": [md_array(node, found, read) for node in nodes if os.path.exists(f"/sys/block/{node}/md/level")],
        "volumes": {name: int(read(f"/sys/block/{node}/size") or 0) * 512 for name, node in mapped.items()},
        "suspended": [name for name, node in mapped.items() if read(f"/sys/block/{node}/dm/suspended")[:1] == "1"],
        "thin": {name: fill for name in mapped if name.endswith("-tpool") and (fill := thin(dm_status(name)))},
        "caches": {name: mode for name, node in mapped.items() if (mode := cache_mode(name, node))},
        "luks": luks_keys(found, read),
        "mounts": pool_mounts({node: name for name, node in mapped.items()}, found, read),
    }


def pool_record(path: str) -> dict[str, Any] | None:
    """Our record on a disk of a pool, and which disks the pool had when it was written."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.pread(fd, 16384, 512 * 1024)
        finally:
            os.close(fd)
    except OSError:
        return None
    record, mates = after(raw[:512], b"KIBAN-RECORD "), after(raw[4096:], b"KIBAN-MATES ")
    if "storage" not in record:
        return None
    return {"pool": record["storage"], "site": record.get("site"), "made": record.get("made"), **mates}


def claim_of(record: dict[str, Any]) -> dict[str, Any] | None:
    """What a disk was taken for besides pools, as disk_info tells it: its purpose, and its site where that is known."""
    block = int(record["logical_block_bytes"])
    try:
        fd = os.open(record["path"], os.O_RDONLY | os.O_CLOEXEC)
        try:
            head, raw = os.pread(fd, 2 * block + 16384, 0), os.pread(fd, 512, 512 * 1024)
        finally:
            os.close(fd)
    except OSError:
        return None
    for mark, purpose in ((b"KIBAN-IMAGE-WRITE ", "system"), (b"KIBAN-DISK-CLAIM ", "data")):
        if head.startswith(mark):
            return {"purpose": purpose, "site": after(head, mark).get("site")}
    labels, site = gpt_labels(head, block), after(raw, b"KIBAN-RECORD ").get("site")
    if "kiban-root" in labels:
        return {"purpose": "system", "site": site}
    return {"purpose": "data", "site": site} if labels == ["kiban-data"] else None


def gpt_labels(head: bytes, block: int) -> list[str]:
    """Of the partitions in a GUID partition table. UEFI 2.10, 5.3, has the header and its entries."""
    if head[block : block + 8] != b"EFI PART":
        return []
    first, count, size = struct.unpack_from("<QII", head, block + 72)
    raw = head[first * block :][: count * size] if size == 128 else b""
    entries = [raw[at : at + 128] for at in range(0, len(raw), 128)]
    return [entry[56:].decode("utf-16-le", "replace").partition("\0")[0] for entry in entries if any(entry[:16])]


def after(raw: bytes, mark: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw[len(mark) :].split(b"\0", 1)[0]) if raw.startswith(mark) else {}
    except ValueError:
        value = {}
    return value if isinstance(value, dict) else {}


def md_array(node: str, pools: dict[str, Any], read: Callable[[str], str]) -> dict[str, Any]:
    base, members = f"/sys/block/{node}/md", {}
    for path in sorted(glob.glob(f"{base}/dev-*")):
        # A member that was pulled stays until somebody takes it out, and its link leads nowhere.
        gone = not os.path.exists(f"{path}/block/size")
        members[os.path.basename(path)[len("dev-") :]] = "gone" if gone else read(f"{path}/state").strip()
    owners = {pools[disk]["pool"] for disk in pools for part in members if is_part(part, disk)}
    done, _of, total = read(f"{base}/sync_completed").partition("/")
    action = read(f"{base}/sync_action").strip()
    return {
        "pool": owners.pop() if len(owners) == 1 else None,
        "node": node,
        "state": read(f"{base}/array_state").strip(),
        "slots": int(read(f"{base}/raid_disks") or 0),
        "degraded": int(read(f"{base}/degraded") or 0),
        "members": members,
        "sync": f"{action} {int(done) * 100 // int(total)} %" if total.strip().isdigit() and int(total) else "",
    }


def is_part(name: str, disk: str) -> bool:
    # A partition of a multipath device is a device of its own.
    return name in (f"{disk}1", f"{disk}p1") or os.path.exists(f"/sys/block/{name}/slaves/{disk}")


def dm_status(name: str) -> str:
    """The line that device-mapper tells of a device with one target; empty where it does not."""
    size = struct.calcsize(DM_HEADER)
    head = struct.pack(DM_HEADER, 4, 0, 0, 16384, size, 0, 0, 0, DM_NOFLUSH, 0, 0, name.encode(), b"")
    buffer = bytearray(head.ljust(16384, b"\0"))
    try:
        with open("/dev/mapper/control", "rb", buffering=0) as control:
            fcntl.ioctl(control, DM_TABLE_STATUS, buffer)
    except OSError:
        return ""
    # Behind the header stands struct dm_target_spec of 40 bytes, then the text.
    start = struct.unpack_from("=I", buffer, 16)[0]
    return bytes(buffer[start + 40 :]).split(b"\0", 1)[0].decode("ascii", "replace")


def cache_mode(name: str, node: str) -> str | None:
    """What a cache in front of a volume does, or Fail; None where there is none.

    Documentation/admin-guide/device-mapper/cache.rst has the line.
    """
    # One has three devices below it: metadata, cache and origin.
    return cache_state(dm_status(name)) if len(glob.glob(f"/sys/block/{node}/slaves/*")) == 3 else None


def cache_state(line: str) -> str | None:
    words = line.split()
    modes = [word for word in words if word in ("writethrough", "writeback", "passthrough")]
    return "Fail" if words == ["Fail"] else modes[0] if modes else None


def luks_keys(pools: dict[str, Any], read: Callable[[str], str]) -> dict[str, Any]:
    """Device to our key slots in the header of its container, and what Clevis notes of them, without what is secret."""
    parts = [f"{disk}{part}" for disk in pools for part in ("1", "p1")]
    nodes = [node for node in sorted(os.listdir("/sys/block")) if read(f"/sys/block/{node}/md/array_state")]
    alive = [node for node in nodes if read(f"/sys/block/{node}/md/array_state").strip() in ("clean", "active")]
    found = {}
    for name in (*parts, *alive):
        try:
            fd = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                header = luks_header(os.pread(fd, 65536, 0))
            finally:
                os.close(fd)
        except OSError:
            continue
        if header:
            tokens = {
                number: {**token, "jwe": {"protected": (token.get("jwe") or {}).get("protected")}}
                for number, token in header["tokens"].items()
                if token.get("type") == "clevis"
            }
            found[name] = {"keyslots": {slot: {} for slot in header["keyslots"]}, "tokens": tokens}
    return found


def thin(line: str) -> list[Any]:
    """How full a thin pool is, data and metadata in percent, and its mode.

    Documentation/admin-guide/device-mapper/thin-provisioning.rst has the line.
    """
    words = line.split()
    try:
        meta, data = ([int(number) for number in words[place].split("/")] for place in (1, 2))
        return [data[0] * 100 // data[1], meta[0] * 100 // meta[1], words[4]]
    except (ValueError, IndexError, ZeroDivisionError):
        return [0, 0, line] if line else []


def pool_mounts(mapped: dict[str, str], pools: dict[str, Any], read: Callable[[str], str]) -> dict[str, Any]:
    """Mount point to device, its size, and that of the file system, of what may belong to a pool."""
    found = {}
    for line in read("/proc/self/mountinfo").splitlines():
        words, tail = line.split(" "), line.partition(" - ")[2]
        real = os.path.realpath(f"/sys/dev/block/{words[2]}")
        node = os.path.basename(real)
        ours = node in mapped or node.startswith("md") or any(is_part(node, disk) for disk in pools)
        if ours and words[3] == "/":
            size = int(read(f"{real}/size") or 0) * 512
            kind = tail.partition(" ")[0]
            found[words[4]] = [mapped.get(node, node), size, file_system(kind, node, words[4])]
    return found


def file_system(kind: str, node: str, mount: str) -> int | None:
    """Bytes of a mounted file system. What is asked for is in memory, whether the disk answers or not."""
    try:
        if kind == "ext4":
            fd = os.open(f"/dev/{node}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                block = os.pread(fd, 1024, 1024)
            finally:
                os.close(fd)
            low, shift = struct.unpack_from("<I", block, 4)[0], struct.unpack_from("<I", block, 0x18)[0]
            high = struct.unpack_from("<I", block, 0x150)[0] if struct.unpack_from("<I", block, 0x60)[0] & 0x80 else 0
            return int((high << 32) + low) << (10 + shift)
        if kind == "xfs":
            fd = os.open(mount, os.O_RDONLY | os.O_CLOEXEC)
            try:
                answer = fcntl.ioctl(fd, XFS_GEOMETRY, bytes(256))
            finally:
                os.close(fd)
            return int(struct.unpack_from("=I", answer)[0]) * int(struct.unpack_from("=Q", answer, 32)[0])
    except (OSError, struct.error):
        pass
    return None
