# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks, _gpt
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import CONTENT, put
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Rack, digest, run


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return Rack(tmp_path / "rack")


@pytest.mark.parametrize(
    ("bus", "name", "protocol", "media", "model"),
    [
        ("virtio", "vda", "VirtIO", None, None),
        ("nvme", "nvme0n1", "NVMe", "SSD", "QEMU NVMe Ctrl"),
        ("scsi", "sda", "SCSI", "HDD", "QEMU HARDDISK"),
        ("sata", "sdb", "SATA", "HDD", "QEMU HARDDISK"),
        ("sas", "sdc", "SAS", "HDD", "QEMU HARDDISK"),
        ("usb", "sdd", None, "HDD", "QEMU HARDDISK"),
    ],
)
def test_identity(rack: Rack, bus: str, name: str, protocol: str, media: str, model: str) -> None:
    rack.disk(name, "SERIAL-1", mib=16, bus=bus)
    [record] = _disks.list_disks(rack.system)
    assert record["name"] == name
    assert record["serial_number"] == "SERIAL-1"
    assert record["capacity_bytes"] == 16 * MIB
    assert (record["protocol"], record["media_type"], record["model"]) == (protocol, media, model)
    assert _disks.not_blank(record) == [] and _disks.in_use(record) == [] and record["kiban"] is None


def test_serial_from_an_old_ata_name(rack: Rack) -> None:
    rack.disk("sda", "", bus="sata")
    (rack.base("sda") / "device/vpd_pg80").unlink()
    name = "t10.ATA     " + f"{'QEMU HARDDISK':<40}" + f"{'SYS-OLD':<20}"
    rack.attribute(rack.base("sda"), "device/wwid", name.encode() + b"\n")
    assert _disks.list_disks(rack.system)[0]["serial_number"] == "SYS-OLD"


def test_what_is_no_disk_is_left_out(rack: Rack) -> None:
    for name in ("loop0", "ram0", "zram0", "sr0", "fd0", "dm-0", "md0"):
        rack.disk(name, name, bus="virtual")
    rack.disk("rbd0", "R", bus="virtual")
    rack.disk("sda", "EMPTY-READER", bus="usb", size="0")
    rack.disk("nvme0c0n1", "PATH", bus="nvme", hidden="1")
    rack.disk("vda", "SYS")
    assert [record["name"] for record in _disks.list_disks(rack.system)] == ["vda"]


def test_names_are_in_natural_order(rack: Rack) -> None:
    for name in ("nvme10n1", "nvme2n1"):
        base = rack.root / "sys/devices/pci0000:00/x/nvme" / name
        rack.attribute(base, "size", b"2048\n")
        (rack.root / "sys/block" / name).symlink_to(base)
        (rack.root / "dev" / name).write_bytes(bytes(MIB))
    assert [record["name"] for record in _disks.list_disks(rack.system)] == ["nvme2n1", "nvme10n1"]


@pytest.mark.parametrize("name", CONTENT)
def test_every_content_is_seen_and_nothing_is_changed(rack: Rack, name: str) -> None:
    write, word = CONTENT[name]
    path = rack.disk("vda", "SYS")
    write(path)
    before = digest(path)
    [record] = _disks.list_disks(rack.system)
    assert word in "; ".join(_disks.not_blank(record))
    assert record["kiban"] is None
    assert digest(path) == before


def test_partitions_have_table_and_kernel_data(rack: Rack) -> None:
    path = rack.disk("nvme0n1", "N1", bus="nvme")
    run("sfdisk", "-q", path, stdin="label: gpt\nsize=8M, name=one\nsize=8M, name=two\n")
    rack.partition("nvme0n1", 1, 2048, 16384)
    [record] = _disks.list_disks(rack.system)
    first, second = record["partitions"]
    assert (first["name"], first["number"], first["label"], first["size_bytes"]) == ("nvme0n1p1", 1, "one", 8 * MIB)
    # the kernel does not know the second one, the table does
    assert (second["name"], second["number"], second["label"], second["start_bytes"]) == (None, 2, "two", 9 * MIB)
    assert uuid.UUID(first["uuid"]) != uuid.UUID(second["uuid"])


def test_a_disk_in_use_says_by_what(rack: Rack) -> None:
    rack.disk("vda", "SYS", dev="8:0")
    part = rack.partition("vda", 2, 2048, 2048)
    rack.attribute(part, "holders/dm-0/dev", b"")
    rack.mount((part / "dev").read_text().strip(), "/dev/vda2", "/srv/with\\040space")
    with open(rack.root / "proc/swaps", "a") as file:
        file.write(f"{rack.root}/dev/vda partition 1 0 -2\n")
    [record] = _disks.list_disks(rack.system)
    assert record["mounts"] == ["/srv/with space", "[swap]"]
    assert record["holders"] == ["dm-0"]
    assert len(_disks.in_use(record)) == 2


def test_a_btrfs_mount_is_found_by_its_source(rack: Rack) -> None:
    path = rack.disk("vda", "SYS")
    rack.mount("0:44", str(path), "/srv")
    assert _disks.list_disks(rack.system)[0]["mounts"] == ["/srv"]


def test_a_disk_that_cannot_be_read_is_never_blank(rack: Rack) -> None:
    rack.disk("vda", "SYS").unlink()
    [record] = _disks.list_disks(rack.system)
    assert "cannot be read" in _disks.not_blank(record)[0]


def test_without_wipefs_nothing_is_said_to_be_blank(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    rack.disk("vda", "SYS")

    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(_disks.subprocess, "run", missing)
    with pytest.raises(_disks.DiskError, match="wipefs is missing"):
        _disks.list_disks(rack.system)


def test_an_unknown_serial_number_names_those_there_are(rack: Rack) -> None:
    rack.disk("vda", "SYS-A")
    with pytest.raises(_disks.DiskError, match="vda 'SYS-A'"):
        _disks.find_disk("SYS-B", rack.system)


def test_a_serial_number_that_two_devices_have_is_refused(rack: Rack) -> None:
    rack.disk("sda", "SAME", bus="scsi")
    rack.disk("sdb", "SAME", bus="sata")
    with pytest.raises(_disks.DiskError, match="more than one device"):
        _disks.find_disk("SAME", rack.system)


def test_marks(rack: Rack) -> None:
    path = rack.disk("vda", "SYS")
    put(path, 0, _disks.record_bytes(_disks.IMAGE_MARK, {"image_id": "abc", "token": "t"}))
    mark = _disks.find_disk("SYS", rack.system)["kiban"]
    assert (mark["purpose"], mark["complete"], mark["image_id"], mark["token"]) == ("system", False, "abc", "t")
    assert _disks.not_blank(_disks.find_disk("SYS", rack.system))
    put(path, 0, _disks.record_bytes(_disks.CLAIM_MARK, {"site": "lab"}))
    mark = _disks.find_disk("SYS", rack.system)["kiban"]
    assert (mark["purpose"], mark["complete"], mark["site"]) == ("data", False, "lab")


def test_a_record_of_another_table_does_not_count(rack: Rack) -> None:
    path = rack.disk("vda", "SYS")
    run("sfdisk", "-q", path, stdin="label: gpt\nname=kiban-root\n")
    put(path, _disks.RECORD_OFFSET, _disks.record_bytes(_disks.RECORD_MARK, {"image_id": "old", "disk": "other"}))
    mark = _disks.find_disk("SYS", rack.system)["kiban"]
    assert (mark["purpose"], mark["complete"], mark["image_id"]) == ("system", True, None)
    table = _gpt.parse(path.read_bytes()[:MIB], 512)
    assert table
    record = {"image_id": "old", "disk": table.disk_uuid, "fs": None}
    put(path, _disks.RECORD_OFFSET, _disks.record_bytes(_disks.RECORD_MARK, record))
    assert _disks.find_disk("SYS", rack.system)["kiban"]["image_id"] == "old"
    # a new file system in the partition ends what the record says
    run("mkfs.ext4", "-q", "-F", "-E", f"offset={MIB}", path, "16M")
    assert _disks.find_disk("SYS", rack.system)["kiban"]["image_id"] is None


def test_a_damaged_mark_still_counts_as_half_written(rack: Rack) -> None:
    path = rack.disk("vda", "SYS")
    put(path, 0, _disks.IMAGE_MARK + b"{oops")
    mark = _disks.find_disk("SYS", rack.system)["kiban"]
    assert (mark["purpose"], mark["complete"], mark["image_id"]) == ("system", False, None)


def test_a_data_disk_is_recognised_without_a_record(rack: Rack) -> None:
    path = rack.disk("vda", "D")
    run("sfdisk", "-q", path, stdin="label: gpt\nname=kiban-data\n")
    assert _disks.find_disk("D", rack.system)["kiban"]["complete"] is False
    run("mkfs.ext4", "-q", "-F", "-E", f"offset={MIB}", path, "32M")
    mark = _disks.find_disk("D", rack.system)["kiban"]
    assert (mark["purpose"], mark["complete"]) == ("data", True)


@pytest.mark.parametrize(("stated", "expected"), [("4096", 4096), ("512", 512), ("", None), ("0", None)])
def test_physical_sector_size(rack: Rack, stated: str, expected: int | None) -> None:
    rack.disk("sda", "S1", bus="sata", queue__physical_block_size=stated)
    (record,) = _disks.list_disks(rack.system)
    assert (record["logical_block_bytes"], record["physical_block_bytes"]) == (512, expected)


def test_a_kernel_without_physical_sector_size(rack: Rack) -> None:
    rack.disk("sda", "S1", bus="sata")
    assert _disks.list_disks(rack.system)[0]["physical_block_bytes"] is None


def test_records_are_json(rack: Rack) -> None:
    rack.disk("vda", "SYS")
    json.dumps(_disks.list_disks(rack.system))


def test_a_lock_lasts_as_long_as_the_tools_under_it(rack: Rack) -> None:
    path = str(rack.disk("vda", "D"))
    with _disks.locked(path):
        with pytest.raises(_disks.DiskError, match="has been locked by another program"), _disks.locked(path, 0.1):
            pass
        # a tool that goes on when its parent is gone
        done = rack.root / "done"
        assert _disks.run_tool("sh", "-c", f"(sleep 1; touch {done}) >/dev/null 2>&1 &")[0] == 0
    with pytest.raises(_disks.DiskError), _disks.locked(path, 0.1):
        pass
    with _disks.locked(path, 30):
        assert done.exists()


def test_the_bay_of_an_enclosure(rack: Rack) -> None:
    rack.disk("sda", "S1", bus="sas")
    enclosure = rack.root / "sys/devices/host2/enclosure/2:0:9:0"
    for key, value in {"id": b"0x500304801f3c5abf\n", "Slot 05/slot": b"5\n", "Slot 06/status": b"OK\n"}.items():
        rack.attribute(enclosure, key, value)
    link = rack.base("sda") / "device" / "enclosure_device:Slot 05"
    link.symlink_to(enclosure / "Slot 05")
    [record] = _disks.list_disks(rack.system)
    assert (record["enclosure"], record["slot"]) == ("0x500304801f3c5abf", "5")
    link.unlink()
    (rack.base("sda") / "device" / "enclosure_device:Slot 06").symlink_to(enclosure / "Slot 06")
    (enclosure / "id").unlink()
    [record] = _disks.list_disks(rack.system)
    assert (record["enclosure"], record["slot"]) == ("2:0:9:0", "Slot 06")


def test_the_slot_of_an_nvme_disk(rack: Rack) -> None:
    rack.disk("nvme0n1", "S1", bus="nvme")
    [record] = _disks.list_disks(rack.system)
    assert (record["enclosure"], record["slot"]) == (None, None)
    for slot, address in {"3": b"0000:00:02\n", "7": b"0000:00:03\n"}.items():
        rack.attribute(rack.root / "sys/bus/pci/slots", f"{slot}/address", address)
    [record] = _disks.list_disks(rack.system)
    assert (record["enclosure"], record["slot"]) == (None, "7")
