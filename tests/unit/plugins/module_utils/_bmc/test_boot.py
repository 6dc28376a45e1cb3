# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot overrides, and the ways in which BMCs are particular about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import (
    Bmc,
    BmcRefused,
    BmcTimeout,
    BmcUncertain,
    BmcUnsupported,
    Options,
    boot,
    connect,
)
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.boot import BootState, parse, same
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.quirk import Behaviour
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import SYSTEM, FakeBmc, Reply, error

MakeBmc = Callable[..., FakeBmc]
NONE = BootState("none", None)
CD = BootState("cd", "once")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "SETTLE", 1.0)


def client_of(bmc: FakeBmc) -> Bmc:
    return connect(Options(**bmc.options))


def sent(bmc: FakeBmc) -> list[Any]:
    return [call.body["Boot"] for call in bmc.calls if call.method == "PATCH"]


@pytest.mark.parametrize(
    ("target", "enabled", "state"),
    [
        ("None", "Disabled", NONE),
        ("Cd", "Disabled", NONE),
        ("None", "Once", NONE),
        (None, None, NONE),
        ("Cd", "Once", CD),
        ("UsbCd", "Once", CD),
        ("Hdd", "Continuous", BootState("disk", "continuous")),
        ("BiosSetup", "Once", BootState("biossetup", "once")),
    ],
)
def test_what_a_bmc_shows(target: str | None, enabled: str | None, state: BootState) -> None:
    assert parse({"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": enabled}) == state


def test_comparison() -> None:
    plain = Behaviour()
    assert same(CD, CD, plain)
    assert same(NONE, NONE, plain)
    assert not same(CD, BootState("cd", "continuous"), plain)
    assert not same(CD, NONE, plain)
    assert not same(NONE, CD, plain)
    vague = Behaviour(boot_enabled_unreliable=True, boot_reads_back={"UefiHttp": "Pxe"})
    assert same(CD, BootState("cd", "continuous"), vague)
    assert same(BootState("uefi_http", "once"), BootState("pxe", "continuous"), vague)
    assert not same(BootState("pxe", "once"), BootState("cd", "continuous"), vague)
    assert not same(CD, NONE, vague)


@pytest.mark.parametrize("target", ["disk", "cd", "pxe", "uefi_http"])
@pytest.mark.parametrize("enabled", ["once", "continuous"])
def test_set_and_read_back(make_bmc: MakeBmc, target: str, enabled: str) -> None:
    bmc = make_bmc()
    wanted = BootState(target, enabled)
    with client_of(bmc) as client:
        assert client.boot.read() == NONE
        assert client.boot.apply(wanted) == wanted
    names = {"disk": "Hdd", "cd": "Cd", "pxe": "Pxe", "uefi_http": "UefiHttp"}
    assert sent(bmc) == [{"BootSourceOverrideTarget": names[target], "BootSourceOverrideEnabled": enabled.capitalize()}]


def test_none_removes_it(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    with client_of(bmc) as client:
        client.boot.apply(CD)
        assert client.boot.apply(NONE) == NONE
    assert sent(bmc)[-1] == {"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}


def test_a_target_that_is_not_offered(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"] = ["None", "Pxe"]
    with client_of(bmc) as client, pytest.raises(BmcUnsupported, match="None, Pxe"):
        client.boot.apply(CD)
    assert bmc.writes() == []


def test_another_name_for_the_same_device(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"] = ["None", "UsbCd"]
    with client_of(bmc) as client:
        assert client.boot.apply(CD) == CD
    assert sent(bmc)[0]["BootSourceOverrideTarget"] == "UsbCd"


def test_once_only(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Boot"]["BootSourceOverrideEnabled@Redfish.AllowableValues"] = ["Once", "Disabled"]
    with client_of(bmc) as client:
        assert client.boot.apply(CD) == CD
        with pytest.raises(BmcUnsupported, match="once"):
            client.boot.apply(BootState("disk", "continuous"))
    assert len(bmc.writes()) == 1


def test_a_system_without_overrides(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Boot"] = None
    with client_of(bmc) as client, pytest.raises(BmcUnsupported, match="no boot override"):
        client.boot.read()


def test_a_mode_that_has_to_go_along(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.resource(SYSTEM)["Manufacturer"] = "Supermicro"
    with client_of(bmc) as client:
        client.boot.apply(CD)
    assert sent(bmc)[0]["BootSourceOverrideMode"] == "UEFI"


def test_overrides_that_live_in_the_settings_object(make_bmc: MakeBmc) -> None:
    """The system itself shows only the order; targets and values are beside it."""
    bmc = make_bmc()
    settings = f"{SYSTEM}/Settings"
    system = bmc.resource(SYSTEM)
    system["@Redfish.Settings"] = {"SettingsObject": {"@odata.id": settings}}
    bmc.tree[settings] = {"@odata.id": settings, "Boot": system["Boot"]}
    system["Boot"] = {"BootOrder": ["Boot0001"]}

    def patch(call: Any) -> Reply:
        bmc.resource(settings)["Boot"].update(call.body["Boot"])
        return Reply(200, bmc.resource(settings))

    bmc.patches[settings] = patch
    with client_of(bmc) as client:
        assert client.boot.apply(CD) == CD
    assert bmc.writes() == [f"PATCH {settings}"]


def test_a_settings_object_without_overrides_is_left_alone(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    pending = f"{SYSTEM}/Pending"
    bmc.resource(SYSTEM)["@Redfish.Settings"] = {"SettingsObject": {"@odata.id": pending}}
    bmc.tree[pending] = {"@odata.id": pending, "Boot": {"BootOrder": ["Boot0001"]}}
    with client_of(bmc) as client:
        client.boot.apply(CD)
    assert bmc.writes() == [f"PATCH {SYSTEM}"]


def test_a_lost_answer_is_settled_by_reading(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()

    def cut(call: Any) -> Reply:
        bmc.resource(SYSTEM)["Boot"].update(call.body["Boot"])
        return Reply(drop=True)

    bmc.on("PATCH", SYSTEM, cut, Reply(drop=True))
    with client_of(bmc) as client:
        assert client.boot.apply(CD) == CD
        with pytest.raises(BmcUncertain):
            client.boot.apply(BootState("pxe", "once"))
    assert len(bmc.writes()) == 2


def test_an_answer_of_success_without_effect_is_a_failure(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("PATCH", SYSTEM, Reply(204))
    with client_of(bmc) as client, pytest.raises(BmcTimeout, match="still shows none"):
        client.boot.apply(CD)


def test_a_refusal_has_a_hint(make_bmc: MakeBmc) -> None:
    bmc = make_bmc()
    bmc.on("PATCH", SYSTEM, error(500, "X.1.NoCd", "there is no cd"))
    with client_of(bmc) as client, pytest.raises(BmcRefused, match="there is no cd") as caught:
        client.boot.apply(CD)
    assert "bmc_virtual_media" in caught.value.hint


def test_an_emulator_that_reads_back_otherwise(make_bmc: MakeBmc) -> None:
    """Once is shown as Continuous, and there is no way back to none."""
    bmc = make_bmc()
    bmc.tree["/redfish/v1"]["Id"] = "RedvirtService"
    boot_object = bmc.resource(SYSTEM)["Boot"]
    boot_object["BootSourceOverrideTarget@Redfish.AllowableValues"] = ["Pxe", "Cd", "Hdd", "UefiHttp"]

    def patch(call: Any) -> Reply:
        target = call.body["Boot"]["BootSourceOverrideTarget"]
        boot_object["BootSourceOverrideTarget"] = "Pxe" if target == "UefiHttp" else target
        boot_object["BootSourceOverrideEnabled"] = "Continuous"
        return Reply(204)

    bmc.patches[SYSTEM] = patch
    with client_of(bmc) as client:
        for target in ("cd", "uefi_http", "disk"):
            wanted = BootState(target, "once")
            found = client.boot.apply(wanted)
            assert client.boot.same(wanted, found)
        assert not client.boot.same(NONE, client.boot.read())
        with pytest.raises(BmcUnsupported, match="target: disk"):
            client.boot.check(NONE)
