# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_claim, _disks
from ansible_collections.kiban.baremetal.plugins.modules import disk_claim
from ansible_collections.kiban.baremetal.plugins.plugin_utils._probe.layouts import claim_of
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import CONTENT, put
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Rack, digest, run, zeros

FRESH = "partition, make file system, add to fstab, mount"


class Scene:
    """A node with two data disks; only the mounting itself is not real."""

    def __init__(self, rack: Rack, host: _disk_claim.Host) -> None:
        self.rack, self.host = rack, host
        self.one = rack.disk("sda", "DATA-1", mib=72, bus="scsi")
        self.two = rack.disk("nvme0n1", "DATA-2", mib=72, bus="nvme")
        self.base = str(rack.root / "local")

    def run(self, *disks: str, check: bool = False, **changes: Any) -> dict[str, Any]:
        params = {"state": "present", "disks": list(disks or ("DATA-1", "DATA-2")), "wipe": [], "site": "lab"}
        params |= {"wipe_method": "signatures", "wipe_log": None}
        return disk_claim.run({**params, "mount_base": self.base, **changes}, check)

    def actions(self, *disks: str, **changes: Any) -> list[str]:
        return [disk["action"] for disk in self.run(*disks, **changes)["disks"]]

    def mark(self, serial: str = "DATA-1") -> Any:
        return _disks.find_disk(serial, self.rack.system)["kiban"]

    @property
    def fstab(self) -> str:
        return Path(self.host.fstab).read_text()

    def signatures(self) -> list[Any]:
        return list(_disks.find_disk("DATA-1", self.rack.system)["partitions"][0]["signatures"])

    def accept(self) -> None:
        """A file has no partition node for e2fsck, so the partition is copied out for it."""
        node = f"{self.one}1"
        Path(node).write_bytes(self.one.read_bytes()[MIB : 71 * MIB])
        try:
            assert self.actions("DATA-1") == ["record, add to fstab, mount"]
        finally:
            os.unlink(node)

    def forget(self) -> None:
        """As if this was another host: the disks are all that stays."""
        Path(self.host.fstab).write_text("# comment\n/dev/vda2 / ext4 defaults 0 1\n")
        (self.rack.root / "proc/self/mountinfo").write_text("")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    rack = Rack(tmp_path / "rack")
    host = _disk_claim.Host(str(tmp_path / "fstab"), str(rack.root / "proc/self/mountinfo"))
    scene = Scene(rack, host)
    scene.forget()

    def mount(device: str, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        rack.mount("259:9", device, path)

    monkeypatch.setattr(_disks, "SYSTEM", rack.system)
    monkeypatch.setattr(disk_claim, "HOST", host)
    monkeypatch.setattr(_disk_claim, "_mount", mount)
    return scene


def test_blank_disks_are_claimed_once(scene: Scene) -> None:
    assert scene.actions() == [FRESH, FRESH]
    mark = scene.mark()
    assert (mark["purpose"], mark["complete"], mark["site"]) == ("data", True, "lab")
    assert "No problems found" in run("sgdisk", "-v", scene.one)
    assert f"PARTUUID={mark['uuid']} {scene.base}/DATA-1 ext4 noatime,nofail" in scene.fstab
    device = f"/dev/disk/by-partuuid/{mark['uuid']}"
    if shutil.which("systemd-escape"):
        unit = subprocess.run(
            ["systemd-escape", "--path", "--suffix=device", device], capture_output=True, text=True, check=True
        )
        assert f",x-systemd.wanted-by={unit.stdout.strip()} 0 2" in scene.fstab, "mounted when it comes late"
    assert scene.fstab.startswith("# comment\n/dev/vda2 / ext4 defaults 0 1\n")
    before = digest(scene.one), digest(scene.two), scene.fstab
    again = scene.run()
    assert not again["changed"] and again["diff"]["after"] == ""
    assert (digest(scene.one), digest(scene.two), scene.fstab) == before


def test_the_plan_sees_the_same_claims_as_disk_info(scene: Scene) -> None:
    """On a disk that was claimed, one whose claim was cut off at its mark, and one that is blank."""
    scene.run("DATA-1")
    put(scene.two, 0, _disks.record_bytes(_disks.CLAIM_MARK, {"site": "lab"}))
    scene.rack.disk("sdb", "BLANK", bus="scsi")
    seen = {record["name"]: record["kiban"] for record in _disks.list_disks(scene.rack.system)}
    told = {record["name"]: claim_of(record) for record in _disks.list_disks(scene.rack.system)}
    assert told["sda"] == told["nvme0n1"] == {"purpose": "data", "site": "lab"} and told["sdb"] is None
    assert told == {name: mark and {"purpose": mark["purpose"], "site": mark["site"]} for name, mark in seen.items()}


def test_the_file_system_is_sound(scene: Scene) -> None:
    scene.run()
    part = scene.rack.root / "part"
    part.write_bytes(scene.one.read_bytes()[MIB : 71 * MIB])
    run("e2fsck", "-fn", part)
    assert "kiban-data" in run("blkid", "-p", "-o", "export", part)


def test_check_mode_says_the_same_and_touches_nothing(scene: Scene) -> None:
    fstab = scene.fstab
    assert scene.actions(check=True) == [FRESH, FRESH]
    assert zeros(scene.one) and scene.fstab == fstab
    assert not os.path.exists(scene.base)


def test_a_claimed_disk_is_recognised_on_another_place(scene: Scene) -> None:
    scene.run()
    scene.forget()
    (scene.rack.root / "dev/sda").rename(scene.rack.root / "dev/sdx")
    scene.rack.disk("sdb", "DATA-1", mib=72, bus="sata")
    (scene.rack.root / "sys/block/sda").unlink()
    (scene.rack.root / "dev/sdx").rename(scene.rack.root / "dev/sdb")
    before = digest(scene.rack.root / "dev/sdb")
    assert scene.actions("DATA-1") == ["add to fstab, mount"]
    assert digest(scene.rack.root / "dev/sdb") == before


@pytest.mark.parametrize("name", CONTENT)
def test_a_disk_that_holds_anything_is_refused_and_none_is_written(scene: Scene, name: str) -> None:
    write, word = CONTENT[name]
    write(scene.two)
    before = digest(scene.two)
    for check in (True, False):
        with pytest.raises(disk_claim.Failure) as caught:
            scene.run(check=check)
        assert len(caught.value.refused) == 1
        assert "disk DATA-2" in str(caught.value) and word in str(caught.value) and "wipe" in str(caught.value)
    assert digest(scene.two) == before
    assert zeros(scene.one), "a disk was written although another one was refused"


@pytest.mark.parametrize("name", ["gpt-with-ext4", "lvm", "md-1.0", "md-1.2", "zfs", "vmfs", "unknown-end"])
def test_a_disk_that_is_named_may_be_wiped(scene: Scene, name: str) -> None:
    CONTENT[name][0](scene.two)
    CONTENT[name][0](scene.one)
    before = digest(scene.one)
    done = scene.run("DATA-2", wipe=["DATA-2", "DATA-9"])
    assert [disk["action"] for disk in done["disks"]] == [f"wipe by signatures, {FRESH}"]
    assert [(each["serial_number"], each["method"]) for each in done["wiped"]] == [("DATA-2", "signatures")]
    assert digest(scene.one) == before
    record = _disks.find_disk("DATA-2", scene.rack.system)
    assert {sig["type"] for sig in record["signatures"]} == {"gpt", "PMBR"}
    assert [sig["type"] for sig in record["partitions"][0]["signatures"]] == ["ext4"]


def test_wipe_that_stays_in_the_model_does_not_wipe_again(scene: Scene) -> None:
    scene.run(wipe=["DATA-1", "DATA-2"])
    put(scene.one, 20 * MIB, b"precious")
    assert not scene.run(wipe=["DATA-1", "DATA-2"])["changed"]
    assert scene.one.read_bytes()[20 * MIB :].startswith(b"precious")


def test_every_refusal_is_told_at_once(scene: Scene) -> None:
    put(scene.one, 0, b"x")
    scene.rack.attribute(scene.rack.base("nvme0n1"), "holders/md0/dev", b"")
    with pytest.raises(disk_claim.Failure) as caught:
        scene.run("DATA-1", "DATA-2", "GONE", wipe=["DATA-2"])
    assert len(caught.value.refused) == 3
    for word in ("unknown content", "held by md0", "no disk has serial number 'GONE'"):
        assert word in str(caught.value)


def test_a_disk_of_another_site(scene: Scene) -> None:
    scene.run("DATA-1", site="tokyo")
    scene.forget()
    before = digest(scene.one)
    with pytest.raises(disk_claim.Failure, match="claimed by site 'tokyo'"):
        scene.run("DATA-1")
    assert digest(scene.one) == before
    assert scene.actions("DATA-1", wipe=["DATA-1"]) == [f"wipe by signatures, {FRESH}"]
    assert scene.mark()["site"] == "lab"


def test_a_copy_of_a_disk_is_refused(scene: Scene) -> None:
    scene.run("DATA-1")
    scene.two.write_bytes(scene.one.read_bytes())
    with pytest.raises(disk_claim.Failure, match="one is a copy of the other"):
        scene.run()


def test_a_system_disk_is_never_a_data_disk(scene: Scene) -> None:
    put(scene.one, 0, _disks.record_bytes(_disks.IMAGE_MARK, {"image_id": "x"}))
    before = digest(scene.one)
    with pytest.raises(disk_claim.Failure, match="system disk"):
        scene.run("DATA-1")
    assert digest(scene.one) == before


def test_the_same_disk_twice(scene: Scene) -> None:
    with pytest.raises(disk_claim.Failure, match="more than once"):
        scene.run("DATA-1", "DATA-1")


def test_a_lost_file_system_is_not_made_anew(scene: Scene) -> None:
    scene.run("DATA-1")
    scene.forget()
    put(scene.one, MIB, bytes(4096))
    before = digest(scene.one)
    with pytest.raises(disk_claim.Failure, match="may have held data"):
        scene.run("DATA-1")
    assert digest(scene.one) == before


def test_a_label_without_record_is_healed_only_if_empty(scene: Scene) -> None:
    run("sfdisk", "-q", scene.one, stdin="label: gpt\nname=kiban-data\n")
    assert scene.actions("DATA-1") == ["make file system, add to fstab, mount"]
    run("sfdisk", "-q", scene.two, stdin="label: gpt\nname=kiban-data\n")
    put(scene.two, MIB + 5000, b"x")
    with pytest.raises(disk_claim.Failure, match="may have held data"):
        scene.run("DATA-2")


def test_something_else_is_mounted_there(scene: Scene) -> None:
    scene.rack.mount("9:9", "/dev/other", f"{scene.base}/DATA-1")
    with pytest.raises(disk_claim.Failure, match="is taken: /dev/other"):
        scene.run("DATA-1")
    assert zeros(scene.one)


def test_a_changed_fstab_line_is_put_right(scene: Scene) -> None:
    scene.run("DATA-1")
    good = scene.fstab
    Path(scene.host.fstab).write_text(good.replace(",nofail", ""))
    assert scene.actions("DATA-1") == ["add to fstab"]
    assert scene.fstab == good


def test_a_failure_says_what_was_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real = _disk_claim._make_file_system

    def make(record: dict[str, Any]) -> None:
        if record["serial_number"] == "DATA-2":
            raise _disk_claim.ClaimError("mkfs.ext4: no")
        real(record)

    monkeypatch.setattr(_disk_claim, "_make_file_system", make)
    with pytest.raises(disk_claim.Failure) as caught:
        scene.run()
    assert caught.value.done == [f"DATA-1: {FRESH}"]
    assert "DATA-2" in str(caught.value) and "mkfs.ext4: no" in str(caught.value)
    monkeypatch.setattr(_disk_claim, "_make_file_system", real)
    assert scene.actions() == ["nothing", "make file system, add to fstab, mount"]


class _Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_stop_at_every_single_write_heals(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes, and the tools before and after they ran."""
    CONTENT["gpt-with-ext4"][0](scene.one)
    original = scene.one.read_bytes()
    pwrite, tool = os.pwrite, _disk_claim._tool
    left = [0]

    def step() -> bool:
        left[0] -= 1
        return left[0] < 0

    def stopping_write(fd: int, data: Any, offset: int) -> int:
        if step():
            pwrite(fd, data[: len(data) // 1024 * 512], offset)
            raise _Killed
        return pwrite(fd, data, offset)

    def stopping_tool(*words: str) -> None:
        if step():
            raise _Killed
        tool(*words)
        if step():
            raise _Killed

    for number in range(60):
        scene.forget()
        scene.one.write_bytes(original)
        monkeypatch.setattr(_disk_claim.os, "pwrite", stopping_write)
        monkeypatch.setattr(_disk_claim, "_tool", stopping_tool)
        left[0] = number
        try:
            scene.run("DATA-1", wipe=["DATA-1"])
            break
        except _Killed:
            pass
        monkeypatch.setattr(_disk_claim.os, "pwrite", pwrite)
        monkeypatch.setattr(_disk_claim, "_tool", tool)
        mark = scene.mark()
        if mark is None:
            assert scene.one.read_bytes() == original
        else:
            assert mark["purpose"] == "data", f"step {number}"
        # no permission is needed once our mark is there; what we made is never taken for someone's data
        if mark is None:
            scene.run("DATA-1", wipe=["DATA-1"])
        elif mark["uuid"] and mark["formatted"] is False and scene.signatures():
            scene.accept()
        else:
            scene.run("DATA-1")
        assert scene.mark()["complete"], f"step {number}"
    else:
        pytest.fail("never came to an end")
    assert number >= 10


def test_another_run_that_just_ended_is_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decided as blank, but claimed by the time that the lock is free."""
    real, calls = disk_claim.decide, []

    def decide(params: dict[str, Any], disks: Any) -> Any:
        result = real(params, disks)
        calls.append(disks)
        if len(calls) == 1:
            for claim in result[0]:
                claim.apply(scene.host, lambda record: None)
            put(scene.one, 20 * MIB, b"precious")
        return result

    monkeypatch.setattr(disk_claim, "decide", decide)
    scene.run()
    assert scene.one.read_bytes()[20 * MIB :].startswith(b"precious")


def test_a_disk_that_changed_before_its_turn_is_not_written(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    real = disk_claim.decide

    def decide(params: dict[str, Any], disks: Any) -> Any:
        result = real(params, disks)
        put(scene.two, 0, b"somebody else's")
        return result

    monkeypatch.setattr(disk_claim, "decide", decide)
    with pytest.raises(disk_claim.Failure, match="unknown content") as caught:
        scene.run()
    assert caught.value.done == [f"DATA-1: {FRESH}"]
    assert scene.two.read_bytes().startswith(b"somebody else's")
