# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks behind a network and behind several paths, in a sysfs as the kernel shows it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disk_paths, _disks
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, Rack

TARGET = "iqn.2003-01.org.example:array1"


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    """One LUN by two sessions, and a local disk."""
    made = Rack(tmp_path / "rack")
    made.disk("vda", "LOCAL")
    for number, address in (("1", "192.0.2.10"), ("2", "198.51.100.10")):
        made.disk(f"sd{number}", "LUN-0", bus="iscsi", device__state="running")
        made.session(number, f"{address}:3260")
    return made


def nvme(rack: Rack, number: int, address: str, state: str = "live") -> dict[str, bytes]:
    """A controller of a subsystem with one namespace."""
    base = rack.root / f"sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme{number}"
    values = {"transport": b"tcp", "subsysnqn": b"nqn.2014-08.org.example:array1", "state": state.encode()}
    values["address"] = f"traddr={address},trsvcid=4420,src_addr=192.0.2.1".encode()
    for key, value in values.items():
        rack.attribute(base, key, value)
    (rack.root / "sys/class/nvme").mkdir(parents=True, exist_ok=True)
    (rack.root / f"sys/class/nvme/nvme{number}").symlink_to(base)
    return values


def test_a_disk_of_iscsi_shows_how_it_is_reached(rack: Rack) -> None:
    records = {record["name"]: record for record in _disks.list_disks(rack.system)}
    assert records["vda"]["paths"] == [] and records["vda"]["protocol"] == "VirtIO"
    assert records["sd1"]["protocol"] == "iSCSI"
    assert records["sd1"]["paths"] == [
        {"name": "sd1", "transport": "iscsi", "target": TARGET, "portal": "192.0.2.10:3260", "state": "running"}
    ]


def test_two_paths_without_multipath_are_refused(rack: Rack) -> None:
    with pytest.raises(_disks.DiskError, match="several paths to one disk need multipath first"):
        _disks.find_disk("LUN-0", rack.system)


def test_all_paths_of_a_lun_are_one_disk(rack: Rack) -> None:
    path = rack.multipath(0, "3600", "sd1", "sd2")
    path.write_bytes(bytes(64 * MIB))
    record = _disks.find_disk("LUN-0", rack.system)
    assert (record["name"], record["path"]) == ("dm-0", str(path))
    assert [each["portal"] for each in record["paths"]] == ["192.0.2.10:3260", "198.51.100.10:3260"]
    assert record["holders"] == [] and record["signatures"] == [] and record["capacity_bytes"] == 64 * MIB
    assert [each["name"] for each in _disks.list_disks(rack.system)] == ["vda", "dm-0"]


def test_partitions_of_a_multipath_device_are_partitions_and_no_holders(rack: Rack) -> None:
    path = rack.multipath(0, "3600", "sd1", "sd2")
    path.write_bytes(bytes(64 * MIB))
    rack.multipath(1, "3600-part1", "dm-0", part=1).write_bytes(bytes(MIB))
    rack.attribute(rack.base("dm-1"), "holders/dm-7/x", b"")
    rack.mount("252:1", "/dev/mapper/3600-part1", "/srv/data")
    record = _disks.find_disk("LUN-0", rack.system)
    assert [part["name"] for part in record["partitions"]] == ["dm-1"]
    assert record["holders"] == ["dm-7"] and record["mounts"] == ["/srv/data"]
    assert _disks.part_node(record["path"], 1) == f"{path}-part1"


@pytest.mark.parametrize("state", ["FAILED", "FREE"])
def test_a_lost_session_is_seen_at_once(rack: Rack, state: str) -> None:
    rack.session("2", "198.51.100.10:3260", state)
    rack.multipath(0, "3600", "sd1", "sd2").write_bytes(bytes(64 * MIB))
    record = _disks.find_disk("LUN-0", rack.system)
    assert [path["state"] for path in record["paths"]] == ["running", state]
    assert _disk_paths.answers(record)
    rack.session("1", "192.0.2.10:3260", state)
    assert not _disk_paths.answers(_disks.find_disk("LUN-0", rack.system))


def test_a_disk_of_nvme_over_tcp_with_two_controllers(rack: Rack) -> None:
    subsystem = rack.root / "sys/devices/virtual/nvme-subsystem/nvme-subsys0"
    nvme(rack, 0, "192.0.2.10")
    nvme(rack, 1, "2001:db8::1", "connecting")
    disk = subsystem / "nvme0n1"
    for key, value in {"size": "131072", "dev": "259:0", "device/serial": "NS-1", "wwid": "uuid.1"}.items():
        rack.attribute(disk, key, value.encode())
    # In a real sysfs device is a link to the subsystem.
    (disk / "device/serial").unlink()
    (disk / "device").rmdir()
    (disk / "device").symlink_to(subsystem)
    rack.attribute(disk, "serial", b"NS-1")
    (rack.root / "sys/block/nvme0n1").symlink_to(disk)
    (rack.root / "dev/nvme0n1").write_bytes(bytes(64 * MIB))
    record = _disks.find_disk("NS-1", rack.system)
    assert record["protocol"] == "NVMeOverFabrics"
    assert [(path["name"], path["portal"], path["state"]) for path in record["paths"]] == [
        ("nvme0", "192.0.2.10:4420", "live"),
        ("nvme1", "[2001:db8::1]:4420", "connecting"),
    ]
    sessions = _disk_paths.network_sessions(os.path.join(rack.root, "sys"))
    assert [session["transport"] for session in sessions] == ["iscsi", "iscsi", "tcp", "tcp"]


def test_local_nvme_has_no_network_paths(rack: Rack) -> None:
    rack.disk("nvme0n1", "PCIE", bus="nvme", device__transport="pcie")
    record = _disks.find_disk("PCIE", rack.system)
    assert record["paths"] == [] and record["protocol"] == "NVMe"
