# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JMESPath expressions are looked at when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils import _disks
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.expressions import (
    DISK_FIELDS,
    ExpressionError,
    check_expression,
    check_selector,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.disk_rack import Rack


@pytest.mark.parametrize(
    "text",
    [
        "protocol == 'NVMe'",
        "capacity_bytes > `1000` && !kiban",
        "starts_with(serial_number, 'DATA-') || contains(model, 'X')",
        "length(signatures[?type == 'ext4']) == `0`",
        "kiban.purpose == 'data'",
        "partitions[0].label == 'x'",
        "partitions[].signatures[].type | [0]",
        "signatures[*].type | contains(@, 'gpt')",
        "max_by(partitions, &size_bytes).size_bytes > `1`",
        "`true`",
        "@.name == 'sda'",
        "protocol == 'SAS' &&\n  media_type == 'SSD'\n",
    ],
)
def test_selectors_that_are_right(text: str) -> None:
    check_selector(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("size > `1`", "'size'"),
        ("protocol == NVMe", "'NVMe'"),
        ("length(signaturs) == `0`", "'signaturs'"),
        ("!mounted", "'mounted'"),
        ("partition[0].label == 'x'", "'partition'"),
        ("partitons[*].name", "'partitons'"),
        ("kiban && (mounts || hold)", "'hold'"),
        ("max_by(parts, &size_bytes)", "'parts'"),
        ("{a: nam}", "'nam'"),
    ],
)
def test_fields_that_no_disk_has(text: str, word: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check_selector(text)
    assert f"asks for {word}, which a disk record does not have" in caught.value.message


def test_expectations_may_ask_for_anything() -> None:
    check_expression("length(storage.drives[?protocol == 'NVMe']) >= `4`")


def test_a_function_deep_inside() -> None:
    with pytest.raises(ExpressionError, match=r"unknown function len\(\)"):
        check_expression("a && (b[?len(c) > `1`] || d)")


def test_the_fields_are_those_of_a_disk_record() -> None:
    assert {"name", "serial_number", "capacity_bytes", "protocol", "media_type", "signatures", "kiban"} <= DISK_FIELDS


def test_selectors_ask_only_for_what_a_record_has(tmp_path: Path) -> None:
    rack = Rack(tmp_path / "rack")
    rack.disk("sda", "S1", bus="sata")
    [record] = _disks.list_disks(rack.system)
    assert set(record) >= DISK_FIELDS
