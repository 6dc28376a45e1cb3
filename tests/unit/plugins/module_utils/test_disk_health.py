# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_health, _disks, _smartctl
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_answers import Nvme, Scsi, smart_log

REGISTERS = b"\x72\x01\x00\x1d\x00\x00\x00\x0e\x09\x0c\x00\x00\x00\x00\x00\x00\x00%c\x00%c\x00\x50"
FIXED = b"\x70\x00\x01\x50\x00\x00\x00\x0a\x00\x00%c%c\x00\x1d"
NOTHING = {"temperature_celsius": None, "power_on_hours": None, "wear_percent": None, "media_errors": None}


@pytest.fixture
def node(tmp_path: Path) -> str:
    (tmp_path / "disk").write_bytes(b"")
    return str(tmp_path / "disk")


def ask(monkeypatch: pytest.MonkeyPatch, node: str, protocol: str, disk: Nvme | Scsi) -> dict[str, Any] | None:
    monkeypatch.setattr(_disk_health.fcntl, "ioctl", disk.ioctl)
    return _disk_health.health(node, protocol)


def test_nvme(monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    found = ask(monkeypatch, node, "NVMe", Nvme())
    assert found == {
        "status": "ok",
        "problems": [],
        "temperature_celsius": 35,
        "power_on_hours": 4711,
        "wear_percent": 3,
        "media_errors": 0,
    }


@pytest.mark.parametrize(
    ("log", "status", "text"),
    [
        (smart_log(warning=0b1), "failing", "few spare blocks are left"),
        (smart_log(warning=0b10, kelvin=350), "warning", "its temperature is out of its limits"),
        (smart_log(warning=0b100, errors=9), "failing", "errors of the medium have made it unreliable"),
        (smart_log(warning=0b1000), "failing", "its medium is read-only now"),
        (smart_log(used=104), "warning", "104 % of the writes that it is made for are done"),
    ],
)
def test_nvme_warnings(monkeypatch: pytest.MonkeyPatch, node: str, log: bytes, status: str, text: str) -> None:
    found = ask(monkeypatch, node, "NVMe", Nvme(log=log))
    assert found and (found["status"], found["problems"]) == (status, [text])


@pytest.mark.parametrize("sense", [REGISTERS, FIXED])
def test_ata(monkeypatch: pytest.MonkeyPatch, node: str, sense: bytes) -> None:
    disk = Scsi(sense=sense % (0x4F, 0xC2))
    assert ask(monkeypatch, node, "SATA", disk) == {"status": "ok", "problems": [], **NOTHING}
    # SMART RETURN STATUS, without data, registers returned
    assert disk.commands == [bytes.fromhex("85062000da00000000004f00c200b000")]
    found = ask(monkeypatch, node, "SATA", Scsi(sense=sense % (0xF4, 0x2C)))
    assert found and found["status"] == "failing" and found["problems"]


@pytest.mark.parametrize(
    "disk",
    [Scsi(sense=b"\x70\x00\x05"), Scsi(sense=REGISTERS % (0, 0)), Scsi(), Scsi(sense=b"", host_status=1)],
)
def test_ata_that_does_not_say(monkeypatch: pytest.MonkeyPatch, node: str, disk: Scsi) -> None:
    assert ask(monkeypatch, node, "SATA", disk) is None


def exceptions(code: int, more: int, degrees: int = 31) -> bytes:
    return bytes([0x2F, 0, 0, 8, 0, 0, 3, 4, code, more, degrees, 0])


def test_scsi(monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    good = ask(monkeypatch, node, "SAS", Scsi(exceptions(0, 0)))
    assert good == {"status": "ok", "problems": [], **NOTHING, "temperature_celsius": 31}
    bad = ask(monkeypatch, node, "SAS", Scsi(exceptions(0x5D, 0x10)))
    assert bad and (bad["status"], bad["problems"]) == ("failing", ["predicts that it fails (code 5Dh/10h)"])
    hot = ask(monkeypatch, node, "SCSI", Scsi(exceptions(0x0B, 0x01, 255)))
    assert hot and (hot["status"], hot["temperature_celsius"]) == ("warning", None)


@pytest.mark.parametrize(
    "disk", [Scsi(sense=b"\x70\x00\x05"), Scsi(bytes(12)), Scsi(exceptions(0x11, 0)), Scsi(b"", host_status=3)]
)
def test_scsi_that_does_not_say(monkeypatch: pytest.MonkeyPatch, node: str, disk: Scsi) -> None:
    assert ask(monkeypatch, node, "SCSI", disk) is None


def test_what_cannot_be_asked(node: str) -> None:
    assert _disk_health.health(node, "VirtIO") is None
    assert _disk_health.health(node, None) is None
    assert _disk_health.health(f"{node}-gone", "NVMe") is None
    # A file takes no ioctl of a disk.
    assert [_disk_health.health(node, protocol) for protocol in ("NVMe", "SATA", "SAS")] == [None] * 3


# What smartctl 7.3 prints, without what is not read here.
SATA = {
    "smart_status": {"passed": True},
    "temperature": {"current": 29},
    "power_on_time": {"hours": 31337},
    "ata_smart_attributes": {
        "table": [
            {"id": 5, "name": "Reallocated_Sector_Ct", "raw": {"value": 0, "string": "0"}},
            {"id": 194, "name": "Temperature_Celsius", "raw": {"value": 98784247837, "string": "29 (Min/Max 18/41)"}},
            {"id": 197, "name": "Current_Pending_Sector", "raw": {"value": 8, "string": "8"}},
            {"id": 198, "name": "Offline_Uncorrectable", "raw": {"value": 2, "string": "2"}},
        ]
    },
}
SAS = {
    "smart_status": {"passed": False},
    "temperature": {"current": 33},
    "power_on_time": {"hours": 100},
    "scsi_grown_defect_list": 12,
    "scsi_error_counter_log": {
        "read": {"total_uncorrected_errors": 4},
        "write": {"total_uncorrected_errors": 0},
        "verify": {"total_uncorrected_errors": 1},
    },
}


def smartctl(
    monkeypatch: pytest.MonkeyPatch, said: Any, status: int = 0, before: Any = None, protocol: str = "SATA"
) -> Any:
    text = said if isinstance(said, str) else json.dumps(said)
    monkeypatch.setattr(_disks, "run_tool", lambda *words: (status, text, "broken"))
    return _smartctl.with_smartctl({"path": "/dev/sda", "protocol": protocol, "health": before})


def test_smartctl_of_sata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smartctl(monkeypatch, SATA) == {
        "status": "warning",
        "problems": ["8 pending sectors", "2 uncorrectable sectors"],
        "temperature_celsius": 29,
        "power_on_hours": 31337,
        "wear_percent": None,
        "media_errors": 2,
    }


def test_smartctl_of_sas(monkeypatch: pytest.MonkeyPatch) -> None:
    found = smartctl(monkeypatch, SAS, status=8, protocol="SAS")
    assert (found["status"], found["problems"], found["media_errors"]) == ("failing", ["12 grown defective sectors"], 5)


def test_smartctl_adds_and_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {
        "status": "failing",
        "problems": ["a SMART attribute is past its threshold"],
        **NOTHING,
        "media_errors": 7,
    }
    found = smartctl(monkeypatch, SATA, before=before)
    assert found["status"] == "failing" and found["problems"][0] == before["problems"][0]
    assert (found["media_errors"], found["power_on_hours"]) == (7, 31337)


@pytest.mark.parametrize(("said", "status"), [({}, 0), ({"smart_status": {}}, 4), (SATA, 2), ({"smartctl": {}}, 1)])
def test_smartctl_that_knows_nothing(monkeypatch: pytest.MonkeyPatch, said: Any, status: int) -> None:
    assert smartctl(monkeypatch, said, status) is None


def test_smartctl_without_json(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(_disks.DiskError, match="no JSON for /dev/sda: broken"):
        smartctl(monkeypatch, "", 1)
    assert smartctl(monkeypatch, "", 1, protocol="VirtIO") is None
