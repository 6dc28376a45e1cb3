# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bmc_scan: from addresses, targets and inventory hosts to one result a BMC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.modules import bmc_info, bmc_scan
from ansible_collections.kiban.baremetal.tests.unit.plugins.fake_bmc import PASSWORD, FakeBmc

MakeBmc = Callable[..., FakeBmc]
RunModule = Callable[..., dict[str, Any]]
CHECKOUT = Path(__file__).resolve().parents[4]


def common(bmc: FakeBmc) -> dict[str, Any]:
    return {key: value for key, value in bmc.options.items() if key != "address"}


def test_a_range_with_a_hole(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    asked = [bmc.address, "127.0.0.2:1", bmc.address]
    result = run_module(bmc_scan, addresses=asked, **common(bmc))
    assert [(one["address"], one["name"]) for one in result["bmcs"]] == [(bmc.address, None), ("127.0.0.2:1", None)]
    first, second = result["bmcs"]
    assert first["failure"] is None and first["hardware"]["system"]["serial_number"] == "SN1"
    assert second["hardware"] is None and second["failure"]["kind"] == "unreachable"
    summary = result["summary"]
    assert (summary["asked"], summary["read"], summary["failed"]) == (2, 1, {"unreachable": 1})
    assert summary["requests"] == first["requests"] == len(bmc.calls)
    assert result["changed"] is False
    assert PASSWORD not in json.dumps(result)


def test_the_record_is_that_of_bmc_info(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    one = run_module(bmc_info, **bmc.options)["hardware"]
    (many,) = run_module(bmc_scan, addresses=[bmc.address], **common(bmc))["bmcs"]
    assert many["hardware"] == one


def test_targets_have_options_of_their_own(make_bmc: MakeBmc, run_module: RunModule) -> None:
    good, other = make_bmc(), make_bmc()
    targets = [
        {"name": "node01", "address": good.address},
        {"name": "node02", "address": other.address, "password": "canary-wrong"},
    ]
    result = run_module(bmc_scan, targets=targets, subset=["system"], **common(good))
    assert [one["name"] for one in result["bmcs"]] == ["node01", "node02"]
    assert [one["failure"] and one["failure"]["kind"] for one in result["bmcs"]] == [None, "auth"]
    assert result["bmcs"][0]["hardware"]["memory"] is None
    assert "canary" not in json.dumps(result)


def test_the_address_of_group_defaults_gives_way(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    (one,) = run_module(bmc_scan, **bmc.options)["bmcs"]
    assert one["hardware"]
    (one,) = run_module(bmc_scan, **{**bmc.options, "address": "192.0.2.1"}, addresses=[bmc.address])["bmcs"]
    assert one["address"] == bmc.address


@pytest.mark.parametrize(
    ("params", "said"),
    [({}, "nothing to scan"), ({"addresses": ["192.0.2.0/33"]}, "not a network"), ({"hosts": ["a"]}, "playbook")],
)
def test_options_that_make_no_sense(run_module: RunModule, params: dict[str, Any], said: str) -> None:
    result = run_module(bmc_scan, username="u", password="canary", **params)
    assert result["failed"] and said in result["msg"] and result["failure"]["kind"] == "option"


def test_documented_results_are_what_is_returned(make_bmc: MakeBmc, run_module: RunModule) -> None:
    bmc = make_bmc()
    result = run_module(bmc_scan, addresses=[bmc.address], **common(bmc))
    documented = yaml.safe_load(bmc_scan.RETURN)
    assert set(documented["bmcs"]["contains"]) == set(result["bmcs"][0])
    assert set(documented["summary"]["contains"]) == set(result["summary"])


PLAY = """
- hosts: localhost
  gather_facts: false
  connection: local
  tasks:
    - kiban.baremetal.bmc_scan:
        hosts: [node01, node02]
        addresses: ["{{ third }}"]
        subset: [system]
        username: kiban
        password: "{{ lookup('ansible.builtin.env', 'THIRD_PASSWORD') }}"
        ca_path: "{{ ca }}"
      register: scan
    - ansible.builtin.copy:
        content: "{{ scan | to_json }}"
        dest: "{{ out }}"
        mode: "0600"
"""


def test_the_discovery_run_writes_what_the_model_lacks(make_bmc: MakeBmc, tmp_path: Path) -> None:
    known, fresh, twin = make_bmc(), make_bmc(), make_bmc()
    fresh.resource("/redfish/v1/Systems/1").update(SerialNumber="SN2", UUID="4C4C4544-0034-3010-8052-B4C04F4A4D32")
    variables = {
        "kiban_bmc_username": "kiban",
        "kiban_bmc_password": PASSWORD,
        "kiban_bmc_ca_path": known.options["ca_path"],
    }
    server = {"kiban_server": {"name": "node01", "bmc": {"address": known.address}}}
    groups = {"servers": {"hosts": {"node01": server}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": variables}}))
    extra = {
        "discover_addresses": [known.address, fresh.address, twin.address, "127.0.0.1:1"],
        "discover_path": str(tmp_path / "found.yml"),
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "kiban.baremetal.discover"]
        + ["-e", json.dumps(extra)],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 known, 1 unknown" in done.stdout
    (rack,) = yaml.safe_load((tmp_path / "found.yml").read_text())["racks"]
    (one,) = rack["servers"]
    assert (one["name"], one["bmc"]) == ("server-sn2", fresh.address)
    assert len([line for line in known.sent("POST") if "Sessions" in line]) == 1, "read once, though it is named twice"


def test_inventory_hosts_are_found_by_a_playbook(make_bmc: MakeBmc, tmp_path: Path) -> None:
    one, third = make_bmc(), make_bmc()

    def server(name: str, address: str, **variables: Any) -> dict[str, Any]:
        bmc = {"address": address, "ca_path": one.options["ca_path"]}
        return {"kiban_server": {"name": name, "bmc": bmc}, **variables}

    account = {"kiban_bmc_username": "{{ user }}", "user": "kiban", "kiban_bmc_password": PASSWORD}
    hosts = {
        "node01": server("node01", one.address, **account),
        "node02": server("node02", "127.0.0.1:1", **account),
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (tmp_path / "play.yml").write_text(PLAY)
    extra = {"third": third.address, "out": str(tmp_path / "out.json"), "ca": third.options["ca_path"]}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml", "play.yml", "-v"]
        + ["-e", json.dumps(extra)],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "THIRD_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSWORD not in done.stdout and json.dumps(PASSWORD)[1:-1] not in done.stdout
    result = json.loads((tmp_path / "out.json").read_text())
    assert [(found["name"], bool(found["hardware"])) for found in result["bmcs"]] == [
        ("node01", True),
        ("node02", False),
        (None, True),
    ]
