# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage of pools that storage drivers use, in the plan of the lab with every storage driver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._drivers.sds_nfs import EXPORTS
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import Intent
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan, make_plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    BmcState,
    ClusterState,
    HostState,
    NodeState,
    SiteState,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.storage import select_pools

INVENTORIES = Path(__file__).parents[5] / "inventories"
LAYOUTS: dict[str, Any] = {
    "disks": {},
    "claims": {},
    "arrays": [],
    "volumes": {},
    "suspended": [],
    "thin": {},
    "mounts": {},
}
MADE = {"pool": "fast", "site": "lab-storage", "made": ["partition", "group"], "mates": []}


def disk(name: str, serial: str) -> dict[str, Any]:
    return {"name": name, "serial_number": serial, "capacity_bytes": 5 << 30, "uses": []}


def server(name: str, layouts: dict[str, Any], **more: Any) -> HostState:
    upper = name.upper()
    return HostState(
        where="node",
        image_id="a" * 64,
        kubelet_configured=True,
        disks=(
            {**disk("sda", f"DATA-{upper}-1"), "claimed": True, "uses": [f"/var/lib/kiban/local/DATA-{upper}-1"]},
            disk("sdb", f"DATA-{upper}-2"),
        ),
        local_mounts=(f"DATA-{upper}-1",),
        layouts={**LAYOUTS, **layouts},
        **more,
    )


def plan_for(name: str, host: HostState, inventory: str = "lab-storage", bmc: str = "on") -> Plan:
    site = load_site(yaml.safe_load((INVENTORIES / inventory / "site.yml").read_text()))
    files = {server.name: {EXPORTS: "sum"} if server.name == "node2" else {} for server in site.servers}
    node = NodeState(True, site.cluster.kubernetes, {"node-role.kubernetes.io/worker": ""})
    state = SiteState(
        hosts={name: host},
        bmcs={name: BmcState(power=bmc)},
        cluster=ClusterState(reachable=True, known=True, nodes={name: node} if bmc == "on" else {}),
    )
    return make_plan(site, Intent("a" * 64, files), state)


def pools(plan: Plan) -> list[str]:
    return [change.before for change in plan.changes if change.stage == "pools"]


def test_a_disk_with_a_claim_is_neither_offered_by_the_plan_nor_taken_by_the_playbook() -> None:
    """As another site, or a profile before, left it: nothing of it is mounted."""
    claim = {"purpose": "data", "site": "tokyo"}
    host = server("node1", {"claims": {"sdb": claim}})
    plan = plan_for("node1", host)
    assert pools(plan) == []
    told = [notice.message for notice in plan.notices if "sdb" in notice.message]
    assert told == [
        "pool fast: is not made; the playbook storage makes it; 0 of 1 disks are there; not counted, since claimed "
        "already: sdb (serial DATA-NODE1-2) for volumes of the site tokyo"
    ]
    site = yaml.safe_load((INVENTORIES / "lab-storage/site.yml").read_text())
    storage = site["profiles"][next(iter(site["profiles"]))]["storage"]
    records = [{**one, "kiban": claim if one["name"] == "sdb" else {"purpose": "data"}} for one in host.disks]
    [refusal] = select_pools(records, storage)["problems"]
    assert "0 disks match" in refusal and "Not counted, since they are claimed: sdb serial DATA-NODE1-2" in refusal


def test_a_pool_of_a_driver_that_is_not_made_is_a_change_and_no_notice() -> None:
    plan = plan_for("node1", server("node1", {}))
    assert pools(plan) == [
        "pool fast: is not made; the playbook storage makes it of sdb (serial DATA-NODE1-2)",
    ]
    assert not [notice for notice in plan.notices if "pool" in notice.message]
    assert plan.to_dict()["todo"]["pools"] == ["node1"]


def test_a_pool_that_is_made_is_in_order() -> None:
    assert pools(plan_for("node1", server("node1", {"disks": {"sdb": MADE}}))) == []


def test_what_no_run_mends_stays_a_notice() -> None:
    host = replace(server("node1", {}), disks=server("node1", {}).disks[:1])
    plan = plan_for("node1", host)
    assert pools(plan) == []
    assert any("0 of 1 disks are there" in notice.message for notice in plan.notices)


@pytest.mark.parametrize(
    ("active", "files", "said"),
    [
        ("active", {EXPORTS: "sum"}, []),
        ("inactive, not enabled", {EXPORTS: "sum"}, ["nfs-server.service is inactive, not enabled"]),
        ("active", {EXPORTS: "other"}, [f"{EXPORTS} differs"]),
        ("masked", {}, [f"nfs-server.service is masked; {EXPORTS} differs"]),
    ],
)
def test_a_server_of_nfs_that_does_not_serve(active: str, files: dict[str, str], said: list[str]) -> None:
    record = {**MADE, "pool": "export", "made": ["partition", "filesystem"]}
    layouts = {"disks": {"sdb": record}, "mounts": {"/srv/volumes": ["sdb1", 5 << 30, 5 << 30]}}
    host = server("node2", layouts, units={"nfs-server.service": active}, files=files)
    assert pools(plan_for("node2", host)) == said


def test_a_server_that_is_installed_gets_its_pools() -> None:
    assert len(pools(plan_for("node1", HostState(), bmc="off"))) == 1


def test_a_site_without_such_drivers_has_no_such_stage() -> None:
    assert pools(plan_for("node1", server("node1", {}), "lab-fabric")) == []
    assert pools(plan_for("node1", HostState(), "lab-fabric", bmc="off")) == []
