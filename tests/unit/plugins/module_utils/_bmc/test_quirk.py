# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quirk table is data, and applies to what it names and to nothing else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError, errors
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk import (
    Behaviour,
    Identity,
    behaviour_of,
    matching,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk_table import QUIRKS


def test_entries_are_whole_and_cite_a_public_source() -> None:
    names = [entry["name"] for entry in QUIRKS]
    assert len(names) == len(set(names))
    fields = {field.name for field in dataclasses.fields(Behaviour)}
    identity = {field.name for field in dataclasses.fields(Identity)}
    for entry in QUIRKS:
        assert set(entry) == {"name", "match", "behaviour", "why", "source", "seen"}
        assert entry["source"].startswith("https://"), entry["name"]
        assert entry["why"].endswith(".")
        assert entry["behaviour"] and set(entry["behaviour"]) <= fields
        assert entry["match"] and set(entry["match"]) <= identity
        for pattern in entry["match"].values():
            re.compile(pattern)


@pytest.mark.parametrize("entry", QUIRKS, ids=lambda entry: entry["name"])
def test_what_is_not_known_matches_nothing(entry: dict[str, Any]) -> None:
    assert entry not in matching(Identity())


def test_vendor_names_stand_only_in_the_table(checkout: Path) -> None:
    """No code asks who made it."""
    vendors = r"\b(dell|idrac|hpe|ilo\d?|lenovo|xcc|supermicro|ami|megarac|openbmc|sushy|nokia|gigabyte)\b"
    for file in (checkout / "plugins/module_utils/_bmc").glob("*.py"):
        if file.name == "quirk_table.py":
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = line.split("#")[0]
            if re.search(r"\b(if|elif|in|==|match)\b", code):
                assert not re.search(vendors, code, re.IGNORECASE), f"{file.name}:{number}: {line.strip()}"


def test_identity_is_read_from_root_and_system() -> None:
    root = {"Id": "RootService", "Oem": {"Hpe": {}}, "Product": " ProLiant "}
    system = {"@odata.id": "/redfish/v1/Systems/1/", "Manufacturer": "HPE", "Model": "DL"}
    found = Identity.of(root, system)
    assert (found.vendor, found.product, found.system, found.model) == ("Hpe", "ProLiant", "1", "DL")
    assert Identity.of({"Vendor": None, "Oem": None}) == Identity()


def test_a_sites_own_entries_win() -> None:
    identity = Identity(vendor="Dell")
    own = {"name": "own", "match": {"vendor": "^dell$"}, "behaviour": {"no_expand": True, "passing_refusals": ()}}
    assert behaviour_of(identity).passing_refusals
    assert behaviour_of(identity, [own]).no_expand
    assert not behaviour_of(identity, [own]).passing_refusals


def test_a_bmc_that_nobody_knows_follows_the_standard() -> None:
    assert behaviour_of(Identity(vendor="Example", manufacturer="Example", root="RootService")) == Behaviour()


def test_the_documentation_lists_every_entry_and_no_other(checkout: Path) -> None:
    page = (checkout / "docs" / "bmc.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|.*\| (yes|no) \|$", page, re.MULTILINE)
    assert rows == [(entry["name"], "yes" if entry["seen"] else "no") for entry in QUIRKS]
    for entry in QUIRKS:
        assert entry["source"] in page, entry["name"]


def test_the_documentation_lists_every_kind_of_error(checkout: Path) -> None:
    page = (checkout / "docs" / "bmc.md").read_text()
    kinds = {error.kind for error in vars(errors).values() if isinstance(error, type) and issubclass(error, BmcError)}
    table = page.split("## Errors")[1].split("## ")[0]
    assert kinds - {"error"} == set(re.findall(r"`([a-z_]+)`(?=[^|]*\| )", table.split("|---|---|")[1])) - {
        "status",
        "messages",
    }
