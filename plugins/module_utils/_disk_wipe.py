# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""Wiping a disk that was named for it, and a record of what was done.

Whether a disk offers a method is found out before the first write. A mark in sector 0 says meanwhile that the disk is
ours and how it is being wiped, so a run that was cut off is repeated.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import mmap
import os
import re
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_health, _disks
from ansible_collections.kiban.baremetal.plugins.module_utils._disks import MIB

__all__ = ["EDGE", "METHODS", "Wipe", "WipeError", "decide", "put", "write_log"]

METHODS = ("signatures", "discard", "overwrite", "nvme_format", "nvme_sanitize", "ata_secure_erase")
# Every signature that any tool looks for is this near to an end of a disk.
EDGE = 8 * MIB
_CHUNK = 4 * MIB
_SAMPLES = 64
_BLKDISCARD = 0x1277
_BLKFLSBUF = 0x1261
_NVME_IOCTL_ID = 0x4E40
_DAY = 86400
# A disk whose erasure is cut off asks for it from then on.
_PASSWORD = "kiban"


class WipeError(Exception):
    """A disk does not offer a method, or still holds what it held; the message is complete."""


@dataclass(frozen=True)
class Wipe:
    """How one disk is wiped; detail is the command, for a person."""

    record: dict[str, Any]
    method: str
    detail: str
    command: int = 0

    def words(self) -> str:
        return f"wipe by {self.method}"

    def apply(self, site: str) -> dict[str, Any]:
        """Does it; returns the record of it."""
        record, started = self.record, time.time()
        with _target(record["path"]) as fd:
            size = _disks.device_size(fd)
            mark = {"site": site, "serial_number": record["serial_number"], "wipe": self.method}
            put(fd, 0, _disks.record_bytes(_disks.CLAIM_MARK, mark))
            before = _sample(fd, size)
            count, verified = getattr(self, f"_{self.method}")(fd, size)
            verified = verified or _compared(record["path"], before, _sample(fd, size))
        finished = time.time()
        return {
            **{name: record[name] for name in ("serial_number", "model", "wwn", "path", "protocol", "capacity_bytes")},
            "method": self.method,
            "detail": self.detail,
            "started": _iso(started),
            "finished": _iso(finished),
            "bytes": count,
            "verified": verified,
        }

    def _signatures(self, fd: int, size: int) -> tuple[int, str]:
        edge = min(EDGE, size // 2)
        for start, end in ((512, edge), (size - edge, size)):
            put(fd, start, bytes(end - start))
        _forget(fd)
        for start, end in ((512, edge), (size - edge, size)):
            _zeros_only(self.record["path"], os.pread(fd, end - start, start), start)
        return (
            2 * edge,
            f"the first and last {edge // MIB} MiB read back as zeros; what is between them was not touched",
        )

    def _discard(self, fd: int, size: int) -> tuple[int, str]:
        # In pieces, so that a kill need not wait for all of a large disk. Our mark goes last.
        for start in range(MIB, size, 1 << 30):
            fcntl.ioctl(fd, _BLKDISCARD, struct.pack("QQ", start, min(1 << 30, size - start)))
        fcntl.ioctl(fd, _BLKDISCARD, struct.pack("QQ", 0, MIB))
        return size, ""

    def _overwrite(self, fd: int, size: int) -> tuple[int, str]:
        path = self.record["path"]
        buffer = mmap.mmap(-1, _CHUNK)
        zeros = memoryview(buffer)
        with _direct(path) as direct:
            for start in range(_CHUNK, size, _CHUNK):
                put(direct, start, zeros[: size - start], sync=False)
            # Not our mark: it is replaced by the new partition table.
            put(fd, 512, bytes(_CHUNK - 512))
            os.fsync(fd)
            _forget(fd)
            start = 0
            while start < size:
                count = os.preadv(direct, [zeros[: size - start]], start)
                _zeros_only(path, buffer[:count] if start else buffer[512:count], start)
                start += count
        return size, f"all {size} bytes but our mark in the first 512 read back as zeros"

    def _nvme_format(self, fd: int, size: int) -> tuple[int, str]:
        nsid = fcntl.ioctl(fd, _NVME_IOCTL_ID)
        _disk_health.nvme_admin(fd, 0x80, nsid, self.command, milliseconds=_DAY * 1000)
        return size, ""

    def _nvme_sanitize(self, fd: int, size: int) -> tuple[int, str]:
        _disk_health.nvme_admin(fd, 0x84, 0, self.command)
        for _second in range(_DAY):
            # Log page 81h: NVM Express Base Specification 2.0, 5.16.1.25.
            log = _disk_health.nvme_admin(fd, 0x02, 0xFFFFFFFF, (127 << 16) | 0x81, 512)
            state = log[2] & 0b111
            if state != 2:
                break
            time.sleep(1)
        if state not in (1, 4):
            raise WipeError(f"{self.record['path']} says that the sanitize operation failed (status {state})")
        return size, ""

    def _ata_secure_erase(self, fd: int, size: int) -> tuple[int, str]:
        path = self.record["path"]
        _tool("hdparm", "--user-master", "u", "--security-set-pass", _PASSWORD, path)
        # The disk removes the password itself when it is done.
        _tool("hdparm", "--user-master", "u", "--security-erase", _PASSWORD, path)
        if _security(path)["enabled"]:
            raise WipeError(f"{path} did not end its erasure: {_unlock(path)}")
        return size, ""


def decide(record: dict[str, Any], method: str, records: Sequence[dict[str, Any]]) -> Wipe:
    """How a disk would be wiped; an error says why it cannot be. Nothing is written."""
    path = record["path"]
    if method == "discard" and not record["discard"]:
        raise WipeError(f"{path} cannot be wiped by discard: the kernel says that it does not take it. {_OTHER}")
    if method in ("nvme_format", "nvme_sanitize"):
        if record["protocol"] != "NVMe":
            raise WipeError(f"{path} cannot be wiped by {method}: it is no NVMe disk. {_OTHER}")
        return _decide_nvme(record, method, records)
    if method == "ata_secure_erase":
        if record["protocol"] != "SATA":
            raise WipeError(f"{path} cannot be wiped by {method}: it is no SATA disk. {_OTHER}")
        _decide_ata(path)
        return Wipe(record, method, "SECURITY ERASE UNIT")
    return Wipe(record, method, {"discard": "BLKDISCARD"}.get(method, "zeros"))


_OTHER = "Choose another wipe_method, such as overwrite"


def _decide_nvme(record: dict[str, Any], method: str, records: Sequence[dict[str, Any]]) -> Wipe:
    """By Identify Controller and Identify Namespace: NVM Express Base Specification 2.0, 5.17.2."""
    path = record["path"]
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        try:
            nsid = fcntl.ioctl(fd, _NVME_IOCTL_ID)
            controller = _disk_health.nvme_admin(fd, 0x06, 0, 0x01, 4096)
            namespace = _disk_health.nvme_admin(fd, 0x06, nsid, 0x00, 4096)
            listed = _namespaces(fd)
        except OSError as exc:
            raise WipeError(f"{path} does not say whether it can be wiped by {method}: {exc}. {_OTHER}") from exc
    siblings = {each["name"] for each in records if _subsystem(each["name"]) == _subsystem(record["name"])}
    others = sorted(siblings - {record["name"]}) or [f"namespace {each}" for each in listed if each != nsid]
    fna, sanicap = controller[524], int.from_bytes(controller[328:332], "little")
    if others and (method == "nvme_sanitize" or fna & 0b11):
        raise WipeError(f"{path} cannot be wiped by {method}: that would wipe {', '.join(others)} too. {_OTHER}")
    if method == "nvme_format":
        if not controller[256] & 0b10:
            raise WipeError(f"{path} cannot be wiped by {method}: its controller has no Format NVM. {_OTHER}")
        crypto = bool(fna & 0b100)
        # The block size and protection stay as they are.
        flbas, dps = namespace[26], namespace[29]
        kept = flbas & 0x1F | (dps & 0b111) << 5 | (dps >> 3 & 1) << 8 | (flbas >> 5 & 0b11) << 12
        what = "cryptographic" if crypto else "user data"
        return Wipe(record, method, f"Format NVM, {what} erase", kept | (2 if crypto else 1) << 9)
    for bit, action, what in ((0, 4, "cryptographic erase"), (1, 2, "block erase"), (2, 3, "overwrite")):
        if sanicap >> bit & 1:
            # One pass of overwriting.
            return Wipe(record, method, f"Sanitize, {what}", action | (1 << 4 if action == 3 else 0))
    raise WipeError(f"{path} cannot be wiped by {method}: its controller has no Sanitize. {_OTHER}")


def _namespaces(fd: int) -> list[int]:
    """Those that are allocated, whether this host sees them or not; on an older controller, the active ones."""
    try:
        data = _disk_health.nvme_admin(fd, 0x06, 0, 0x10, 4096)
    except OSError:
        data = _disk_health.nvme_admin(fd, 0x06, 0, 0x02, 4096)
    return [each for each in struct.unpack("<1024I", data) if each]


def _subsystem(name: str) -> str:
    return name[: name.index("n", 4)] if re.match(r"nvme\d+n", name) else name


def _decide_ata(path: str) -> None:
    state = _security(path)
    if not state["supported"]:
        raise WipeError(f"{path} cannot be wiped by ata_secure_erase: it has no security commands. {_OTHER}")
    if state["enabled"]:
        raise WipeError(f"{path} cannot be wiped by ata_secure_erase: {_unlock(path)}")
    if state["frozen"]:
        raise WipeError(
            f"{path} cannot be wiped by ata_secure_erase: the firmware has frozen its security. Pull the disk and "
            f"plug it in again while the server runs, or use the BMC (bmc_erase). {_OTHER}"
        )


def _security(path: str) -> dict[str, bool]:
    """The security section of hdparm -I: a line for each state, with 'not' in front where it is not so."""
    text = _tool("hdparm", "-I", path).partition("Security:")[2].partition("\nLogical Unit")[0]
    lines = [line.split() for line in text.splitlines()]
    return {name: [name] in lines for name in ("supported", "enabled", "locked", "frozen")}


def _unlock(path: str) -> str:
    return (
        f"a password is set on it. If a run was cut off while it erased: hdparm --user-master u --security-disable "
        f"{_PASSWORD} {path}"
    )


def _sample(fd: int, size: int) -> dict[int, tuple[bytes, bool]]:
    """Checksum of some blocks of a MiB all over the disk, and whether they are zeros; not what is cached."""
    _forget(fd)
    step = max(MIB, size // _SAMPLES // MIB * MIB)
    found = {}
    # Not the first block: our mark is in it.
    for place in [*range(MIB, size - MIB, step), size - MIB]:
        data = os.pread(fd, MIB, place)
        found[place] = (hashlib.sha256(data).digest(), data == bytes(len(data)))
    return found


def _compared(path: str, before: dict[int, tuple[bytes, bool]], after: dict[int, tuple[bytes, bool]]) -> str:
    kept = [place for place, (_sum, zero) in before.items() if not zero and after[place] == before[place]]
    if kept:
        raise WipeError(f"{path} says that it is wiped, and still holds what it held at byte {kept[0]}. {_OTHER}")
    held = sum(not zero for _sum, zero in before.values())
    zero = sum(zero for _sum, zero in after.values())
    return f"of {len(before)} blocks of a MiB, {held} held data and none holds it now; {zero} are zeros"


@contextlib.contextmanager
def _target(path: str) -> Iterator[int]:
    """Nobody else may use the disk meanwhile."""
    block = stat.S_ISBLK(os.stat(path).st_mode)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if block else 0))
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            raise WipeError(f"{path} is in use by the kernel. Nothing was touched") from exc
        raise
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _direct(path: str) -> Iterator[int]:
    """Past the cache, where the file system can do that."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _forget(fd: int) -> None:
    """What is cached of the disk."""
    os.fsync(fd)
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        fcntl.ioctl(fd, _BLKFLSBUF)


def _zeros_only(path: str, data: bytes, start: int) -> None:
    if data != bytes(len(data)):
        raise WipeError(f"{path} was written with zeros, and is not zero near byte {start}: it may be failing")


def put(fd: int, offset: int, data: bytes | memoryview, sync: bool = True) -> None:
    """Writes all of it, and waits until the disk has it."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
    if sync:
        os.fsync(fd)


def _tool(*words: str) -> str:
    status, output, errors = _disks.run_tool(*words)
    if status != 0:
        raise WipeError(f"{' '.join(words)}: {(errors or output).strip()}")
    return output


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def write_log(path: str, entry: dict[str, Any]) -> None:
    """Adds a record to a file, as a line of JSON."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(entry, sort_keys=True).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
