# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many BMCs from one thread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.module_utils._bmc import Options, connect, resource
from ansible_collections.kiban.baremetal.tests.simulator import PROFILES, Fleet, trees
from ansible_collections.kiban.baremetal.tests.simulator.identity import derive


def read(sim: Any) -> Any:
    with connect(Options(**sim.options)) as bmc:
        return bmc.hardware()


@pytest.mark.parametrize("kind", ["synthetic", "recorded"])
def test_servers_of_a_fleet_are_alike_but_not_the_same(kind: str) -> None:
    problem = trees.why_not(PROFILES["dell-idrac9"].tree)
    if kind == "recorded" and problem:
        pytest.skip(problem)
    resource._lies.clear()
    with Fleet(3, profile="dell-idrac9", tree=kind, spread=True) as fleet:
        assert [bmc.host for bmc in fleet] == ["127.16.0.1", "127.16.0.2", "127.16.0.3"]
        assert len({bmc.port for bmc in fleet}) == 1
        records = [read(bmc) for bmc in fleet]
        assert fleet[1].system["SerialNumber"] == records[1]["system"]["serial_number"]
        assert all(not bmc.open_sessions for bmc in fleet)
    for pick in (
        lambda r: [r["system"]["serial_number"]],
        lambda r: [r["system"]["uuid"]],
        lambda r: [port["mac"] for port in r["ports"] if port["mac"]],
        lambda r: [drive["serial_number"] for drive in r["storage"]["drives"]],
    ):
        values = [pick(record) for record in records]
        assert len({len(value) for value in values}) == 1
        assert len({item for value in values for item in value}) == 3 * len(set(values[0]))
    assert len({record["system"]["model"] for record in records}) == 1


def test_changes_stay_with_one_server() -> None:
    with Fleet(2, tls=False) as fleet:
        fleet[0].set_power("On")
        assert [bmc.system["PowerState"] for bmc in fleet] == ["On", "Off"]


@pytest.mark.parametrize(
    "token", [b"D0:94:66:00:00:01", b"d0:94:66:00:00:01", b"4C4C4544-0034-3010-8052-B4C04F4A4D31", b"9984440"]
)
def test_derived_values_keep_their_form_and_differ(token: bytes) -> None:
    made = {derive(token, number) for number in range(1, 9_000)}
    assert len(made) == 8_999
    assert {len(value) for value in made} == {len(token)}
    assert token not in made
    assert all(value == (value.upper() if token.isupper() else value.lower()) for value in made if b"9984" not in token)


def test_command_line(checkout: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.simulator", "--count", "2", "--ca", str(tmp_path / "ca.pem")]
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        record = read(_At(told["addresses"][1], str(tmp_path / "ca.pem")))
        process.terminate()
    assert process.returncode == 0
    assert record["system"]["model"] == "Well-behaved"


class _At:
    def __init__(self, address: str, ca_path: str) -> None:
        from ansible_collections.kiban.baremetal.tests.simulator import PASSWORD, USERNAME

        self.options = {"address": address, "ca_path": ca_path, "username": USERNAME, "password": PASSWORD}
