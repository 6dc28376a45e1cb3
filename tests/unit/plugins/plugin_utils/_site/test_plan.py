# Copyright: Contributors to the kiban.baremetal project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import DISRUPTIONS, Intent
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disruption import Pod, PodBudget
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan, make_plan
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.stages import STAGES
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    BmcState,
    ClusterState,
    EtcdMember,
    HostState,
    NodeState,
    SiteState,
)

MEDIA = "http://192.0.2.2:8080/token/"
IMAGE = "a" * 64
FILES = {"/etc/hostname": "1" * 64, "/etc/hosts": "2" * 64}
DATA = [{"serial_number": "DATA-1", "name": "sda"}, {"serial_number": "SYS-1", "name": "vda"}]


def site(**server_options: Any):
    return load_site(
        {
            "plugin": "kiban.baremetal.site",
            "site": {"name": "lab", "domain": "lab.example.net"},
            "networks": {
                "bmc": {"cidr": "192.0.2.0/24"},
                "node": {"cidr": "198.51.100.0/24", "gateway": "198.51.100.1"},
            },
            "deploy": {"address": "198.51.100.2", "bmc_address": "192.0.2.2"},
            "profiles": {
                "compute": {
                    "disks": {
                        "system": {"select": "starts_with(serial_number, 'SYS-')", "count": 1},
                        "data": {"select": "starts_with(serial_number, 'DATA-')"},
                    }
                }
            },
            "racks": [
                {
                    "name": "a01",
                    "servers": [
                        {
                            "name": "cp1",
                            "roles": ["control_plane"],
                            "profile": "compute",
                            "bmc": "192.0.2.11",
                            "addresses": {"node": "198.51.100.11"},
                            **{key: value for key, value in server_options.items() if key != "name"},
                        },
                        {
                            "name": "node1",
                            "roles": ["worker"],
                            "profile": "compute",
                            "bmc": "192.0.2.21",
                            "addresses": {"node": "198.51.100.21"},
                            **server_options,
                        },
                    ],
                }
            ],
            "cluster": {
                "kubernetes": "v1.36.3",
                "sdn": {"driver": "bgp", "pods": "10.244.0.0/16", "services": "10.96.0.0/16"},
            },
        }
    )


INTENT = Intent(image_id=IMAGE, files={"cp1": FILES, "node1": FILES}, media_prefix=MEDIA)
ON, OFF = BmcState(power="on"), BmcState(power="off")
SILENT = HostState(error="SSH to 198.51.100.21: timed out")
RAMDISK = HostState(where="ramdisk")
WORKER = {"node-role.kubernetes.io/worker": ""}
NODES = {name: NodeState(ready=True, version="v1.36.3", labels=WORKER) for name in ("cp1", "node1")}
CLUSTER = ClusterState(reachable=True, known=True, nodes=NODES)


def running(**changes: Any) -> HostState:
    state = HostState(
        where="node",
        image_id=IMAGE,
        installed={"reinstall": None},
        files=FILES,
        kubelet_configured=True,
        initialised=True,
        disks=tuple(DATA),
        local_mounts=("DATA-1",),
    )
    return replace(state, **changes)


def plan_for(
    host: HostState, bmc: BmcState = ON, cluster: ClusterState = CLUSTER, name: str = "node1", **options: Any
) -> Plan:
    return make_plan(site(**options), INTENT, SiteState(bmcs={name: bmc}, hosts={name: host}, cluster=cluster))


def acts(plan: Plan) -> list[tuple[str, str]]:
    return [(change.stage, change.action) for change in plan.changes]


SCHEMA = json.loads(
    (Path(__file__).resolve().parents[5] / "plugins/plugin_utils/_site/plan.schema.json").read_text("utf-8")
)
INSTALL = [("disks", "claim"), ("join", "join"), ("labels", "label")]


@pytest.mark.parametrize(
    ("host", "bmc", "cluster", "expected"),
    [
        pytest.param(running(), ON, CLUSTER, [], id="finished"),
        pytest.param(SILENT, OFF, ClusterState(), [("os", "ramdisk"), *INSTALL], id="off, no cluster yet"),
        pytest.param(SILENT, OFF, CLUSTER, [("os", "disk")], id="off, but a member: only powered on"),
        pytest.param(
            SILENT,
            OFF,
            ClusterState(reachable=True, known=True, nodes={}),
            [("os", "ramdisk"), *INSTALL],
            id="off, the cluster does not know it",
        ),
        pytest.param(
            SILENT,
            OFF,
            ClusterState(known=True, error="down"),
            [("os", "ramdisk"), *INSTALL],
            id="off, API down: look at the disk",
        ),
        pytest.param(RAMDISK, ON, ClusterState(), [("os", "inspect"), *INSTALL], id="in the ramdisk"),
        pytest.param(
            SILENT,
            BmcState(power="on", media=(MEDIA + "node1.iso",)),
            ClusterState(),
            [("os", "ramdisk"), *INSTALL],
            id="killed while the ramdisk booted",
        ),
        pytest.param(
            SILENT,
            BmcState(power="on", media=("http://192.0.2.99/other.iso",)),
            CLUSTER,
            [("os", "wait")],
            id="somebody else's media: only waited for",
        ),
        pytest.param(SILENT, ON, ClusterState(), [("os", "wait"), *INSTALL], id="on and silent is never installed"),
        pytest.param(SILENT, ON, CLUSTER, [("os", "wait")], id="a silent member is waited for"),
        pytest.param(
            running(files={**FILES, "/etc/hosts": "x"}), ON, CLUSTER, [("host", "files")], id="a file differs"
        ),
        pytest.param(running(local_mounts=()), ON, CLUSTER, [("disks", "claim")], id="a data disk is not mounted"),
        pytest.param(
            running(kubelet_configured=False), ON, CLUSTER, [("join", "join"), ("labels", "label")], id="not joined"
        ),
        pytest.param(
            running(),
            ON,
            ClusterState(reachable=True, known=True, nodes={"cp1": NODES["cp1"]}),
            [("join", "join"), ("labels", "label")],
            id="its Node object is gone",
        ),
        pytest.param(running(image_id="b" * 64), ON, CLUSTER, [], id="another image is kept"),
        pytest.param(
            running(),
            ON,
            ClusterState(reachable=True, known=True, nodes={"node1": NodeState(True, "v1.36.3", {"more": "x"})}),
            [("labels", "label")],
            id="a label is missing",
        ),
    ],
)
def test_worker(host: HostState, bmc: BmcState, cluster: ClusterState, expected: list[tuple[str, str]]) -> None:
    plan = plan_for(host, bmc, cluster)
    assert acts(plan) == expected
    assert not plan.problems


@pytest.mark.parametrize(
    ("host", "bmc", "text"),
    [
        (SILENT, BmcState(error="BMC 192.0.2.21: connection refused."), "connection refused"),
        (SILENT, BmcState(power="PoweringOn"), "PoweringOn"),
        (RAMDISK, BmcState(error="wrong password"), "wrong password"),
    ],
)
def test_unreadable_is_left_alone(host: HostState, bmc: BmcState, text: str) -> None:
    plan = plan_for(host, bmc, ClusterState())
    assert not plan.changes
    assert [problem.server for problem in plan.problems] == ["node1"]
    assert text in plan.problems[0].message
    assert plan.summary == "1 server left alone, 0 in order"


def test_another_image_is_a_notice_that_says_what_to_do() -> None:
    plan = plan_for(running(image_id="b" * 64))
    assert [notice.server for notice in plan.notices] == ["node1"]
    assert "bbbbbbbbbbbb" in plan.notices[0].message and "reinstall" in plan.notices[0].message


def test_a_running_server_without_usable_bmc_is_told_and_kept() -> None:
    plan = plan_for(running(), BmcState(error="BMC 192.0.2.21: wrong password."))
    assert not plan.changes and not plan.problems
    assert "wrong password" in plan.notices[0].message


def reinstalled(name: str = "node1", cluster: ClusterState = CLUSTER, **changes: Any) -> Plan:
    state = SiteState({name: ON}, {name: running(installed={"reinstall": "zero"})}, cluster)
    return make_plan(site(reinstall="one"), INTENT, replace(state, **changes))


def test_a_disruption_that_is_refused_leaves_the_server_alone_and_says_why() -> None:
    web = PodBudget("shop/web", disruptions_allowed=0)
    pods = {"node1": (Pod("shop/web-1", True, ("shop/web",)),)}
    plan = reinstalled(cluster=replace(CLUSTER, budgets=(web,), pods=pods))
    assert not plan.changes
    assert plan.problems[0].server == "node1"
    assert "shop/web allows 0 more" in plan.problems[0].message and "kiban_force=node1" in plan.problems[0].message


def test_the_only_member_of_etcd_is_not_installed_again_unless_by_force() -> None:
    member = EtcdMember("a", True, False, ("a",))
    host = running(installed={"reinstall": "zero"}, etcd=member)
    state = SiteState({"cp1": ON}, {"cp1": host}, CLUSTER)
    assert "etcd needs 1 of 1 members" in make_plan(site(reinstall="one"), INTENT, state).problems[0].message
    plan = make_plan(site(reinstall="one"), INTENT, state, force=["cp1"])
    assert acts(plan)[0] == ("os", "ramdisk") and "by force" in plan.notices[0].message


def test_a_cluster_that_cannot_be_read_is_not_taken_for_none() -> None:
    plan = reinstalled(cluster=ClusterState(known=True, error="connection refused"))
    assert not plan.changes and "could not be read" in plan.problems[0].message
    assert "connection refused" in plan.problems[0].message


def test_another_run_on_a_server_refuses_even_what_nobody_depends_on() -> None:
    state = SiteState({"node1": OFF}, {"node1": SILENT}, ClusterState(), leases={"node1": "process 7"})
    plan = make_plan(site(), INTENT, state)
    assert not plan.changes and "another run works on it (process 7)" in plan.problems[0].message


def test_what_does_not_disrupt_asks_nobody() -> None:
    state = SiteState({"node1": ON}, {"node1": running(files={})}, CLUSTER, leases={"node1": "process 7"})
    assert acts(make_plan(site(), INTENT, state)) == [("host", "files")]


def test_only_as_many_as_the_budget_allows_and_the_rest_later() -> None:
    wide = site(reinstall="one", name="node[1:4]")
    names = [server.name for server in wide.with_role("worker")]
    hosts = {name: running(installed={"reinstall": "zero"}) for name in names}
    nodes = dict.fromkeys(["cp1", *names], NODES["node1"])
    state = SiteState(dict.fromkeys(names, ON), hosts, replace(CLUSTER, nodes=nodes))
    plan = make_plan(wide, replace(INTENT, files=dict.fromkeys(names, FILES)), state)
    assert {change.server for change in plan.changes} == {"node1"}
    assert [problem.server for problem in plan.problems] == ["node2", "node3", "node4"]


def test_the_schema_of_the_plan_is_a_schema_and_knows_every_stage() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    change = SCHEMA["properties"]["changes"]["items"]["properties"]
    assert tuple(change["stage"]["enum"]) == STAGES
    assert tuple(change["disruption"]["enum"]) == DISRUPTIONS


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (running(installed={"reinstall": "one"}), []),
        (running(installed={"reinstall": None}), [("os", "ramdisk"), *INSTALL]),
        (running(installed={"reinstall": "zero"}), [("os", "ramdisk"), *INSTALL]),
    ],
)
def test_reinstall_happens_once_for_each_word(host: HostState, expected: list[tuple[str, str]]) -> None:
    assert acts(plan_for(host, reinstall="one")) == expected


@pytest.mark.parametrize(
    ("host", "cluster", "expected"),
    [
        (running(), CLUSTER, []),
        (running(initialised=False), ClusterState(), [("control_plane", "init")]),
        (running(), ClusterState(known=False), [("control_plane", "init")]),
        (running(), ClusterState(known=True, error="x509: unknown authority"), [("control_plane", "init")]),
    ],
)
def test_control_plane(host: HostState, cluster: ClusterState, expected: list[tuple[str, str]]) -> None:
    assert acts(plan_for(host, cluster=cluster, name="cp1")) == expected


def test_only_servers_that_were_read_are_planned() -> None:
    assert not make_plan(site(), INTENT, SiteState()).changes


HOSTS = st.one_of(
    st.just(SILENT),
    st.just(RAMDISK),
    st.builds(
        running,
        image_id=st.sampled_from([IMAGE, "b" * 64]),
        files=st.sampled_from([FILES, {}]),
        kubelet_configured=st.booleans(),
        initialised=st.booleans(),
        local_mounts=st.sampled_from([(), ("DATA-1",)]),
    ),
)
BMCS = st.builds(
    BmcState,
    power=st.sampled_from(["on", "off"]),
    media=st.sampled_from([(), (MEDIA + "x.iso",), ("http://other/x.iso",)]),
    error=st.sampled_from([None, None, "unreachable"]),
)
CLUSTERS = st.builds(
    ClusterState,
    reachable=st.booleans(),
    known=st.just(True),
    nodes=st.dictionaries(
        st.sampled_from(["cp1", "node1"]), st.sampled_from([NODES["node1"], NodeState(True, "v1.36.3")])
    ),
)
STATES = st.builds(
    lambda c, w, bc, bw, cluster: SiteState({"cp1": bc, "node1": bw}, {"cp1": c, "node1": w}, cluster),
    HOSTS,
    HOSTS,
    BMCS,
    BMCS,
    CLUSTERS,
)


@given(STATES)
def test_safety_rules_hold_for_every_state(state: SiteState) -> None:
    plan = make_plan(site(), INTENT, state)
    jsonschema.validate(plan.to_dict(), SCHEMA)
    order = [STAGES.index(change.stage) for change in plan.changes]
    assert order == sorted(order)
    for change in plan.changes:
        host, bmc = state.hosts[change.server], state.bmcs[change.server]
        if change.disruption == "data":
            assert host.where != "node", "a running node is never written to unasked"
            assert bmc.error is None, "a server whose BMC can't be used is never taken into an installation"
            ours = any(url.startswith(MEDIA) for url in bmc.media)
            assert host.where == "ramdisk" or bmc.power == "off" or ours, "a silent, powered-on server is left as it is"
    assert not {p.server for p in plan.problems} & {c.server for c in plan.changes}


def apply(plan: Plan, state: SiteState) -> SiteState:
    """A model of what a run does: every named change takes full effect."""
    hosts, bmcs, nodes = dict(state.hosts), dict(state.bmcs), dict(state.cluster.nodes)
    for change in plan.changes:
        name = change.server
        if change.stage == "os":
            bmcs[name] = replace(bmcs[name], power="on", media=())
            # What 'wait' and 'disk' find is whatever was installed before.
            hosts[name] = running(kubelet_configured=name in nodes, initialised=name in nodes, local_mounts=("DATA-1",))
        elif change.stage == "host":
            hosts[name] = replace(hosts[name], files=FILES)
        elif change.stage == "disks":
            hosts[name] = replace(hosts[name], local_mounts=("DATA-1",))
        elif change.stage == "labels":
            nodes[name] = replace(nodes[name], labels=WORKER)
        else:
            hosts[name] = replace(hosts[name], kubelet_configured=True, initialised=True)
            nodes[name] = NODES["node1"]
    reachable = state.cluster.reachable or any(change.stage == "control_plane" for change in plan.changes)
    return SiteState(bmcs, hosts, replace(state.cluster, nodes=nodes, reachable=reachable))


@given(STATES)
def test_a_second_plan_is_empty(state: SiteState) -> None:
    once = apply(make_plan(site(), INTENT, state), state)
    twice = apply(make_plan(site(), INTENT, once), once)
    assert not make_plan(site(), INTENT, twice).changes
