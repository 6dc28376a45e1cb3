# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook that disrupts one server is told what the plan would be told, and counts what its run holds already."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.action import disruption_permit
from ansible_collections.kiban.baremetal.plugins.action.disruption_permit import decide
from ansible_collections.kiban.baremetal.plugins.plugin_utils._runs.leases import take_lease
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    ClusterState,
    HostState,
    NodeState,
    SiteState,
)
from ansible_collections.kiban.baremetal.tests.unit.plugins.plugin_utils._site.test_disruption import site

INVENTORIES = Path(__file__).parents[4] / "inventories"
OF = site(workers=4, limits={"workers": 1})
NODES = {server.name: NodeState(ready=True, version="v1.36.3") for server in OF.servers}
RUN, OTHER = os.getpid(), os.getppid()


def state(cluster: ClusterState | None = None) -> SiteState:
    return SiteState(hosts={"w1": HostState(where="node")}, cluster=cluster or ClusterState(True, True, nodes=NODES))


def test_what_this_run_holds_is_taken(tmp_path: Path) -> None:
    assert decide(OF, state(), "w1", "reboot", str(tmp_path), RUN) == ()
    take_lease(str(tmp_path), "w1", RUN)
    assert decide(OF, state(), "w1", "reboot", str(tmp_path), RUN) == (), "its own lease stands in nobody's way"
    take_lease(str(tmp_path), "w2", RUN)
    (reason,) = decide(OF, state(), "w1", "reboot", str(tmp_path), RUN)
    assert "at most 1 of 4 servers of workers" in reason and "w2 already" in reason
    assert decide(OF, state(), "w1", "disk", str(tmp_path), RUN) == (), "who serves on is in no budget"


@pytest.mark.parametrize("level", ["none", "disk", "reboot", "data"])
def test_another_run_refuses_everything(tmp_path: Path, level: str) -> None:
    take_lease(str(tmp_path), "w1", OTHER)
    assert "another run works on it" in decide(OF, state(), "w1", level, str(tmp_path), RUN)[0]


@pytest.mark.parametrize(("level", "refused"), [("none", False), ("disk", True), ("reboot", True), ("data", True)])
def test_a_cluster_that_cannot_be_read_refuses_what_disrupts_a_node(tmp_path: Path, level: str, refused: bool) -> None:
    silent = SiteState(
        hosts={"w1": HostState(where="node", kubelet_configured=True)},
        cluster=ClusterState(known=True, error="refused"),
    )
    assert any("could not be read" in one for one in decide(OF, silent, "w1", level, str(tmp_path), RUN)) == refused


def test_ceph_is_asked_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def read_hosts(_access: Any, addresses: Any, paths: Any, _at_once: int) -> dict[str, HostState]:
        asked.update(addresses=[*addresses], paths=dict(paths))
        return dict.fromkeys(addresses, HostState())

    monkeypatch.setattr(disruption_permit, "read_hosts", read_hosts)
    args = {"site_dir": str(tmp_path), "kubectl": "kubectl", "level": "disk"}
    for inventory, servers in (("lab-ceph", ["node1", "cp1", "node2"]), ("lab", ["node1", "cp1"])):
        text = (INVENTORIES / inventory / "site.yml").read_text()
        found = disruption_permit.read_state(load_site(yaml.safe_load(text)), "node1", args)
        assert asked["addresses"] == servers
        assert {*asked["paths"]} == ({*servers} if inventory == "lab-ceph" else set())
        assert [*found.hosts] == ["node1"]
