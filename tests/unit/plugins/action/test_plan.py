# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a wave waits for its turn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from ansible_collections.kiban.baremetal.plugins.action import plan as action
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Intent
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan, make_plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    BmcState,
    ClusterState,
    HostState,
    SiteState,
)
from ansible_collections.kiban.baremetal.tests.simulator import Simulator
from ansible_collections.kiban.baremetal.tests.unit.plugins.fabric_site import BASE
from ansible_collections.kiban.baremetal.tests.unit.plugins.plugin_utils._site.test_todo import plan


def test_a_wave_is_asked_about_until_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [plan("b", refused="c"), plan("b", refused="c"), plan("b", "c")]
    asked: list[list[str]] = []
    pauses: list[float] = []

    def look(names: Collection[str]) -> tuple[Plan, SiteState]:
        asked.append([*names])
        return answers[len(asked) - 1], SiteState()

    monkeypatch.setattr(action.time, "sleep", pauses.append)
    found, _state = action._when_allowed(look, ["b", "c"], ["a"], 60)
    assert {change.server for change in found.changes} == {"b", "c"} and not found.problems
    assert asked == [["a", "b", "c"]] * 3 and len(pauses) == 2


def test_who_is_refused_to_the_end_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action.time, "sleep", lambda _seconds: None)
    found, _state = action._when_allowed(lambda _names: (plan("b", refused="c"), SiteState()), ["b", "c"], [], 0)
    assert [change.server for change in found.changes] == ["b"]
    assert [problem.server for problem in found.problems] == ["c"]


def test_a_wave_before_that_is_not_in_order_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action.time, "sleep", lambda _seconds: pytest.fail("it waits"))
    found, _state = action._when_allowed(lambda _names: (plan("a", "b"), SiteState()), ["b"], ["a"], 60)
    assert not found.changes and "a has to be worked on (operating system)" in found.problems[0].message


SITE = load_site(BASE)
READY = {"where": "node", "image_id": "x", "installed": {"reinstall": None}}


def with_bmcs(simulators: Mapping[str, Simulator], hosts: Mapping[str, HostState], force: Collection[str] = ()) -> Plan:
    """The plan of these servers, all of whose BMCs say that they are off."""
    off = dict.fromkeys(hosts, BmcState(power="off"))
    options = {name: one.options for name, one in simulators.items()}
    hostvars = {
        name: {
            "kiban_server": {"name": name, "bmc": one},
            "kiban_bmc_username": one["username"],
            "kiban_bmc_password": one["password"],
            "kiban_bmc_ca_path": one.get("ca_path"),
        }
        for name, one in options.items()
    }
    state = SiteState(bmcs=off, hosts=hosts, cluster=ClusterState(reachable=True, known=True))
    state = action._with_cables(SITE, Intent("x"), force, hostvars, state)
    return make_plan(SITE, Intent("x"), state, force)


def test_a_wrong_cable_stops_its_server_before_it_is_installed_and_no_other(simulator: Any) -> None:
    bmcs = {name: simulator(tree="synthetic") for name in ("node1", "node2", "node3")}
    bmcs["node1"].hear({0: ("tor1", "swp30"), 1: ("tor2", "swp2")})
    bmcs["node2"].hear({0: ("tor1", "swp3"), 1: ("tor2", "swp3")})
    bmcs["node3"].hear({0: None, 1: None})
    silent = dict.fromkeys(bmcs, HostState(error="timed out"))
    plan = with_bmcs(bmcs, silent)
    assert {change.server for change in plan.changes} == {"node2", "node3"}
    (problem,) = plan.problems
    assert problem.server == "node1"
    assert "a cable joins node1 (a01 unit 2) eno1 and tor1 (a01 unit 41) swp30; " in problem.message
    assert [notice.server for notice in plan.notices] == ["node3"]
    by_force = with_bmcs(bmcs, silent, ["node1"])
    assert {change.server for change in by_force.changes} == {*bmcs} and not by_force.problems
    bmcs["node1"].hear({0: ("tor1", "swp2")})
    assert not with_bmcs(bmcs, silent).problems


def test_bmcs_are_asked_about_cables_only_before_an_installation(simulator: Any) -> None:
    one, other = simulator(tree="synthetic"), simulator(tree="synthetic")
    plan = with_bmcs({"node1": one, "node2": other}, {"node1": HostState(**READY), "node2": HostState(where="ramdisk")})
    assert [change.action for change in plan.changes if change.stage == "os"] == ["inspect"]
    assert not one.requests and other.requests


def test_a_bmc_that_cannot_say_stops_nobody(simulator: Any) -> None:
    bmc = simulator(tree="synthetic")
    bmc.missing("*/NetworkInterfaces", "*/EthernetInterfaces")
    plan = with_bmcs({"node1": bmc}, {"node1": HostState(error="timed out")})
    assert plan.changes and not plan.problems and len(plan.notices) == 1
