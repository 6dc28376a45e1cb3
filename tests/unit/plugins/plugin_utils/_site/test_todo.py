# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan gives the plays of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import CLUSTER, Change, Intent, Problem
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import SiteState
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.todo import todo_hosts, todo_nodes, wave_before


def plan(*servers: str, refused: str = "", waves: tuple[tuple[str, ...], ...] = ()) -> Plan:
    changes = tuple(Change(name, "os", "ramdisk", "operating system", "a", "b", "data") for name in servers)
    problems = (Problem(refused, "must not be disrupted now"),) if refused else ()
    return Plan("lab", servers, changes, problems, waves=waves)


def test_servers_of_later_waves_are_in_one_group_and_in_their_order() -> None:
    found = todo_hosts(plan("a", "b", "c", "d", waves=(("c",), ("d", "a"), ("b",))), Intent("x"), SiteState())
    assert [(one["name"], one["groups"]) for one in found] == [
        ("c", ["todo", "todo_os"]),
        ("d", ["todo", "todo_waits"]),
        ("a", ["todo", "todo_waits"]),
        ("b", ["todo", "todo_waits"]),
    ]


@pytest.mark.parametrize(("wave", "last"), [(["c"], ["a", "b"]), (["d", "e"], ["c"]), (["e"], ["c"]), (["a"], [])])
def test_the_wave_before(wave: list[str], last: list[str]) -> None:
    assert list(wave_before([["a", "b"], ["c"], ["d", "e"]], wave)) == last


def test_what_nodes_get_when_it_is_their_turn(checkout: Path) -> None:
    changes = tuple(
        Change(server, stage, action, "", "", "")
        for server, stage, action in (
            ("node1", "labels", "label"),
            ("cp1", "labels", "taint"),
            ("node2", "labels", "uncordon"),
            ("node1", "drain", "evict"),
            (CLUSTER, "services", "apply"),
        )
    )
    of = load_site(yaml.safe_load((checkout / "inventories/lab-cilium/site.yml").read_text()))
    whole = todo_nodes(of, Plan("lab", ("cp1", "node1", "node2"), changes, ()))
    assert list(whole["node_labels"]) == ["node1", "cp1", "node2"]
    assert whole["node_ranges"] == {"node1": "10.244.21.0/24", "cp1": "10.244.11.0/24", "node2": "10.244.22.0/24"}
    assert [taint["key"] for taint in whole["node_taints"]["cp1"]] == ["node-role.kubernetes.io/control-plane"]
    assert whole["uncordon"] == ["node2", "node1"]
    first = todo_nodes(of, Plan("lab", ("cp1", "node1", "node2"), changes, (), waves=(("cp1",), ("node1", "node2"))))
    assert list(first["node_labels"]) == list(first["node_taints"]) == ["cp1"] and first["uncordon"] == []
    without = replace(of, cluster=replace(of.cluster, sdn=replace(of.cluster.sdn, driver="bgp")))
    assert todo_nodes(without, Plan("lab", ("node1",), changes, ()))["node_ranges"] == {}
