# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that answer ioctls as the specifications say, for what the emulator's disks do not offer."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

NVME_ADMIN = 0xC0484E41
NVME_ID = 0x4E40
SG_IO = 0x2285


def fill(address: int, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))


def smart_log(warning: int = 0, used: int = 3, kelvin: int = 308, hours: int = 4711, errors: int = 0) -> bytes:
    log = bytearray(512)
    log[0], log[1:3], log[5] = warning, kelvin.to_bytes(2, "little"), used
    log[128:144], log[160:176] = hours.to_bytes(16, "little"), errors.to_bytes(16, "little")
    return bytes(log)


class Nvme:
    """A controller; what it is told stays in C(commands) as (opcode, nsid, dword 10)."""

    def __init__(self, **answers: Any) -> None:
        self.log = smart_log()
        self.oacs, self.fna, self.sanicap, self.flbas, self.dps = 0b10, 0, 0, 0, 0
        self.namespaces = [1]
        self.sanitize_states = [2, 1]
        self.commands: list[tuple[int, int, int]] = []
        self.wipes: Callable[[], None] = lambda: None
        self.__dict__.update(answers)

    def ioctl(self, fd: int, request: int, argument: Any = 0) -> int:
        if request == NVME_ID:
            return 1
        if request != NVME_ADMIN:
            raise OSError(25, "Inappropriate ioctl for device")
        words = struct.unpack("=BBHIIIQQII6III", bytes(argument))
        opcode, nsid, address, word10 = words[0], words[3], words[7], words[10]
        self.commands.append((opcode, nsid, word10))
        if opcode in (0x80, 0x84):
            self.wipes()
            return 0
        data = self._identify(word10) if opcode == 0x06 else self._page(word10 & 0xFF)
        fill(address, data[: words[9]])
        return 0

    def _identify(self, structure: int) -> bytes:
        data = bytearray(4096)
        if structure == 0:
            data[26], data[29] = self.flbas, self.dps
        elif structure == 1:
            data[256], data[524] = self.oacs, self.fna
            data[328:332] = self.sanicap.to_bytes(4, "little")
        else:
            data[: 4 * len(self.namespaces)] = struct.pack(f"<{len(self.namespaces)}I", *self.namespaces)
        return bytes(data)

    def _page(self, page: int) -> bytes:
        if page == 0x02:
            return self.log
        log = bytearray(512)
        log[2] = self.sanitize_states.pop(0)
        return bytes(log)


class Scsi:
    """A disk behind the SCSI layer that gives this data and sense to every command."""

    def __init__(self, data: bytes = b"", sense: bytes = b"", host_status: int = 0) -> None:
        self.data, self.sense, self.host_status = data, sense, host_status
        self.commands: list[bytes] = []

    def ioctl(self, fd: int, request: int, argument: bytearray) -> int:
        assert request == SG_IO
        words = list(struct.unpack("@iiBBHIPPPIIiPBBBBHHiII0P", argument))
        self.commands.append(ctypes.string_at(words[7], words[2]))
        if words[5]:
            fill(words[6], self.data[: words[5]])
        fill(words[8], self.sense[: words[3]])
        words[17] = self.host_status
        argument[:] = struct.pack("@iiBBHIPPPIIiPBBBBHHiII0P", *words)
        return 0
