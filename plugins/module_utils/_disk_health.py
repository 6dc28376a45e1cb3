# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the kiban.baremetal collection: may change in any release without notice.
# Do not use it from outside the collection.

"""How a disk says that it is, asked by ioctl: no program is needed, and nothing is written.

Standard library and nothing of ours, because the probe that a plan pipes to each server carries this text.
"""

from __future__ import annotations

import array
import fcntl
import os
import struct
from typing import Any

__all__ = ["health", "nvme_admin"]

_NVME_ADMIN = 0xC0484E41
# struct nvme_admin_cmd of linux/nvme_ioctl.h
_NVME_COMMAND = struct.Struct("=BBHIIIQQII6III")
_SG_IO = 0x2285
# struct sg_io_hdr of scsi/sg.h
_SG_HEADER = struct.Struct("@iiBBHIPPPIIiPBBBBHHiII0P")
# Bits of the critical warning: NVM Express Base Specification 2.0, figure 207.
_NVME_WARNINGS = (
    "few spare blocks are left",
    "its temperature is out of its limits",
    "errors of the medium have made it unreliable",
    "its medium is read-only now",
    "its backup of volatile memory has failed",
    "its persistent memory region is read-only now",
)


def health(node: str, protocol: str | None) -> dict[str, Any] | None:
    """What the disk at this device node says; None where it cannot be asked or says nothing that is known.

    status is 'ok', 'warning' or 'failing', problems are phrases that follow the name of the disk.
    """
    ask = {"NVMe": _nvme, "SATA": _ata, "SAS": _scsi, "SCSI": _scsi}.get(protocol or "")
    if ask is None:
        return None
    try:
        fd = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return ask(fd)
        finally:
            os.close(fd)
    except OSError:
        return None


def nvme_admin(fd: int, opcode: int, nsid: int, word10: int, length: int = 0, milliseconds: int = 0) -> bytes:
    """Sends an NVMe admin command; returns the data that it reads.

    Without a time limit the kernel's own holds, of a minute. It resets a controller that exceeds one.
    """
    data = array.array("B", bytes(length or 1))
    place = data.buffer_info()[0] if length else 0
    words = (opcode, 0, 0, nsid, 0, 0, 0, place, 0, length, word10, 0, 0, 0, 0, 0, milliseconds, 0)
    status = fcntl.ioctl(fd, _NVME_ADMIN, bytearray(_NVME_COMMAND.pack(*words)))
    if status != 0:
        raise OSError(f"the controller refuses the command {opcode:02X}h with status {status:04X}h")
    return data.tobytes()[:length]


def _answer(status: str, problems: list[str], **figures: int | None) -> dict[str, Any]:
    known = ("temperature_celsius", "power_on_hours", "wear_percent", "media_errors")
    return {"status": status, "problems": problems, **{name: figures.get(name) for name in known}}


def _nvme(fd: int) -> dict[str, Any]:
    """Log page 02h: NVM Express Base Specification 2.0, 5.16.1.3."""
    # Get Log Page of the controller; the number of dwords counts from 0.
    log = nvme_admin(fd, 0x02, 0xFFFFFFFF, (127 << 16) | 0x02, 512)
    problems = [text for bit, text in enumerate(_NVME_WARNINGS) if log[0] >> bit & 1]
    worn = log[5] >= 100
    if worn:
        problems.append(f"{log[5]} % of the writes that it is made for are done")
    status = "failing" if log[0] & ~0b10 else "warning" if problems else "ok"
    kelvin = int.from_bytes(log[1:3], "little")
    return _answer(
        status,
        problems,
        temperature_celsius=kelvin - 273 if kelvin else None,
        power_on_hours=int.from_bytes(log[128:144], "little"),
        wear_percent=log[5],
        media_errors=int.from_bytes(log[160:176], "little"),
    )


def _ata(fd: int) -> dict[str, Any] | None:
    """SMART RETURN STATUS (ATA/ATAPI Command Set 4, 7.46), by ATA PASS-THROUGH(16) with the registers as sense."""
    command = bytes([0x85, 3 << 1, 0x20, 0, 0xDA, 0, 0, 0, 0, 0, 0x4F, 0, 0xC2, 0, 0xB0, 0])
    _data, sense = _sg(fd, command, 0)
    if sense[0] & 0x7F == 0x72 and sense[8:10] == b"\x09\x0c":
        found = (sense[17], sense[19])
    elif sense[0] & 0x7F == 0x70:
        found = (sense[10], sense[11])
    else:
        return None
    if found == (0x4F, 0xC2):
        return _answer("ok", [])
    if found == (0xF4, 0x2C):
        return _answer("failing", ["a SMART attribute is past its threshold"])
    return None


def _scsi(fd: int) -> dict[str, Any] | None:
    """Log page 2Fh, informational exceptions: SCSI Primary Commands 5, 7.3.8."""
    page, sense = _sg(fd, bytes([0x4D, 0, 0x40 | 0x2F, 0, 0, 0, 0, 0, 64, 0]), 64)
    if sense[0] or page[0] & 0x3F != 0x2F or page[4:6] != b"\0\0" or page[7] < 2:
        return None
    code, more = page[8], page[9]
    degrees = page[10] if page[7] > 2 and page[10] not in (0, 0xFF) else None
    if code == 0x5D:
        return _answer("failing", [f"predicts that it fails (code 5Dh/{more:02X}h)"], temperature_celsius=degrees)
    if code == 0x0B:
        return _answer("warning", [f"warns (code 0Bh/{more:02X}h)"], temperature_celsius=degrees)
    return _answer("ok", [], temperature_celsius=degrees) if code == 0 else None


def _sg(fd: int, command: bytes, length: int) -> tuple[bytes, bytes]:
    """Sends a SCSI command that reads; its data and sense."""
    order, sense = array.array("B", command), array.array("B", bytes(64))
    data = array.array("B", bytes(max(length, 1)))
    places = [each.buffer_info()[0] for each in (data, order, sense)]
    direction, milliseconds = (-3 if length else -1), 20000
    head = (ord("S"), direction, len(command), len(sense), 0, length, *places, milliseconds, 0, 0, 0)
    header = bytearray(_SG_HEADER.pack(*head, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    fcntl.ioctl(fd, _SG_IO, header)
    if _SG_HEADER.unpack(header)[17]:
        raise OSError("the host adapter could not send the command")
    return data.tobytes(), sense.tobytes()
