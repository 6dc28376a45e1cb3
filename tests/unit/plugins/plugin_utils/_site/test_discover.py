# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a scan to a piece of site model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.discover import discover
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import SiteError
from ansible_collections.kiban.baremetal.tests.unit.plugins.plugin_utils._site.test_load import SMALL

Json = dict[str, Any]
UUID = "4c4c4544-0034-3010-8052-b4c04f4a4d3"


def entry(address: str, number: int, name: str | None = None, **system: Any) -> Json:
    body = {"manufacturer": "Example", "model": "M1", "serial_number": f"SN{number}", "uuid": f"{UUID}{number}"}
    drive = {"protocol": "SATA", "media_type": "SSD", "capacity_bytes": 480_000_000_000}
    return {
        "address": address,
        "name": name,
        "failure": None,
        "hardware": {
            "system": {**body, **system},
            "memory": {"total_mib": 65536, "dimms": [{}]},
            "processors": [{"model": "CPU X"}],
            "storage": {
                "drives": [drive, {"protocol": "NVMe", "media_type": "SSD", "capacity_bytes": 3_840_000_000_000}]
            },
            "ports": [{"id": "p1", "mac": "02:00:00:00:00:01", "link": "up", "speed_mbps": 25000, "lldp": None}],
        },
    }


def failure(address: str, kind: str) -> Json:
    return {"address": address, "name": None, "hardware": None, "failure": {"kind": kind, "message": f"is {kind}"}}


def server(name: str, address: str) -> Json:
    return {"name": name, "bmc": {"address": address}}


def test_known_by_address_and_by_what_it_says() -> None:
    found = [
        entry("192.0.2.99", 1),  # the same server at another address, met first
        entry("192.0.2.21", 1),
        entry("https://192.0.2.22:443", 2),
        entry("192.0.2.23", 3, name="node03"),
        entry("192.0.2.24", 4),
    ]
    result = discover(found, [server("node01", "192.0.2.21"), server("node02", "192.0.2.22")])
    assert {(one["name"], one["address"], one["by"]) for one in result.known} == {
        ("node01", "192.0.2.21", "address"),
        ("node02", "https://192.0.2.22:443", "address"),
        ("node03", "192.0.2.23", "address"),
        ("node01", "192.0.2.99", "serial number or uuid"),
    }
    assert [(one["name"], one["address"]) for one in result.unknown] == [("server-sn4", "192.0.2.24")]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {}, True),
        ({"uuid": None}, {}, True),
        ({"serial_number": "To be filled by O.E.M."}, {}, True),
        ({"serial_number": "OTHER"}, {}, False),  # some boards come with the UUID of their maker
        ({"uuid": "0" * 32}, {"serial_number": "OTHER"}, False),
        ({"uuid": None, "serial_number": None}, {}, False),
        ({"uuid": "00000000-0000-0000-0000-000000000000", "serial_number": "N/A"}, {}, False),
    ],
)
def test_one_server_at_two_addresses(one: Json, other: Json, same: bool) -> None:
    both = [entry("192.0.2.1", 1, **one), entry("192.0.2.2", 1, **other)]
    result = discover(both)
    assert len(result.unknown) == (1 if same else 2)
    assert len({item["name"] for item in result.unknown}) == len(result.unknown)
    if same:
        assert result.unknown[0]["also_at"] == ["192.0.2.2"]
        assert "192.0.2.2" in result.text


def test_what_cannot_be_read_is_told_and_nothing_is_not() -> None:
    found = [failure("192.0.2.1", "unreachable"), failure("192.0.2.2", "auth"), failure("192.0.2.21", "unreachable")]
    result = discover(found, [server("node01", "192.0.2.21")])
    assert sorted((one["address"], one["name"], one["kind"]) for one in result.failed) == [
        ("192.0.2.2", "", "auth"),
        ("192.0.2.21", "node01", "unreachable"),
    ]
    assert result.text == "" and result.unknown == [] and result.known == []


def test_the_piece_fits_into_a_site_once_it_is_edited() -> None:
    found = [entry("192.0.2.24", 4), entry("192.0.2.25", 5), entry("192.0.2.26", 6, model="M2")]
    text = discover(found).text
    piece = yaml.safe_load(text)
    site = copy.deepcopy(SMALL)
    site["profiles"].update(piece["profiles"])
    site["racks"] += piece["racks"]
    with pytest.raises(SiteError) as refused:
        load_site(site)
    assert {problem.path.rsplit(".", 1)[-1] for problem in refused.value.problems} == {"node"}, "the rest is right"
    for number, one in enumerate(piece["racks"][0]["servers"]):
        one["addresses"]["node"] = f"198.51.100.{200 + number}"
    loaded = load_site(site)
    assert loaded.server("server-sn4").bmc.address == "192.0.2.24"
    assert loaded.server("server-sn4").profile == loaded.server("server-sn5").profile == "m1"
    assert loaded.server("server-sn6").profile == "m2"
    system = loaded.profiles["m1"].disks["system"]
    assert system.select == "media_type == 'SSD' && capacity_bytes < `528000000000`"
    for said in ("SN4", "CPU X", "65536 MiB", "1 x 480 GB SATA SSD", "02:00:00:00:00:01 up 25000 Mbit/s"):
        assert said in text


def test_a_bmc_can_not_write_into_the_model() -> None:
    evil = "x\nracks: []\r# \u2028y: 'z"
    found = [entry("192.0.2.1", 1, serial_number=evil, model=evil, manufacturer=evil, hostname=evil)]
    piece = yaml.safe_load(discover(found).text)
    assert set(piece) == {"profiles", "racks"} and len(piece["racks"][0]["servers"]) == 1


def test_a_bmc_that_says_little() -> None:
    empty = {"system": None, "memory": None, "processors": None, "storage": None, "ports": None}
    found = [{"address": f"192.0.2.{n}", "name": None, "failure": None, "hardware": empty} for n in (1, 2)]
    result = discover(found)
    assert [one["name"] for one in result.unknown] == ["server-192-0-2-1", "server-192-0-2-2"]
    assert set(yaml.safe_load(result.text)["profiles"]) == {"server"}
