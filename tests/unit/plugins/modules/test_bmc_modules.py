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
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import SYSTEM, FakeBmc, Reply, error

MakeBmc = Callable[..., FakeBmc]
RunModule = Callable[..., dict[str, Any]]

CHECKOUT = Path(__file__).resolve().parents[4]
ALL = sorted(path.stem for path in (CHECKOUT / "plugins" / "modules").glob("bmc_*.py"))
ENOUGH: dict[str, dict[str, Any]] = {
    "bmc_info": {},
    "bmc_power": {"state": "on"},
    "bmc_boot": {"target": "pxe"},
    "bmc_virtual_media": {"image": "http://192.0.2.2/a.iso"},
}
# What reads many BMCs has results of its own for each, and tests of its own: test_bmc_scan.py.
MANY = ("bmc_scan",)
NAMES = [name for name in ALL if name not in MANY]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"ansible_collections.kiban.baremetal.plugins.modules.{name}")


def test_all_of_them_are_in_the_action_group() -> None:
    runtime = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())
    assert sorted(runtime["action_groups"]["bmc"]) == ALL


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


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_password_fails_clearly_and_is_tried_once(make_bmc: MakeBmc, run_module: RunModule, name: str) -> None:
    bmc = make_bmc()
    params = {**bmc.options, **ENOUGH[name], "password": "canary-wrong"}
    result = run_module(module_of(name), **params)
    assert result["failed"]
    assert result["failure"]["kind"] == "auth"
    assert result["failure"]["status"] == 401
    assert result["changed"] is False
    assert bmc.address in result["msg"]
    assert bmc.password_tries == 1
    assert "canary" not in str(result)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_secret_in_any_result(make_bmc: MakeBmc, run_module: RunModule, name: str) -> None:
    bmc = make_bmc()
    result = run_module(module_of(name), diff_mode=True, **bmc.options, **ENOUGH[name])
    assert not result["failed"], result
    # Not even as Ansible's own mask: it would mean that the module had put it there.
    assert "canary" not in str(result) and "VALUE_SPECIFIED" not in str({**result, "invocation": None})


@pytest.mark.parametrize("name", NAMES)
def test_an_unreachable_bmc(run_module: RunModule, name: str) -> None:
    result = run_module(module_of(name), address="127.0.0.1:1", username="u", password="p", **ENOUGH[name])
    assert result["failed"]
    assert result["failure"]["kind"] == "unreachable"
    assert "127.0.0.1:1" in result["msg"]


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_carries_status_and_message(make_bmc: MakeBmc, run_module: RunModule, name: str) -> None:
    bmc = make_bmc()
    bmc.on("GET", SYSTEM, *[error(500, "X.1.Broken", "broken inside")] * 2)
    result = run_module(module_of(name), **bmc.options, **ENOUGH[name])
    assert result["failed"]
    assert result["failure"]["status"] == 500
    assert result["failure"]["messages"][0]["MessageId"] == "X.1.Broken"
    assert "broken inside" in result["msg"]
    assert bmc.writes() == []


@pytest.mark.parametrize("name", NAMES)
def test_check_mode_sends_nothing_that_changes(make_bmc: MakeBmc, run_module: RunModule, name: str) -> None:
    bmc = make_bmc()
    result = run_module(module_of(name), check_mode=True, **bmc.options, **ENOUGH[name])
    assert not result["failed"], result
    assert bmc.writes() == []
    assert result["requests"] == len(bmc.calls)


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
