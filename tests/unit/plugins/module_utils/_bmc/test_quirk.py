# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The quirk table is data, and applies to what it names and to nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import BmcError, errors
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk import (
    OF_MANAGER,
    Behaviour,
    Identity,
    asks_for_manager,
    behaviour_of,
    load,
    matching,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk_table import QUIRKS
from ansible_collections.kiban.baremetal.tests.unit.plugins import memory_bmc
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import MANAGER, small_tree


def test_entries_are_whole_and_cite_a_public_source() -> None:
    names = [entry["name"] for entry in QUIRKS]
    assert len(names) == len(set(names))
    fields = {field.name for field in dataclasses.fields(Behaviour)}
    identity = {field.name for field in dataclasses.fields(Identity)} | set(OF_MANAGER)
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


@pytest.mark.parametrize(
    ("firmware", "applies"),
    [
        ("7.00.00.00", True),
        ("7.9", True),
        ("7.10.30.00", False),
        ("6.99", False),
        ("iLO 5 v7.01", True),
        ("iLO 8 v2.72", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_an_entry_for_some_versions_of_the_firmware(firmware: str, applies: bool) -> None:
    match = {"vendor": "^dell$", "firmware_from": "7.0", "firmware_below": "7.10.30"}
    own = {"match": match, "behaviour": {"no_expand": True}}
    assert behaviour_of(Identity(vendor="Dell", firmware=firmware), [own]).no_expand is applies
    assert asks_for_manager(Identity(vendor="Dell"), [own])
    assert not asks_for_manager(Identity(vendor="HPE"), [own])


def test_what_is_shipped_costs_no_request() -> None:
    for entry in QUIRKS:
        assert not set(entry["match"]) & set(OF_MANAGER), "this is read with every BMC of that kind"


def written(directory: Path, entries: Any) -> str:
    place = directory / "quirks.json"
    place.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return str(place)


@pytest.mark.parametrize(("below", "applies"), [("1.1", True), ("1.0", False)])
def test_a_sites_own_file(tmp_path: Path, below: str, applies: bool) -> None:
    tree = small_tree()
    tree[MANAGER]["FirmwareVersion"] = "1.0"
    entry = {"name": "own", "match": {"firmware_below": below}, "behaviour": {"boot_sends_mode": True}}
    with memory_bmc.client(tree, quirks_path=written(tmp_path, [entry])) as bmc:
        bmc.resources.system()
        assert bmc.resources.behaviour.boot_sends_mode is applies
        before = bmc.resources.known()
        assert bmc.resources.behaviour.boot_sends_mode is applies and bmc.resources.known() == before


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("{", "Expecting"),
        ({}, "it is not a list"),
        (["x"], "entry 1: it has no match"),
        ([{"match": {}, "behaviour": {}}], "entry 1: it has no match"),
        ([{"name": "a", "match": {"vendor": "x"}}], "entry a: it has no behaviour"),
        ([{"name": "a", "match": {"maker": "x"}, "behaviour": {}}], "match has maker; it knows vendor"),
        ([{"name": "a", "match": {"vendor": "("}, "behaviour": {}}], "match.vendor is no regular expression"),
        ([{"name": "a", "match": {"vendor": 7}, "behaviour": {}}], "match.vendor is no regular expression"),
        ([{"name": "a", "match": {"firmware_from": "new"}, "behaviour": {}}], "match.firmware_from is no version"),
        ([{"name": "a", "match": {"vendor": "x"}, "behaviour": {"expand": 1}}], "behaviour has expand"),
        ([{"name": "a", "match": {"vendor": "x"}, "behaviour": {"no_expand": 1}}], "no_expand has to be a bool"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, entries: Any, words: str) -> None:
    with pytest.raises(BmcError, match=re.escape(words)) as caught:
        load("192.0.2.1", written(tmp_path, entries))
    assert caught.value.kind == "option" and "quirks.json" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BmcError, match="No such file"):
        load("192.0.2.1", str(tmp_path / "none.json"))


def test_the_documentation_names_all_that_a_file_can_say(checkout: Path) -> None:
    page = (checkout / "docs" / "bmc.md").read_text()
    names = [field.name for kind in (Identity, Behaviour) for field in dataclasses.fields(kind)]
    missing = [name for name in (*names, *OF_MANAGER) if f"`{name}`" not in page]
    assert not missing


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
