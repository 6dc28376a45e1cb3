# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook fabric on two top-of-rack switches and a spine that run Open vSwitch, FRR and lldpd."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._fabric.wiring import wiring
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE
from ansible_collections.kiban.baremetal.tests.unit.plugins.switch_bench import (
    Bench,
    Space,
    Switch,
    eventually,
    missing,
)

WHY = missing("ethtool", "lldpd", "lldpcli")
pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=WHY)]

CHECKOUT = Path(__file__).resolve().parents[4]
SWITCHES = ("tor1", "tor2", "spine1")
SITE = copy.deepcopy(BASE)
# One server with a port on each switch; BMCs have no cables here.
del SITE["racks"][0]["switches"][2]
SITE["racks"][0]["servers"] = [{**SITE["racks"][0]["servers"][0], "cables": {"eno1": "tor1:swp1", "eno2": "tor2:swp1"}}]


def lldpd(space: Space, name: str) -> None:
    config = space.directory / "lldpd.conf"
    config.write_text(
        f"configure system hostname {name}\nconfigure lldp tx-interval 1\nconfigure lldp portidsubtype ifname\n"
    )
    socket = space.directory / "l.sock"
    space.daemon("lldpd", "-d", "-u", socket, "-O", config, "-I", "eno*,swp*", ready=socket)


@pytest.fixture(scope="module")
def rack() -> Iterator[SimpleNamespace]:
    with tempfile.TemporaryDirectory(prefix="kfab") as directory:
        place = Path(directory)
        bench = Bench(place)
        try:
            switches = {name: bench.add(Switch, name) for name in SWITCHES}
            server = bench.add(Space, "cp1")
            bench.wire("tor1", "swp49", "spine1", "swp1")
            bench.wire("tor2", "swp49", "spine1", "swp2")
            bench.wire("tor1", "swp1", "cp1", "eno1")
            bench.wire("tor2", "swp1", "cp1", "eno2")
            for name, space in (*switches.items(), ("cp1", server)):
                lldpd(space, name)
            yield SimpleNamespace(bench=bench, place=place, **switches)
        finally:
            bench.close()


def inventory(rack: SimpleNamespace, data: dict[str, Any], **more: Any) -> Path:
    """The site file, and a way into each switch in the place of SSH."""
    path = rack.place / "inventory"
    (path / "host_vars").mkdir(parents=True, exist_ok=True)
    (path / "site.yml").write_text(yaml.safe_dump(data, sort_keys=False))
    for name in SWITCHES:
        switch = rack.bench.spaces[name]
        python = switch.directory / "python"
        python.write_text(f'#!/bin/sh\nexec ip netns exec {switch.netns} {sys.executable} "$@"\n')
        python.chmod(0o755)
        here = str(switch.directory)
        options = {"database": f"{here}/db.sock", "frr_run_dir": here, "frr_config": f"{here}/frr.conf"}
        options |= {"state_dir": f"{here}/state", "datapath_type": "netdev", "lldp_socket": f"{here}/l.sock"}
        variables = {f"fabric_linux_{key}": value for key, value in {**options, **more}.items()}
        variables |= {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
        (path / "host_vars" / f"{name}.yml").write_text(yaml.safe_dump(variables))
    return path


def play(rack: SimpleNamespace, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANSIBLE_CONFIG": f"{CHECKOUT}/ansible.cfg", "KIBAN_WORK": str(rack.place / "work")}
    argv = [Path(sys.executable).with_name("ansible-playbook"), "kiban.baremetal.fabric", "-i", path, *arguments]
    return subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, check=False, env=environment, cwd=CHECKOUT
    )


def changed(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"^(\w+) .*changed=(\d+)", done.stdout, re.MULTILINE)}


def test_check_mode_shows_the_difference_and_changes_nothing(rack: SimpleNamespace) -> None:
    done = play(rack, inventory(rack, SITE), "--check")
    assert "+router bgp 65101" in done.stdout, done.stdout + done.stderr
    assert "router bgp" not in rack.tor1.vtysh("show running-config")


def test_the_fabric_comes_up_and_a_second_run_changes_nothing(rack: SimpleNamespace) -> None:
    path = inventory(rack, SITE)
    done = play(rack, path)
    assert done.returncode == 0, done.stdout + done.stderr
    for tor in (rack.tor1, rack.tor2):
        eventually(lambda tor=tor: tor.module("switch_info")["bgp"]["swp49"]["state"] == "Established", 90)
        assert not tor.module("switch_config", state="confirmed")["pending"]
        assert "router bgp" in (tor.directory / "frr.conf").read_text()
    again = play(rack, path)
    assert again.returncode == 0, again.stdout
    assert set(changed(again).values()) == {0}, again.stdout


def test_a_change_that_costs_a_session_is_taken_back_and_ends_the_run(rack: SimpleNamespace) -> None:
    """A wrong AS number of the spine: the first of the two is put back, the second not touched."""
    eventually(lambda: rack.tor2.module("switch_info")["bgp"]["swp49"]["state"] == "Established", 90)
    before = {name: getattr(rack, name).vtysh("show running-config") for name in SWITCHES}
    data = copy.deepcopy(SITE)
    data["racks"][1]["switches"][0]["asn"] = 65009
    done = play(rack, inventory(rack, data, confirm_seconds=20), "--limit", "tor1,tor2")
    assert done.returncode != 0
    assert "The change of tor1 was taken back" in done.stdout, done.stdout
    assert "neighbor swp49 remote-as 65009" in done.stdout
    assert "The change of tor2" not in done.stdout
    assert {name: getattr(rack, name).vtysh("show running-config") for name in SWITCHES} == before
    eventually(lambda: rack.tor1.module("switch_info")["bgp"]["swp49"]["state"] == "Established", 90)


def test_swapped_cables_are_named(rack: SimpleNamespace) -> None:
    path = inventory(rack, SITE)
    server = rack.bench.spaces["cp1"]
    for port in ("eno1", "eno2"):
        server.run("ip", "link", "set", port, "down")
    server.run("ip", "link", "set", "eno1", "name", "keep")
    server.run("ip", "link", "set", "eno2", "name", "eno1")
    server.run("ip", "link", "set", "keep", "name", "eno2")
    for port in ("eno1", "eno2"):
        server.run("ip", "link", "set", port, "up")

    def told() -> bool:
        done = play(rack, path)
        return "two cables are swapped: cp1 (a01 unit 1) eno1 belongs to tor1 (a01 unit 41) swp1" in done.stdout

    eventually(told, 60)
    # The plan has it from the comparison with the intent, and would not install that server.
    hear = {
        name: getattr(rack, name).module(
            "switch_config", check=True, lldp_socket=str(getattr(rack, name).directory / "l.sock")
        )["neighbors"]
        for name in SWITCHES
    }
    assert wiring(load_site(SITE), {"cp1": []}, {}, hear)["cp1"].wrong[0] in play(rack, path).stdout
