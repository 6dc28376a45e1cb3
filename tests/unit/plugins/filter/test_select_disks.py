# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter as a template uses it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

DISKS = [
    {"name": "vda", "serial_number": "S1", "protocol": "VirtIO", "capacity_bytes": 1, "signatures": [{"type": "ext4"}]},
    {"name": "vdb", "serial_number": "S2", "protocol": "SCSI", "capacity_bytes": 1, "signatures": []},
]


def render(text: str, **variables: Any) -> Any:
    return Templar(loader=DataLoader(), variables={"disks": DISKS, **variables}).template(trust_as_template(text))


def test_in_a_template() -> None:
    text = "{{ disks | kiban.baremetal.select_disks({'select': 'protocol == `\"VirtIO\"`'}, ['S1'], 'system') }}"
    assert render(text)["chosen"] == [DISKS[0]]


def test_a_bad_selector_is_a_sentence() -> None:
    with pytest.raises(AnsibleError, match="is not a JMESPath expression"):
        render("{{ disks | kiban.baremetal.select_disks({'select': 'a ='}, [], 'system') }}")


@pytest.mark.parametrize(
    "call", ["({'select': 'name'}, [], 'swap')", "({'count': 1}, [], 'data')", "('name', [], 'data')"]
)
def test_bad_arguments(call: str) -> None:
    with pytest.raises(AnsibleError, match="select_disks"):
        render("{{ disks | kiban.baremetal.select_disks" + call + " }}")


def test_disks_and_drives_in_a_template() -> None:
    drives = [{"serial_number": "s-1", "capacity_bytes": 1}, {"serial_number": "S9"}]
    found = render("{{ disks | kiban.baremetal.match_drives(drives) }}", drives=drives)
    assert [(each["disk"]["name"], each["differences"]) for each in found["matched"]] == [("vda", [])]
    assert ([d["name"] for d in found["disks"]], [d["serial_number"] for d in found["drives"]]) == (["vdb"], ["S9"])
    with pytest.raises(AnsibleError, match="match_drives needs two lists"):
        render("{{ disks | kiban.baremetal.match_drives(7) }}")
