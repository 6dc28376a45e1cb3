# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all bmc_* modules have in common: their group, their options, how they fail, and that they leave no session."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kiban.baremetal.plugins.doc_fragments.bmc import ModuleDocFragment
from ansible_collections.kiban.baremetal.plugins.module_utils._bmc.argspec import bmc_argument_spec
from ansible_collections.kiban.baremetal.tests.simulator import Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import FakeBmc, Reply
from ansible_collections.kiban.baremetal.tests.unit.plugins.hurry import hurry

MakeSimulator = Callable[..., Simulator]
MakeBmc = Callable[..., FakeBmc]
RunModule = Callable[..., dict[str, Any]]

CHECKOUT = Path(__file__).resolve().parents[4]
ALL = sorted(path.stem for path in (CHECKOUT / "plugins" / "modules").glob("bmc_*.py"))
# What makes each of them do something on a well-behaved BMC.
ENOUGH: dict[str, dict[str, Any]] = {
    "bmc_bios": {"attributes": {"ProcVirtualization": "Disabled"}},
    "bmc_boot": {"target": "pxe"},
    "bmc_certificate": {"state": "requested", "subject": {"common_name": "bmc"}},
    "bmc_erase": {"state": "erased", "drives": ["C559AE24757158"]},
    "bmc_firmware": {"updates": [{"component": "BMC", "version": "9", "image": "http://u:canary@192.0.2.2/BMC_9.bin"}]},
    "bmc_info": {},
    "bmc_log": {"state": "cleared"},
    "bmc_network": {"hostname": "bmc-1"},
    "bmc_power": {"state": "off", "method": "forced"},
    "bmc_user": {"name": "watcher", "account_password": "canary-new-1", "role": "ReadOnly"},
    "bmc_virtual_media": {"image": "http://192.0.2.2/a.iso"},
    "bmc_volume": {"name": "a", "raid_type": "RAID0", "drives": ["C559AE24757158"], "controller": "RAID"},
}
# What reads many BMCs has results of its own for each, and tests of its own: test_bmc_scan.py.
MANY = ("bmc_scan",)
NAMES = [name for name in ALL if name not in MANY]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"ansible_collections.kiban.baremetal.plugins.modules.{name}")


def test_all_of_them_are_in_the_action_group() -> None:
    runtime = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["bmc"]) == ALL


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"bmc_boot", "bmc_info", "bmc_log", "bmc_power"}))
def test_what_ipmi_cannot_do_is_unsupported(name: str, run_module: RunModule) -> None:
    account = {"address": "192.0.2.9", "username": "u", "password": "canary", "driver": "ipmi"}
    result = run_module(module_of(name), **{**account, **ENOUGH[name]})
    assert (result["failed"], result["changed"], result["failure"]["kind"]) == (True, False, "unsupported")
    assert "the driver ipmi knows nothing of" in result["msg"]


@pytest.mark.parametrize("profile", ["well-behaved", "dell-idrac9", "hpe-ilo6", "lenovo-xcc", "supermicro-x13"])
def test_sensors(profile: str, simulator: MakeSimulator, run_module: RunModule) -> None:
    """The temperatures are those that the tree has, whichever way the maker shows them."""
    bmc = simulator(profile)
    sensors = run_module(module_of("bmc_info"), **bmc.options, subset=["sensors"])["hardware"]["sensors"]
    assert all(set(sensor) == {"name", "reading", "unit", "health"} for sensor in sensors)
    there = [bmc.get(uri) for uri in bmc.find("Thermal")]
    names = {item["Name"] for body in there for item in body.get("Temperatures", []) if "ReadingCelsius" in item}
    if bmc.find("Sensor"):
        bodies = [bmc.get(uri) for uri in bmc.find("Sensor")]
        names = {body["Name"] for body in bodies if body.get("ReadingType") == "Temperature"}
    found = {sensor["name"] for sensor in sensors if sensor["unit"] == "C"}
    assert found <= names and (found or not names)


def test_these_tests_know_all_of_them() -> None:
    assert sorted(ENOUGH) == NAMES


@pytest.mark.parametrize("name", ALL)
def test_the_group_is_documented(name: str) -> None:
    documentation = yaml.safe_load(module_of(name).DOCUMENTATION)
    fragments = documentation["extends_documentation_fragment"]
    assert {"kiban.baremetal.bmc", "kiban.baremetal.attributes.actiongroup_bmc"} <= set(fragments)


def test_the_common_options_are_documented_as_they_are() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    spec = bmc_argument_spec()
    assert set(documented) == set(spec)
    for name, option in spec.items():
        for key in ("type", "default", "choices"):
            assert documented[name].get(key) == option.get(key), name
        assert documented[name].get("required", False) is option.get("required", False)
    assert spec["password"]["no_log"] is True


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("missing", ["address", "username", "password"])
def test_required_options(run_module: RunModule, name: str, missing: str) -> None:
    params = {"address": "192.0.2.1", "username": "u", "password": "p", **ENOUGH[name]}
    del params[missing]
    result = run_module(module_of(name), **params)
    assert result["failed"]
    assert missing in result["msg"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def enough(name: str, bmc: Simulator) -> dict[str, Any]:
    """ENOUGH, with what differs from one BMC to the other."""
    params: dict[str, Any] = dict(ENOUGH[name])
    if name == "bmc_certificate":
        words = dict.fromkeys(("organization", "organizational_unit", "city", "state_or_province"), "x")
        params["subject"] = {"common_name": "bmc", "country": "DE", **words}
    if "drives" in params:
        params["drives"] = [next(bmc.get(uri)["SerialNumber"] for uri in bmc.find("Drive"))]
    if name == "bmc_log":
        bmc.add_log_entry("something happened")
    return params


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_password_fails_clearly_and_is_tried_once(
    simulator: MakeSimulator, run_module: RunModule, name: str
) -> None:
    bmc = simulator()
    result = run_module(module_of(name), **{**bmc.options, **enough(name, bmc), "password": "canary-wrong"})
    assert result["failed"]
    assert result["failure"]["kind"] == "auth"
    assert result["failure"]["status"] == 401
    assert result["changed"] is False
    assert bmc.address in result["msg"]
    assert bmc.logins == 1
    assert "canary" not in str({**result, "invocation": None})


@pytest.mark.parametrize("name", NAMES)
def test_nothing_secret_in_any_result(simulator: MakeSimulator, run_module: RunModule, name: str, quick: None) -> None:
    bmc = simulator()
    result = run_module(module_of(name), diff_mode=True, **bmc.options, **enough(name, bmc))
    assert not result["failed"], result
    assert result["changed"] is (name != "bmc_info")
    # Not even as Ansible's own mask: it would mean that the module had put it there.
    assert "canary" not in str({**result, "invocation": None})
    assert "VALUE_SPECIFIED" not in str({**result, "invocation": None})


@pytest.mark.parametrize("name", NAMES)
def test_an_unreachable_bmc(run_module: RunModule, name: str) -> None:
    result = run_module(module_of(name), address="127.0.0.1:1", username="u", password="p", **ENOUGH[name])
    assert result["failed"]
    assert result["failure"]["kind"] == "unreachable"
    assert "127.0.0.1:1" in result["msg"]


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_carries_status_and_message(
    simulator: MakeSimulator, run_module: RunModule, name: str, quick: None
) -> None:
    """Whatever is refused: a BMC that is broken inside is never taken for one that lacks something."""
    bmc = simulator()
    params = enough(name, bmc)
    own = lambda call: call.uri != "/redfish/v1"  # noqa: E731
    bmc.fault("GET", times=None, when=own, status=500, message=("X.1.Broken", "broken inside"))
    result = run_module(module_of(name), **bmc.options, **params)
    assert result["failed"]
    assert result["failure"]["status"] == 500, result["msg"]
    assert result["failure"]["messages"][0]["MessageId"] == "X.1.Broken"
    assert "broken inside" in result["msg"]
    assert bmc.writes() == []


@pytest.mark.parametrize("name", NAMES)
def test_check_mode_sends_nothing_that_changes(
    simulator: MakeSimulator, run_module: RunModule, name: str, quick: None
) -> None:
    bmc = simulator()
    params = enough(name, bmc)
    before = bmc.state()
    result = run_module(module_of(name), check_mode=True, **bmc.options, **params)
    assert not result["failed"], result
    assert bmc.writes() == [] and bmc.state() == before
    assert result["requests"] == len(bmc.requests)


def test_what_is_unusual_becomes_a_warning(
    make_bmc: MakeBmc, run_module: RunModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    bmc = make_bmc()
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, warning: warnings.append(warning))
    bmc.on("POST", "/redfish/v1/SessionService/Sessions", Reply(503))
    result = run_module(module_of("bmc_power"), **bmc.options, state="off")
    assert not result["failed"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"BMC {bmc.address}: ") and "basic authentication" in warnings[0]
