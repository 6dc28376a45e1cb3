# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract: profiles that are whole, a page that is current, and verdicts that are the validator's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options
from ansible_collections.kiban.baremetal.plugins.modules import accept
from ansible_collections.kiban.baremetal.plugins.plugin_utils._contract import AREAS, held_against, profile_path
from ansible_collections.kiban.baremetal.tests.simulator import Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.validator import supported, validator_python

CHECKOUT = Path(__file__).resolve().parents[5]


@pytest.fixture(scope="module")
def python() -> str:
    found = validator_python()
    if found is None:
        pytest.skip("no Python has redfish_interop_validator: make accept-tools, or KIBAN_ACCEPT_PYTHON names one")
    return found


def test_each_area_has_one_profile_that_says_what_it_is_for() -> None:
    assert len(AREAS) == len(list((CHECKOUT / "contract").glob("*.json"))) == 12
    for area in AREAS:
        body = json.loads(profile_path(area).read_text())
        assert profile_path(area).name == f"{body['ProfileName']}.v{body['ProfileVersion'].replace('.', '_')}.json"
        assert body["OwningEntity"] == "kiban.baremetal"
        for name in re.findall(r"bmc_\w+", body["Purpose"]):
            assert (CHECKOUT / "plugins" / "modules" / f"{name}.py").is_file()


def test_the_module_offers_all_areas() -> None:
    options = yaml.safe_load(accept.DOCUMENTATION)["options"]
    assert options["areas"]["choices"] == sorted(AREAS)


def test_the_page_about_servers_is_current() -> None:
    module = supported()
    results = json.loads(module.RESULTS.read_text())
    assert module.PAGE.read_text() == module.page(results), "make supported writes it anew"


@pytest.mark.parametrize("profile", ["well-behaved", "minimal", "dell-idrac10"])
def test_recorded_verdicts_are_what_the_validator_says(profile: str, python: str) -> None:
    recorded = json.loads(supported().RESULTS.read_text())["servers"][profile]["areas"]
    with Simulator(profile, power="On", tree="synthetic") as sim:
        result = held_against(python, {"a": Options(**sim.options)})["a"]
        sim.check()
        assert not sim.writes()
    assert {area: len(body["problems"]) for area, body in result["areas"].items()} == {
        area: len(body["problems"]) for area, body in recorded.items()
    }


@pytest.mark.parametrize("area", ["power", "virtual_media", "bios"])
def test_the_validator_by_itself_comes_to_the_same(area: str, python: str, tmp_path: Path) -> None:
    """As a vendor would run it: the command line, its own client, its own way through the whole tree."""
    program = Path(python).parent / "rf_interop_validator"
    with Simulator("minimal", power="On", tls=False) as sim:
        command = [str(program), "-r", sim.url, "-u", sim.username, "-p", sim.password, "--authtype", "Basic"]
        command += ["--logdir", str(tmp_path), str(profile_path(area))]
        ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    counts = re.search(r"\|\s+(\d+)\s+\|\s+(\d+)\s+\|\s+(\d+)\s+\|", ran.stdout)
    assert counts, ran.stdout + ran.stderr
    recorded = json.loads(supported().RESULTS.read_text())["servers"]["minimal"]["areas"][area]
    assert (int(counts.group(3)) > 0) is bool(recorded["problems"])


def test_a_bmc_that_cannot_be_read_costs_only_itself(python: str) -> None:
    with Simulator("minimal", power="On") as sim:
        wrong = Options(**{**sim.options, "password": "canary"})
        nobody = Options(**{**sim.options, "address": "127.0.0.1:1"})
        found = held_against(python, {"wrong": wrong, "good": Options(**sim.options), "nobody": nobody})
    assert found["wrong"]["failure"]["kind"] == "auth"
    assert found["nobody"]["failure"]["kind"] == "unreachable"
    assert set(found["good"]["areas"]) == set(AREAS)
    assert "canary" not in json.dumps(found)


def test_the_password_is_on_no_command_line(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    real = subprocess.run

    def noting(command: Any, *args: Any, **kwargs: Any) -> Any:
        lines.append(f"{command} {kwargs.get('env')}")
        return real(command, *args, **kwargs)

    monkeypatch.setattr(subprocess, "run", noting)
    options = Options(address="127.0.0.1:1", username="u", password="canary-pipe")
    held_against(python, {"a": options})
    assert lines and "canary-pipe" not in "".join(lines)
    assert "canary-pipe" not in str(os.environ)
