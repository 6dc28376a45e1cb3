# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disk_health, _disk_wipe, _disks
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_answers import Nvme
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Rack, digest

NAMES = {"SCSI": "sda", "SATA": "sdb", "NVMe": "nvme0n1"}
SIZE = 72 * MIB
HDPARM = """
/dev/sdb:

ATA device, with non-removable media
Security:
\tMaster password revision code = 65534
\t\tsupported
\t{enabled}\tenabled
\tnot\tlocked
\t{frozen}\tfrozen
\tnot\texpired: security count
\t\tsupported: enhanced erase
\t2min for SECURITY ERASE UNIT. 2min for ENHANCED SECURITY ERASE UNIT.
Logical Unit WWN Device Identifier: 5000c500a1b2c3d4
"""


class Scene:
    """A node with a disk of each kind, all full of data."""

    def __init__(self, root: Path) -> None:
        self.rack = Rack(root / "rack")
        self.host = _disk_claim.Host(str(root / "fstab"), str(self.rack.root / "proc/self/mountinfo"))
        self.log = root / "wiped.jsonl"
        dice = random.Random(7)
        self.paths = {}
        for kind, name in NAMES.items():
            more = {"queue__discard_max_bytes": "4096"} if kind == "SCSI" else {}
            path = self.rack.disk(name, f"DISK-{kind}", mib=SIZE // MIB, bus=kind.lower(), **more)
            path.write_bytes(dice.randbytes(MIB) * (SIZE // MIB))
            self.paths[kind] = path

    def claim(self, kind: str, method: str, check: bool = False, wipe: bool = True, **changes: Any) -> dict[str, Any]:
        params = {"state": "present", "disks": [f"DISK-{kind}"], "wipe": [f"DISK-{kind}"] if wipe else []}
        params |= {"site": "lab", "mount_base": str(self.rack.root / "local")}
        return disk_claim.run({**params, "wipe_method": method, "wipe_log": str(self.log), **changes}, check)

    def refused(self, kind: str, method: str) -> str:
        """The same in check mode and for real, and nothing is written anywhere."""
        before, said = {kind: digest(path) for kind, path in self.paths.items()}, []
        for check in (True, False):
            with pytest.raises(disk_claim.Failure) as caught:
                self.claim(kind, method, check)
            said.append(str(caught.value))
        assert {kind: digest(path) for kind, path in self.paths.items()} == before
        assert said[0] == said[1] and not self.log.exists()
        return said[0]

    def zero(self, kind: str) -> None:
        """As the disk would."""
        self.paths[kind].write_bytes(bytes(SIZE))

    def middle(self, kind: str) -> bytes:
        """What lies behind the metadata of a fresh file system."""
        return self.paths[kind].read_bytes()[60 * MIB : 61 * MIB]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    scene = Scene(tmp_path)
    monkeypatch.setattr(_disks, "SYSTEM", scene.rack.system)
    monkeypatch.setattr(disk_claim, "HOST", scene.host)
    monkeypatch.setattr(_disk_claim, "_mount", lambda device, path: scene.rack.mount("259:9", device, path))
    tool = _disk_claim._tool
    # mkfs makes holes in a file, and what was not wiped would be gone all the same.
    monkeypatch.setattr(
        _disk_claim, "_tool", lambda *words: tool(*(word.replace("offset=", "nodiscard,offset=") for word in words))
    )
    return scene


@pytest.fixture
def nvme(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Nvme]:
    def make(**answers: Any) -> Nvme:
        disk = Nvme(**answers)
        monkeypatch.setattr(_disk_health.fcntl, "ioctl", disk.ioctl)
        return disk

    return make


def proof(done: dict[str, Any], scene: Scene) -> dict[str, Any]:
    """The record that was returned, which is in the file too."""
    [record] = done["wiped"]
    assert json.loads(scene.log.read_text()) == record
    assert scene.log.stat().st_mode & 0o777 == 0o600
    assert record["started"] <= record["finished"] and record["started"].endswith("Z")
    assert record["model"] and record["capacity_bytes"] == SIZE
    return dict(record)


def test_signatures(scene: Scene) -> None:
    record = proof(scene.claim("SATA", "signatures"), scene)
    assert (record["serial_number"], record["bytes"]) == ("DISK-SATA", 16 * MIB)
    assert record["verified"].startswith("the first and last 8 MiB read back as zeros")
    assert any(scene.middle("SATA"))


def test_a_log_that_cannot_be_written_is_found_before(scene: Scene) -> None:
    before = digest(scene.paths["SATA"])
    for check in (True, False):
        with pytest.raises(disk_claim.Failure, match="wipe_log /nowhere/log cannot be written"):
            scene.claim("SATA", "overwrite", check, wipe_log="/nowhere/log")
    assert digest(scene.paths["SATA"]) == before


def test_overwrite(scene: Scene) -> None:
    others = {kind: digest(scene.paths[kind]) for kind in ("SCSI", "NVMe")}
    planned = scene.claim("SATA", "overwrite", check=True)
    assert planned["disks"][0]["action"].startswith("wipe by overwrite, partition") and planned["wiped"] == []
    done = scene.claim("SATA", "overwrite")
    assert done["disks"] == planned["disks"] and done["diff"] == planned["diff"]
    record = proof(done, scene)
    assert record["bytes"] == SIZE
    assert record["verified"] == f"all {SIZE} bytes but our mark in the first 512 read back as zeros"
    assert not any(scene.middle("SATA"))
    assert {kind: digest(scene.paths[kind]) for kind in others} == others


def test_a_disk_is_wiped_once(scene: Scene) -> None:
    scene.claim("SATA", "overwrite")
    again = scene.claim("SATA", "overwrite")
    assert not again["changed"] and again["wiped"] == []


def test_a_blank_disk_may_be_overwritten_too(scene: Scene) -> None:
    """Blank is what has nothing at its ends; a person who names a method knows better."""
    data = bytearray(SIZE)
    data[60 * MIB] = 1
    scene.paths["SATA"].write_bytes(data)
    assert scene.claim("SATA", "signatures", check=True)["disks"][0]["action"].startswith("partition")
    assert proof(scene.claim("SATA", "overwrite"), scene)["method"] == "overwrite"
    assert not any(scene.middle("SATA"))


def test_an_overwrite_that_was_cut_off_is_repeated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = os.pwrite, [8]

    def stopping(fd: int, data: Any, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", stopping)
    with pytest.raises(disk_claim.Failure, match="while doing: wipe by overwrite") as caught:
        scene.claim("SATA", "overwrite")
    assert caught.value.wiped == [] and not scene.log.exists()
    monkeypatch.setattr(os, "pwrite", real)
    assert _disks.find_disk("DISK-SATA")["kiban"]["wipe"] == "overwrite"
    # Nobody needs to name it again, and the method is still the one that was begun.
    assert proof(scene.claim("SATA", "signatures", wipe=False), scene)["method"] == "overwrite"
    assert not any(scene.middle("SATA"))


def test_what_was_wiped_is_told_when_more_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(record: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_disk_claim, "_make_file_system", broken)
    with pytest.raises(disk_claim.Failure, match="No space left") as caught:
        scene.claim("SATA", "overwrite")
    assert [record["serial_number"] for record in caught.value.wiped] == ["DISK-SATA"]
    assert json.loads(scene.log.read_text()) == caught.value.wiped[0]


def discard(scene: Scene, monkeypatch: pytest.MonkeyPatch, works: bool) -> list[tuple[int, bytes]]:
    seen: list[tuple[int, bytes]] = []

    def ioctl(fd: int, request: int, argument: bytes) -> int:
        seen.append((request, argument))
        if works:
            scene.zero("SCSI")
        return 0

    monkeypatch.setattr(_disk_wipe.fcntl, "ioctl", ioctl)
    return seen


def test_discard(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = discard(scene, monkeypatch, works=True)
    record = proof(scene.claim("SCSI", "discard"), scene)
    assert record["detail"] == "BLKDISCARD"
    assert record["verified"] == "of 71 blocks of a MiB, 71 held data and none holds it now; 71 are zeros"
    assert {request for request, _range in seen} == {0x1277}


def test_a_discard_that_does_nothing_is_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    discard(scene, monkeypatch, works=False)
    with pytest.raises(disk_claim.Failure, match="says that it is wiped, and still holds what it held at byte 1048576"):
        scene.claim("SCSI", "discard")
    assert not scene.log.exists()


@pytest.mark.parametrize(
    ("kind", "method", "word"),
    [
        ("SATA", "discard", "it does not take it"),
        ("SATA", "nvme_format", "it is no NVMe disk"),
        ("SCSI", "nvme_sanitize", "it is no NVMe disk"),
        ("NVMe", "ata_secure_erase", "it is no SATA disk"),
        ("NVMe", "nvme_format", "does not say whether"),
    ],
)
def test_a_method_that_the_disk_does_not_offer(scene: Scene, kind: str, method: str, word: str) -> None:
    assert word in scene.refused(kind, method)


def test_nvme_format(scene: Scene, nvme: Callable[..., Nvme]) -> None:
    disk = nvme(wipes=lambda: scene.zero("NVMe"), flbas=0x41, dps=0b1010)
    record = proof(scene.claim("NVMe", "nvme_format"), scene)
    assert record["detail"] == "Format NVM, user data erase"
    [(nsid, word)] = [(nsid, word) for opcode, nsid, word in disk.commands if opcode == 0x80]
    # User data erase, of this namespace; block size 1 + 16 * 2, protection 2 at the front: as they were.
    assert (nsid, word >> 9 & 7, word & 0xF, word >> 12 & 3, word >> 5 & 7, word >> 8 & 1) == (1, 1, 1, 2, 2, 1)


def test_nvme_format_by_the_key_where_there_is_one(scene: Scene, nvme: Callable[..., Nvme]) -> None:
    disk = nvme(wipes=lambda: scene.zero("NVMe"), fna=0b100)
    assert proof(scene.claim("NVMe", "nvme_format"), scene)["detail"] == "Format NVM, cryptographic erase"
    assert [word >> 9 & 7 for opcode, _nsid, word in disk.commands if opcode == 0x80] == [2]


def test_nvme_format_that_does_nothing_is_told(scene: Scene, nvme: Callable[..., Nvme]) -> None:
    nvme()
    with pytest.raises(disk_claim.Failure, match="still holds what it held"):
        scene.claim("NVMe", "nvme_format")


@pytest.mark.parametrize(
    ("method", "answers", "word"),
    [
        ("nvme_format", {"oacs": 0}, "has no Format NVM"),
        ("nvme_format", {"fna": 0b10, "namespaces": [1, 2]}, "would wipe namespace 2 too"),
        ("nvme_format", {"fna": 0b01, "namespaces": [1, 7]}, "would wipe namespace 7 too"),
        ("nvme_sanitize", {"sanicap": 0b10, "namespaces": [1, 2]}, "would wipe namespace 2 too"),
        ("nvme_sanitize", {"sanicap": 0}, "has no Sanitize"),
    ],
)
def test_nvme_refusals(
    scene: Scene, nvme: Callable[..., Nvme], method: str, answers: dict[str, Any], word: str
) -> None:
    disk = nvme(**answers)
    assert word in scene.refused("NVMe", method)
    assert {opcode for opcode, _nsid, _word in disk.commands} == {0x06}


def test_another_namespace_of_the_disk_is_named(scene: Scene, nvme: Callable[..., Nvme]) -> None:
    nvme(sanicap=0b10)
    scene.rack.disk("nvme0n2", "DISK-OTHER", bus="nvme")
    assert "would wipe nvme0n2 too" in scene.refused("NVMe", "nvme_sanitize")


def test_another_namespace_does_not_matter_where_only_this_is_erased(scene: Scene, nvme: Callable[..., Nvme]) -> None:
    nvme(wipes=lambda: scene.zero("NVMe"), namespaces=[1, 2])
    assert proof(scene.claim("NVMe", "nvme_format"), scene)["method"] == "nvme_format"


@pytest.mark.parametrize(
    ("sanicap", "detail", "action"),
    [(0b111, "cryptographic erase", 4), (0b110, "block erase", 2), (0b100, "overwrite", 19)],
)
def test_nvme_sanitize(
    scene: Scene, nvme: Callable[..., Nvme], monkeypatch: pytest.MonkeyPatch, sanicap: int, detail: str, action: int
) -> None:
    monkeypatch.setattr(_disk_wipe.time, "sleep", lambda seconds: None)
    disk = nvme(wipes=lambda: scene.zero("NVMe"), sanicap=sanicap)
    assert proof(scene.claim("NVMe", "nvme_sanitize"), scene)["detail"] == f"Sanitize, {detail}"
    assert [word for opcode, _nsid, word in disk.commands if opcode == 0x84] == [action]


def test_nvme_sanitize_that_fails(scene: Scene, nvme: Callable[..., Nvme]) -> None:
    nvme(sanicap=0b10, sanitize_states=[3])
    with pytest.raises(disk_claim.Failure, match=r"sanitize operation failed \(status 3\)"):
        scene.claim("NVMe", "nvme_sanitize")


class Hdparm:
    """Stands in for hdparm and the disk behind it."""

    def __init__(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, enabled: bool = False, frozen: bool = False
    ) -> None:
        self.scene, self.enabled, self.frozen, self.ends = scene, enabled, frozen, True
        self.commands: list[tuple[str, ...]] = []
        self.real = _disks.run_tool
        monkeypatch.setattr(_disks, "run_tool", self.run)

    def run(self, *words: str) -> tuple[int, str, str]:
        if words[0] != "hdparm":
            return self.real(*words)
        if words[1] == "-I":
            states = {"enabled": "" if self.enabled else "not", "frozen": "" if self.frozen else "not"}
            return 0, HDPARM.format(**states), ""
        self.commands.append(words[3:5])
        if words[3] == "--security-set-pass":
            self.enabled = True
        if words[3] == "--security-erase" and self.ends:
            self.enabled = False
            self.scene.zero("SATA")
        return 0, "", ""


def test_ata_secure_erase(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hdparm = Hdparm(scene, monkeypatch)
    record = proof(scene.claim("SATA", "ata_secure_erase"), scene)
    assert record["detail"] == "SECURITY ERASE UNIT" and record["verified"].endswith("71 are zeros")
    assert hdparm.commands == [("--security-set-pass", "kiban"), ("--security-erase", "kiban")]


def test_ata_secure_erase_that_does_not_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    Hdparm(scene, monkeypatch).ends = False
    with pytest.raises(disk_claim.Failure, match="hdparm --user-master u --security-disable kiban"):
        scene.claim("SATA", "ata_secure_erase")


@pytest.mark.parametrize(
    ("state", "word"), [({"frozen": True}, "the firmware has frozen"), ({"enabled": True}, "a password is set on it")]
)
def test_ata_secure_erase_is_refused(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, state: dict[str, bool], word: str
) -> None:
    hdparm = Hdparm(scene, monkeypatch, **state)
    assert word in scene.refused("SATA", "ata_secure_erase")
    assert hdparm.commands == []


def test_ata_secure_erase_without_hdparm(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _disks.run_tool

    def run(*words: str) -> tuple[int, str, str]:
        if words[0] == "hdparm":
            raise _disks.DiskError("the program hdparm is missing on this host")
        return real(*words)

    monkeypatch.setattr(_disks, "run_tool", run)
    assert "the program hdparm is missing" in scene.refused("SATA", "ata_secure_erase")
