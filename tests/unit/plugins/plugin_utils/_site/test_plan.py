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

from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.changes import DISRUPTIONS, Intent
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.disruption import Pod, PodBudget
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.load import load_site
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.model import (
    FirmwareBaseline,
    Network6,
    RaidVolume,
    Sdn6,
)
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.plan import Plan, make_plan, unfinished
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.stages import STAGES
from ansible_collections.kiban.baremetal.plugins.plugin_utils._site.state import (
    Bios,
    BmcState,
    ClusterState,
    EtcdMember,
    HostState,
    NodeState,
    Raid,
    SiteState,
    SwitchState,
    Wiring,
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


INTENT = Intent(
    image_id=IMAGE,
    files={"cp1": FILES, "node1": FILES},
    media_prefix=MEDIA,
    kubelet_config={"cgroupDriver": "systemd", "maxPods": 200},
    runtime="v2.4.2",
)
ON, OFF = BmcState(power="on"), BmcState(power="off")
UUID = "10203040-5060-7080-8899-aabbccddeeff"
UNITS = dict.fromkeys(("containerd.service", "kubelet.service", "systemd-networkd.service"), "active")
SILENT = HostState(error="SSH to 198.51.100.21: timed out")
RAMDISK = HostState(where="ramdisk")
WORKER = {"node-role.kubernetes.io/worker": ""}
CONTROL = {"key": "node-role.kubernetes.io/control-plane", "value": "", "effect": "NoSchedule"}
NODES = {
    "cp1": NodeState(ready=True, version="v1.36.3", taints=(CONTROL,)),
    "node1": NodeState(ready=True, version="v1.36.3", labels=WORKER),
}
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
        units=UNITS,
        kubelet_config="maxPods: 200\ncgroupDriver: systemd\n",
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
            running(kubelet_configured=False),
            ON,
            CLUSTER,
            [("join", "join")],
            id="not joined, its Node object is there",
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
            running(network=("bond0: MTU 1500, not 9000",)), ON, CLUSTER, [("host", "network")], id="running network"
        ),
        pytest.param(
            running(routing=("FRR runs without: vni 4097",)), ON, CLUSTER, [("host", "routing")], id="running router"
        ),
        pytest.param(
            running(units={**UNITS, "kubelet.service": "failed"}),
            ON,
            CLUSTER,
            [("host", "services")],
            id="kubelet",
        ),
        pytest.param(
            running(units={**UNITS, "containerd.service": "active, not enabled"}),
            ON,
            CLUSTER,
            [("host", "services")],
            id="a service that would not start again",
        ),
        pytest.param(running(units={}), ON, CLUSTER, [], id="services unread are not services stopped"),
        pytest.param(
            running(kubelet_config="maxPods: 100\n"), ON, CLUSTER, [("host", "kubelet")], id="kubelet configuration"
        ),
        pytest.param(running(kubelet_config=""), ON, CLUSTER, [], id="a configuration that was not read"),
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


BIOS = {"id": "BIOS", "name": "System BIOS", "version": "2.18.0"}


@pytest.mark.parametrize(
    ("baseline", "read", "told"),
    [
        ((), None, []),
        ((FirmwareBaseline("BIOS", None, "2.18"),), (BIOS,), []),
        (
            (FirmwareBaseline("BIOS", None, "2.19"),),
            (BIOS,),
            ["firmware System BIOS 2.18.0 is older than 2.19; the profile says at least 2.19"],
        ),
        (
            (FirmwareBaseline("BIOS", "2.17.1", None),),
            (BIOS,),
            ["firmware System BIOS is 2.18.0 and not 2.17.1; the profile says 2.17.1"],
        ),
        (
            (FirmwareBaseline("BIOS", None, "2.19"),),
            None,
            ["its BMC lists no firmware, so the profile's versions are not compared"],
        ),
    ],
)
def test_firmware_is_told_of_where_the_profile_states_it(
    baseline: tuple[FirmwareBaseline, ...], read: tuple[dict[str, Any], ...] | None, told: list[str]
) -> None:
    of = site()
    of = replace(of, profiles={name: replace(profile, firmware=baseline) for name, profile in of.profiles.items()})
    state = SiteState({"node1": replace(ON, firmware=read)}, {"node1": running()}, CLUSTER)
    plan = make_plan(of, INTENT, state)
    assert [notice.message for notice in plan.notices] == told
    assert not plan.changes and not plan.problems


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
    assert acts(plan)[:2] == [("drain", "evict"), ("os", "ramdisk")] and "by force" in plan.notices[0].message


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


def four(**options: Any) -> tuple[Any, Intent, SiteState]:
    """Four workers, all of them to be installed again."""
    wide = site(reinstall="one", name="node[1:4]", **options)
    names = [server.name for server in wide.with_role("worker")]
    hosts = {name: running(installed={"reinstall": "zero"}) for name in names}
    nodes = dict.fromkeys(["cp1", *names], NODES["node1"])
    state = SiteState(dict.fromkeys(names, ON), hosts, replace(CLUSTER, nodes=nodes))
    return wide, replace(INTENT, files=dict.fromkeys(names, FILES)), state


def test_only_as_many_as_the_budget_allows_and_the_rest_in_later_waves() -> None:
    plan = make_plan(*four())
    assert {change.server for change in plan.changes} == {"node1", "node2", "node3", "node4"}
    assert plan.waves == (("node1",), ("node2",), ("node3",), ("node4",)) and not plan.problems
    assert plan.to_dict()["todo"]["os"] == ["node1"]
    assert plan.summary == "4 servers to install, in 4 waves, 0 in order"
    assert "waves: node1, then node2, then node3, then node4" in plan.lines
    jsonschema.validate(plan.to_dict(), SCHEMA)


def test_a_wave_goes_when_the_one_before_is_in_order() -> None:
    of, intent, state = four()
    state = replace(state, hosts={**state.hosts, "node1": running(installed={"reinstall": "one"})})
    part = replace(state, hosts={name: state.hosts[name] for name in ("node1", "node2")})
    plan = make_plan(of, intent, part)
    assert unfinished(plan, part, ["node1"]) == []
    wave = plan.of_wave(["node2"], [])
    assert wave.servers == ("node2",) and ("os", "ramdisk") in acts(wave) and not wave.problems and not wave.waves


@pytest.mark.parametrize(
    ("host", "node", "text"),
    [
        (running(installed={"reinstall": "one"}), {"ready": False}, "the node node1 is not Ready"),
        (SILENT, {}, "node1 has to be worked on (answer over SSH)"),
        (running(installed={"reinstall": "one"}, local_mounts=()), {}, "node1 has to be worked on (data disks)"),
        (running(), {}, "node1 has to be worked on (operating system)"),
    ],
)
def test_no_wave_begins_while_the_one_before_is_not_in_order(host: HostState, node: dict[str, Any], text: str) -> None:
    of, intent, state = four()
    nodes = {**state.cluster.nodes, "node1": replace(NODES["node1"], **node)}
    hosts = {"node1": host, "node2": state.hosts["node2"]}
    part = replace(state, hosts=hosts, cluster=replace(CLUSTER, nodes=nodes))
    plan = make_plan(of, intent, part)
    wave = plan.of_wave(["node2"], unfinished(plan, part, ["node1"]))
    assert not wave.changes and [one.server for one in wave.problems] == ["node2"]
    assert text in unfinished(plan, part, ["node1"])[0]


def test_who_would_have_to_wait_again_is_left_alone() -> None:
    of, intent, state = four()
    wave = make_plan(of, intent, state).of_wave(["node1", "node2"], [])
    assert {change.server for change in wave.changes} == {"node1"}
    assert [one.message for one in wave.problems] == ["is left alone: others of its wave have to go first. Run again"]


def test_a_server_refused_for_another_reason_waits_for_nobody() -> None:
    plan = reinstalled(leases={"node1": "process 7"})
    assert [problem.server for problem in plan.problems] == ["node1"] and plan.waves == ()
    assert plan.summary == "1 server left alone, 0 in order"


def test_the_schema_of_the_plan_is_a_schema_and_knows_every_stage() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    change = SCHEMA["properties"]["changes"]["items"]["properties"]
    assert tuple(change["stage"]["enum"]) == STAGES
    assert tuple(change["disruption"]["enum"]) == DISRUPTIONS


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (running(installed={"reinstall": "one"}), []),
        (running(installed={"reinstall": None}), [("drain", "evict"), ("os", "ramdisk"), *INSTALL[:-1]]),
        (running(installed={"reinstall": "zero"}), [("drain", "evict"), ("os", "ramdisk"), *INSTALL[:-1]]),
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


DNS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "dns", "namespace": "kube-system"},
    "data": {"a": "1"},
}


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(None, [], id="not read"),
        pytest.param((), [("missing", "there")], id="not there"),
        pytest.param((DNS,), [], id="as it should be"),
        pytest.param(({**DNS, "data": {"a": "2", "b": "3"}},), [("data.a: 2", "data.a: 1")], id="differs"),
    ],
)
def test_objects_of_the_cluster(objects: Any, expected: list[tuple[str, str]]) -> None:
    state = SiteState(hosts={"node1": running()}, bmcs={"node1": ON}, cluster=replace(CLUSTER, objects=objects))
    plan = make_plan(site(), replace(INTENT, objects=(DNS,)), state)
    jsonschema.validate(plan.to_dict(), SCHEMA)
    assert [(change.before, change.after) for change in plan.changes] == expected
    assert {change.server for change in plan.changes} <= {"(cluster)"} and plan.servers == ("node1",)
    wanted = (
        "1 server in order, 1 object of the cluster to apply" if expected else "everything is in order: nothing to do"
    )
    assert plan.summary == wanted


def test_a_cluster_that_does_not_answer_has_no_objects_that_differ() -> None:
    cluster = ClusterState(known=True, error="timed out", objects=())
    state = SiteState(hosts={"node1": SILENT}, bmcs={"node1": ON}, cluster=cluster)
    assert all(
        change.stage != "services" for change in make_plan(site(), replace(INTENT, objects=(DNS,)), state).changes
    )


@pytest.mark.parametrize(
    "image", ["r.io/kube-proxy:v1.35.0", "r.io/kube-proxy:v1.36.3", "r.io:5000/kube-proxy@sha256:ab"]
)
def test_kube_proxy_of_another_version_is_told(image: str) -> None:
    pod = {"spec": {"containers": [{"image": image}]}}
    proxy = {
        "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
        "spec": {"template": pod},
    }
    told = [n.message for n in plan_for(running(), cluster=replace(CLUSTER, objects=(proxy,))).notices]
    assert told == ([] if "v1.36.3" in image else [f"kube-proxy runs as {image}, the model says v1.36.3"])


def test_only_servers_that_were_read_are_planned() -> None:
    assert not make_plan(site(), INTENT, SiteState()).changes


ARCHIVE = {"key": "example.net/archive", "value": "true", "effect": "NoSchedule"}


def node_plan(node: NodeState, **options: Any) -> Plan:
    return plan_for(running(), cluster=replace(CLUSTER, nodes={**NODES, "node1": node}), **options)


@pytest.mark.parametrize(
    ("taints", "before"),
    [((), "missing"), (({**ARCHIVE, "value": "false"},), "example.net/archive=false:NoSchedule")],
)
def test_a_taint_of_the_model_is_put_on(taints: tuple[dict[str, str], ...], before: str) -> None:
    [change] = node_plan(replace(NODES["node1"], taints=taints), taints=[ARCHIVE]).changes
    assert (change.stage, change.action, change.before) == ("labels", "taint", before)
    assert change.after == "example.net/archive=true:NoSchedule"


def test_labels_are_shown_as_they_are_and_as_they_should_be() -> None:
    [change] = node_plan(replace(NODES["node1"], labels={"a": "1"}), labels={"a": "2"}).changes
    assert change.before == "a=1, node-role.kubernetes.io/worker=missing"
    assert change.after == "a=2, node-role.kubernetes.io/worker="


def test_the_kubelet_shows_the_fields_that_differ() -> None:
    [change] = plan_for(running(kubelet_config="maxPods: 100\ncgroupDriver: systemd\nz: 1\n")).changes
    assert (change.before, change.after) == ("maxPods: 100", "maxPods: 200")


UNKNOWN = {"serial_number": "X-1", "name": "sdb", "uses": ["/mnt/x", "held by md0"]}


@pytest.mark.parametrize(
    ("host", "bmc", "node", "text"),
    [
        (running(name="other"), ON, {}, "calls itself other"),
        (running(clock_off=61.0), ON, {}, "its clock is off by 61 s"),
        (running(failed=("fstrim.service",)), ON, {}, "failed units: fstrim.service"),
        (running(disks=(*DATA, UNKNOWN)), ON, {}, "disk sdb (serial X-1) is used by something that the model does not"),
        (
            running(disks=(*DATA, {**UNKNOWN, "claimed": True})),
            ON,
            {},
            "disk sdb (serial X-1) is claimed for volumes, but the profile does not select it",
        ),
        (running(disks=({**DATA[0], "claimed": True, "readonly": True},)), ON, {}, "is mounted read-only"),
        (
            running(disks=(*DATA, {**UNKNOWN, "uses": []})),
            ON,
            {},
            "sdb (serial X-1) is used by nothing, and the profile",
        ),
        (running(disks=({**DATA[0], "problems": ["is hot"]},)), ON, {}, "(serial DATA-1) may be failing: is hot"),
        (
            running(disks=({**DATA[0], "claimed": True, "unused_bytes": 5 * 10**9},)),
            ON,
            {},
            "(serial DATA-1) has grown: its volume leaves 5.0 GB unused",
        ),
        (running(lost_disks=("DATA-0",)), ON, {}, "the data disk DATA-0 is gone: pulled, or dead. If it does not come"),
        (running(), BmcState(power="off"), {}, "may be that of another server"),
        (running(uuid=UUID), BmcState(power="on", uuid="9" * 8 + UUID[8:]), {}, "may be that of another server"),
        (running(), ON, {"ready": False, "message": "stopped posting"}, "its node is not Ready: stopped posting"),
        (running(), ON, {"cordoned": True}, "its node is cordoned"),
        (running(), ON, {"version": "v1.35.9"}, "runs kubelet v1.35.9, the model says v1.36.3"),
        (running(), ON, {"runtime": "containerd://2.3.0"}, "runs containerd 2.3.0, the bundle has 2.4.2"),
        (running(), ON, {"taints": (ARCHIVE,)}, "taints that the model does not know: example.net/archive=true:NoS"),
    ],
)
def test_what_no_run_mends_is_a_notice(host: HostState, bmc: BmcState, node: dict[str, Any], text: str) -> None:
    nodes = {**NODES, "node1": replace(NODES["node1"], **node)}
    plan = plan_for(host, bmc, replace(CLUSTER, nodes=nodes))
    assert not plan.changes and not plan.problems
    assert len(plan.notices) == 1 and text in plan.notices[0].message


@pytest.mark.parametrize("six", ["2001:db8:1::15", None])
def test_a_node_that_joined_before_there_was_ipv6(six: str | None) -> None:
    of = site()
    sdn = replace(of.cluster.sdn, ipv6=Sdn6("fd00:10:244::/48", "fd00:10:96::/112", 64))
    node = replace(of.networks["node"], ipv6=Network6("2001:db8:1::/64", None))
    of = replace(of, networks={**of.networks, "node": node}, cluster=replace(of.cluster, sdn=sdn))
    addresses = ("198.51.100.21", six) if six else ("198.51.100.21",)
    nodes = {**NODES, "node1": replace(NODES["node1"], addresses=addresses)}
    state = SiteState(bmcs={"node1": ON}, hosts={"node1": running()}, cluster=replace(CLUSTER, nodes=nodes))
    told = [notice.message for notice in make_plan(of, INTENT, state).notices]
    assert [message for message in told if "no address 2001:db8:1::15" in message] == (told if six is None else [])
    assert bool(told) is (six is None)


UNCORDON = ("labels", "uncordon")


@pytest.mark.parametrize(
    ("host", "bmc", "node", "leases", "expected"),
    [
        pytest.param(running(), ON, {}, {}, [UNCORDON], id="a killed run"),
        # As when somebody was quicker: the mark goes, or it would be said of the next person's cordon.
        pytest.param(running(), ON, {"cordoned": False}, {}, [UNCORDON], id="only the mark"),
        pytest.param(running(), ON, {"drained": False}, {}, [], id="a person"),
        pytest.param(running(), ON, {}, {"node1": "process 7"}, [], id="another run is at it"),
        pytest.param(running(), ON, {"ready": False}, {}, [], id="not Ready"),
        pytest.param(SILENT, OFF, {"ready": False}, {}, [("os", "disk"), UNCORDON], id="it comes back"),
        pytest.param(
            running(kubelet_configured=False),
            ON,
            {"ready": False},
            {},
            [("join", "join"), UNCORDON],
            id="it joins again",
        ),
    ],
)
def test_a_node_takes_pods_again_that_a_run_has_cordoned(
    host: HostState, bmc: BmcState, node: dict[str, Any], leases: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    nodes = {**NODES, "node1": replace(NODES["node1"], **{"cordoned": True, "drained": True, **node})}
    state = SiteState({"node1": bmc}, {"node1": host}, replace(CLUSTER, nodes=nodes), leases=leases)
    plan = make_plan(site(), INTENT, state)
    assert acts(plan) == expected
    assert [n.message for n in plan.notices if "is cordoned" in n.message] == ["its node is cordoned"] * (
        node == {"drained": False}
    )


@pytest.mark.parametrize(
    ("cluster", "force", "expected"),
    [
        pytest.param(CLUSTER, [], [("drain", "drain"), ("os", "data")], id="in service"),
        pytest.param(
            replace(CLUSTER, nodes={**NODES, "node1": replace(NODES["node1"], ready=False)}),
            [],
            [("os", "data")],
            id="a node that is not Ready ends no pod",
        ),
        pytest.param(
            ClusterState(known=True, error="refused"), ["node1"], [("os", "data")], id="a cluster that is silent"
        ),
    ],
)
def test_only_what_can_be_drained_is(cluster: ClusterState, force: list[str], expected: list[tuple[str, str]]) -> None:
    state = SiteState({"node1": ON}, {"node1": running(installed={"reinstall": "zero"})}, cluster)
    plan = make_plan(site(reinstall="one"), INTENT, state, force)
    assert [(c.stage, c.disruption) for c in plan.changes if c.disruption != "none"] == expected


@pytest.mark.parametrize(
    ("host", "bmc", "node"),
    [
        (running(uuid=UUID), BmcState(power="on", uuid=UUID.upper()), {}),
        (running(uuid=UUID), BmcState(power="on", uuid="40302010-6050-8070-8899-aabbccddeeff"), {}),
        (running(disks=(*DATA, {"serial_number": "S", "name": "vda", "uses": ["/", "/boot"]})), ON, {}),
        (running(disks=(*DATA, {**UNKNOWN, "uses": [], "removable": True})), ON, {}),
        (running(disks=({**DATA[0], "claimed": True, "unused_bytes": 2 * 2**20},)), ON, {}),
        (running(), ON, {"runtime": "containerd://2.4.2+unknown"}),
        (running(), ON, {"runtime": "containerd://Unknown"}),
        (
            running(),
            ON,
            {"taints": ({"key": "node.kubernetes.io/unschedulable", "value": "", "effect": "NoSchedule"},)},
        ),
    ],
)
def test_what_is_no_difference(host: HostState, bmc: BmcState, node: dict[str, Any]) -> None:
    nodes = {**NODES, "node1": replace(NODES["node1"], **node)}
    assert plan_for(host, bmc, replace(CLUSTER, nodes=nodes)).notices == ()


def test_a_server_is_not_installed_again_through_another_servers_bmc() -> None:
    host = running(installed={"reinstall": "zero"}, uuid=UUID)
    plan = plan_for(host, BmcState(power="on", uuid="9" * 8 + UUID[8:]), reinstall="one")
    assert not plan.changes and "is not installed again" in plan.problems[0].message


def test_an_unknown_node_is_named_when_the_whole_site_is_planned() -> None:
    cluster = replace(CLUSTER, nodes={**NODES, "stray": NODES["node1"]})
    both = SiteState({"cp1": ON, "node1": ON}, {"cp1": running(), "node1": running()}, cluster)
    assert [(n.server, n.message) for n in make_plan(site(), INTENT, both).notices] == [
        ("stray", "is a node of the cluster, but no server of the model")
    ]
    assert plan_for(running(), cluster=cluster).notices == ()


def test_an_unknown_bmc_is_named() -> None:
    state = SiteState(hosts={"node1": running()}, bmcs={"node1": ON}, cluster=CLUSTER, strangers={"192.0.2.40": "ACME"})
    plan = make_plan(site(), INTENT, state)
    assert [(n.server, n.message.partition(" but")[0]) for n in plan.notices] == [("192.0.2.40", "is a BMC (ACME),")]
    assert plan.changes == () and plan.problems == ()


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"add": [], "remove": [], "foreign": [], "changed": False}, []),
        (
            {"add": [f"swp{n} / tag 20" for n in range(5)], "remove": ["swp1 / tag 30"], "foreign": []},
            [
                "the switch is not as the model says. The playbook kiban.baremetal.fabric changes it. It lacks: "
                "swp0 / tag 20, swp1 / tag 20, swp2 / tag 20 and 2 more; has: swp1 / tag 30"
            ],
        ),
        (
            {"add": [], "remove": [], "foreign": ["vlan 9"]},
            ["the switch has what the model does not know: vlan 9. Kept"],
        ),
        (
            {"failed": True, "msg": "no ovsdb-server at /run/x\nlook there", "add": []},
            ["the switch can't be read, so its ports and sessions are not compared: no ovsdb-server at /run/x"],
        ),
        (
            {"unreachable": True, "msg": "timed out"},
            ["the switch can't be read, so its ports and sessions are not compared: timed out"],
        ),
        ({}, ["the switch can't be read, so its ports and sessions are not compared: it was not read"]),
    ],
)
def test_what_a_switch_differs_in_is_told(result: dict[str, Any], said: list[str]) -> None:
    state = SiteState(
        hosts={"node1": running()},
        bmcs={"node1": ON},
        cluster=CLUSTER,
        switches={"tor1": SwitchState.from_result(result)},
    )
    plan = make_plan(site(), INTENT, state)
    assert [(n.server, n.message) for n in plan.notices] == [("tor1", message) for message in said]
    assert plan.changes == () and plan.problems == ()


def test_a_disk_that_came_in_the_place_of_another_is_told() -> None:
    new = {**DATA[0], "serial_number": "DATA-9"}
    plan = plan_for(running(disks=(new,), local_mounts=(), lost_disks=("DATA-1",)))
    assert acts(plan) == [("disks", "claim")] and "not mounted: DATA-9" in plan.changes[0].before
    assert "DATA-1 is gone: pulled, or dead. New is DATA-9." in plan.notices[0].message


def test_a_missing_data_disk_is_told() -> None:
    loaded = site()
    profile = loaded.profiles["compute"]
    two = {**profile.disks, "data": replace(profile.disks["data"], count=2)}
    loaded = replace(loaded, profiles={"compute": replace(profile, disks=two)})
    plan = make_plan(loaded, INTENT, SiteState({"node1": ON}, {"node1": running()}, CLUSTER))
    assert [notice.message for notice in plan.notices] == ["1 of 2 data disks are there"]


WANTED = {"ProcVirtualization": "Enabled", "BootRetries": 3, "QuietBoot": True}
FACTORY = {"ProcVirtualization": "Disabled", "BootRetries": 3, "QuietBoot": True, "Other": "x"}
WRONG = ("BIOS", "ProcVirtualization: Disabled", "ProcVirtualization: Enabled")


def bios_plan(bios: Bios, host: HostState, power: str = "on", word: str | None = None, node: bool = True) -> Plan:
    of = site(reinstall=word)
    of = replace(of, profiles={name: replace(one, bios=WANTED) for name, one in of.profiles.items()})
    cluster = CLUSTER if node else replace(CLUSTER, nodes={"cp1": NODES["cp1"]})
    state = SiteState({"node1": BmcState(power=power, bios=bios)}, {"node1": host}, cluster)
    return make_plan(of, INTENT, state)


@pytest.mark.parametrize(
    ("host", "power", "word", "node", "expected"),
    [
        # In service: it is restarted for them.
        (running(), "on", None, True, [("drain", "evict", "drain"), ("hardware", "restart", "reboot")]),
        # Not a node that pods could leave.
        (running(), "on", None, False, [("hardware", "restart", "reboot")]),
        # Otherwise the run restarts it anyway.
        (
            running(),
            "on",
            "new",
            True,
            [("drain", "evict", "drain"), ("hardware", "write", "none"), ("os", "ramdisk", "data")],
        ),
        (RAMDISK, "on", None, False, [("hardware", "write", "none"), ("os", "ramdisk", "data")]),
        (SILENT, "off", None, False, [("hardware", "write", "none"), ("os", "ramdisk", "data")]),
        (SILENT, "off", None, True, [("hardware", "write", "none"), ("os", "disk", "none")]),
        # Nobody knows what it is doing.
        (SILENT, "on", None, True, [("os", "wait", "none")]),
    ],
)
def test_bios_attributes_are_set_before_a_system_starts(
    host: HostState, power: str, word: str | None, node: bool, expected: list[tuple[str, str, str]]
) -> None:
    plan = bios_plan(Bios(FACTORY), host, power, word, node)
    assert [(c.stage, c.action, c.disruption) for c in plan.changes][: len(expected)] == expected
    for change in plan.changes:
        assert change.stage != "hardware" or (change.what, change.before, change.after) == WRONG
    jsonschema.validate(plan.to_dict(), SCHEMA)
    good = bios_plan(Bios({**FACTORY, **WANTED}), host, power, word, node)
    assert all(change.stage != "hardware" for change in good.changes)
    assert acts(good)[:1] == [("os", "inspect")] or host is not RAMDISK


def test_bios_values_that_wait_for_a_reset_are_told_apart() -> None:
    waiting = bios_plan(Bios(FACTORY, {"ProcVirtualization": "Enabled"}), running()).changes[1]
    assert waiting.before == "ProcVirtualization: Disabled (Enabled after the next reset)"
    assert (waiting.action, waiting.disruption) == ("restart", "reboot")
    # In force, and somebody has asked for another: that is taken back, without a restart.
    back = bios_plan(Bios({**FACTORY, **WANTED}, {"ProcVirtualization": "Disabled"}), running()).changes
    assert [(c.action, c.disruption, c.before) for c in back] == [
        ("write", "none", "ProcVirtualization: Enabled (Disabled after the next reset)")
    ]


@pytest.mark.parametrize(
    ("bios", "text"),
    [
        (Bios(error="192.0.2.21: its system has no BIOS attributes"), "its system has no BIOS attributes"),
        (Bios({"Other": "x"}), "has no attribute ProcVirtualization, BootRetries, QuietBoot"),
    ],
)
def test_bios_attributes_that_cannot_be_compared_are_told(bios: Bios, text: str) -> None:
    for host in (running(), RAMDISK, running(installed={"reinstall": "old"})):
        plan = bios_plan(bios, host, word="new" if host.installed == {"reinstall": "old"} else None)
        assert [text in notice.message for notice in plan.notices] == [True]
        assert all(change.stage != "hardware" for change in plan.changes)


def test_a_restart_for_the_bios_asks_whether_it_may_be_now() -> None:
    web = PodBudget("shop/web", disruptions_allowed=0)
    pods = {"node1": (Pod("shop/web-1", True, ("shop/web",)),)}
    of = site()
    of = replace(of, profiles={name: replace(one, bios=WANTED) for name, one in of.profiles.items()})
    cluster = replace(CLUSTER, budgets=(web,), pods=pods)
    state = SiteState({"node1": BmcState(power="on", bios=Bios(FACTORY))}, {"node1": running(files={})}, cluster)
    plan = make_plan(of, INTENT, state)
    assert not plan.changes and "shop/web allows 0 more" in plan.problems[0].message


MIRROR = RaidVolume("system", "RAID1", ("0", "1"), None)


def raid_plan(raid: Raid, host: HostState, power: str = "on", word: str | None = None, node: bool = True) -> Plan:
    of = site(reinstall=word)
    of = replace(of, profiles={name: replace(one, volumes=(MIRROR,)) for name, one in of.profiles.items()})
    cluster = CLUSTER if node else replace(CLUSTER, nodes={"cp1": NODES["cp1"]})
    return make_plan(of, INTENT, SiteState({"node1": BmcState(power=power, raid=raid)}, {"node1": host}, cluster))


@pytest.mark.parametrize(
    ("host", "power", "word", "node", "made"),
    [
        (running(), "on", "new", True, True),
        (RAMDISK, "on", None, False, True),
        (SILENT, "off", None, False, True),
        # What these have on their drives stays.
        (running(), "on", None, True, False),
        (SILENT, "off", None, True, False),
        (SILENT, "on", None, True, False),
    ],
)
def test_a_volume_is_made_only_before_an_installation(
    host: HostState, power: str, word: str | None, node: bool, made: bool
) -> None:
    plan = raid_plan(Raid(missing=("system",)), host, power, word, node)
    found = [(c.action, c.what, c.before, c.after, c.disruption) for c in plan.changes if c.stage == "hardware"]
    assert found == ([("volumes", "volume system", "missing", "RAID1 of 0, 1", "data")] if made else [])
    if made:
        # What runs is drained first.
        assert acts(plan)[1 if host.where == "node" else 0 :][:2] == [("hardware", "volumes"), ("os", "ramdisk")]
    elif host.where == "node":
        assert "its controller has no volume system" in plan.notices[0].message
    assert all(c.stage != "hardware" for c in raid_plan(Raid(), host, power, word, node).changes)


def test_volumes_of_others_are_told_and_kept() -> None:
    raid = Raid(wrong={"system": "drives for the volume system are in use: 0 (in old)"}, foreign=("old",))
    for host in (running(), RAMDISK):
        plan = raid_plan(raid, host)
        assert [notice.message for notice in plan.notices] == [
            "its volume system is left as it is: drives for the volume system are in use: 0 (in old)",
            "its controller has volumes that the profile does not know: old. Kept",
        ]
        assert all(change.stage != "hardware" for change in plan.changes)


@pytest.mark.parametrize(
    ("host", "bmc", "word", "installs"),
    [
        (SILENT, OFF, None, True),
        (RAMDISK, ON, None, True),
        (SILENT, replace(ON, media=(f"{MEDIA}node1.iso",)), None, True),
        (running(), ON, "new", True),
        (running(), ON, None, False),
    ],
)
def test_a_wrong_cable_keeps_a_server_from_being_installed_only(
    host: HostState, bmc: BmcState, word: str | None, installs: bool
) -> None:
    cluster = CLUSTER if host.where == "node" else replace(CLUSTER, nodes={"cp1": NODES["cp1"]})
    state = SiteState({"node1": bmc}, {"node1": host}, cluster)
    of = site(reinstall=word)
    assert bool(make_plan(of, INTENT, state).changes) == installs
    plan = make_plan(of, INTENT, replace(state, wiring={"node1": Wiring(("a cable joins x",), ("hears y",))}))
    assert [one.message for one in plan.notices] == (["hears y"] if installs else ["a cable joins x", "hears y"])
    assert [one.message.partition(". ")[0] for one in plan.problems] == ["is not installed: a cable joins x"] * installs
    assert plan.changes == ()
