# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between a profile and a hardware record, and how it is named."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.fit import at_least, differences
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Bond, FirmwareBaseline, Profile

HARDWARE: dict[str, Any] = {
    "system": {"health": "OK", "manufacturer": None},
    "memory": {"total_mib": 131072},
    "storage": {"drives": [{"protocol": "NVMe"}, {"protocol": "SATA"}]},
    "firmware": [
        {"id": "Installed-1", "name": "BIOS", "version": "2.18.0"},
        {"id": "Previous-1", "name": "BIOS", "version": "2.1.0"},
        {"id": "NIC.1", "name": "NIC", "version": None},
        {"id": "NIC.2", "name": "NIC", "version": "22.31.6"},
    ],
}


def profile(expect: tuple[str, ...] = (), firmware: tuple[FirmwareBaseline, ...] = ()) -> Profile:
    return Profile("compute", expect, firmware, {}, Bond("active-backup", ("en*",)), None, None)


def baseline(component: str, version: str | None = None, minimum: str | None = None) -> FirmwareBaseline:
    return FirmwareBaseline(component, version, minimum)


@pytest.mark.parametrize(
    "text",
    [
        "memory.total_mib >= `131072`",
        "length(storage.drives[?protocol == 'NVMe']) == `1`",
        "system.health",
        "length(firmware[?name == 'x'])",  # 0 is true in JMESPath
    ],
)
def test_what_fits(text: str) -> None:
    assert differences(profile((text,)), HARDWARE) == []


@pytest.mark.parametrize(
    ("text", "found", "words"),
    [
        ("memory.total_mib >= `262144`", "131072 >= 262144", "is not true: 131072 >= 262144"),
        ("system.health == 'OK' && memory.total_mib > `262144`", "131072 > 262144", "131072 > 262144"),
        ("length(storage.drives) == `4`", "2 == 4", "2 == 4"),
        ("system.manufacturer", "null", "is not true"),
        ("storage.drives[?protocol == 'SAS']", "[]", "is not true"),
        ("system.manufacturer == 'X' || `false`", "false", "is not true"),
        ("length(ports) > `1`", None, "can't be told"),
    ],
)
def test_an_expectation_that_fails_is_shown_with_its_values(text: str, found: str | None, words: str) -> None:
    (one,) = differences(profile((text,)), HARDWARE)
    assert (one.kind, one.what, one.found) == ("expect", text, found)
    assert one.message.startswith(text) and words in one.message


@pytest.mark.parametrize(
    ("wanted", "messages"),
    [
        (baseline("BIOS", version="2.18.0"), []),
        (baseline("bios", minimum="2.9"), []),
        (baseline("Installed-*", minimum="2.18"), []),
        (baseline("BIOS", version="2.19.1"), ["firmware BIOS is 2.18.0 and not 2.19.1"]),
        (baseline("BIOS", minimum="2.19"), ["firmware BIOS 2.18.0 is older than 2.19"]),
        (baseline("Previous-1", minimum="2.19"), ["firmware BIOS 2.1.0 is older than 2.19"]),
        (
            baseline("NIC", minimum="22.40"),
            [
                "firmware NIC of unknown version can't be compared with 22.40",
                "firmware NIC 22.31.6 is older than 22.40",
            ],
        ),
        (baseline("iDRAC", minimum="7"), ["no firmware is named iDRAC; the BMC lists BIOS, NIC"]),
    ],
)
def test_firmware(wanted: FirmwareBaseline, messages: list[str]) -> None:
    found = differences(profile(firmware=(wanted,)), HARDWARE)
    assert [one.message for one in found] == messages
    assert all(one.kind == "firmware" for one in found)


def test_a_bmc_without_firmware_inventory_does_not_fit() -> None:
    (one,) = differences(profile(firmware=(baseline("BIOS", minimum="1"),)), {**HARDWARE, "firmware": None})
    assert one.message == "no firmware is named BIOS; the BMC lists nothing"


@pytest.mark.parametrize(
    ("version", "minimum", "result"),
    [
        ("2.19.1", "2.19", True),
        ("2.9", "2.19", False),
        ("1.66 Aug 10 2024", "1.66", True),
        ("U54 v2.10 (01/02/2026)", "U54 v2.8", True),
        ("7.10.30.00", "7.10.30.05", False),
        ("2", "2.0.0", True),
        ("2", "2.0.1", False),
        ("release-7", "7", None),
        ("", "1", None),
        (None, "1", None),
    ],
)
def test_at_least(version: str | None, minimum: str, result: bool | None) -> None:
    assert at_least(version, minimum) is result
