# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From objects of the API and answers of servers to what the decision looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disruption import Etcd, Pod, PodBudget
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import Site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.service import (
    depended_on,
    pods_and_budgets,
    selects,
    service_of,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    ClusterState,
    EtcdMember,
    HostState,
    NodeState,
    SiteState,
)

SITE = yaml.safe_load("""
site: {name: lab, domain: lab.example.net}
networks: {bmc: {cidr: 192.0.2.0/24}, node: {cidr: 198.51.100.0/24}}
deploy: {address: 198.51.100.2, bmc_address: 192.0.2.2}
profiles: {compute: {disks: {system: {select: "protocol == 'SATA'"}}}}
racks:
  - name: a01
    servers:
      - {name: cp1, roles: [control_plane], profile: compute, bmc: 192.0.2.11, addresses: {node: 198.51.100.11}}
      - {name: "node[1:3]", roles: [worker], profile: compute, bmc: 192.0.2.21, addresses: {node: 198.51.100.21}}
cluster: {kubernetes: v1.36.3, sdn: {driver: bgp, pods: 10.244.0.0/16, services: 10.96.0.0/16}}
""")
UP, NODE = HostState(where="node"), NodeState(ready=True, version="v1.36.3")


def site(control: int = 1) -> Site:
    loaded = load_site(SITE)
    more = tuple(replace(loaded.server("cp1"), name=f"cp{number}") for number in range(2, control + 1))
    return replace(loaded, servers=(*loaded.servers, *more))


def cluster(*names: str, **nodes: NodeState) -> ClusterState:
    return ClusterState(reachable=True, known=True, nodes={**dict.fromkeys(names, NODE), **nodes})


def test_who_is_down_and_who_is_cordoned() -> None:
    state = SiteState(
        hosts={"node1": UP, "node2": HostState(error="timed out"), "cp1": HostState(where="ramdisk")},
        cluster=cluster(
            "node1", "node2", "elsewhere", node3=replace(NODE, ready=False), cp1=replace(NODE, cordoned=True)
        ),
    )
    found = service_of(site(), state)
    assert found.members == {"cp1", "node1", "node2", "node3"}
    assert found.down == {
        "cp1": "is in the deploy ramdisk",
        "node2": "does not answer over SSH",
        "node3": "its node is not Ready",
    }
    assert found.cordoned == {"cp1"} and found.unread == ""


def test_a_silent_api_is_told() -> None:
    assert service_of(site(), SiteState(cluster=ClusterState(known=True, error="refused"))).unread == "refused"
    assert service_of(site(), SiteState()).unread


def member(own: str, *members: str, has_leader: bool = True, learner: bool = False) -> HostState:
    return replace(UP, initialised=True, etcd=EtcdMember(own, has_leader, learner, members))


ALL = ("a", "b", "c")
A, B, C = member("a", *ALL), member("b", *ALL), member("c", *ALL)
LEARNS, LEADERLESS = member("b", *ALL, learner=True), member("c", *ALL, has_leader=False)
MORE = (*ALL, "d")


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        pytest.param({}, None, id="nobody asked"),
        pytest.param({"cp1": HostState(error="timed out")}, None, id="nobody answers"),
        pytest.param({"cp1": replace(UP, initialised=True)}, None, id="the member is dead"),
        pytest.param({"cp1": A, "cp2": B, "cp3": C}, Etcd({"cp1": True, "cp2": True, "cp3": True}), id="all"),
        pytest.param(
            {"cp1": A, "cp2": LEARNS, "cp3": LEADERLESS},
            Etcd({"cp1": True, "cp3": False}, {"cp2": True}),
            id="a learner, one without leader",
        ),
        pytest.param({"cp1": A, "cp2": B}, Etcd({"cp1": True, "cp2": True, "cp3": False}), id="one was not asked"),
        pytest.param(
            {"cp1": member("a", *MORE), "cp2": member("b", *MORE)},
            Etcd({"cp1": True, "cp2": True, "cp3": False, "unknown member 1": False}),
            id="one that the model does not know",
        ),
    ],
)
def test_members_of_etcd(hosts: dict[str, HostState], expected: Etcd | None) -> None:
    state = SiteState(others=hosts, cluster=cluster("cp1", "cp2", "cp3"))
    assert service_of(site(control=3), state).etcd == expected


@pytest.mark.parametrize(
    ("host", "known", "reinstall", "expected"),
    [
        (replace(UP, kubelet_configured=True), ClusterState(), None, True),
        (replace(UP, initialised=True), ClusterState(), None, True),
        (UP, cluster("node1"), None, True),
        (UP, cluster(), None, False),
        (HostState(), cluster("node1"), None, False),
        (HostState(), cluster("node1"), "word", True),
        (HostState(), cluster(), "word", False),
        (HostState(), ClusterState(), "word", False),
        (HostState(), ClusterState(known=True, error="refused"), "word", True),
    ],
)
def test_who_is_depended_on(host: HostState, known: ClusterState, reinstall: str | None, expected: bool) -> None:
    server = replace(site().server("node1"), reinstall=reinstall)
    assert depended_on(server, SiteState(hosts={"node1": host}, cluster=known)) is expected


def pod(name: str, node: str = "node1", labels: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    meta = {"namespace": "shop", "name": name, "labels": labels or {"app": "web"}, **more.pop("metadata", {})}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **more.pop("status", {})}
    return {"metadata": meta, "spec": {"nodeName": node}, "status": status}


def budget(**more: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "web", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **more.pop("spec", {})},
        "status": {"observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, **more},
    }


def test_pods_with_their_budgets() -> None:
    pods, budgets = pods_and_budgets(
        [
            pod("web-1"),
            pod("db-1", labels={"app": "db"}),
            pod("web-2", status={"conditions": [{"type": "Ready", "status": "False"}]}),
            pod("done", status={"phase": "Succeeded"}),
            pod("static", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}),
            pod("agent", metadata={"ownerReferences": [{"kind": "DaemonSet"}]}),
            pod("pending", node=""),
            pod("web-3", node="node2", metadata={"namespace": "other"}),
        ],
        [budget(), {**budget(spec={"unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {}})}],
    )
    assert pods == {
        "node1": (
            Pod("shop/web-1", True, ("shop/web", "shop/web")),
            Pod("shop/db-1", True, ("shop/web",)),
            Pod("shop/web-2", False, ("shop/web", "shop/web")),
        ),
        "node2": (Pod("other/web-3", True),),
    }
    assert budgets == (PodBudget("shop/web", 1, 3, 2), PodBudget("shop/web", 1, 3, 2, True))


def test_a_budget_that_was_just_changed_allows_nothing_yet() -> None:
    [found] = pods_and_budgets([], [budget(observedGeneration=1)])[1]
    assert found.disruptions_allowed == 0


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "x": "y"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "In", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_selectors(selector: dict[str, Any] | None, expected: bool) -> None:
    assert selects(selector, {"app": "web"}) is expected
