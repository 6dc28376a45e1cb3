# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""Data disks of a node: which may be taken, taking them, mounting them.

A disk goes through states that are all recognised after a kill: our mark in sector 0 (anything on it may be written
again), a table with our record that says the file system is not made yet, a table with a record that says it is. A file
system is only ever made in the second state, and never over a signature.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_wipe, _disks, _gpt
from ansible_collections.kiban.baremetal.plugins.module_utils._disks import MIB

__all__ = ["Claim", "ClaimError", "Host", "Release", "decide", "decide_release", "directory_name"]

_MIN_SIZE = 64 * MIB
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE = 0x10
# The kubelet waits this long for a disk; one that comes later is mounted when it comes, see systemd.mount(5).
_OPTIONS = "noatime,nofail,x-systemd.device-timeout=90s,x-systemd.before=kubelet.service"


class ClaimError(Exception):
    """Disks were refused, or work on one failed half-way; the message is complete."""


@dataclass(frozen=True)
class Host:
    """Where this host keeps its mounts; other places in tests."""

    fstab: str = "/etc/fstab"
    mountinfo: str = "/proc/self/mountinfo"


def directory_name(serial_number: str) -> str:
    """A serial number as the name of a directory."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", serial_number)
    return name if name.strip(".") else "_" + name


@dataclass(frozen=True)
class Claim:
    """What has to be done for one disk."""

    record: dict[str, Any]
    path: str
    site: str
    # 'format': everything anew; 'make': the file system; 'accept': it is made, only the record does not say so; 'none'
    action: str
    mount: bool
    fstab: bool
    wipe: _disk_wipe.Wipe | None = None

    @property
    def serial(self) -> str:
        return str(self.record["serial_number"])

    @property
    def changed(self) -> bool:
        return self.action != "none" or self.mount or self.fstab

    def words(self) -> str:
        """What will be done, for a person."""
        words = {"format": ["partition", "make file system"], "make": ["make file system"], "accept": ["record"]}
        found = [self.wipe.words()] if self.wipe else []
        found += [*words.get(self.action, []), *(["add to fstab"] if self.fstab else [])]
        return ", ".join([*found, *(["mount"] if self.mount else [])]) or "nothing"

    def apply(self, host: Host, wiped: Callable[[dict[str, Any]], None]) -> None:
        """Does it. The disk is locked, and this was decided under that lock. wiped gets the record of a wipe."""
        if self.action == "format":
            _disks.map_partitions(self.record["path"], False)
        if self.wipe:
            wiped(self.wipe.apply(self.site))
        if self.action == "format":
            _partition_disk(self.record, self.site)
        elif self.changed:
            _disks.show_partitions(self.record)
        if self.action in ("format", "make"):
            _make_file_system(self.record)
        if self.action != "none":
            _set_formatted(self.record)
        part = _our_partition(self.record)
        if self.fstab:
            _set_fstab(host, self.path, _mount_line(part.uuid, self.path))
        if self.mount:
            _mount(_disks.part_node(self.record["path"], part.number), self.path)


@dataclass(frozen=True)
class Release:
    """A claim that this host forgets; the disk keeps what it has."""

    serial: str
    path: str
    mounted: bool
    fstab: bool

    @property
    def changed(self) -> bool:
        return self.mounted or self.fstab

    def words(self) -> str:
        found = [*(["unmount"] if self.mounted else []), *(["remove from fstab"] if self.fstab else [])]
        return ", ".join(found) or "nothing"

    def apply(self, host: Host) -> None:
        if self.mounted:
            _tool("umount", self.path)
        if self.fstab:
            _set_fstab(host, self.path, None)
        with contextlib.suppress(OSError):
            _immutable(self.path, False)
            os.rmdir(self.path)


def decide(
    records: Sequence[dict[str, Any]],
    serial_numbers: Sequence[str],
    wipe: Iterable[str],
    site: str,
    mount_base: str,
    host: Host,
    method: str = "signatures",
) -> tuple[list[Claim], list[str]]:
    """What to do for each disk, and why others are refused. Nothing is written."""
    claims, refused, named = [], [], set(wipe)
    names = [directory_name(serial) for serial in serial_numbers]
    for serial, name in zip(serial_numbers, names):
        if names.count(name) > 1:
            refused.append(f"disk {serial}: named more than once, or its directory {name} is another disk's too")
            continue
        try:
            record = _disks.select_disk(records, serial)
            action = _action(record, serial in named, site, records)
            wiping = _wipe(record, method if serial in named else None, records) if action == "format" else None
            claims.append(_claim(record, os.path.join(mount_base, name), action, site, host, wiping))
        except (_disks.DiskError, _disk_wipe.WipeError, ClaimError) as exc:
            refused.append(f"disk {serial}: {exc}")
    return claims, refused


def decide_release(serial_numbers: Sequence[str], mount_base: str, host: Host) -> list[Release]:
    """What to forget; the disks need not be there any more."""
    found = []
    for serial in serial_numbers:
        path = os.path.join(mount_base, directory_name(serial))
        found.append(Release(serial, path, bool(_mounted(host, path)), _fstab_line(host, path) is not None))
    return found


def _action(record: dict[str, Any], may_wipe: bool, site: str, records: Sequence[dict[str, Any]]) -> str:
    """The state of one disk as what has to be done; an error says why it must not be taken."""
    mark, path = record["kiban"], record["path"]
    if mark is not None and mark["purpose"] == "data":
        twins = [r["path"] for r in records if r["kiban"] and mark["uuid"] and r["kiban"]["uuid"] == mark["uuid"]]
        if len(twins) > 1:
            raise ClaimError(f"{' and '.join(twins)} carry the same claim: one is a copy of the other. Take it out")
        owner = mark["site"]
        if owner not in (None, site) and not may_wipe:
            raise ClaimError(f"{path} is claimed by site {owner!r}. If its data may be lost, name it under wipe")
        if owner in (None, site):
            return _own_action(record, may_wipe)
    if reasons := _disks.in_use(record):
        raise ClaimError("; ".join(reasons))
    if record["capacity_bytes"] < _MIN_SIZE:
        raise ClaimError(f"{path} is too small: {record['capacity_bytes']} bytes")
    content = _disks.not_blank(record)
    if content and not may_wipe:
        raise ClaimError(f"{'; '.join(content)}. If that may be lost, name the disk under wipe")
    return "format"


def _wipe(record: dict[str, Any], method: str | None, records: Sequence[dict[str, Any]]) -> _disk_wipe.Wipe | None:
    """How a disk that is made anew is wiped before; method is none where it was not named."""
    begun = (record["kiban"] or {}).get("wipe")
    method = method or (begun if begun in _disk_wipe.METHODS else None)
    if method is None or (method == "signatures" and not begun and not _disks.not_blank(record)):
        return None
    return _disk_wipe.decide(record, method, records)


def _own_action(record: dict[str, Any], may_wipe: bool) -> str:
    """A disk with our mark for this site."""
    mark, path = record["kiban"], record["path"]
    if mark["complete"]:
        return "none"
    if reasons := _disks.in_use(record):
        raise ClaimError("; ".join(reasons))
    if mark["uuid"] is None or may_wipe:
        return "format"
    inside = record["partitions"][0]["signatures"]
    if mark["formatted"] is False:
        if not inside:
            return "make"
        if [sig["type"] for sig in inside] == ["ext4"] and inside[0]["uuid"] == mark["fs"]:
            node = _disks.part_node(path, 1)
            if os.path.exists(node) and _disks.run_tool("e2fsck", "-fn", node)[0] == 0:
                return "accept"
            raise ClaimError(
                f"{path}: the making of its file system was cut off. It never held data: name it under wipe"
            )
    if not inside and mark["formatted"] is None and _is_blank(record):
        return "make"
    found = "; ".join(_disks.not_blank(record))
    raise ClaimError(
        f"{path} is claimed, but its file system is not what was made: {found}. It may have held data: repair it "
        f"(e2fsck -b 32768 {_disks.part_node(path, 1)}), or name it under wipe"
    )


def _claim(
    record: dict[str, Any], path: str, action: str, site: str, host: Host, wiping: _disk_wipe.Wipe | None
) -> Claim:
    """Adds what is missing on the host side to a decided disk."""
    mounted = _mounted(host, path)
    if action != "none":
        if mounted:
            raise ClaimError(f"{path} is taken: {mounted} is mounted there")
        return Claim(record, path, site, action, mount=True, fstab=True, wipe=wiping)
    part = record["partitions"][0]
    node = _disks.part_node(record["path"], part["number"])
    if mounted and os.path.realpath(mounted) != os.path.realpath(node):
        raise ClaimError(f"{path} is taken: {mounted} is mounted there, not {node}")
    line = _mount_line(part["uuid"], path)
    return Claim(record, path, site, action, mount=not mounted, fstab=_fstab_line(host, path) != line)


def _partition_disk(record: dict[str, Any], site: str) -> None:
    """Our mark, empty ends, a table with one partition and a record; the protective MBR last."""
    path, block = record["path"], record["logical_block_bytes"]
    claim = {"site": site, "serial_number": record["serial_number"]}
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if _is_device(path) else 0))
    try:
        size = _disks.device_size(fd)
        mark = _disks.record_bytes(_disks.CLAIM_MARK, claim)
        _disk_wipe.put(fd, 0, mark)
        _disk_wipe.put(fd, len(mark), bytes(_disk_wipe.EDGE - len(mark)))
        _disk_wipe.put(fd, size - _disk_wipe.EDGE, bytes(_disk_wipe.EDGE))
        table = _gpt.new_table(size, block, _disks.DATA_LABEL, str(uuid.uuid4()), str(uuid.uuid4()))
        layout = table.layout()
        state = {**claim, "disk": table.disk_uuid, "fs": str(uuid.uuid4()), "formatted": False}
        _disk_wipe.put(fd, *layout.backup)
        _disk_wipe.put(fd, *layout.primary)
        _disk_wipe.put(fd, _disks.RECORD_OFFSET, _disks.record_bytes(_disks.RECORD_MARK, state))
        _disk_wipe.put(fd, *layout.protective_mbr)
        _disks.reread_partitions(path, fd)
    finally:
        os.close(fd)
    _disks.map_partitions(path)


def _make_file_system(record: dict[str, Any]) -> None:
    """ext4 in our partition, which must not show any signature."""
    now = _reread(record)
    part, mark = now["partitions"][0], now["kiban"]
    if mark is None or part["signatures"] or part["label"] != _disks.DATA_LABEL:
        raise ClaimError(f"{now['path']} changed while it was worked on: {'; '.join(_disks.not_blank(now))}")
    words = ["mkfs.ext4", "-q", "-F", "-m", "0", "-L", _disks.DATA_LABEL]
    words += ["-U", mark["fs"]] if mark["fs"] else []
    if part["name"] is None:
        # A disk that the kernel shows no partitions of, such as a plain file.
        words += ["-E", f"offset={part['start_bytes']}", now["path"], f"{part['size_bytes'] // 1024}k"]
    else:
        words.append(_disks.part_node(now["path"], 1))
    _tool(*words)
    fd = os.open(words[-1] if part["name"] else now["path"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _set_formatted(record: dict[str, Any]) -> None:
    """From here on a missing file system is a loss, not a beginning."""
    now = _reread(record)
    part, mark = now["partitions"][0], now["kiban"]
    data = {key: mark[key] for key in ("site", "disk")} | {"serial_number": record["serial_number"]}
    data |= {"fs": part["signatures"][0]["uuid"], "formatted": True}
    if data["disk"] is None:
        return
    fd = os.open(now["path"], os.O_RDWR | os.O_CLOEXEC)
    try:
        _disk_wipe.put(fd, _disks.RECORD_OFFSET, _disks.record_bytes(_disks.RECORD_MARK, data))
    finally:
        os.close(fd)


def _reread(record: dict[str, Any]) -> dict[str, Any]:
    return _disks.find_disk(record["serial_number"])


def _our_partition(record: dict[str, Any]) -> _gpt.Partition:
    with open(record["path"], "rb") as file:
        table = _gpt.parse(file.read(MIB), record["logical_block_bytes"])
    if table is None or len(table.partitions) != 1:
        raise ClaimError(f"the partition table of {record['path']} changed while it was worked on")
    return table.partitions[0]


def _is_blank(record: dict[str, Any]) -> bool:
    """Nothing but zeros at both ends of the only partition."""
    part = record["partitions"][0]
    with open(record["path"], "rb") as file:
        for start in (part["start_bytes"], part["start_bytes"] + part["size_bytes"] - MIB):
            file.seek(start)
            if any(file.read(MIB)):
                return False
    return True


def _is_device(path: str) -> bool:
    return not os.path.isfile(path)


def _mounted(host: Host, path: str) -> str | None:
    """The device that is mounted at a path."""
    found = None
    with open(host.mountinfo, encoding="utf-8") as file:
        for line in file:
            fields, _dash, tail = line.partition(" - ")
            if fields.split(" ")[4] == os.path.realpath(path):
                found = tail.split(" ")[1]
    return found


def _mount(device: str, path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, mode=0o755)
    # A pod that starts while the disk is missing must not fill the root file system instead.
    with contextlib.suppress(OSError):
        _immutable(path, True)
    _tool("mount", "-t", "ext4", "-o", "noatime", device, path)


def _immutable(path: str, wanted: bool) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))[0]
        flags = flags | _FS_IMMUTABLE if wanted else flags & ~_FS_IMMUTABLE
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags))
    finally:
        os.close(fd)


def _fstab(host: Host) -> list[str]:
    try:
        with open(host.fstab, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _is_line_of(path: str) -> Callable[[str], bool]:
    return lambda line: not line.lstrip().startswith("#") and line.split()[1:2] == [path]


def _mount_line(part_uuid: str, path: str) -> str:
    # The name that systemd-escape(1) gives /dev/disk/by-partuuid/<uuid>.
    device = r"dev-disk-by\x2dpartuuid-{}.device".format(part_uuid.replace("-", r"\x2d"))
    wanted = f"x-systemd.wanted-by=local-fs.target,x-systemd.wanted-by={device}"
    return f"PARTUUID={part_uuid} {path} ext4 {_OPTIONS},{wanted} 0 2"


def _fstab_line(host: Host, path: str) -> str | None:
    return next(filter(_is_line_of(path), _fstab(host)), None)


def _set_fstab(host: Host, path: str, line: str | None) -> None:
    """Replaces the line of one mount point, in one step."""
    ours = _is_line_of(path)
    lines = [old for old in _fstab(host) if not ours(old)] + ([line] if line else [])
    directory = os.path.dirname(host.fstab)
    handle, temporary = tempfile.mkstemp(prefix=".fstab-", dir=directory)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write("".join(f"{each}\n" for each in lines))
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, host.fstab)


def _tool(*words: str) -> None:
    status, output, errors = _disks.run_tool(*words)
    if status != 0:
        raise ClaimError(f"{' '.join(words)}: {(errors or output).strip()}")
