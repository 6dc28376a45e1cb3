# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""What the disks of this host are and what they hold, read from sysfs, procfs and the disks; nothing is written.

Identity comes from sysfs because the deploy ramdisk has no udevd. Signatures come from wipefs, which knows far more
formats than we ever should.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import stat
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_paths, _gpt

__all__ = [
    "CLAIM_MARK",
    "DATA_LABEL",
    "IMAGE_MARK",
    "MIB",
    "RECORD_MARK",
    "RECORD_OFFSET",
    "ROOT_LABEL",
    "SYSTEM",
    "DiskError",
    "System",
    "device_size",
    "ext_uuid",
    "find_disk",
    "find_path",
    "in_use",
    "is_multipath",
    "json_after",
    "list_disks",
    "listed",
    "locked",
    "map_partitions",
    "mounts_of",
    "not_blank",
    "part_node",
    "read_text",
    "record_bytes",
    "reread_partitions",
    "run_tool",
    "select_disk",
    "show_partitions",
    "sysfs_value",
]

MIB = 1 << 20
ROOT_LABEL = "kiban-root"
DATA_LABEL = "kiban-data"
# At sector 0 while a disk is being written: whatever else is on it is ours and not complete.
IMAGE_MARK = b"KIBAN-IMAGE-WRITE "
CLAIM_MARK = b"KIBAN-DISK-CLAIM "
# Between partition table and first partition, once a disk is complete.
RECORD_MARK = b"KIBAN-RECORD "
RECORD_OFFSET = 512 * 1024
RECORD_SIZE = 512

_SKIPPED = re.compile(r"^(loop|ram|zram|sr|fd|dm-|md|nbd|zd|mtdblock)")
_BLKRRPART = 0x125F
_BLKFLSBUF = 0x1261
_BLKGETSIZE64 = 0x80081272


class DiskError(Exception):
    """Something about the disks that a person has to look at; the message is complete."""


@dataclass(frozen=True)
class System:
    """Where the kernel's file systems and the device nodes are."""

    sys: str = "/sys"
    dev: str = "/dev"
    proc: str = "/proc"


SYSTEM = System()
_locks: list[int] = []


def list_disks(system: System | None = None) -> list[dict[str, Any]]:
    """A record for each whole block device."""
    records = _identities(system or SYSTEM)
    _add_content(system or SYSTEM, records)
    return records


def find_disk(serial_number: str, system: System | None = None) -> dict[str, Any]:
    """The record of the disk with this serial number; an error names the serial numbers there are."""
    record = select_disk(_identities(system or SYSTEM), serial_number)
    _add_content(system or SYSTEM, [record])
    return record


def find_path(serial_number: str, system: System | None = None) -> str:
    """The device node of the disk with this serial number; what is on it is not looked at."""
    return str(select_disk(_identities(system or SYSTEM), serial_number)["path"])


def select_disk(records: Sequence[dict[str, Any]], serial_number: str) -> dict[str, Any]:
    """The one record with this serial number."""
    found = [record for record in records if record["serial_number"] == serial_number]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(record["path"] for record in found)
        raise DiskError(
            f"serial number {serial_number!r} belongs to more than one device ({paths}): "
            "several paths to one disk need multipath first"
        )
    seen = ", ".join(f"{record['path']} {record['serial_number']!r}" for record in records) or "no disk at all"
    raise DiskError(f"no disk has serial number {serial_number!r}; this host has: {seen}")


def in_use(record: dict[str, Any]) -> list[str]:
    """Why the disk cannot be written to now, one sentence each."""
    reasons = []
    if record["mounts"]:
        reasons.append(f"{record['path']} is in use: mounted at {', '.join(record['mounts'])}")
    if record["holders"]:
        reasons.append(f"{record['path']} is in use: held by {', '.join(record['holders'])}")
    if record["read_only"]:
        reasons.append(f"{record['path']} is read-only")
    # A partition of a multipath device keeps the device.
    parts = record["partitions"] if is_multipath(record["path"]) else []
    nodes = [part_node(record["path"], part["number"]) for part in parts if part["name"]] or [record["path"]]
    if not reasons and any(_kept(node) for node in nodes):
        reasons.append(
            f"{record['path']} is in use: the kernel gives it to nobody else (a mount in another namespace, or a "
            f"program that holds it). See: lsof {record['path']}"
        )
    return reasons


def not_blank(record: dict[str, Any]) -> list[str]:
    """What the disk holds, one phrase for each signature."""
    where = record["path"]
    found = [f"{where} holds {_describe(sig)}" for sig in record["signatures"]]
    mark = record["kiban"]
    if mark is not None and not mark["complete"] and not record["partitions"]:
        found.append(f"{where} is being written as a {mark['purpose']} disk, or a run that did so was cut off")
    for part in record["partitions"]:
        name = part["name"] or f"partition {part['number']} of {where}"
        label = f" labelled {part['label']!r}" if part["label"] else ""
        inside = ", ".join(_describe(sig) for sig in part["signatures"])
        found.append(f"{name}{label} holds {inside or 'no known signature'}")
    return found


@contextlib.contextmanager
def locked(path: str, seconds: float = 10) -> Iterator[None]:
    """Keeps other runs of ours away from a whole disk, and udevd, which would read its partition table meanwhile.

    Tools that are started under the lock inherit it, so a tool that outlives its killed parent is still waited for.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as exc:
                if time.monotonic() > end:
                    raise DiskError(
                        f"{path} has been locked by another program for {seconds:.0f} s; is another run writing to it? "
                        f"See: lsof {path}"
                    ) from exc
                time.sleep(0.05)
        _locks.append(fd)
        yield
    finally:
        if fd in _locks:
            _locks.remove(fd)
        os.close(fd)


def reread_partitions(path: str, fd: int) -> None:
    """Lets the kernel read the partition table again; fd is open on the whole disk."""
    if not stat.S_ISBLK(os.fstat(fd).st_mode) or is_multipath(path):
        return
    fcntl.ioctl(fd, _BLKFLSBUF)
    for _attempt in range(50):
        try:
            fcntl.ioctl(fd, _BLKRRPART)
            return
        except OSError as exc:
            if exc.errno not in (errno.EBUSY, errno.EINTR):
                raise DiskError(f"the partition table of {path} cannot be read again: {exc.strerror}") from exc
            time.sleep(0.1)
    raise DiskError(f"the kernel does not read the partition table of {path} again: something keeps it busy")


def part_node(disk: str, number: int) -> str:
    """The device node of a partition."""
    if is_multipath(disk):
        return f"{disk}-part{number}"
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


def is_multipath(path: str) -> bool:
    """Whether this is the node of a device of dm-multipath: its partitions are made by kpartx, not by the kernel."""
    return os.path.basename(os.path.dirname(path)) == "mapper"


def map_partitions(path: str, wanted: bool = True) -> None:
    """Makes, or takes away, the partitions of a device of dm-multipath; nothing for any other. Nobody has it open."""
    if not is_multipath(path) or not (wanted or glob.glob(f"{glob.escape(path)}-part*")):
        return
    # As the udev rules of kpartx name them.
    status, output, errors = run_tool("kpartx", "-u" if wanted else "-d", "-s", "-p", "-part", path)
    if status != 0:
        raise DiskError(f"kpartx {path}: {(errors or output).strip()}")


def show_partitions(record: dict[str, Any]) -> bool:
    """Makes the kernel know a table that a killed run wrote and did not get to announce; True if it had to."""
    if all(part["name"] for part in record["partitions"]) or os.path.isfile(record["path"]):
        return False
    if is_multipath(record["path"]):
        map_partitions(record["path"])
        return True
    fd = os.open(record["path"], os.O_RDWR | os.O_CLOEXEC)
    try:
        reread_partitions(record["path"], fd)
    finally:
        os.close(fd)
    return True


def run_tool(*words: str) -> tuple[int, str, str]:
    """Runs a system tool in the C locale, wherever the login's PATH points; exit status, output, errors."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env=environment, pass_fds=tuple(_locks)
        )
    except FileNotFoundError as exc:
        raise DiskError(f"the program {words[0]} is missing on this host") from exc
    return done.returncode, done.stdout, done.stderr


def device_size(fd: int) -> int:
    """Size in bytes of an open block device or regular file."""
    status = os.fstat(fd)
    if not stat.S_ISBLK(status.st_mode):
        return status.st_size
    return int(struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0])


def ext_uuid(fd: int, offset: int) -> str | None:
    """The UUID of the ext2/3/4 file system that begins at offset."""
    block = os.pread(fd, 1024, offset + 1024)
    if block[0x38:0x3A] != b"\x53\xef":
        return None
    return str(uuid.UUID(bytes=bytes(block[0x68:0x78])))


def record_bytes(mark: bytes, data: dict[str, Any], size: int = RECORD_SIZE) -> bytes:
    """A mark with its data, padded to the smallest sector, or to size bytes."""
    raw = mark + json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    if len(raw) >= size:
        raise DiskError(f"the record for the disk is too long: {raw.decode()}")
    return raw.ljust(size, b"\0")


def mounts_of(system: System, numbers: set[str], paths: set[str]) -> list[str]:
    """Mount points (and '[swap]') of the devices with these major:minor numbers or paths."""
    found = []
    for line in read_text(system.proc, "self/mountinfo").splitlines():
        fields, _dash, tail = line.partition(" - ")
        words, source = fields.split(" "), tail.partition(" ")[2].partition(" ")[0]
        # btrfs shows an anonymous device number, so its source is compared too.
        if words[2] in numbers or (source.startswith("/") and os.path.realpath(_unescape(source)) in paths):
            found.append(_unescape(words[4]))
    for line in read_text(system.proc, "swaps").splitlines()[1:]:
        if os.path.realpath(_unescape(line.split()[0])) in paths:
            found.append("[swap]")
    return sorted(set(found))


def _identities(system: System) -> list[dict[str, Any]]:
    """Records without anything that has to be read from the disks."""
    try:
        names = sorted(os.listdir(os.path.join(system.sys, "block")), key=_natural)
    except OSError as exc:
        raise DiskError(f"cannot list the block devices: {exc}") from exc
    records = [record for name in names if (record := _identity(system, name)) is not None]
    return _disk_paths.joined(system.sys, system.dev, records)


def _identity(system: System, name: str) -> dict[str, Any] | None:
    """What sysfs says about one block device; None for what is not a disk of this machine."""
    if _SKIPPED.match(name):
        return None
    base = os.path.join(system.sys, "block", name)
    real = os.path.realpath(base)
    if _made_up(real) or sysfs_value(base, "hidden") == "1":
        return None
    sectors = int(sysfs_value(base, "size") or 0)
    if not sectors:
        return None
    paths = _disk_paths.network_paths(system.sys, name)
    protocol = _protocol(base, real, paths)
    rotational = sysfs_value(base, "queue/rotational")
    # A virtual disk's own idea of rotation means nothing.
    media = None if protocol == "VirtIO" or rotational is None else ("HDD" if rotational == "1" else "SSD")
    return {
        "name": name,
        "path": os.path.join(system.dev, name),
        "paths": paths,
        "by_path": _by_path(system, name),
        **_place(system, base, real),
        "serial_number": _serial(system, base),
        "wwn": sysfs_value(base, "wwid") or sysfs_value(base, "device/wwid"),
        "model": sysfs_value(base, "device/model"),
        "capacity_bytes": sectors * 512,
        "protocol": protocol,
        "media_type": media,
        "logical_block_bytes": int(sysfs_value(base, "queue/logical_block_size") or 512),
        "physical_block_bytes": int(sysfs_value(base, "queue/physical_block_size") or 0) or None,
        "removable": sysfs_value(base, "removable") == "1",
        "read_only": sysfs_value(base, "ro") == "1",
        "discard": int(sysfs_value(base, "queue/discard_max_bytes") or 0) > 0,
        "write_zeroes": int(sysfs_value(base, "queue/write_zeroes_max_bytes") or 0) > 0,
        "holders": [],
        "mounts": [],
        "partitions": [],
        "signatures": [],
        "kiban": None,
    }


def _made_up(real: str) -> bool:
    """Whether a device exists only in the kernel. NVMe disks behind native multipath or a network look so too."""
    return "/devices/virtual/" in real and not re.search(r"/nvme-(subsystem|fabrics)/", real)


def _protocol(base: str, real: str, paths: Sequence[dict[str, Any]]) -> str | None:
    if paths:
        return "iSCSI" if paths[0]["transport"] == "iscsi" else "NVMeOverFabrics"
    if "/nvme" in real:
        return "NVMe"
    if "/usb" in real or "/mmc" in real:
        return None
    if re.search(r"/virtio\d+/block/", real):
        return "VirtIO"
    if not os.path.exists(os.path.join(base, "device", "vendor")):
        return None
    if (sysfs_value(base, "device/vendor") or "") == "ATA":
        return "SATA"
    return "SAS" if "/end_device-" in real else "SCSI"


def _serial(system: System, base: str) -> str | None:
    for attribute in ("serial", "device/serial"):
        if value := sysfs_value(base, attribute):
            return value
    page = _bytes(base, "device/vpd_pg80")
    if len(page) > 4:
        value = page[4 : 4 + int.from_bytes(page[2:4], "big")].decode("ascii", "replace").strip("\0 ")
        if value:
            return value
    # An ATA disk behind an old translation layer: vendor 8, model 40, serial 20 characters in its T10 name.
    wwid = _raw(base, "device/wwid")
    if wwid.startswith("t10.ATA") and len(wwid) >= 4 + 68:
        return wwid[52:72].strip() or None
    number = sysfs_value(base, "dev")
    for line in read_text("/run/udev/data", f"b{number}").splitlines() if system.sys == "/sys" and number else []:
        if line.startswith("E:ID_SERIAL_SHORT="):
            return line.partition("=")[2] or None
    return None


def _by_path(system: System, name: str) -> str | None:
    directory = os.path.join(system.dev, "disk", "by-path")
    with contextlib.suppress(OSError):
        for link in sorted(os.listdir(directory)):
            if os.path.basename(os.path.realpath(os.path.join(directory, link))) == name:
                return os.path.join(directory, link)
    return None


def _place(system: System, base: str, real: str) -> dict[str, str | None]:
    """Where a person finds the disk: an enclosure's bay by SCSI Enclosure Services, or a PCI slot."""
    for name in listed(base, "device"):
        if name.startswith("enclosure_device:"):
            bay = os.path.realpath(os.path.join(base, "device", name))
            enclosure = sysfs_value(bay, "..", "id") or os.path.basename(os.path.dirname(bay))
            return {"enclosure": enclosure, "slot": sysfs_value(bay, "slot") or name.partition(":")[2].strip()}
    slots = os.path.join(system.sys, "bus/pci/slots")
    for slot in sorted(listed(slots)) if "/nvme/" in real else ():
        # The address of a slot has no function: 0000:3b:00
        if (address := sysfs_value(slots, slot, "address")) and f"/{address}." in real:
            return {"enclosure": None, "slot": slot}
    return {"enclosure": None, "slot": None}


def _add_content(system: System, records: list[dict[str, Any]]) -> None:
    """Adds partitions, holders, mounts, signatures and our own mark to the records."""
    tables = {}
    nodes: list[str] = []
    for record in records:
        base = os.path.join(system.sys, "block", record["name"])
        numbers, here = {sysfs_value(base, "dev") or ""}, [record["path"]]
        directories = _partition_dirs(system, record)
        try:
            head, tail = _ends(record["path"])
            table = _gpt.parse(head, record["logical_block_bytes"])
        except OSError as exc:
            # A disk that cannot be read is never blank.
            record["signatures"].append(_signature("unreadable", 0, label=exc.strerror))
            head, tail, table = b"", b"", None
        tables[record["path"]] = (head, tail, table)
        known = {part.number: part for part in table.partitions} if table else {}
        for number, directory in sorted(directories.items()):
            entry = known.pop(number, None)
            here.append(part_node(record["path"], number))
            numbers.add(sysfs_value(directory, "dev") or "")
            start = sysfs_value(directory, "start") or (
                entry.first * record["logical_block_bytes"] // 512 if entry else 0
            )
            name = os.path.basename(directory)
            record["partitions"].append(_partition(name, number, entry, 512, int(start), directory))
        # What the table has and the kernel has not read yet.
        for number, entry in sorted(known.items()):
            block = record["logical_block_bytes"]
            record["partitions"].append(_partition(None, number, entry, block, entry.first, None))
        holders = {holder for directory in (base, *directories.values()) for holder in listed(directory, "holders")}
        # Partitions of a multipath device are devices that hold it.
        record["holders"] = sorted(holders - {os.path.basename(directory) for directory in directories.values()})
        record["mounts"] = mounts_of(system, numbers - {""}, {os.path.realpath(path) for path in here})
        nodes += [path for path in here if os.path.exists(path)]

    found = _wipefs(nodes)
    for record in records:
        record["signatures"] = record["signatures"] or found.get(record["path"], [])
        for part in record["partitions"]:
            node = part_node(record["path"], part["number"]) if part["name"] else None
            if node in found:
                part["signatures"] = found[node]
            else:
                part["signatures"] = _blkid(record["path"], part["start_bytes"], part["size_bytes"])
        head, tail, table = tables[record["path"]]
        if head:
            record["kiban"] = _mark(record, head, table)
        if record["kiban"] is None and not record["signatures"]:
            record["signatures"] = _unknown(record, head, tail)


def _partition(
    name: str | None, number: int, entry: _gpt.Partition | None, block: int, start: int, directory: str | None
) -> dict[str, Any]:
    if directory is not None:
        size = int(sysfs_value(directory, "size") or 0) * 512
    else:
        size = (entry.last - entry.first + 1) * block if entry else 0
    return {
        "name": name,
        "number": number,
        "label": entry.label or None if entry else None,
        "uuid": entry.uuid if entry else None,
        "start_bytes": start * block,
        "size_bytes": size,
        "signatures": [],
    }


def _mark(record: dict[str, Any], head: bytes, table: _gpt.Table | None) -> dict[str, Any] | None:
    """Our own mark on a disk."""
    for mark, purpose in ((IMAGE_MARK, "system"), (CLAIM_MARK, "data")):
        if head.startswith(mark):
            return _own(purpose, False, json_after(head, mark))
    if table is None:
        return None
    data = json_after(head[RECORD_OFFSET : RECORD_OFFSET + RECORD_SIZE], RECORD_MARK)
    if data.get("disk") != table.disk_uuid:
        data = {}
    roots = table.labelled(ROOT_LABEL)
    if roots:
        with _opened(record["path"]) as fd:
            if data.get("fs") != ext_uuid(fd, roots[0].first * table.block):
                data = {}
        return _own("system", True, data)
    if len(table.partitions) == 1 and table.labelled(DATA_LABEL):
        inside = record["partitions"][0]["signatures"]
        ready = [sig["type"] for sig in inside] == ["ext4"] and data.get("formatted", True) is True
        return _own("data", ready, data, table.partitions[0].uuid)
    return None


def _own(purpose: str, complete: bool, data: dict[str, Any], part_uuid: str | None = None) -> dict[str, Any]:
    known = {key: data.get(key) for key in ("image_id", "token", "site", "disk", "fs", "formatted", "wipe")}
    return {"purpose": purpose, "complete": complete, "uuid": part_uuid, **known}


def _unknown(record: dict[str, Any], head: bytes, tail: bytes) -> list[dict[str, Any]]:
    """Content that no tool knows is content all the same."""
    for base, block in ((0, head), (record["capacity_bytes"] - len(tail), tail)):
        if block != bytes(len(block)):
            return [_signature("unknown", base + next(i for i, byte in enumerate(block) if byte))]
    return []


def _wipefs(nodes: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Every signature on each node, by one call if all can be read."""
    if not nodes:
        return {}
    command = ["wipefs", "--json", "--output", "DEVICE,OFFSET,TYPE,USAGE,UUID,LABEL"]
    status, out, _errors = run_tool(*command, *nodes)
    if status != 0 and len(nodes) > 1:
        return {node: sigs for each in nodes for node, sigs in _wipefs([each]).items()}
    if status != 0:
        return {nodes[0]: [_signature("unreadable", 0)]}
    found: dict[str, list[dict[str, Any]]] = {node: [] for node in nodes}
    # wipefs names a device without its directory.
    names = {os.path.basename(node): node for node in nodes}
    for row in json.loads(out).get("signatures", []) if out.strip() else []:
        found[names[os.path.basename(row["device"])]].append(
            _signature(row["type"], int(row["offset"], 0), row.get("label"), row.get("uuid"), row.get("usage"))
        )
    return found


def _blkid(path: str, offset: int, size: int) -> list[dict[str, Any]]:
    """The signature in a part of a disk that has no node of its own."""
    command = ["blkid", "--probe", "--output", "export", "--offset", str(offset), "--size", str(size), path]
    status, out, _errors = run_tool(*command)
    if status == 2:
        return []
    if status == 8:
        return [_signature("ambiguous", offset)]
    if status != 0:
        return [_signature("unreadable", offset)]
    pairs = dict(line.partition("=")[::2] for line in out.splitlines())
    kind = pairs.get("TYPE") or pairs.get("PTTYPE") or "unknown"
    return [_signature(kind, offset, pairs.get("LABEL"), pairs.get("UUID"), pairs.get("USAGE"))]


def _signature(
    kind: str, offset: int, label: str | None = None, fs_uuid: str | None = None, usage: str | None = None
) -> dict[str, Any]:
    return {"type": kind, "offset": offset, "label": label, "uuid": fs_uuid, "usage": usage}


def _describe(sig: dict[str, Any]) -> str:
    if sig["type"] == "unknown":
        return f"unknown content (first at byte {sig['offset']})"
    if sig["type"] == "unreadable":
        return f"what cannot be read ({sig['label'] or 'read error'})"
    return f"{sig['type']}{' labelled ' + repr(sig['label']) if sig['label'] else ''}"


def _kept(path: str) -> bool:
    """Whether something holds a disk or a part of it that /sys and /proc do not show."""
    try:
        if stat.S_ISBLK(os.stat(path).st_mode):
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_EXCL))
    except OSError as exc:
        return exc.errno == errno.EBUSY
    return False


def _ends(path: str) -> tuple[bytes, bytes]:
    with _opened(path) as fd:
        size = device_size(fd)
        return os.pread(fd, MIB, 0), os.pread(fd, MIB, max(0, size - MIB))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def json_after(data: bytes, mark: bytes, size: int = RECORD_SIZE) -> dict[str, Any]:
    if not data.startswith(mark):
        return {}
    try:
        value = json.loads(data[len(mark) : size].split(b"\0", 1)[0])
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _partition_dirs(system: System, record: dict[str, Any]) -> dict[int, str]:
    """What the kernel has of a disk's partitions: number to directory in sysfs."""
    base = os.path.join(system.sys, "block", record["name"])
    if is_multipath(record["path"]):
        parts = _disk_paths.multipath_parts(system.sys, record["name"])
        return {number: os.path.join(system.sys, "block", name) for number, name in parts.items()}
    found = [os.path.join(base, name) for name in listed(base)]
    return {int(number): path for path in found if (number := sysfs_value(path, "partition"))}


def listed(*path: str) -> list[str]:
    try:
        return os.listdir(os.path.join(*path))
    except OSError:
        return []


def _bytes(*path: str) -> bytes:
    try:
        with open(os.path.join(*path), "rb") as file:
            return file.read()
    except OSError:
        return b""


def read_text(*path: str) -> str:
    return _bytes(*path).decode("utf-8", "replace")


def _raw(*path: str) -> str:
    return read_text(*path).rstrip("\n")


def sysfs_value(*path: str) -> str | None:
    """A sysfs attribute without padding; None if there is none or it is empty."""
    return " ".join(read_text(*path).replace("\0", "").split()) or None


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in re.split(r"(\d+)", name) if word]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
