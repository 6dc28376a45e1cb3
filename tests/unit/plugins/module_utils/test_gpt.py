# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _gpt
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_content import put
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import MIB, run


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.truncate(64 * MIB)
    return path


def write(path: Path, table: _gpt.Table) -> None:
    layout = table.layout()
    for offset, data in (layout.backup, layout.primary, layout.protective_mbr):
        put(path, offset, data)


def test_a_new_table_pleases_other_tools(disk: Path) -> None:
    part = str(uuid.uuid4())
    table = _gpt.new_table(64 * MIB, 512, "kiban-data", str(uuid.uuid4()), part)
    write(disk, table)
    assert "No problems found" in run("sgdisk", "-v", disk)
    run("sfdisk", "--verify", disk)
    shown = json.loads(run("sfdisk", "-J", disk))["partitiontable"]
    [entry] = shown["partitions"]
    assert (entry["name"], entry["uuid"].lower(), entry["start"]) == ("kiban-data", part, 2048)
    assert (entry["start"] + entry["size"]) % 2048 == 0
    assert shown["id"].lower() == table.disk_uuid


def test_what_sfdisk_writes_is_read(disk: Path) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\nsize=8M, type=U, name=esp\nsize=8M, name=kiban-root, attrs=GUID:59\n")
    table = _gpt.parse(disk.read_bytes()[:MIB], 512)
    assert table and table.disk_bytes == 64 * MIB
    assert [part.label for part in table.partitions] == ["esp", "kiban-root"]
    assert table.labelled("kiban-root")[0].attributes == 1 << 59
    raw, layout = disk.read_bytes(), table.layout()
    # writing it back changes no byte
    for offset, data in (layout.primary, layout.backup):
        assert raw[offset : offset + len(data)] == data


def test_a_table_grows_with_the_disk(disk: Path) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\nsize=8M, name=esp\nname=kiban-root\n")
    table = _gpt.parse(disk.read_bytes()[:MIB], 512)
    assert table
    with open(disk, "r+b") as file:
        file.truncate(200 * MIB + 512 * 7)
    write(disk, table.grown(200 * MIB + 512 * 7, 2))
    assert "No problems found" in run("sgdisk", "-v", disk)
    parts = json.loads(run("sfdisk", "-J", disk))["partitiontable"]["partitions"]
    assert (parts[1]["start"] + parts[1]["size"]) * 512 == 199 * MIB
    assert parts[0]["size"] == 16384


def test_only_the_last_partition_can_grow(disk: Path) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\nsize=8M\nsize=8M\n")
    table = _gpt.parse(disk.read_bytes()[:MIB], 512)
    assert table
    with pytest.raises(ValueError, match="not the last one"):
        table.grown(128 * MIB, 1)
    with pytest.raises(ValueError, match="do not fit"):
        table.grown(12 * MIB, 2)


@pytest.mark.parametrize("offset", [512 + 40, 1024 + 60, 512 + 16])
def test_a_damaged_table_is_no_table(disk: Path, offset: int) -> None:
    run("sfdisk", "-q", disk, stdin="label: gpt\nsize=8M, name=x\n")
    raw = bytearray(disk.read_bytes()[:MIB])
    raw[offset] ^= 1
    assert _gpt.parse(bytes(raw), 512) is None


def test_sectors_of_4096_bytes() -> None:
    table = _gpt.new_table(64 * MIB, 4096, "kiban-data", str(uuid.uuid4()), str(uuid.uuid4()))
    offset, data = table.layout().primary
    assert offset == 4096
    assert _gpt.parse(bytes(4096) + data, 4096) == table
    assert _gpt.parse(bytes(4096) + data, 512) is None


@pytest.mark.parametrize("head", [b"", bytes(MIB)])
def test_nothing_is_no_table(head: bytes) -> None:
    assert _gpt.parse(head, 512) is None
