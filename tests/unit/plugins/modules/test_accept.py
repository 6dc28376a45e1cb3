# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook accept on simulated BMCs: what it names, what it writes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site, site_text
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.to_vars import server_vars
from ansible_collections.kiban.baremetal.tests.simulator import Simulator

CHECKOUT = Path(__file__).resolve().parents[4]
PASSWORD = "canary-accept"
# No Python has the validator here, so that the result is the same wherever this runs.
NO_VALIDATOR = {"accept_python": "/nonexistent/python"}


class Site:
    """Three servers of the example site, each with a simulated BMC."""

    def __init__(self, home: Path, expect: list[str], firmware: list[dict[str, Any]]) -> None:
        self.home = home
        data = yaml.safe_load((CHECKOUT / "inventories" / "example" / "site.yml").read_text())
        profile = data["profiles"]["compute"]
        profile.update(expect=expect, firmware=firmware)
        self.site = load_site(data, str)
        self.names = [server.name for server in self.site.servers if server.profile == "compute"][:3]

    def run(self, bmcs: list[dict[str, Any]], *arguments: str, **extra: Any) -> subprocess.CompletedProcess[str]:
        hosts = {}
        for name, bmc in zip(self.names, bmcs, strict=False):
            server = json.loads(json.dumps(server_vars(self.site, self.site.server(name))))
            server["bmc"].update(bmc, fingerprint=None, timeout=30)
            hosts[name] = {"kiban_server": server}
        variables = {
            "kiban_site_json": site_text(self.site),
            "kiban_bmc_username": "kiban",
            "kiban_bmc_password": PASSWORD,
            "kiban_work": str(self.home),
            "kiban_site_dir": str(self.home),
        }
        groups = {"servers": {"hosts": hosts}}
        (self.home / "hosts.json").write_text(json.dumps({"all": {"children": groups, "vars": variables}}))
        (self.home / "more.json").write_text(json.dumps(extra))
        return subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.json", "kiban.baremetal.accept"]
            + ["-e", "@more.json", *arguments],
            cwd=self.home,
            env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "accept.json").read_text())
        return found


def bmcs(count: int, **options: Any) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    stack.found = [  # type: ignore[attr-defined]
        stack.enter_context(Simulator("well-behaved", username="kiban", password=PASSWORD, power="On", **options))
        for _ in range(count)
    ]
    return stack


def way(bmc: Simulator) -> dict[str, Any]:
    return {"address": bmc.address, "ca_path": bmc.ca_path}


def test_servers_that_fit(tmp_path: Path) -> None:
    site = Site(
        tmp_path, ["length(storage.drives) > `0`", "system.health == 'OK'"], [{"component": "*BIOS*", "minimum": "1"}]
    )
    with bmcs(2) as stack:
        first, second = stack.found  # type: ignore[attr-defined]
        done = site.run([way(first), way(second)], **NO_VALIDATOR)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not first.writes() and not first.open_sessions
    assert "2 of 2 servers fit." in done.stdout
    assert "The contract was not checked: neither /nonexistent/python nor Ansible" in done.stdout
    result = site.result
    assert (result["version"], result["fits"]) == (1, True)
    assert all(server["fits"] and server["areas"] is None for server in result["servers"].values())


def test_what_differs_is_named_by_server_and_the_run_fails(tmp_path: Path) -> None:
    site = Site(tmp_path, ["memory.total_mib >= `99999999`"], [{"component": "Nothing", "minimum": "1"}])
    with bmcs(2) as stack:
        first, second = stack.found  # type: ignore[attr-defined]
        second.edit(
            second.system["@odata.id"], lambda body: body.update(MemorySummary={"TotalSystemMemoryGiB": 2000000})
        )
        nobody = {"address": "127.0.0.1:1", "ca_path": first.ca_path}
        done = site.run([way(first), way(second), nobody], **NO_VALIDATOR)
    assert done.returncode != 0
    assert "3 servers do not fit" in done.stdout
    one, two, three = (site.result["servers"][name]["differences"] for name in site.names)
    assert [(found["kind"], found["what"]) for found in one] == [
        ("expect", "memory.total_mib >= `99999999`"),
        ("firmware", "Nothing"),
    ]
    assert one[0]["message"].endswith(">= 99999999")
    assert [found["kind"] for found in two] == ["firmware"]
    assert [found["kind"] for found in three] == ["unread"] and "127.0.0.1:1" in three[0]["message"]
    for found in (*one, *two):
        assert found["message"][:40] in done.stdout.replace("\\n", "")
    assert "canary" not in done.stdout + done.stderr + (tmp_path / "accept.json").read_text()


def test_the_contract_counts_where_the_validator_is(tmp_path: Path) -> None:
    from ansible_collections.kiban.baremetal.tests.unit.plugins.validator import validator_python

    python = validator_python()
    if python is None:
        pytest.skip("no Python has redfish_interop_validator: make accept-tools, or KIBAN_ACCEPT_PYTHON names one")
    site = Site(tmp_path, [], [])
    with bmcs(1) as stack, Simulator("minimal", username="kiban", password=PASSWORD, power="On") as small:
        (good,) = stack.found  # type: ignore[attr-defined]
        done = site.run([way(good), way(small)], accept_python=python, accept_areas=["power", "virtual_media"])
    assert done.returncode != 0
    good_one, small_one = (site.result["servers"][name] for name in site.names[:2])
    assert site.result["contract_skipped"] is None
    assert good_one["fits"] and all(area["fits"] for area in good_one["areas"].values())
    assert {found["what"] for found in small_one["differences"]} == {"virtual_media"}
    assert small_one["areas"]["power"]["fits"] and not small_one["areas"]["bios"]["fits"]


def test_a_play_without_servers(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "x,", "kiban.baremetal.accept"]
        + ["-e", "kiban_work=/x kiban_site_dir=/x", "--limit", "x"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no hosts matched" in (done.stdout + done.stderr).lower()
