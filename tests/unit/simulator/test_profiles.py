# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles are data with sources, and each is a BMC that answers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect, resource
from ansible_collections.kiban.baremetal.tests.simulator import PROFILES, Simulator, trees
from ansible_collections.kiban.baremetal.tests.simulator.profile import Profile
from ansible_collections.kiban.baremetal.tests.simulator.profiles import TABLE
from ansible_collections.kiban.baremetal.tests.simulator.settings import _registry

from .conftest import Make

FIELDS = {field.name for field in dataclasses.fields(Profile)}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_traits_are_fields_with_a_source(name: str) -> None:
    entry = TABLE[name]
    assert set(entry) <= {"what", "tree", "shape", "traits"}
    assert entry["what"]
    for field, _value, source in entry["traits"]:
        assert field in FIELDS
        assert source


def test_the_documentation_lists_every_profile(checkout: Path) -> None:
    page = (checkout / "docs" / "simulator.md").read_text()
    for name, entry in TABLE.items():
        assert f"| `{name}` | {entry['what']} |" in page


@pytest.mark.parametrize("kind", ["synthetic", "recorded"])
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_the_client_of_this_collection_reads_it(name: str, kind: str) -> None:
    problem = trees.why_not(PROFILES[name].tree)
    if kind == "recorded" and problem:
        pytest.skip(problem)
    resource._lies.clear()
    with Simulator(name, tree=kind) as sim:
        with connect(Options(**sim.options)) as bmc:
            record = bmc.hardware()
        assert record["system"]["serial_number"]
        assert record["processors"]
        assert record["memory"]["dimms"]
        assert {request.status for request in sim.requests} <= {200, 201, 204, 404}
        sim.check()


def _all() -> list[tuple[str, str]]:
    return [(name, kind) for name in sorted(PROFILES) for kind in ("synthetic", "recorded")]


@pytest.mark.parametrize("name, kind", _all())
def test_each_kind_of_write_works_on_it(make: Make, name: str, kind: str) -> None:
    """Power, boot override, BIOS settings, an account, media: the way that the profile has them."""
    problem = trees.why_not(PROFILES[name].tree)
    if kind == "recorded" and problem:
        pytest.skip(problem)
    sim, client = make(name, tree=kind, power="Off")
    profile, system = sim.profile, sim.bmc.power.system

    def headers(uri: str) -> dict[str, str]:
        """What a PATCH of this BMC needs."""
        etag = client.get(uri, Accept_Encoding="gzip").headers.get("etag", "")
        return {"If_Match": etag.removeprefix("W/")} if profile.if_match != "ignored" and etag else {}

    # Boot override, then power.
    boot = {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once", "BootSourceOverrideMode": "UEFI"}
    place = next((s for s, owner in sim.bmc.settings.items() if owner == system), system)
    place = place if profile.boot_on_settings else system
    assert client.patch(place, {"Boot": boot}, **headers(place)).status == 200
    reset = sim.get(system)["Actions"]["#ComputerSystem.Reset"]["target"]
    assert client.post(reset, {"ResetType": "On"}).status == 204
    sim.advance(profile.power_seconds)
    assert client.get(system).body["PowerState"] == "On"
    assert sim.boots == ["Pxe"]
    sim.advance(300)
    _bios(sim, client, headers, reset)
    _account(sim, client, headers)
    _media(sim, client, headers)


def _bios(sim: Simulator, client: Any, headers: Any, reset: str) -> None:
    owners = [(s, o) for s, o in sim.bmc.settings.items() if sim.get(o)["@odata.type"].endswith(".Bios")]
    for settings, owner in owners:
        now = sim.get(owner)["Attributes"]
        other = {"Enabled": "Disabled", "Disabled": "Enabled", "Enable": "Disable", "Disable": "Enable"}
        read_only = {key for key, entry in _registry(sim.bmc, owner).items() if entry.get("ReadOnly")}
        name = next(key for key, value in now.items() if value in other and key not in read_only)
        wanted = other[now[name]]
        body: dict[str, Any] = {"Attributes": {name: wanted}}
        if sim.get(owner).get("@Redfish.Settings", {}).get("SupportedApplyTimes"):
            body["@Redfish.SettingsApplyTime"] = {"ApplyTime": "OnReset"}
        answer = client.patch(settings, body, **headers(settings))
        assert answer.status in (200, 202), answer.raw
        assert client.get(owner).body["Attributes"][name] == now[name]
        assert client.get(settings).body["Attributes"][name] == wanted
        assert client.post(reset, {"ResetType": "ForceRestart"}).status == 204
        sim.advance(300)
        assert client.get(owner).body["Attributes"][name] == wanted


def _account(sim: Simulator, client: Any, headers: Any) -> None:
    body = {"UserName": "ops", "Password": "first-Pass1", "RoleId": "Operator"}
    if sim.profile.accounts == "create":
        collection = "/redfish/v1/AccountService/Accounts"
        assert client.post(collection, body).status == 201
    else:
        slot = [uri for uri in sim.find("ManagerAccount") if not sim.get(uri)["UserName"]][1]
        assert client.patch(slot, {**body, "Enabled": True}, **headers(slot)).status == 200
    assert sim.bmc.access.check("ops", "first-Pass1")


def _media(sim: Simulator, client: Any, headers: Any) -> None:
    for uri in sim.find("VirtualMedia"):
        slot = sim.get(uri)
        if not re.search(sim.profile.media_slots, slot["Id"]):
            continue
        body = {"Image": "http://192.0.2.1/a.iso"}
        if sim.profile.media == "patch":
            assert client.patch(uri, {**body, "Inserted": True}, **headers(uri)).status == 200
        else:
            target = slot["Actions"]["#VirtualMedia.InsertMedia"]["target"]
            assert client.post(target, body).status == 204
        assert client.get(uri).body["Inserted"] is True
